#!/usr/bin/env python3
"""Makes the decoder's tables of the *.tab files.

    mktable.py OUTPUT.h OUTPUT.c TAB...

A line of a table is one row, of words between blanks:

    conditions... MNEMONIC operands attributes...

Conditions:
    00, 0f10, 0f3810, 0f3a0f   the opcode's map and last byte; 50+ is eight opcodes, 91+7 seven
    /0, /012                   ModRM.reg, one of these; /0.1 also ModRM.mod = 3 and ModRM.rm = 1
    mem, reg                   ModRM.mod
    np 66 f3 f2 (a list: np,66)  the last of the prefixes that choose the instruction
    w0 w1 (EVEX only: ew0 ew1; VEX only: vw0)   W;  l0 l1 l2 l12   vector length 128, 256, 512
    no64 only64                mode;  o16 o32 o64   operand size
    s vex evex, together sv ve sve psv      encodings: legacy, VEX, EVEX; p is MMX, without prefix
    else                       may overlap with rows above, which go first

Operands: "-", or a list. In front of each "=" writes, "+" reads and writes, "?" reads and may write, "!" may
write; else it is read. Then how it is encoded, as in the manual's appendix A where that has a letter, and its size
(HOW and SIZE below). In rows of more than one encoding operands are those of VEX; the legacy form
has no H, and its first operand is read too where there was an H.

Attributes are those of ATTRIBUTES, f(...) for the flags (t: tested, m: changed, u: undefined
after, 0: and 1: set to this), r(...) and w(...) for implied registers, on(...) for another feature
than that of the last @feature line; son(), von(), mmx(): that of one encoding.

@feature has that of all, or those of legacy, VEX (A:B is 128:256 bits) and EVEX; @class the class of the rows below.
"""

import re
import sys

FIXED = 'AL AX CL DX rAX zAX 1 ES CS SS DS FS GS ST0 ST1 STi XMM0 KG KH KR'.split()
HOW = 'E G M R O I A S C D Z X Y B V H W U L P Q N T t J'.split() + FIXED
FIXED_SIZE = {'AL': 'b', 'AX': 'w', 'CL': 'b', 'DX': 'w', 'rAX': 'v', 'zAX': 'z', '1': 'b',
              'XMM0': 'dq', 'ST0': 't', 'ST1': 't', 'STi': 't', 'KG': 'q', 'KH': 'q', 'KR': 'q',
              **dict.fromkeys('ES CS SS DS FS GS'.split(), 'w')}
SIZE = '0 b w d q v z y n dq qq x h f e p s t a u j wd bd dup fx zz env save bs dx qx'.split()
ACCESS = {'': 1, '=': 2, '+': 3, '?': 7, '!': 6}
PUBLIC = 'lock rep cpl0 iopl iopl86 prot umip push pop bitstr shift'.split()
PRIVATE = 'd64 f64 kz k kreq b4 b8 er sae elem crdr xlat axmem dimem axreg count jcx'.split()
FLAGS = {'c': 0, 'p': 2, 'a': 4, 'z': 6, 's': 7, 't': 8, 'i': 9, 'd': 10, 'o': 11, 'l': 12,
         'n': 14, 'g': 16, 'v': 17, 'k': 18}
FLAG_SETS = {'arith': 'm:oszapc', 'arithc': 't:c,m:oszapc', 'logic': 'm:szp,0:oc,u:a',
             'incdec': 'm:oszap', 'mul': 'm:oc,u:szap', 'bit': 'm:c,u:osap',
             'comis': 'm:zpc,0:osa'}
REGISTERS = 'ax cx dx bx sp bp si di'.split()
PREFIXES = ['np', '66', 'f3', 'f2']
FIELDS = {'pp': (0, 4), 'reg': (4, 8), 'rm': (12, 8), 'mod': (20, 2), 'w': (22, 2), 'l': (24, 3),
          'mode': (27, 2), 'o': (29, 3)}
SINGLE = {'mem': ('mod', 1), 'reg': ('mod', 2), 'w0': ('w', 1), 'w1': ('w', 2), 'l0': ('l', 1),
          'l1': ('l', 2), 'l2': ('l', 4), 'l12': ('l', 6), 'no64': ('mode', 1),
          'only64': ('mode', 2), 'o16': ('o', 1), 'o32': ('o', 2), 'o64': ('o', 4)}
