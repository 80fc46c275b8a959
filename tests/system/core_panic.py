"""core against itself: what its kernel says and forbids when it does what it must not.

A kernel that is only made for these tests (tests/core/provoke_kernel.c) has a system call that
provokes it; each test starts machines of its own.
"""

import os
import re

from lab import debian, metal
from tests.system import core, core_user

TEST_SECONDS = 400  # the first one makes the kernel
END_SECONDS = 60
BUILD = os.path.join(debian.ROOT, 'build')
KERNEL = os.path.join(BUILD, 'core/core-provoke.elf')
USER_END = 0x7ffffffff000
DIRECT_MAP = range(0xffff800000000000, 0xffffc00000000000)

PANIC = r'core: panic on CPU \d+: (.+)'
FAULT = r'page fault in the kernel, error code 0x([0-9a-f]+), address 0x([0-9a-f]+)'
ADDRESS = r'^  0x([0-9a-f]{16}) (\S+)\+0x([0-9a-f]+)$'

_kernel = []  # its functions, (address, name), once it is built


def functions():
    """Builds the kernel. Return: its functions, sorted."""
    if not _kernel:
        debian.run(['ninja', '-C', BUILD, 'core/core-provoke.elf'], 'cannot build core-provoke.elf')
        rows = [line.split() for line in debian.run(['nm', '-n', KERNEL], 'nm').splitlines()]
        _kernel.extend((int(row[0], 16), row[2]) for row in rows if row[1] in 'tT')
    return _kernel


def address_of(name):
    return next(address for address, each in functions() if each == name)


def function_at(address):
    return [name for at, name in functions() if at <= address][-1]


def program():
    return core_user.archive({'init': core_user.build('provoke')})


def provoke(what, kernel=KERNEL, **options):
    """Return: what the console said until the machine halted or the program ended."""
    functions()
    with core.File(program()) as path:
        with core.machine(kernel=kernel, initramfs=path, cmdline=f'-- {what}', **options) as m:
            core.awaited(m, r'core: halted\n|init has ended with status 0', END_SECONDS)
            if 'core: halted' in m.text:
                assert not m.ended(0.2), 'the machine ended instead of halting'
            core._write(m.text)
            return m.text


def panicked(what, **options):
    """Return: the panic's sentence, and its addresses with names, by number."""
    text = provoke(what, **options)
    assert 'went on' not in text, text
    sentences = re.findall(PANIC, text)
    assert len(sentences) == 1 and text.endswith('core: halted\n'), text
    lines = re.findall(ADDRESS, text, re.MULTILINE)
    assert lines, text
    return sentences[0], [(int(address, 16), name) for address, name, _ in lines]


def names(lines):
    return [name for _, name in lines]


def check_backtrace(lines):
    """Every name is that of the function that nm has at the address, or of the call before it."""
    for i, (address, name) in enumerate(lines):
        assert name in (function_at(address), function_at(address - 1)), (hex(address), name, i)


def faulted(what, error, **options):
    """A page fault with this error code. Return: its address, and the names of the backtrace."""
    sentence, lines = panicked(what, **options)
    found = re.fullmatch(FAULT, sentence)
    assert found and int(found.group(1), 16) == error, sentence
    return int(found.group(2), 16), names(lines)


def overflowed(what, **options):
    """Of a stack of which the kernel has said where it is: found at the first byte behind."""
    text = provoke(what, **options)
    end = int(re.search(r'provoke: a stack that ends at 0x([0-9a-f]+)', text).group(1), 16)
    found = re.findall(PANIC, text)
    assert len(found) == 1, text
    at = re.fullmatch(r'kernel stack overflow at 0x([0-9a-f]+)', found[0])
    assert at, found
    return end - int(at.group(1), 16), text


