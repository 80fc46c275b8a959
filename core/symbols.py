#!/usr/bin/env python3
"""Writes the table of function names that core/symbols.h reads, as assembly.

usage: symbols.py NM KERNEL OUT      from the first link
       symbols.py OUT                an empty one, for the first link
"""

import subprocess
import sys


def functions(nm, kernel):
    """(address, name) of what is in .text, sorted, and where the image begins."""
    listed = subprocess.run([nm, '-n', kernel], stdout=subprocess.PIPE, text=True, check=True)
    rows = [line.split() for line in listed.stdout.splitlines()]
    rows = [(int(row[0], 16), row[1], row[2]) for row in rows if len(row) == 3]
    start = next(address for address, _, name in rows if name == 'kernel_start')
    found = {}
    for address, kind, name in rows:
        if kind in 'tT' and address not in found and name != 'kernel_start':
            found[address] = name
    return start, sorted(found.items())


def write(out, start, rows):
    lines = ['\t.section .symbols, "a"', '\t.balign 4', '\t.globl symbol_count', 'symbol_count:',
             f'\t.long {len(rows)}', '\t.globl symbol_table', 'symbol_table:']
    position = 0
    for address, name in rows:
        lines.append(f'\t.long {address - start}, {position}')
        position += len(name) + 1
    lines += ['\t.globl symbol_names', 'symbol_names:']
    lines += [f'\t.asciz "{name}"' for _, name in rows] or ['\t.byte 0']
    lines.append('\t.section .note.GNU-stack, "", @progbits')
    with open(out, 'w') as f:
        f.write('\n'.join(lines) + '\n')


if len(sys.argv) == 2:
    write(sys.argv[1], 0, [])
else:
    write(sys.argv[3], *functions(*sys.argv[1:3]))
