"""Writes a text file as the initializer of a C character array: embed.py INPUT OUTPUT"""

import json
import sys

with open(sys.argv[1], encoding='ascii') as source, open(sys.argv[2], 'w') as out:
    for line in source:
        # The strings of JSON and of C agree in ASCII text without control characters but these.
        out.write(json.dumps(line) + '\n')
