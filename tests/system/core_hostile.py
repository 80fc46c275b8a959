"""Hostile programs of ring 3, and hostile guests, on core (tests/core): afterwards nothing is missing, and it lives on.

The kernel is built with its checks of locks for this. Each test starts a machine of its own.
"""

import glob
import os
import re
import secrets

from lab import debian
from tests.system import core, core_user
from tests.system.frame import Died, Timeout, _write

TEST_SECONDS = 1500
USUAL_SECONDS = 200
BUILD = os.path.join(debian.ROOT, 'build-locks')
SEED = 1049064288  # found a panic once
# CPUs, calls: with three more than this machine has QEMU takes five times as long.
CALLS_ON = ((3, 900000), (4, 100000))
SWEEP = ('opcodes-16', 'opcodes-32', 'opcodes-64', 'msrs', 'ports', 'places', 'svm', 'interrupts',
         'interrupts-x2apic', 'storm', 'triple')  # of tests/sweep/main.c
# Takes long, and in 32 bits ends QEMU itself now and then: tests/core/sweep.py, by hand.
SWEEP_BY_HAND = ('opcodes-32', 'opcodes-64', 'ports')
# Timers as fast as this one's come upon QEMU's loss of interrupts (docs/lab.md) within seconds;
# where instructions are counted there is none.
SWEEP_COUNTED = ('storm',)
BURST = 64  # lines about programs that the kernel says at once; then it is one a second


def seed_of_calls():
    """The same one each time; YADO_SEED=N takes another one, YADO_SEED=draw any."""
    given = os.environ.get('YADO_SEED', str(SEED))
    return secrets.randbelow(1 << 30) if given == 'draw' else int(given)


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
                *sorted(path for path in glob.glob(os.path.join(debian.ROOT, 'tests/core/*.c'))
                        if not os.path.basename(path).startswith('provoke'))],  # the kernel's
               'cannot build tests/core')
    with open(out, 'rb') as f:
        return f.read()


def run(groups, calls=0, more=None, seed=1, **options):
    """Runs groups of programs. Return: what the machine said, without complaints of the kernel."""
    files = {'init': program(), 'etc/hostile': f'{seed} {calls} {groups}\n'.encode(), **(more or {})}
    with core.File(core_user.archive(files)) as path:
        with core.machine(initramfs=path, kernel=kernel(), spare_cpu=True, **options) as m:
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
    assert not re.search('^FAIL', text, re.MULTILINE) and 'pass alive/vm' in text, text
    assert 'hostile: done, 0 failed' in text, text
    return text


def sweep(parts, cpus=2):
    """A guest that tries all there is (tests/sweep), part by part, beside one on each of up to two
    CPUs that computes: their memory stays as it was, and each gets its share of its CPU.
    SWEEP_COUNTED has the parts that run alone, on one CPU.
    """
    count = parts[0] in SWEEP_COUNTED
    cpus = 1 if count else cpus
    with open(os.path.join(debian.ROOT, 'build/tests/sweep/sweep'), 'rb') as f:
        files = {'bin/sweep': f.read()}
    lines = [f'{part} {3 if part.startswith("interrupts") else 1}\n' for part in parts]
    files['etc/sweep'] = ''.join(lines).encode()
    text = run('sweep', more=files, cpus=cpus, count=count)
    assert len(re.findall('pass sweep/', text)) == len(parts), text
    assert len(re.findall('pass neighbour/', text)) == min(cpus, 2) * len(parts), text
    return text


def test_crashes_leave_nothing_behind():
    assert len(re.findall('pass crash/', run('crash'))) > 80


def test_leaks_come_back():
    """All there is of each kind is taken, memory too: a neighbour keeps its own and is never late."""
    text = run('leak')
    taken = len(re.findall('pass leak/', text))
    assert taken > 15 and len(re.findall('pass neighbour/', text)) == taken - 1, text


def test_the_annex_harms_only_its_own_process():
    """The emulator of ring 3: its code, its memory and what it says to the kernel, in hostile hands."""
    assert len(re.findall('pass annex/', run('annex', cpus=2))) == 15


def test_takes_no_bad_pointers():
    assert len(re.findall('pass pointers/', run('pointers'))) == 3


def test_guests_do_not_reach_their_neighbour():
    """Its memory stays as it was, and it is never late."""
    text = run('guests')
    assert len(re.findall('pass guests/', text)) == len(re.findall('pass neighbour/', text)) == 3


def test_guests_try_all_there_is():
    """The neighbours' memory, on their CPU and on the other, stays as it was, and they get their share."""
    sweep([part for part in SWEEP if part not in SWEEP_BY_HAND + SWEEP_COUNTED])
    for part in SWEEP_COUNTED:
        sweep([part])


def test_survives_a_million_calls():
    """By threads on several CPUs, which is what finds a lock that is missing."""
    seed = seed_of_calls()
    _write(f'seed {seed}: YADO_SEED={seed} draws the same calls again\n')
    for cpus, calls in CALLS_ON:
        text = run('fuzz', calls, seed=seed, cpus=cpus)
        assert f'from seed {seed},' in text, text
        done = int(re.search(r'fuzz: (\d+) calls', text).group(1))
        guests = int(re.search(r'(\d+) runs of guests', text).group(1))
        assert done >= calls and guests > calls / 1000, text
        seed += 1000  # each process has one of its own, one more than that before it
