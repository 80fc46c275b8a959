"""Programs of ring 3 on core: what the kernel offers them, seen from there.

Each test starts an emulated bare machine of its own, with a static program as /init.
"""

import io
import os
import re
import tempfile

from lab import cpio, debian
from tests.system import core

TEST_SECONDS = 450
RUN_SECONDS = 240  # for a busy machine: four emulated CPUs on two take 40 s where there is nothing else
NAMES = ('threads', 'signals', 'faults', 'interrupted', 'children', 'long_strings', 'forks', 'broadcasts', 'groups',
         'told_of_stops', 'remapping', 'rebooting', 'waiting', 'memory', 'sockets', 'passed_files',
         'files', 'refusals', 'scheduling')
NAMES_SMP = ('stops', 'fair_beside_real_time', 'real_time_beside_higher', 'equal_shares')


PIE = ('-static-pie', '-fPIE', '-DIS_PIE')


def build(name, kind=('-static',)):
    """A program of tests/guest/core as a static ELF file, as bytes."""
    source = os.path.join(debian.ROOT, 'tests/guest/core', name + '.c')
    out = os.path.join(debian.ROOT, 'build/tests/core', name + kind[0])
    os.makedirs(os.path.dirname(out), exist_ok=True)
    debian.run([debian.needs('gcc', 'gcc'), '-D_GNU_SOURCE', '-I', debian.ROOT, '-std=gnu17', '-O2',
                '-Wall', '-Wextra', '-Werror', *kind, '-pthread', '-o', out, source], f'cannot build {name}')
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
            core.awaited(m, r'init has ended with status (\d+)|init was ended by signal', RUN_SECONDS)
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
    # Position-independent: /init is, and what it starts.
    check_user(run({'init': build('user', PIE)}), NAMES + ('relocated',))


def test_loses_nothing_to_races():
    """The same program passes on Linux."""
    names = ('told', 'ignored', 'orphans', 'unwritten', 'shut', 'dropped', 'appended', 'position', 'grown', 'robust',
             'level', 'connected')
    check_user(run({'init': build('races')}, cpus=4, spare_cpu=True), names)


def test_rseq_is_as_on_linux():
    """The same program passes on Linux."""
    names = ('refusals', 'numbers', 'preempted', 'interrupted', 'outside', 'inherited', 'faults')
    program = build('rseq')
    for cpus in (1, 4):
        check_user(run({'init': program}, cpus=cpus), names)


def test_gives_back_what_ended_programs_had():
    """Counted by the kernel itself; most of the programs are killed within a call."""
    program = build('leaks')
    for cpus in (1, 4):
        text = run({'init': program}, cpus=cpus, memory_mib=128, spare_cpu=True)
        assert 'leaks: 0 failed' in text, text


def test_runs_the_very_executable():
    """`yado doctor` as the first program finds all that guests need."""
    with open(os.path.join(debian.ROOT, 'build/yado'), 'rb') as f:
        text = run({'init': build('doctor'), 'bin/yado': f.read()}, cpus=2)
    assert '2 usable' in text and 'A guest can run here' in text, text


def test_misses_nobody_with_a_signal_to_all():
    """kill(-1) against a fork() on another CPU."""
    text = run({'init': build('broadcast')}, cpus=2)
    found = re.search(r'broadcast: (\d+) rounds, none was left behind', text)
    assert found and int(found.group(1)) > 0, text


def writes(name, says, **options):
    """Boots with a program of busybox as the first one, until it has ended the machine. Return: what
    was written to which registers, {(address, value)}, of devices that QEMU's trace shows."""
    busybox = debian.needs('busybox', 'busybox-static')
    with tempfile.TemporaryDirectory() as work, open(busybox, 'rb') as f:
        shown = os.path.join(work, 'writes')
        with core.File(archive({f'bin/{name}': f.read()})) as path:
            with core.machine(initramfs=path, writes=shown, cmdline=f'init=/bin/{name} -- -f',
                              **options) as m:
                core.awaited(m, says)
                assert m.ended(core.START_SECONDS), 'the machine did not end'
        with open(shown) as f:
            found = re.findall(r' addr 0x([0-9a-f]+) value 0x([0-9a-f]+) ', f.read())
        return {(int(address, 16), int(value, 16)) for address, value in found}


def test_ends_as_the_firmware_says():
    """Spec: ACPI 6.4, 4.8.3.6 "Reset Register": here port 0xcf9, value 15; core's own way, where the
    FADT has none, writes 2 and 6. 4.8.3.2: SLP_EN is bit 13 of PM1 control."""
    assert (0xcf9, 15) in writes('reboot', 'restart') and (0xcf9, 6) not in writes('reboot', 'restart')
    old = writes('reboot', 'restart', machine='pc')
    assert (0xcf9, 6) in old and (0xcf9, 15) not in old
    assert any(address == 0x604 and value & 0x2000 for address, value in writes('poweroff', 'power off'))
