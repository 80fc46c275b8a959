"""core on an emulated bare machine: how it starts, by each way there is, and what it refuses.

Each test starts machines of its own; none needs the lab host.
"""

import gzip
import io
import os
import re
import tempfile

from bench import core as bench
from bench.context import Context
from lab import cpio, metal
from tests.system.frame import Skip, Timeout, _write

TEST_SECONDS = 400
START_SECONDS = 120  # for a busy machine; one is usual, with UEFI ten
LINUX_START = 6094173209  # instructions from power-on to its first program, as make bench says
HALT_SECONDS = 3  # how long a machine that has halted is watched for signs of life

SUMMARY = r'core [\d.]+, by (\w+) on \w+; (\d+) CPUs?, (x2?APIC), TSC \d+ MHz by (HPET|PM timer|PIT|CPUID)'
MEMORY = r'memory: (\d+) MiB, (\d+) KiB in use; initramfs (\d+) KiB'


def archive(files):
    """A cpio archive, as bytes."""
    out = io.BytesIO()
    made = cpio.Archive(out)
    for name, data in files.items():
        made.file(name, data)
    made.close()
    return out.getvalue()


class File:
    """Bytes in a file, as long as `with` lasts."""

    def __init__(self, data):
        self._file = tempfile.NamedTemporaryFile(prefix='yado-core-')
        self._file.write(data)
        self._file.flush()

    def __enter__(self):
        return self._file.name

    def __exit__(self, *_):
        self._file.close()


def machine(emulator=metal, **options):
    """`emulator`: lab.metal, which is QEMU, or lab.bochs. For guests on several CPUs: spare_cpu=True."""
    chosen = metal.Options()
    chosen.spare_cpu = False
    for name, value in options.items():
        assert hasattr(chosen, name), name
        setattr(chosen, name, value)
    _write(f'[machine: {options}]\n')
    return emulator.Machine(chosen)


def awaited(m, pattern, seconds=START_SECONDS):
    found = m.wait(pattern, seconds)
    if not found:
        _write(m.text)
        if m.running():
            raise Timeout(f'no "{pattern}" on the console within {seconds} s')
        raise AssertionError(f'the machine ended without "{pattern}"')
    return found


def boot(**options):
    """Boots a machine without a first program. Return: the matches of SUMMARY and MEMORY, and all
    the text.
    """
    with machine(**options) as m:
        summary = awaited(m, SUMMARY)
        memory = awaited(m, MEMORY)
        awaited(m, "core: the first program, '[^']*', cannot be started: ")
        _write(m.text)
        assert 'panic' not in m.text
        return summary, memory, m.text


def refused(sentence, **options):
    """The kernel says one sentence, once, and halts: it neither resets nor goes on."""
    with machine(**options) as m:
        awaited(m, re.escape(sentence) if isinstance(sentence, str) else sentence.pattern)
        assert not m.ended(HALT_SECONDS), 'the machine ended instead of halting'
        _write(m.text)
        said = [line for line in m.text.splitlines() if line.startswith('core: ')]
        assert len(said) == 1 and said[0].endswith('.'), said


def test_boots_by_pvh():
    summary, memory, _ = boot()
    assert summary.group(1, 2) == ('PVH', '1'), summary.group(0)
    assert 500 <= int(memory.group(1)) <= 512, memory.group(0)


def test_starts_all_cpus():
    for cpus in (2, 4, 16):
        summary, _, _ = boot(cpus=cpus)
        assert int(summary.group(2)) == cpus, summary.group(0)


def test_uses_no_more_than_it_is_told():
    summary, memory, _ = boot(cpus=4, cmdline='cpus=3 memory=64M init=/bin/first')
    assert int(summary.group(2)) == 3 and int(memory.group(1)) == 64, memory.group(0)


def test_runs_on_other_machines():
    """Few features, and other ones than usual."""
    summary, _, _ = boot(cpu='qemu64,+svm,+npt,+nx,-x2apic')
    assert summary.group(3) == 'xAPIC'
    boot(cpu='max,+svm,-pdpe1gb,-smap,-smep,-umip,-xsave,-pge,-rdrand')
    boot(memory_mib=6000, cpus=2)  # RAM above 4 GiB


def test_measures_its_clock():
    """By each timer in turn, where those before it are missing; all come to the same."""
    found = {}
    for kind in ('q35', 'q35,hpet=off', 'pc,hpet=off,acpi=off'):
        summary, _, _ = boot(machine=kind)
        found[re.search(r'TSC (\d+) MHz by (.*)', summary.group(0)).group(2)] = int(
            re.search(r'TSC (\d+)', summary.group(0)).group(1))
    assert list(found) == ['HPET', 'PM timer', 'PIT'], found
    # Of a busy machine, whose timers stand still at times.
    assert max(found.values()) < 1.2 * min(found.values()), found


