"""Guests whose CPUs run in software, on this machine itself: no KVM, no emulated host."""

import os
import re
import subprocess

from lab import debian
from tests.system import frame

LAB = {'native': True}
TEST_SECONDS = 400
USUAL_SECONDS = 130
# The kernel's own tests of its cryptography take longer than all the rest of the start.
NAME = f'soft-{os.getpid()}'
CMDLINE = frame.CMDLINE + ' cryptomgr.notests'


def started(lab, *options, **machine):
    machine.setdefault('cmdline', CMDLINE)
    return lab.guest('--accel', 'soft', '--name', NAME, *options, **machine)


def test_guest_with_two_cpus(lab):
    """Console, disk, both CPUs, clocks, sleep; the sandbox is on. It ends by its own power-off."""
    lab.must('truncate -s 16M disk.img; printf from-outside | dd of=disk.img conv=notrunc')
    with started(lab, '--disk', 'path=disk.img', cpus=2) as guest:
        guest.wait_ready(200)
        assert guest.must('nproc') == '2\n'
        assert guest.must('head -c 12 /dev/vda') == 'from-outside'
        guest.must('printf from-inside | dd of=/dev/vda bs=1M seek=1 conv=fsync,notrunc')
        sums = guest.must('for cpu in 1 2; do head -c 65536 /bin/busybox | taskset $cpu sha256sum; '
                          'done', 120)
        assert sums.split()[0::2] == lab.must('head -c 65536 /bin/busybox | sha256sum'
                                              ).split()[:1] * 2, sums
        # Both CPUs at once, with the scheduler's interrupts between them.
        assert guest.must('for i in 1 2 3 4; do (sleep 1; echo $i >/tmp/$i) & done; wait; '
                          'cat /tmp/[1-4]', 120) == '1\n2\n3\n4\n'
        # A sleeping guest takes its time from the host.
        times = guest.must('cat /proc/uptime; sleep 3; cat /proc/uptime', 120).split()
        assert 3 <= float(times[2]) - float(times[0]) < 30, times
        assert guest.must('cat /sys/devices/system/clocksource/clocksource0/current_clocksource'
                          ) in ('tsc\n', 'kvm-clock\n')
        check_idle(lab)
        log = guest.must('dmesg -r | grep -E "^<[0-3]>" || true')
        assert 'BUG' not in log and 'virtio' not in log and 'rcu' not in log, log
        guest.send('poweroff -f\n')
        assert guest.end() == 0
    data = lab.get('disk.img')
    assert data[1 << 20:(1 << 20) + 11] == b'from-inside'
    assert guest.messages.strip().endswith('the guest powered off'), guest.messages
    assert guest.messages.count('\n') == 1, guest.messages


def test_four_cpus_that_compute(lab):
    """All processors at once come to the same sums, and to those of this machine."""
    with started(lab, cpus=4) as guest:
        guest.wait_ready(200)
        assert guest.must('nproc') == '4\n'
        sums = guest.must('for cpu in 1 2 4 8; do (for i in 1 2 3; do taskset $cpu sha256sum '
                          '</bin/busybox; done) & done; wait', 200).split()
        busybox = lab.must('sha256sum </bin/busybox').split()[0]
        assert [word for word in sums if len(word) == 64] == [busybox] * 12, sums
        # Processes that come and go, pipes between processors, memory that is copied on writes.
        count = guest.must('n=0; for i in $(seq 200); do n=$((n + $(echo $i | cat | cat))); done; '
                           'echo $n', 200)
        assert count == '20100\n', count
        log = guest.must('dmesg -r | grep -E "^<[0-4]>" || true')
        assert 'BUG' not in log and 'rcu' not in log and 'lockup' not in log, log
        guest.send('poweroff -f\n')
        assert guest.end() == 0


def boots(lab, *options, **machine):
    """To its shell, and down again, with nothing on the kernel's mind."""
    with started(lab, *options, **machine) as guest:
        guest.wait_ready(300)
        assert guest.must('nproc') == f'{machine.get("cpus", 1)}\n'
        log = guest.must('dmesg -r | grep -E "^<[0-3]>" | grep -v "version magic" || true')
        assert not log, log
        guest.send('poweroff -f\n')
        assert guest.end() == 0