# The order of the indexes in the decoder.
SPACES = [('legacy', 0), ('legacy', 1), ('legacy', 2), ('legacy', 3), ('vex', 1), ('vex', 2),
          ('vex', 3), ('evex', 1), ('evex', 2), ('evex', 3)]
ENCODINGS = {'s': 'legacy', 'p': 'mmx', 'v': 'vex', 'e': 'evex'}


class Row:
    """One row as written; expand() makes one of each encoding."""

    def __init__(self, words, where, feature, klass):
        self.where, self.feature, self.klass = where, feature, klass
        at = next(i for i, word in enumerate(words) if re.match('[A-Z]', word))
        self.conditions, self.mnemonic = words[:at], words[at]
        self.operands = [] if words[at + 1] == '-' else words[at + 1].split(',')
        self.attributes = words[at + 2:]
        self.encodings = ['legacy']
        self.match = {name: (1 << bits) - 1 for name, (_, bits) in FIELDS.items()}
        self.only = {'e': {}, 'v': {}}
        self.or_else = False
        self.features = {}
        self.flags = [0, 0, 0]
        self.implied = {'r': [0, 0], 'w': [0, 0]}
        self.attr = []
        self.opcodes = None
        for word in sorted(self.conditions, key=lambda w: (len(w) < 4 or w[:2] != '0f')):
            self.condition(word)
        for word in self.attributes:
            self.attribute(word)

    def condition(self, word):
        if re.fullmatch('(s|p|sv|sve|psv|ve)', word):
            self.encodings = [ENCODINGS[c] for c in word]
        elif word in ('vex', 'evex'):
            self.encodings = [word]
        elif word in SINGLE:
            field, mask = SINGLE[word]
            self.match[field] &= mask
        elif re.fullmatch('[ve]w[01]', word):
            self.only[word[0]]['w'] = 1 << int(word[2])
        elif word == 'else':
            self.or_else = True
        elif self.opcodes is None:
            self.opcode(word)
        else:
            self.match['pp'] &= sum(1 << PREFIXES.index(p) for p in word.split(','))

    def opcode(self, word):
        m = re.fullmatch(r'(0f38|0f3a|0f(?=..)|)([0-9a-f]{2})(\+7?)?(/[0-7]*(?:\.[0-7])?)?', word)
        if not m:
            raise ValueError(f'{self.where}: {word} is no opcode')
        self.map = ['', '0f', '0f38', '0f3a'].index(m[1])
        base = int(m[2], 16)
        self.opcodes = range(base, base + {None: 1, '+': 8, '+7': 7}[m[3]])
        reg, _, rm = (m[4] or '/')[1:].partition('.')
        if reg:
            self.match['reg'] = sum(1 << int(c) for c in reg)
        if rm:
            self.match['rm'] = 1 << int(rm)
            self.match['mod'] = 2
        self.modrm = bool(m[4]) and word[:2] not in ('90', 'e3')

    def attribute(self, word):
        word = f'f({FLAG_SETS[word]})' if word in FLAG_SETS else word
        m = re.fullmatch(r'(\w+)\((.*)\)', word)
        if not m:
            if word not in PUBLIC + PRIVATE:
                raise ValueError(f'{self.where}: {word}?')
            self.attr.append(word)
        elif m[1] == 'f':
            for part in m[2].split(','):
                kind, letters = part.split(':')
                mask = sum(1 << FLAGS[c] for c in (FLAGS if letters == '*' else letters))
                mask |= 1 << 13 if mask & 1 << 12 else 0
                self.flags[0] |= mask if kind == 't' else 0
                self.flags[1] |= mask if kind != 't' else 0
                self.flags[2] |= mask if kind == 'u' else 0
        elif m[1] in ('r', 'w'):
            for name in m[2].split(','):
                self.imply(m[1], name)
        else:
            self.features[m[1]] = m[2]

    def imply(self, kind, name):
        """A register named by the instruction; [1] are those as wide as the operand."""
        if name in ('es', 'ss', 'ds', 'fs', 'gs') or name.startswith('xmm'):
            return # the decoder's callers see that by the mnemonic
        if re.fullmatch('r[0-9]+', name):
            self.implied[kind][0] |= 1 << int(name[1:])
            return
        base = name[-2:].lower()
        if name in ('al', 'ah'):
            base = 'ax'
        bit = 1 << REGISTERS.index(base)
        if re.fullmatch('r[A-Z]+', name):
            self.implied[kind][1] |= bit
        else:
            self.implied[kind][0] |= bit
            if kind == 'w' and len(name) == 2:
                self.implied['r'][0] |= bit # what is not written stays

    def expand(self):
        for encoding in self.encodings:
            features = self.feature * 3 if len(self.feature) == 1 else self.feature + ['-']
            index = {'legacy': 0, 'mmx': 0, 'vex': 1, 'evex': 2}[encoding]
            feature = self.features.get('on', features[index])
            feature = self.features.get({'legacy': 'son', 'vex': 'von'}.get(encoding), feature)
            if encoding == 'mmx':
                feature = self.features['mmx']
            low, _, high = feature.partition(':')
            if high:
                yield Form(self, encoding, low, 1)
                yield Form(self, encoding, high, 2)
            else:
                yield Form(self, encoding, low, 7)


