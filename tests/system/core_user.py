"""Programs of ring 3 on core: what the kernel offers them, seen from there.

Each test starts an emulated bare machine of its own, with a static program as /init.
"""

import io
import os
import re

from lab import cpio, debian
from tests.system import core

TEST_SECONDS = 300
NAMES = ('threads', 'signals', 'faults', 'interrupted', 'children', 'long_strings', 'forks', 'broadcasts', 'remapping',
         'rebooting', 'waiting', 'memory', 'sockets',
         'files', 'refusals', 'scheduling')
NAMES_SMP = ('fair_beside_real_time', 'real_time_beside_higher', 'equal_shares')


def build(name):
    """A program of tests/guest/core as a static ELF file, as bytes."""
    source = os.path.join(debian.ROOT, 'tests/guest/core', name + '.c')
    out = os.path.join(debian.ROOT, 'build/tests/core', name)
    os.makedirs(os.path.dirname(out), exist_ok=True)
    debian.run([debian.needs('gcc', 'gcc'), '-D_GNU_SOURCE', '-std=gnu17', '-O2', '-Wall', '-Wextra',
                '-Werror', '-static', '-pthread', '-o', out, source], f'cannot build {name}')
    with open(out, 'rb') as f:
        return f.read()


def archive(programs):
    """A cpio archive of programs, as bytes."""
    out = io.BytesIO()
    made = cpio.Archive(out)
    for name, data in programs.items():
        made.file(name, data, 0o755)
    made.close()
    return out.getvalue()


def run(programs, **options):
    """Boots, until the machine turns itself off. Return: all that it said."""
    with core.File(archive(programs)) as path:
        with core.machine(initramfs=path, **options) as m:
            core.awaited(m, r'init has ended with status (\d+)|init was ended by signal')
            assert m.ended(core.START_SECONDS), 'the machine did not turn itself off'
            assert 'panic' not in m.text, m.text
            return m.text


def check_user(text, names=NAMES):
    for name in names:
        assert f'pass {name}' in text, text
    assert 'FAIL' not in text and 'status 7' in text, text


def test_offers_what_programs_need():
    program = build('user')
    check_user(run({'init': program}))
    check_user(run({'init': program}, cpus=4), NAMES + NAMES_SMP)


def test_gives_back_what_ended_programs_had():
    """Counted by the kernel itself; most of the programs are killed within a call."""
    program = build('leaks')
    for cpus in (1, 4):
        text = run({'init': program}, cpus=cpus, memory_mib=128)
        assert 'leaks: 0 failed' in text, text


def test_runs_the_very_executable():
    """`yado doctor` as the first program finds all that guests need."""
    with open(os.path.join(debian.ROOT, 'build/yado'), 'rb') as f:
        text = run({'init': build('doctor'), 'bin/yado': f.read()}, cpus=2)
    assert '2 online' in text and 'A guest can run here' in text, text
