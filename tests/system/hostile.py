"""A guest that does its worst (tests/guest/hostile.c): yado lives on, stays small, and obeys.

It reaches every device, port and register with garbage and with requests that are nearly right.
What it does follows from a seed; how far it comes depends on the time.
"""

import os
import re
import time

from lab import debian
from tests.system import frame

LAB = {'cpus': 2, 'guest': False, 'files': ['build/yado']}
TEST_SECONDS = 240
USUAL_SECONDS = 120

SECONDS = 10  # for a seed; ready and over after a few more
OWN_KIB_MAX = 48 * 1024  # what yado may hold beside guest memory; it is some 28 MiB at most
DESCRIPTORS_MAX = 400  # 256 connections of vsock, and what devices have for good
THREADS_MAX = 16
LINES_MAX = 130  # 100 of the guest's doing, and what yado says by itself

DEVICES = ['--disk', 'path=d1,queues=2', '--disk', 'path=d2,readonly=on', '--net', 'passt',
           '--vsock', 'cid=3,socket=vs', '--virtio-console', 'file=vcon']


def build():
    """The guest as an ELF file."""
    source = os.path.join(debian.ROOT, 'tests/guest/hostile.c')
    out = os.path.join(debian.ROOT, 'build/tests/hostile.elf')
    os.makedirs(os.path.dirname(out), exist_ok=True)
    debian.run([debian.needs('gcc', 'gcc'), '-m32', '-std=gnu17', '-O2', '-Wall', '-Wextra',
                '-Werror', '-ffreestanding', '-fno-pic', '-fno-pie', '-no-pie', '-nostdlib',
                '-static', '-fno-stack-protector', '-mgeneral-regs-only', '-fcf-protection=none',
                '-fno-asynchronous-unwind-tables', '-Wl,--build-id=none,-z,noexecstack',
                '-Wl,-T,' + os.path.join(debian.ROOT, 'tests/guest/hostile.ld'), '-o', out,
                source], 'cannot build the hostile guest')
    with open(out, 'rb') as f:
        return f.read()


def prepare(lab):
    """What the guest's devices lead to. Return: the program that guests connect to."""
    lab.put('hostile.elf', build())
    lab.must('rm -f vs vs_* d1 d2 vcon; truncate -s 16M d1 d2')
    return lab.start('socat', 'UNIX-LISTEN:vs_5000,fork', 'EXEC:cat')


def look(lab):
    """How large yado is now: (KiB without guest memory, descriptors, threads)."""
    text = lab.must('p=$(pidof yado) && cat /proc/$p/status && ls /proc/$p/fd | wc -l')
    value = {name: int(re.search(rf'^{name}:\s+(\d+)', text, re.MULTILINE).group(1))
             for name in ('VmRSS', 'RssShmem', 'Threads')}
    return value['VmRSS'] - value['RssShmem'], int(text.split()[-1]), value['Threads']


def check_size(lab):
    own, descriptors, threads = look(lab)
    assert own < OWN_KIB_MAX, f'{own} KiB'
    assert descriptors < DESCRIPTORS_MAX, f'{descriptors} descriptors'
    assert threads <= THREADS_MAX, f'{threads} threads'


def wait_message(guest, text, seconds=10):
    deadline = time.monotonic() + seconds
    while text not in guest.messages:
        assert guest.running and time.monotonic() < deadline, \
            f'yado does not say "{text}": {guest.messages[-300:]}'
        time.sleep(0.2)


def live(lab, guest):
    """Lets it run and looks meanwhile. Return: does it still run?"""
    guest.wait(r'hostile: \d+ devices', 30)
    deadline = time.monotonic() + SECONDS
    while guest.running and time.monotonic() < deadline:
        # A program of the host, too, connects to what is there or not.
        lab.sh('printf "CONNECT 5000\\nhello\\n" | timeout 1 socat - UNIX-CONNECT:vs')
        if guest.running:
            check_size(lab)
    return guest.running


def quit_it(guest):
    """The user's commands work at once, whatever the guest does."""
    guest.send('\x1dp')
    wait_message(guest, 'the VM is paused')
    guest.send('\x1dp')
    wait_message(guest, 'the VM goes on')
    guest.send('\x1dq')
    assert guest.end(15) == 5


def check_end(guest, status):
    # 1 would be yado's own fault, and so would a signal's number.
    assert status in (0, 3, 4, 5), f'exit status {status}: {guest.messages[-500:]}'
    assert 'bug in yado' not in guest.messages, guest.messages
    lines = guest.messages.count('\n')
    assert lines <= LINES_MAX, f'{lines} lines of messages'


def test_it_lives_and_obeys(lab):
    """Several seeds on two CPUs and on one."""
    server = prepare(lab)
    lived = 0
    seeds = {1: 2, 2: 2, 3: 1, 4: 2}
    for seed, cpus in seeds.items():
        with lab.guest(*DEVICES, kernel='hostile.elf', initrd=None, cmdline=f'seed={seed}',
                       memory='256M', cpus=cpus) as guest:
            if live(lab, guest):
                quit_it(guest)
                lived += 1
            check_end(guest, guest.end(15))
    server.kill(9)
    # A guest may kill itself by accident, but not each time, or this tests little.
    assert lived * 2 >= len(seeds), f'only {lived} of {len(seeds)} guests lived to the end'


def test_it_ends_itself(lab):
    """With the ports that end a machine among the rest: one of the documented ways."""
    server = prepare(lab)
    for seed in (5, 6):
        with lab.guest(*DEVICES, kernel='hostile.elf', initrd=None, cmdline=f'seed={seed} end',
                       memory='256M', cpus=2) as guest:
            status = guest.end(90)
            assert status != 5
            check_end(guest, status)
            assert re.search('yado: the guest (powered off|asked for a reboot|crashed)',
                             guest.messages), guest.messages[-300:]
    server.kill(9)


def test_a_file_that_may_not_grow(lab):
    """A limit on file sizes (SIGXFSZ) costs the guest its output, not its life."""
    server = prepare(lab)
    lab.must('truncate -s $((300 * 1048576 - 2000)) vcon')  # guest memory has the same limit
    guest = frame.Guest(lab, ['sh', '-c', 'ulimit -f $((300 * 2048)); exec ./yado run "$@"', 'sh',
                              '--kernel', 'hostile.elf', '--cmdline', 'seed=3', '--memory', '256M',
                              *DEVICES])
    with guest:
        wait_message(guest, 'output is lost: File too large', 60)
        guest.send('\x1dq')
        assert guest.end(15) == 5
    server.kill(9)