class Form:
    """A row in one encoding."""

    def __init__(self, row, encoding, feature, lengths):
        self.row, self.feature = row, feature
        self.match = dict(row.match)
        self.attr = list(row.attr)
        self.mnemonic = row.mnemonic
        operands = row.operands
        vector = row.where.split(':')[0] in ('vector.tab', 'avx512.tab')
        self.klass = row.klass if row.klass != '-' else \
            {'legacy': 'SSE', 'mmx': 'MMX', 'vex': 'AVX', 'evex': 'AVX512'}[encoding]
        if row.klass == '-' and encoding == 'legacy' and \
                any(re.match('[=+]?[PQN]', o) for o in operands):
            self.klass = 'MMX'
        if vector and encoding in ('vex', 'evex') and self.mnemonic[0] != 'K':
            self.mnemonic = 'V' + self.mnemonic
        if vector and row.mnemonic == 'EMMS':
            self.klass = 'MMX'
        if encoding in ('legacy', 'mmx'):
            if any(re.match('[=+]?H', o) for o in operands):
                first = operands[0]
                if first[0] == '=' and first[1] == 'H': # a shift by an immediate
                    operands = ['+' + operands[1][0] + operands[1][1:], *operands[2:]]
                else:
                    operands = [o for o in operands if not re.match('H', o)]
                    operands[0] = '+' + first.lstrip('=')
            if vector:
                self.match['w'], self.match['l'] = 3, 7
        if encoding == 'mmx':
            self.match['pp'] = 1
            table = {'V': 'P', 'W': 'Q', 'U': 'N'}
            operands = [re.sub('([VWU])(x|dq)$', lambda m: table[m[1]] + 'q', o) for o in operands]
            if row.mnemonic.startswith(('PSLL', 'PSRL', 'PSRA')) and 'Ib' in operands:
                operands[0] = '+Nq'
        for kind, name in (('v', 'vex'), ('e', 'evex')):
            if encoding == name:
                self.match.update(row.only[kind])
        if encoding in ('vex', 'evex'):
            self.match['l'] &= lengths & (3 if encoding == 'vex' else 7)
        if encoding != 'evex':
            self.attr = [a for a in self.attr
                         if a not in ('kz', 'k', 'kreq', 'b4', 'b8', 'er', 'sae', 'elem')]
        self.operands = [self.operand(o) for o in operands]
        letters = {how[0] for how, _, _ in self.operands if how not in FIXED}
        if letters & set('MTt'):
            self.match['mod'] &= 1
        if letters & set('RUN') or 'KR' in {how for how, _, _ in self.operands}:
            self.match['mod'] &= 2
        if 'crdr' in self.attr:
            self.match['mod'] = 3
        self.modrm = row.modrm or encoding in ('vex', 'evex') and bool(operands) or row.match['mod'] != 3 or \
            bool(letters & set('EGMRSCDVHWUPQNTt')) or 'STi' in {o[0] for o in self.operands}
        space = 'legacy' if encoding == 'mmx' else encoding
        self.space = SPACES.index((space, row.map))

    def operand(self, text):
        access = text[0] if text[0] in '=+?!' else ''
        text = text[len(access):]
        if text in FIXED:
            return text, FIXED_SIZE[text], ACCESS[access]
        if text[1:] not in SIZE:
            raise ValueError(f'{self.row.where}: {text}?')
        return text[0], text[1:], ACCESS[access]

    def bits(self):
        return sum(self.match[name] << at for name, (at, _) in FIELDS.items())

    def overlaps(self, other):
        return all(self.match[name] & other.match[name] for name in FIELDS)


