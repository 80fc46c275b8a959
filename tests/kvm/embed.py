"""usage: embed.py FILE OUTPUT.S SYMBOL

Writes assembler source that has the file's bytes at SYMBOL, in read-only data."""

import os
import sys

file, output, symbol = sys.argv[1:]
with open(output, 'w') as f:
    f.write(f'.section .rodata\n.balign 4096\n.globl {symbol}\n{symbol}:\n'
            f'.incbin "{os.path.abspath(file)}"\n'
            '.section .note.GNU-stack, "", @progbits\n')
