"""interrupts that a host takes while its guest is idle, on core and on Linux KVM"""

import re

from lab import debian, metal

SECONDS = 10
ROW = f'taken in {SECONDS} seconds beside a guest in HLT'


def on_core(program, cpus=1, count=True):
    options = metal.Options()
    options.cpus, options.count = cpus, count
    status, text = metal.run(program, str(SECONDS), options=options)
    if status != 0:
        raise debian.Failed(f'idle on core ended with {status}: {text[-300:].strip()}')
    return text


def taken(text):
    """Of each CPU."""
    return [int(number) for number in re.findall(r'^idle: CPU \d+: (\d+)', text, re.MULTILINE)]


def rows(context):
    program = context.compiled('host/idle.c')
    for subject in context.chosen(['linux-kvm', 'core']):
        text = (on_core(program) if subject == 'core' else
                context.in_lab([program], './idle', str(SECONDS)))
        yield ROW, subject, sum(taken(text)), 'interrupts'