def test_boot_with_all_code_checked(lab):
    """Whatever the translator makes of a kernel and its programs stands before its judge."""
    if 'bmi2' not in frame.cpu_flags():
        raise frame.Skip('the CPU has no BMI2, which translated code needs')
    boots(lab, '--soft', 'translate-checked', cpus=2)


def test_kernels(lab):
    """Debian's kernel for clouds and its usual one, with one processor, two and four."""
    for flavour in ('cloud-amd64', 'amd64'):
        with debian.locked('packages'):
            kernel = debian.kernel(flavour)
        with open(kernel.image, 'rb') as f:
            lab.put(f'vmlinuz-{flavour}', f.read())
        for cpus in (1, 2, 4):
            boots(lab, kernel=f'vmlinuz-{flavour}', cpus=cpus)


def test_memtest(lab):
    """memtest86+, a program of its own on the bare machine, finds no fault in memory."""
    with debian.locked('packages'):
        folder = debian.unpacked('memtest86+')
    with open(os.path.join(folder, 'boot/memtest86+x64.bin'), 'rb') as f:
        lab.put('memtest', f.read())
    with started(lab, kernel='memtest', initrd=None, memory='16M',
                 cmdline='console=ttyS0,115200') as guest:
        # The last of its tests waits for minutes: the screen, which it draws every two seconds,
        # shows it for sure.
        guest.wait(r'#10 \[Bit fade', 200)
        shown = guest.wait(r'Pass:\s+0\s+Errors: (\d+)', 60)
        assert shown.group(1) == '0'
        guest.send('\x1dq')
        assert guest.end(20) == 5


def test_paused_and_ended_by_the_user(lab):
    """A busy guest leaves its code when it is told to."""
    with started(lab) as guest:
        guest.wait_ready(200)
        guest.send('while :; do :; done\n')
        guest.send('\x1dq')
        assert guest.end(20) == 5


def processor_ticks(lab, pid):
    words = lab.must(f'cat /proc/{pid}/stat').rpartition(')')[2].split()
    return int(words[11]) + int(words[12])


def check_idle(lab):
    """A guest that has nothing to do costs next to nothing."""
    pid = lab.must(f'pgrep -f "^[.]/yado run .*--name {NAME} "').strip()
    before = processor_ticks(lab, pid)
    lab.must('sleep 5')
    used = (processor_ticks(lab, pid) - before) / os.sysconf('SC_CLK_TCK')
    assert used < 1.5, f'{used} s in 5'


def test_payloads_end_in_equal_states():
    """The bare payloads, interpreted and translated: the same registers, the same memory."""
    done = subprocess.run([os.path.join(debian.ROOT, 'build/tests/soft/soft-states')],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=350)
    wrong = [line for line in done.stdout.splitlines() if line.startswith('FAIL')]
    assert done.returncode == 0, wrong or done.stdout[-300:]
    same = re.search(r'^(\d+) the same, 0 different, \d+ skipped$', done.stdout, re.MULTILINE)
    assert same and int(same.group(1)) > 250, done.stdout[-300:]


def test_refusals():
    """Who insists on what is not there is told why, and what to do."""
    kernel = os.path.join(debian.CACHE, 'guest/vmlinuz')
    status, output = frame.yado('run', '--accel', 'fast', '--kernel', kernel)
    assert status == 2 and 'auto|kvm|soft' in output, output
    status, output = frame.yado('run', '--soft=fast', '--kernel', kernel)
    assert status == 2 and 'interpret|translate|translate-checked' in output, output
    status, output = frame.yado('run', '--soft=interpret', '--accel', 'kvm', '--kernel', kernel)
    assert status == 2 and output.count('\n') == 1 and '--accel kvm' in output, output
    if not frame.real_kvm():
        status, output = frame.yado('run', '--accel', 'kvm', '--kernel', kernel)
        assert status == 1 and '--accel soft' in output, output
    status, output = frame.yado('doctor')
    assert status == 0 and re.search('^soft +yes +by its (translator|interpreter)', output, re.MULTILINE), output