def test_says_where_it_panicked():
    for cpus in (1, 2):
        sentence, lines = panicked('panic', cpus=cpus)
        assert re.fullmatch(r'as requested by 0x[0-9a-f]+', sentence), sentence
        check_backtrace(lines)
        assert names(lines) == ['provoke_deep', 'provoke_edge', 'provoke_panic',
                                '__wrap_syscall_enter', 'entry_syscall'], lines
    sentence, lines = panicked('check')
    assert re.fullmatch(r'\S*tests/core/provoke_kernel\.c:\d+: check failed: user == 0',
                        sentence), sentence
    check_backtrace(lines)
    assert 'provoke_check' in names(lines), lines


def test_notices_what_overruns_a_frame():
    sentence, lines = panicked('canary')
    assert sentence == 'a stack was overrun', sentence
    assert 'provoke_canary' in names(lines), lines


def test_notices_the_end_of_a_stack():
    below, text = overflowed('overflow')
    assert 16384 < below <= 16384 + 4096, below
    lines = [(int(a, 16), name) for a, name, _ in re.findall(ADDRESS, text, re.MULTILINE)]
    check_backtrace(lines)
    assert names(lines).count('provoke_recursion') >= 10, text


def test_notices_the_end_of_stacks_of_exceptions():
    """That of #DF, too, on which the others are reported; on CPU 0 and on another."""
    for cpus, what in ((1, 'db'), (1, 'nmi'), (1, 'df'), (1, 'mc'), (4, 'db'), (4, 'df')):
        below, text = overflowed(f'{what}_overflow', cpus=cpus)
        assert 4096 < below <= 8192, below
        assert len(re.findall(r'^  .* provoke_recursion\+', text, re.MULTILINE)) >= 10, text
        assert ('CPU 0' in text) == (cpus == 1), text


def test_cannot_write_to_its_own_code():
    address, trace = faulted('write_text', 3)
    assert address == address_of('provoke_deep') and trace[0] == 'provoke_write_text', trace
    address, trace = faulted('write_direct', 3)
    assert address in DIRECT_MAP and trace[0] == 'provoke_write_direct', trace
    address, trace = faulted('write_constant', 3)
    assert address > 0xffffffff80200000 and trace[0] == 'provoke_write_constant', trace


def test_cannot_execute_data():
    for what in ('execute_data', 'execute_stack', 'execute_direct'):
        address, trace = faulted(what, 0x11)
        assert address > USER_END and trace[0] == '?', trace


def test_reaches_ring_3_by_its_doors_only():
    """SMEP and SMAP; and without them the same is done, so it is they that forbid it."""
    for what, error, feature in (('execute_user', 0x11, 'smep'), ('read_user', 1, 'smap'),
                                 ('write_user', 3, 'smap')):
        address, _ = faulted(what, error)
        assert address < USER_END, hex(address)
        text = provoke(what, cpu=f'max,+svm,-{feature}')
        assert f'{what}: went on' in text and 'panic' not in text, text


def test_does_not_tell_ring_3_where_its_tables_are():
    """UMIP; and without it ring 3 is told."""
    for cpu, result in (('max,+svm', 'was refused'), ('max,+svm,-umip', 'went on')):
        text = provoke('umip', cpu=cpu)
        for instruction in ('sgdt', 'sidt', 'sldt', 'str', 'smsw'):
            assert f'{instruction}: {result}' in text, text


def test_has_nothing_writable_and_executable():
    """All page tables, the program's with them; with one CPU and with several, and above 4 GiB."""
    for options in ({}, {'cpus': 4}, {'memory_mib': 5000, 'cpus': 2},
                    {'cpu': 'max,+svm,-pdpe1gb'}):
        text = provoke('walk', **options)
        found = re.search(r'provoke: (\d+) writable, (\d+) executable, (\d+) both, (\d+) aliases, '
                          r'(\d+) strangers, (\d+) open', text)
        assert found, text
        counts = [int(n) for n in found.groups()]
        assert counts[0] > 100 and counts[1] > 50 and counts[2:] == [0, 0, 0, 0], counts


def test_ships_nothing_of_that():
    text = provoke('panic', kernel=metal.KERNEL)
    assert 'panic: went on' in text and 'system call 4096 is not offered' in text, text
    assert 'provoke' not in debian.run(['nm', metal.KERNEL], 'nm')