def test_unpacks_the_initramfs():
    data = archive({'init': b'not a program', 'etc/some': bytes(range(256)) * 40000})
    for packed in (data, gzip.compress(data)):
        with File(packed) as path:
            _, memory, _ = boot(initramfs=path)
            assert int(memory.group(3)) == len(data) // 1024, memory.group(0)


def test_needs_little_memory():
    """Under 1 MiB of image, under 8 MiB of RAM with four CPUs and 4 GiB to look after."""
    _, memory, _ = boot(cpus=4, memory_mib=4096)
    assert int(memory.group(2)) < 8 * 1024, memory.group(0)
    with tempfile.TemporaryDirectory() as work:
        image = os.path.join(work, 'core')
        metal.debian.run(['objcopy', '--strip-all', metal.KERNEL, image], 'objcopy')
        assert os.path.getsize(image) < 1 << 20
    boot(memory_mib=24)


def test_starts_in_a_fiftieth_of_what_linux_takes():
    """Instructions from power-on to the first one of /init, the firmware's included."""
    with tempfile.TemporaryDirectory() as work:
        ticks, text = bench.started(Context(work), metal.KERNEL, '')
    _write(text)
    assert 0 < ticks <= LINUX_START / 50, ticks
    assert bench.in_use(text) < 8 * 1024, text


def test_says_what_it_does_not_know():
    _, _, text = boot(cmdline='loglevel=8 quiet colour=red')
    for word in ('quiet', 'colour=red'):
        assert text.count(f'command line: {word}: is not known') == 1, text


def test_refuses_machines():
    refused('core: this CPU has no AMD-V (SVM), which guests need.', cpu='max,-svm')
    refused('core: this CPU has no nested paging, which guests need.', cpu='max,+svm,-npt')
    refused('core: this CPU has no NX (no-execute pages), or the firmware hides it.',
            cpu='max,+svm,-nx')
    refused("core: this machine's CPU has no 64-bit mode.", cpu='max,-lm')
    refused(re.compile(r'core: \d+ MiB of memory are too little, 16 MiB are the least\.'),
            memory_mib=12)
    refused(re.compile(r'core: 8 MiB of memory are too little, 16 MiB are the least\.'),
            cmdline='memory=8M')


def test_refuses_command_lines():
    for words in ('console=tty0', 'cpus=0', 'cpus=65', 'memory=1X', 'memory=', 'init=relative',
                  'loglevel=9'):
        refused(f'core: the command line "{words}" has a value that is not understood.',
                cmdline=words)


def test_refuses_modules():
    whole = archive({'a': b'x' * 100000})
    with File(whole[:50000]) as path:
        refused(re.compile(r'core: the initramfs is broken at byte \d+ of 50000: '
                           r'no cpio entry \(newc\)\.'), initramfs=path)
    with File(b'#!/bin/sh\n' + whole) as path:
        refused(re.compile(r'core: the initramfs is broken at byte 0 of '), initramfs=path)
    packed = bytearray(gzip.compress(whole + os.urandom(50000)))
    packed[len(packed) // 2] ^= 0x10
    with File(packed) as path:
        refused('core: the initramfs is broken: it cannot be unpacked.', initramfs=path)
    packed[-4:] = b'\xff\xff\xff\x7f'
    with File(packed) as path:
        refused('core: unpacked, the initramfs of 2047 MiB does not fit into memory.',
                initramfs=path)


def iso_boots(**options):
    data = archive({'init': b'x' * 300000})
    with tempfile.TemporaryDirectory(prefix='yado-core-') as work, File(gzip.compress(data)) as path:
        image = os.path.join(work, 'core.iso')
        try:
            metal.iso(image, path, 'loglevel=8')
        except metal.debian.Failed as error:
            raise Skip(str(error)) from None
        for kind in ('disc', 'disk'):
            summary, memory, _ = boot(cpus=2, **{kind: image}, **options)
            assert summary.group(1, 2) == ('Multiboot2', '2'), summary.group(0)
            assert int(memory.group(3)) == len(data) // 1024, memory.group(0)


def test_boots_by_grub_on_bios():
    iso_boots()


def test_boots_by_grub_on_uefi():
    if not os.path.exists(metal.FIRMWARE):
        raise Skip('no UEFI firmware; apt-get install ovmf')
    iso_boots(uefi=True)