def read(paths):
    forms = []
    for path in paths:
        name = path.split('/')[-1]
        feature, klass = ['-'], 'X87' if name == 'x87.tab' else '-'
        with open(path) as f:
            for number, line in enumerate(f, 1):
                words = line.split()
                if not words or words[0] == '#':
                    continue
                if words[0] == '@feature':
                    feature = words[1:]
                elif words[0] == '@class':
                    klass = words[1]
                else:
                    forms += Row(words, f'{name}:{number}', feature, klass).expand()
    return forms


def arrange(forms):
    """The rows of each opcode, in order. Return: {(space, opcode): [form]}"""
    table = {}
    for form in forms:
        for opcode in form.row.opcodes:
            slot = table.setdefault((form.space, opcode), [])
            for other in slot:
                if form.overlaps(other) and not form.row.or_else:
                    raise ValueError(f'{form.row.where} overlaps with {other.row.where}')
            slot.append(form)
    return table


def intern(table, item):
    return table.setdefault(item, len(table))


def how_name(how):
    return 'HOW_' + {'1': 'ONE', 't': 'T_HALF', 'T': 'T'}.get(how, how.upper())


def row_text(form, flags, implied):
    operands = ', '.join(f'{{{how_name(how)}, SIZE_{size.upper()} | {access} << 5}}'
                         for how, size, access in form.operands)
    attr = ' | '.join(('INSN_ATTR_' if a in PUBLIC else 'ROW_') + a.upper() for a in form.attr)
    feature = 'NONE' if form.feature == '-' else form.feature
    r, w = form.row.implied['r'], form.row.implied['w']
    return (f'\t{{0x{form.bits():08x}, {attr or 0}, INSN_{form.mnemonic}, INSN_F_{feature}, '
            f'INSN_CLASS_{form.klass}, {intern(flags, tuple(form.row.flags))}, '
            f'{intern(implied, (*r, *w))}, {{{operands or "{0}"}}}}},\n')


def write_header(path, forms):
    mnemonics = list(dict.fromkeys(form.mnemonic for form in forms))
    features = sorted({form.feature for form in forms} - {'-'})
    with open(path, 'w') as f:
        f.write('/* Made by mktable.py. */\n#pragma once\n\n#define INSN_MNEMONICS(X)')
        f.write(''.join(f' \\\n\tX({name})' for name in mnemonics))
        f.write('\n\n#define INSN_FEATURES(X)')
        f.write(''.join(f' \\\n\tX({name})' for name in features) + '\n')


def write_table(path, forms):
    table = arrange(forms)
    flags, implied, rows, index, modrm = {}, {}, [], [], [0] * 32 * len(SPACES)
    for space in range(len(SPACES)):
        for opcode in range(256):
            index.append(len(rows))
            slot = table.get((space, opcode), [])
            if len({form.modrm for form in slot}) > 1:
                raise ValueError(f'{slot[0].row.where}: is there a ModRM byte or not?')
            if slot and slot[0].modrm:
                modrm[space * 32 + opcode // 8] |= 1 << opcode % 8
            rows += [row_text(form, flags, implied) for form in slot]
    index.append(len(rows))
    with open(path, 'w') as f:
        f.write('/* Made by mktable.py. */\n#include "lib/insn/table.h"\n\n')
        f.write('const struct insn_row insn_rows[] = {\n' + ''.join(rows) + '};\n\n')
        f.write(f'const uint16_t insn_index[{len(index)}] = {{\n' + ', '.join(map(str, index)) + '};\n\n')
        f.write(f'const uint8_t insn_modrm[{len(modrm)}] = {{\n' + ', '.join(map(str, modrm)) + '};\n\n')
        f.write('const struct insn_flags insn_flags[] = {\n' +
                ''.join(f'\t{{{t:#x}, {m:#x}, {u:#x}}},\n' for t, m, u in flags) + '};\n\n')
        f.write('const struct insn_implied insn_implied[] = {\n' +
                ''.join(f'\t{{{a:#x}, {b:#x}, {c:#x}, {d:#x}}},\n' for a, b, c, d in implied) +
                '};\n')


def main():
    header, table, *paths = sys.argv[1:]
    forms = read(paths)
    write_header(header, forms)
    write_table(table, forms)


main()
