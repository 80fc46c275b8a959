"""Guests whose CPUs run in software, on this machine itself: no KVM, no emulated host."""

import os
import re
import subprocess
import time

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


def complaints(guest):
    """The kernel's errors, but for modules of another kernel, and for what it says of some CPUs, as it
    does on Linux KVM: it sees the flaws of this machine's."""
    return guest.must('dmesg -r | grep -E "^<[0-3]>" | grep -v -e "version magic" '
                      '-e "RETBleed: WARNING" || true')


def boots(lab, *options, **machine):
    """To its shell, and down again, with nothing on the kernel's mind. Return: what yado said."""
    with started(lab, *options, **machine) as guest:
        guest.wait_ready(300)
        assert guest.must('nproc') == f'{machine.get("cpus", 1)}\n'
        log = complaints(guest)
        assert not log, log
        guest.send('poweroff -f\n')
        assert guest.end() == 0
        return guest.messages


def test_boot_with_all_code_checked(lab):
    """Whatever the translator makes of a kernel and its programs stands before its judge."""
    if 'bmi2' not in frame.cpu_flags():
        raise frame.Skip('the CPU has no BMI2, which translated code needs')
    boots(lab, '--soft', 'translate-checked', cpus=2)


def test_boot_with_a_witness(lab):
    """Zydis decodes whatever is emitted in such a start, and finds what the judge has found, and no
    harm in it."""
    if 'bmi2' not in frame.cpu_flags():
        raise frame.Skip('the CPU has no BMI2, which translated code needs')
    witness = os.path.join(debian.ROOT, 'build/tests/soft/yado-witness')
    if not os.path.exists(witness):
        raise frame.Skip('libzydis-dev is not installed')
    with open(witness, 'rb') as f:
        lab.put('yado-witness', f.read())
    lab.must('chmod +x yado-witness')
    said = boots(lab, '--soft', 'translate-checked', cpus=2, program='./yado-witness')
    seen = re.search(r'witness: (\d+) blocks, (\d+) instructions, (\d+) links', said)
    assert seen and int(seen.group(1)) > 30000 and int(seen.group(3)) > 30000, said


def mappings(lab):
    """[(permissions, what)] of yado's memory, now."""
    lines = lab.must(f'cat /proc/{process(lab)}/maps').splitlines()
    return [(words[1], words[5] if len(words) > 5 else '')
            for words in (line.split(None, 5) for line in lines)]


def test_nothing_is_both_written_and_executed(lab):
    """From the start of its vCPUs to the guest's shell, and while that works: no mapping of yado's
    can be written to and executed, and the guest's memory never executed."""
    ram = code = 0
    with started(lab, '--soft', 'translate' if 'bmi2' in frame.cpu_flags() else 'auto',
                 cpus=2) as guest:
        for turn in range(25):
            if turn == 15:
                guest.wait_ready(200)
            elif turn > 15:
                guest.must('head -c 65536 /bin/busybox | sha256sum; ls -l / | sort')
            else:
                time.sleep(0.1)
            for rights, what in mappings(lab):
                assert 'w' not in rights or 'x' not in rights, (turn, rights, what)
                if 'x' in rights:
                    assert re.match(r'\[v(dso|syscall)\]$|.*/yado$|/memfd:(code|soft-native) ', what), (rights, what)
                ram += what.startswith('/memfd:guest-ram ') and 'w' in rights
                code += what.startswith('/memfd:code ') and 'x' in rights
        guest.send('poweroff -f\n')
        assert guest.end() == 0
    assert ram >= 20, ram
    assert code >= 20 or 'bmi2' not in frame.cpu_flags(), code


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


def process(lab):
    return lab.must(f'pgrep -f "^[.]/yado run .*--name {NAME} "').strip()


def processor_ticks(lab, pid):
    words = lab.must(f'cat /proc/{pid}/stat').rpartition(')')[2].split()
    return int(words[11]) + int(words[12])


def check_idle(lab):
    """A guest that has nothing to do costs next to nothing."""
    pid = process(lab)
    before = processor_ticks(lab, pid)
    lab.must('sleep 5')
    used = (processor_ticks(lab, pid) - before) / os.sysconf('SC_CLK_TCK')
    assert used < 1.5, f'{used} s in 5'


def payloads_end_in_equal_states(program):
    done = subprocess.run([os.path.join(debian.ROOT, 'build/tests/soft', program)],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=350)
    wrong = [line for line in done.stdout.splitlines() if line.startswith('FAIL')]
    assert done.returncode == 0, wrong or done.stdout[-300:]
    same = re.search(r'^(\d+) the same, 0 different, \d+ skipped$', done.stdout, re.MULTILINE)
    assert same and int(same.group(1)) > 250, done.stdout[-300:]


def test_payloads_end_in_equal_states():
    """The bare payloads, interpreted and translated: the same registers, the same memory."""
    payloads_end_in_equal_states('soft-states')


def test_payloads_of_another_vendor():
    """The same, where the guest's CPU is Intel's on a host of AMD's, or the other way round."""
    payloads_end_in_equal_states('soft-states-other')


def test_boot_of_another_vendor(lab):
    """Linux, with what it does for the other maker's CPUs."""
    with open(os.path.join(debian.ROOT, 'build/tests/soft/yado-other'), 'rb') as f:
        lab.put('yado-other', f.read())
    lab.must('chmod +x yado-other')
    amd = 'AuthenticAMD' in lab.must('cat /proc/cpuinfo')
    with started(lab, cpus=2, program='./yado-other') as guest:
        guest.wait_ready(300)
        vendors = set(guest.must('grep vendor_id /proc/cpuinfo').split()[2::3])
        assert vendors == {'GenuineIntel' if amd else 'AuthenticAMD'}, vendors
        log = complaints(guest)
        assert not log, log
        guest.send('poweroff -f\n')
        assert guest.end() == 0


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


def test_hostile_guests_come_to_their_end():
    """A guest that tries all there is, by each engine (tests/sweep): the process lives on."""
    for engine in ('soft:interpret', 'soft:translate'):
        for parts in (('opcodes-16', 'opcodes-32', 'opcodes-64'),
                      ('msrs', 'ports', 'places', 'svm'),
                      ('interrupts', 'interrupts-x2apic', 'storm', 'triple')):
            done = subprocess.run([os.path.join(debian.ROOT, 'build/tests/sweep/sweep-soft'), engine,
                                   *parts], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  timeout=TEST_SECONDS, check=False, encoding='utf-8')
            frame._write(done.stdout)
            assert done.returncode == 0, done.stdout[-500:]
            assert done.stdout.count(' cases, ') >= len(parts), done.stdout[-500:]
