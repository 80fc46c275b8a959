"""Guests on core: the very executable that runs on Linux runs Debian's kernel on a bare machine.

Each test starts an emulated bare machine of its own; none needs the lab host.
"""

import hashlib
import os
import re
import shlex
import shutil
import tempfile
import time

from lab import debian
from tests.system import core, core_user
from tests.system import debian as debian_system
from tests.system.frame import Skip, Timeout, _write

TEST_SECONDS = 900
READY_SECONDS = 150  # for a busy machine; ten are usual

YADO = os.path.join(debian.ROOT, 'build/yado')
GUEST = os.path.join(debian.CACHE, 'guest')
DISK_BYTES = 8 << 20


def read(path):
    with open(path, 'rb') as f:
        return f.read()


def disk():
    """A disk image: its first sector says where it came from."""
    return b'from-outside'.ljust(DISK_BYTES, b'\0')


class Host:
    """core with tests/guest/core/vms.c as its first program. Use it by `with`."""

    def __init__(self, files=None, **options):
        made = debian.run([os.path.join(debian.ROOT, 'lab/image'), 'guest'], 'no test guest')
        _write(made)
        programs = {'init': core_user.build('vms'), 'bin/yado': read(YADO),
                    'bin/busybox': read(debian.needs('busybox', 'busybox-static')),
                    'vmlinuz': read(os.path.join(GUEST, 'vmlinuz')),
                    'initrd.gz': read(os.path.join(GUEST, 'initrd.gz')), 'disk.img': disk()}
        self._archive = core.File(core_user.archive({**programs, **(files or {})}))
        options = {'memory_mib': 1536, **options}
        self.machine = core.machine(initramfs=self._archive.__enter__(), spare_cpu=True, **options)
        self.programs = {}
        self._read = 0

    def __enter__(self):
        core.awaited(self.machine, 'vms: ready')
        return self

    def __exit__(self, *_):
        _write(self.machine.text)
        self.machine.close()
        self._archive.__exit__()

    def start(self, number, *argv):
        """Starts a program. Return: a Program."""
        words = ' '.join(word.replace(' ', '~') for word in argv)
        assert '~' not in ''.join(argv), argv
        self.machine.send(f'{number}+{words}\n')
        self.programs[number] = Program(self, number)
        return self.programs[number]

    def guest(self, number, *options, cpus=1, memory='256M', cmdline='console=ttyS0 quiet'):
        """Starts `yado run` with the test guest. Return: a Program."""
        return self.start(number, '/bin/yado', 'run', '--kernel', '/vmlinuz', '--initrd',
                          '/initrd.gz', '--cpus', str(cpus), '--memory', memory, '--cmdline',
                          cmdline, *options)

    def power_off(self):
        """The first program ends the machine."""
        self.machine.send('quit\n')
        core.awaited(self.machine, 'power off')
        assert self.machine.ended(core.START_SECONDS), 'the machine did not turn itself off'

    def take(self):
        """Gives each program what has come for it."""
        text = self.machine.text
        end = text.rfind('\n') + 1
        for line in text[self._read:end].splitlines():
            found = re.fullmatch(r'(\d)([|.])(.*)', line)
            if found and int(found[1]) in self.programs:
                self.programs[int(found[1])].hear(found[2], found[3])
        self._read = end
        assert 'core: panic' not in text, text[text.index('core: panic'):]


class Program:
    """A program on the host, with its output."""

    def __init__(self, host, number):
        self._host = host
        self._number = number
        self._seen = 0
        self._mark = 0
        self.text = ''
        self.status = None  # as of wait()

    def hear(self, kind, text):
        if kind == '.':
            self.status = int(text)
            return
        plain = re.sub(r'\\(n|\\|x..)', lambda m: '\n' if m[1] == 'n' else '\\' if m[1] == '\\'
                       else chr(int(m[1][1:], 16)), text)
        self.text += plain.replace('\r', '')

    def send(self, line):
        self._host.machine.send(f'{self._number}>{line}\n')

    def wait(self, pattern, seconds=READY_SECONDS):
        """Waits for a regular expression in the output. Return: the match."""
        deadline = time.monotonic() + seconds
        while True:
            self._host.take()
            found = re.compile(pattern).search(self.text, self._seen)
            if found:
                self._seen = found.end()
                return found
            assert self.status is None, f'it ended ({self.status}) without "{pattern}": {self.text}'
            if time.monotonic() > deadline or not self._host.machine.running():
                _write(self._host.machine.text)
                raise Timeout(f'no "{pattern}" within {seconds} s: {self.text[-500:]}')
            time.sleep(0.05)

    def wait_ready(self):
        """Waits until the test guest is up."""
        self.wait('guest: ready')
        self.wait('guest# ')

    def must(self, command, seconds=READY_SECONDS):
        """Runs a command in the guest's shell. Return: its output."""
        self._mark += 1
        mark = f'mark{self._mark}'
        # The shell's echo has quotes inside of the marks, so that only output matches.
        self.send(f' echo "<""{mark}"; eval {shlex.quote(command)}; echo "<""{mark}:$?>"')
        self.wait(f'<{mark}\n', seconds)
        start = self._seen
        end = self.wait(f'<{mark}:(\\d+)>', seconds)
        output = self.text[start:end.start()]
        assert end.group(1) == '0', f'{command}: {end.group(1)}: {output}'
        return output

    def kill(self):
        self._host.machine.send(f'{self._number}-\n')

    def end(self, seconds=READY_SECONDS):
        """Waits for its end. Return: its status, as of wait()."""
        deadline = time.monotonic() + seconds
        while self.status is None:
            if time.monotonic() > deadline or not self._host.machine.running():
                raise Timeout(f'it did not end within {seconds} s: {self.text[-500:]}')
            self._host.take()
            time.sleep(0.05)
        return self.status


