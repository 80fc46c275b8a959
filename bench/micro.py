"""instructions that each kind of exit from a guest costs on Linux KVM (bench/micro)"""

import json
import os

from lab import debian

MICRO = os.path.join(debian.ROOT, 'build', 'bench', 'micro', 'micro')


def rows(context):
    if not os.path.exists(MICRO):
        raise debian.Failed('build/bench/micro/micro is missing; make build')
    shown = context.in_lab([MICRO], './micro', '--json', '--subject', 'linux-kvm')
    for row in map(json.loads, shown.splitlines()):
        yield row['row'], row['subject'], row['value'], row['unit']
