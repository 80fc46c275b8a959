"""bench/micro, which measures what a KVM provider's work costs, measures Linux KVM."""

import json
import os
import re
import subprocess

from lab import debian
from tests.system import frame

LAB = {'cpus': 2, 'guest': False, 'files': ['build/bench/micro/micro']}

MICRO = os.path.join(debian.ROOT, 'build/bench/micro/micro')


def micro(*arguments):
    """On this machine, for what needs no KVM. Return: (exit status, output, error output)."""
    done = subprocess.run([MICRO, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=30)
    return done.returncode, done.stdout, done.stderr


def names():
    status, listed, _ = micro('--list')
    assert status == 0
    return [line.split()[0] for line in listed.splitlines()]


def values(text, subject, unit):
    """All rows as {name: value}, each well-formed and there once."""
    rows = [json.loads(line) for line in text.splitlines()]
    for row in rows:
        assert list(row) == ['bench', 'row', 'subject', 'value', 'unit'], row
        assert (row['bench'], row['subject'], row['unit']) == ('micro', subject, unit), row
        assert isinstance(row['value'], int) and row['value'] > 0, row
    assert [row['row'] for row in rows] == names()
    return {row['row']: row['value'] for row in rows}


def counted():
    """What a run in counting mode prints."""
    return debian.run([os.path.join(debian.ROOT, 'lab/run'), 'linux', '--count', '--memory', '2G',
                       '--in', MICRO, '--', './micro', '--json', '--subject', 'linux-kvm'],
                      'micro in the lab', stdin=subprocess.DEVNULL)


def test_counts_are_sane_and_repeat():
    text = counted()
    print(text)
    value = values(text, 'linux-kvm', 'instructions')
    # No tighter: the figures are for docs/promises.md, these only for what is no figure at all.
    assert 200 < value['null-ioctl'] < value['run-nothing'] < value['port-write'] < 30000
    assert value['port-eventfd'] < value['port-write']  # that is what it is for
    assert 1000 < value['cpuid'] < value['ipi-vcpu'] < value['ipi-vcpu-round-trip'] < 300000
    assert value['irqfd-write'] < value['irqfd'] < value['irqfd-halted']
    # 4096 bytes to clear are 4096 instructions, and 2 MiB are 512 times as many.
    assert value['touch-4k'] > value['touch-4k-populated'] + 4096
    assert value['touch-2m'] > value['touch-2m-populated'] + (2 << 20)
    assert value['vcpu-create'] > 10000 and value['vm-create'] > 10000
    assert counted() == text


def test_two_processors(lab):
    """The rows with two threads, too; noise is all that is certain about the figures."""
    value = values(lab.must('./micro --json --subject a-b.c_1', timeout=200), 'a-b.c_1', 'ticks')
    assert value['ipi-vcpu'] > 100 and value['vm-create'] > value['null-ioctl']


def test_rows_by_name(lab):
    lines = lab.must('./micro hlt-pending cpuid').splitlines()
    assert lines[0].split() == ['row', 'least', 'median', 'samples', 'unit:', 'ticks']
    for line, name in zip(lines[1:], ['hlt-pending', 'cpuid'], strict=True):
        least, median, samples = map(int, re.fullmatch(rf'{name} +(\d+) +(\d+) +(\d+)',
                                                       line).groups())
        assert 0 < least <= median and samples >= 256, line


def test_skipped_row(lab):
    """What the host lacks is no figure and no failure: the reason is said."""
    if lab.native:
        raise frame.Skip('would change the settings of this machine')
    large = '/sys/kernel/mm/transparent_hugepage/enabled'
    lab.must(f'echo never >{large}')
    status, said = lab.sh('./micro --json --subject x touch-2m touch-2m-populated')
    lab.must(f'echo always >{large}')
    assert status == 0
    assert said.splitlines() == [f'micro: {row}: skipped: the host gave no pages of 2 MiB'
                                 for row in ['touch-2m', 'touch-2m-populated']]


def test_no_kvm(lab):
    """One line, no figures."""
    lab.need_root()
    assert lab.sh('chroot . ./micro cpuid') == (1, 'micro: /dev/kvm: No such file or directory\n')


def test_wrong_arguments():
    for words, said in [(['--nonsense'], '"--nonsense"'), (['cpuid', 'nosuch'], '"nosuch"'),
                        (['--json'], '--subject'), (['--subject', 'x'], '--json'),
                        (['--json', '--subject'], '--subject'), (['-x'], '"-x"'),
                        (['--json', '--subject', 'a"b'], 'a"b')]:
        status, output, error = micro(*words)
        assert status == 2 and output == '', (words, status, output)
        assert said in error and error.count('\n') == 1, (words, error)