def run_to_end(host, number, *argv):
    """Runs a program of the host. Return: its output."""
    program = host.start(number, *argv)
    assert program.end() == 0, program.text
    return program.text


def check_devices(guest, cpus):
    """Processors, serial line, disk: read, written, read back from the image."""
    assert guest.must('nproc') == f'{cpus}\n'
    assert guest.must('head -c 12 /dev/vda') == 'from-outside'
    right = guest.must('head -c 3000000 /dev/urandom >/tmp/r; dd if=/tmp/r of=/dev/vda bs=64k seek=1 '
                       'conv=fsync,notrunc 2>/dev/null; md5sum </tmp/r')
    guest.must('echo 3 >/proc/sys/vm/drop_caches')
    assert guest.must('dd if=/dev/vda bs=64k skip=1 2>/dev/null | head -c 3000000 | md5sum') == right
    return right


def check_sandbox(host):
    status = run_to_end(host, 6, '/bin/busybox', 'sh', '-c',
                        '/bin/busybox cat /proc/$(/bin/busybox pidof yado)/status')
    assert 'NoNewPrivs:\t1' in status and 'Seccomp:\t2' in status, status


def check_guest(cpus, machine_cpus):
    with Host(cpus=machine_cpus) as host:
        seen = run_to_end(host, 9, '/bin/busybox', 'sha256sum', '/bin/yado').split()[0]
        assert seen == hashlib.sha256(read(YADO)).hexdigest(), 'another yado runs on core'
        run_to_end(host, 8, '/bin/busybox', 'cp', '/disk.img', '/tmp/disk.img')
        guest = host.guest(0, '--disk', 'path=/tmp/disk.img', cpus=cpus)
        guest.wait_ready()
        right = check_devices(guest, cpus)
        check_sandbox(host)
        guest.send('poweroff -f')
        assert guest.end() == 0, guest.text
        seen = run_to_end(host, 7, '/bin/busybox', 'sh', '-c', '/bin/busybox dd if=/tmp/disk.img '
                          'bs=64k skip=1 2>/dev/null | /bin/busybox head -c 3000000 | '
                          '/bin/busybox md5sum')
        assert seen == right, (seen, right)
        host.power_off()


def test_one_vcpu():
    check_guest(1, 1)


def test_two_vcpus():
    check_guest(2, 4)


def test_two_vcpus_on_one_cpu():
    check_guest(2, 1)


def test_two_guests_side_by_side():
    """Each computes; one is killed and started again meanwhile, and the other does not notice."""
    with Host(cpus=4, memory_mib=2048) as host:
        disks = ('--disk', 'path=/disk.img,readonly=on')
        first = host.guest(0, *disks, cpus=2)
        second = host.guest(1, *disks, cpus=2)
        first.wait_ready()
        second.wait_ready()
        work = 'for i in 1 2 3 4 5 6; do dd if=/dev/zero bs=1M count=40 2>/dev/null | sha256sum; done'
        first.send(f'({work}) | uniq; echo "worked ""through"')
        second.must('nproc')
        second.kill()
        assert second.end() == 9, second.status
        second = host.guest(1, *disks, cpus=2)
        second.wait_ready()
        assert second.must('head -c 12 /dev/vda') == 'from-outside'
        first.wait('worked through')
        zeros = hashlib.sha256(bytes(40 << 20)).hexdigest()
        assert first.text.count(zeros) == 1, first.text[-500:]
        for guest in (first, second):
            guest.send('poweroff -f')
            assert guest.end() == 0, guest.text
        host.power_off()


