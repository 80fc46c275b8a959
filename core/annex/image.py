#!/usr/bin/env python3
"""image.py OBJCOPY ANNEX.ELF ANNEX.BIN IMAGE.S: the annex's bytes, and assembly that has them in core."""

import os
import subprocess
import sys

objcopy, elf, binary, source = sys.argv[1:]
subprocess.run([objcopy, '-O', 'binary', elf, binary], check=True)
with open(source, 'w') as out:
    out.write(f'''	.section .rodata.annex, "a"
	.globl	annex_image
annex_image:
	.incbin	"{os.path.abspath(binary)}"
	.globl	annex_image_end
annex_image_end:
	.section .note.GNU-stack, "", @progbits
''')
