"""The tables of figures in docs/promises.md: each between its markers, made from build/bench.

    <!-- bench: NAME -->
    | NAME | yado | ... |
    <!-- end -->

The rows of a table are those of build/bench/NAME.json, its columns the subjects. Where yado has
peers, the last column is yado's figure to the lowest of theirs; core's where there is no yado. An
empty place waits for its bench.
"""

import json
import os
import re

PAGE = 'docs/promises.md'
BEGIN = re.compile(r'<!-- bench: ([\w-]+) -->')
END = '<!-- end -->'
SUBJECTS = ['yado', 'qemu-microvm', 'qemu-q35', 'qemu-q35-vhost', 'linux-kvm', 'core', 'soft',
            'qemu-tcg', 'native']  # from left to right; others come behind them
NO_PEERS = ['qemu-q35-vhost']  # shown, and not what yado's figure is held against


def _figure(value):
    if value is None:
        return ''
    return f'{value:,}' if isinstance(value, int) else f'{value:,.2f}'


def _own(named):
    """Whose figures are held against the others': yado's; core's where there are none."""
    return next((own for own in ('yado', 'core') if own in named), None)


def _ratio(values, own):
    peers = [value for subject, value in values.items()
             if subject != own and subject not in NO_PEERS]
    if own not in values or not peers or min(peers) <= 0:
        return ''
    return f'{values[own] / min(peers):.2f}'


def table(name, rows):
    """The lines of a table. @rows: as in build/bench/NAME.json."""
    named = {row['subject'] for row in rows}
    subjects = [s for s in SUBJECTS if s in named] + sorted(named - set(SUBJECTS))
    own = _own(named)
    compared = own is not None and len(named) > 1
    by_row = {}
    for row in rows:
        by_row.setdefault((row['row'], row['unit']), {})[row['subject']] = row['value']
    heads = [name, *subjects, *(['ratio'] if compared else [])]
    lines = [f'| {" | ".join(heads)} |', '|---' + '|--:' * (len(heads) - 1) + '|']
    for (row, unit), values in by_row.items():
        cells = [f'{row}, {unit}', *(_figure(values.get(subject)) for subject in subjects)]
        cells += [_ratio(values, own)] if compared else []
        lines.append(f'| {" | ".join(cells)} |')
    return lines


def places(text):
    """{name: (first, behind)}: the lines between its markers. ValueError says what is wrong."""
    found = {}
    name = None
    for number, line in enumerate(text.splitlines()):
        begin = BEGIN.fullmatch(line.strip())
        if '<!-- bench' in line and (not begin or name or begin.group(1) in found):
            raise ValueError(f'line {number + 1}: "{line}" is misspelled, inside of another table, '
                             'or there twice')
        if begin:
            name, first = begin.group(1), number + 1
        elif line.strip() == END:
            if not name:
                raise ValueError(f'line {number + 1}: {END} without a beginning')
            found[name] = (first, number)
            name = None
        elif name and not line.startswith('|'):
            raise ValueError(f'line {number + 1}: no row of the table "{name}"')
    if name:
        raise ValueError(f'the table "{name}" has no {END}')
    for name, (first, behind) in found.items():
        widths = {line.count('|') for line in text.splitlines()[first:behind]}
        if len(widths) > 1 or behind - first in (1, 2):
            raise ValueError(f'the table "{name}" has no rows, or rows of different lengths')
    return found


def renew(root, out, names):
    """Writes the tables of the benches that ran. Return: those without a place in the page."""
    path = os.path.join(root, PAGE)
    with open(path) as f:
        text = f.read()
    homeless = []
    for name in names:
        place = places(text).get(name)
        if not place:
            homeless.append(name)
            continue
        with open(os.path.join(out, name + '.json')) as f:
            rows = [json.loads(line) for line in f]
        lines = text.splitlines()
        lines[place[0]:place[1]] = table(name, rows)
        text = '\n'.join(lines) + '\n'
    with open(path + '.new', 'w') as f:
        f.write(text)
    os.rename(path + '.new', path)
    return homeless