def stolen(guests, seconds):
    """What share of their time the guests' neighbours have, as each says itself, in percent."""
    def times(guest):
        # Spec: proc(5), /proc/stat: the eighth number is stolen time. Of the guest's own time Linux
        # counts whole ticks only, so it is compared with the clock.
        stat, uptime = guest.must('head -n 1 /proc/stat; cat /proc/uptime').splitlines()
        return int(stat.split()[8]) / 100, float(uptime.split()[0])

    before = [times(guest) for guest in guests]
    time.sleep(seconds)
    shares = []
    for (stolen_before, start), guest in zip(before, guests):
        stolen_now, end = times(guest)
        shares.append(100 * (stolen_now - stolen_before) / (end - start))
    _write(f'{shares}\n')
    return shares


def test_guests_see_what_their_neighbours_take():
    """Two guests that compute share a processor; then one rests."""
    with Host(cpus=1) as host:
        guests = [host.guest(number) for number in (0, 1)]
        for guest in guests:
            guest.wait_ready()
            guest.must('while :; do :; done & echo $! >/tmp/pid')
        for share in stolen(guests, 12):
            assert 35 < share < 65, share
        guests[1].must('kill $(cat /tmp/pid)')
        assert stolen(guests[:1], 8)[0] < 15
        host.power_off()


def debian_guest(host, number):
    """Boots the Debian guest of `make run` from /tmp/rootN.img. Return: a Program."""
    return host.start(number, '/bin/yado', 'run', '--kernel', '/debian/vmlinuz', '--initrd',
                      '/debian/initrd.img', '--cpus', '2', '--memory', '1G', '--disk',
                      f'path=/tmp/root{number}.img', '--cmdline',
                      'console=ttyS0 root=/dev/vda rw quiet')


def debian_files():
    """{name: bytes}: that guest's parts, its disk no larger than need be."""
    folder = debian_system.made()
    shrink = shutil.which('resize2fs') or '/usr/sbin/resize2fs'
    if not os.path.exists(shrink):
        raise Skip('no resize2fs; apt-get install e2fsprogs')
    files = {f'debian/{name}': read(os.path.join(folder, name)) for name in ('vmlinuz', 'initrd.img')}
    with tempfile.TemporaryDirectory(dir=os.path.join(debian.ROOT, 'build')) as work:
        root = os.path.join(work, 'root.img')
        debian.run(['cp', '--sparse=always', os.path.join(folder, 'root.img'), root], 'no disk')
        debian.run([shrink, '-fM', root], 'the disk cannot be made smaller')
        files['root.img'] = read(root)
    return files


# Two processes that hash until they are told to stop, so that there is work as long as it takes to
# start the other guest again. Each round must give the same as the first.
COMPUTE = ('right=$(head -c 8000000 /dev/zero | sha256sum); for n in 1 2; do (rounds=0; while '
           '[ ! -e /tmp/stop ]; do [ "$(head -c 8000000 /dev/zero | sha256sum)" = "$right" ] || '
           'echo $n >>/tmp/wrong; rounds=$((rounds + 1)); done; echo $rounds >/tmp/rounds$n) & done')


def test_two_debian_systems():
    """All of systemd, twice, side by side, with their disks in the machine's memory. One is killed
    and started again while the other computes."""
    with Host(debian_files(), cpus=4, memory_mib=6144) as host:
        for number in (0, 1):
            run_to_end(host, 9, '/bin/busybox', 'cp', '/root.img', f'/tmp/root{number}.img')
        guests = [debian_guest(host, number) for number in (0, 1)]
        for guest in guests:
            guest.wait(debian_system.PROMPT, 500)
        for guest in guests:
            guest.send('systemctl is-system-running --wait; nproc; findmnt -no SOURCE /')
            guest.wait(r'running\n2\n/dev/vda\n')
        guests[0].must(COMPUTE)
        guests[1].must('echo kept >/etc/mine; sync')
        guests[1].kill()
        assert guests[1].end() == 9, guests[1].status
        guests[1] = debian_guest(host, 1)
        guests[1].wait(debian_system.PROMPT, 500)
        assert guests[1].must('cat /etc/mine; findmnt -no SOURCE /') == 'kept\n/dev/vda\n'
        guests[0].must('touch /tmp/stop; wait')
        shown = guests[0].must('ls /tmp/wrong 2>&1; echo $right; cat /tmp/rounds1 /tmp/rounds2')
        right = hashlib.sha256(bytes(8000000)).hexdigest()
        found = re.fullmatch(rf'.*No such file.*\n{right} -\n(\d+)\n(\d+)\n', shown)
        assert found and min(map(int, found.groups())) > 5, shown
        for guest in guests:
            guest.send('poweroff')
            assert guest.end() == 0, guest.text
        host.power_off()
