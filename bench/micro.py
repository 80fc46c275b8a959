"""instructions that each kind of exit from a guest costs, on Linux KVM and on core (bench/micro)"""

import json
import os

from lab import debian, metal

MICRO = os.path.join(debian.ROOT, 'build', 'bench', 'micro', 'micro')


SUBJECTS = ('linux-kvm', 'core')


def on_core(words):
    """In the same counting mode, on the same emulated machine without Linux on it."""
    options = metal.Options()
    options.count = True
    options.memory_mib = 2048
    status, text = metal.run(MICRO, *words, options=options)
    if status != 0:
        raise debian.Failed(f'micro on core ended with {status}: {text[-300:].strip()}')
    return '\n'.join(line for line in text.splitlines() if line.startswith('{'))


def rows(context):
    if not os.path.exists(MICRO):
        raise debian.Failed('build/bench/micro/micro is missing; make build')
    for subject in context.chosen(SUBJECTS):
        words = '--json', '--subject', subject
        shown = on_core(words) if subject == 'core' else context.in_lab([MICRO], './micro', *words)
        for row in map(json.loads, shown.splitlines()):
            yield row['row'], row['subject'], row['value'], row['unit']
