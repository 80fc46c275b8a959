"""Hostile programs of ring 3, and hostile guests, on core (tests/core): afterwards nothing is missing, and it lives on.

The kernel is built with its checks of locks for this. Each test starts a machine of its own.
"""

import glob
import os
import re

from lab import debian
from tests.system import core, core_user
from tests.system.frame import Died, Timeout, _write

TEST_SECONDS = 1500
USUAL_SECONDS = 200
BUILD = os.path.join(debian.ROOT, 'build-locks')
CALLS = 1000000
SEED = 1
CPUS = 4
BURST = 64  # lines about programs that the kernel says at once; then it is one a second


def kernel():
    """core with -Ddebug_locks=true."""
    if not os.path.isdir(os.path.join(BUILD, 'meson-private')):
        debian.run(['meson', 'setup', BUILD, debian.ROOT, '-Ddebug_locks=true'], 'meson')
    debian.run(['ninja', '-C', BUILD, 'core/core.elf'], 'cannot build core with checks')
    return os.path.join(BUILD, 'core/core.elf')


def program():
    out = os.path.join(debian.ROOT, 'build/tests/core/hostile')
    os.makedirs(os.path.dirname(out), exist_ok=True)
    debian.run([debian.needs('gcc', 'gcc'), '-D_GNU_SOURCE', '-std=gnu17', '-O2', '-Wall', '-Wextra',
                '-Werror', '-static', '-pthread', '-I', debian.ROOT, '-o', out,
                *sorted(glob.glob(os.path.join(debian.ROOT, 'tests/core/*.c')))],
               'cannot build tests/core')
    with open(out, 'rb') as f:
        return f.read()


def run(groups, calls=0, **options):
    """Runs groups of programs. Return: what the machine said, without complaints of the kernel."""
    files = {'init': program(), 'etc/hostile': f'{SEED} {calls} {groups}\n'.encode()}
    with core.File(core_user.archive(files)) as path:
        with core.machine(initramfs=path, kernel=kernel(), **options) as m:
            ended = m.wait(r'init has ended with status \d+|panic', TEST_SECONDS - 20)
            if not ended and not m.ended(1):
                raise Timeout(f'not done: {m.text[-300:]}')
            if not ended and re.search('qemu: fatal|Bail out!', m.text):
                raise Died('QEMU ended by an error of its own')
            text = m.text
            _write(text)
    assert 'panic' not in text, text
    told = re.findall(r'^\[ *(\d+).*(?:is not offered|at rip 0x|on the stack at|is lost)', text,
                      re.MULTILINE)
    assert len(told) <= BURST + int(told[-1] if told else 0) + 1, len(told)
    text = '\n'.join(line for line in text.splitlines() if not line.startswith('['))
    assert 'FAIL' not in text and 'pass alive/vm' in text, text
    assert 'hostile: done, 0 failed' in text, text
    return text


def test_crashes_leave_nothing_behind():
    assert len(re.findall('pass crash/', run('crash'))) > 80


def test_leaks_come_back():
    assert len(re.findall('pass leak/', run('leak'))) > 10


def test_the_annex_harms_only_its_own_process():
    """The emulator of ring 3: its code, its memory and what it says to the kernel, in hostile hands."""
    assert len(re.findall('pass annex/', run('annex', cpus=2))) == 15


def test_takes_no_bad_pointers():
    assert len(re.findall('pass pointers/', run('pointers'))) == 3


def test_guests_do_not_reach_their_neighbour():
    """Its memory stays as it was, and it is never late."""
    text = run('guests')
    assert len(re.findall('pass guests/', text)) == len(re.findall('pass neighbour/', text)) == 3


def test_survives_a_million_calls():
    """By threads on several CPUs, which is what finds a lock that is missing."""
    text = run('fuzz', CALLS, cpus=CPUS)
    done = int(re.search(r'fuzz: (\d+) calls', text).group(1))
    guests = int(re.search(r'(\d+) runs of guests', text).group(1))
    assert done >= CALLS and guests > 1000, text
