"""The Debian guest of `make run`: all of its systemd boots, works, and finds its disk again."""

import os
import socket
import subprocess
import tempfile

from lab import debian
from tests.system import frame

TEST_SECONDS = 600  # where it is not there yet, the guest is made first, as `make run` does
USUAL_SECONDS = 190

PROMPT = r'root@debian:~# '
PAGE = 'hello-from-the-host'


def made():
    """Has yado make the guest, unless it is there. Return: its folder."""
    done = subprocess.run([os.path.join(debian.ROOT, 'lab/image'), 'debian'],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    data = os.environ.get('XDG_DATA_HOME') or os.path.expanduser('~/.local/share')
    return os.path.join(data, 'yado/debian')


def boot(lab, cmdline, *options):
    """As lab/debian-guest starts it."""
    guest = lab.guest('--disk', f'path={lab.disks[0]}', '--net', 'passt', '--name', 'debian',
                      *options, initrd='initrd.img', cmdline=cmdline, memory='1G', cpus=2)
    guest.wait(PROMPT, 200)
    return guest


def power_off(guest):
    guest.send('poweroff\n')
    assert guest.end(90) == 0
    assert 'the guest powered off' in guest.messages


def check_system(guest):
    state, output = guest.sh('systemctl is-system-running --wait', 90)
    assert (state, output) == (0, 'running\n'), guest.sh('systemctl --failed --no-pager')[1]
    assert guest.must('systemd-detect-virt') == 'kvm\n'
    assert guest.must('nproc') == '2\n'
    assert guest.must('findmnt -no SOURCE,FSTYPE /').split() == ['/dev/vda', 'ext4']


def free_port():
    """A TCP port that nobody has on this machine, nor on an emulated host, which has none taken."""
    with socket.create_server(('127.0.0.1', 0)) as listener:
        return listener.getsockname()[1]


def check_network(lab, guest):
    """By DHCP, and as far as the host: a test may have no internet."""
    port = free_port()
    server = lab.start('socat', f'TCP-LISTEN:{port},bind=127.0.0.1', f'SYSTEM:echo {PAGE}')
    route = guest.must('for i in $(seq 60); do ip route | grep -q default && break; sleep 1; done; '
                       'ip route show default')
    assert 'proto dhcp' in route, route
    gateway = route.split('default via ')[1].split()[0]
    assert guest.must(f'cat </dev/tcp/{gateway}/{port}') == f'{PAGE}\n'
    assert server.wait(20) == 0


def run(lab, cmdline, *options):
    with boot(lab, cmdline, *options) as guest:
        check_system(guest)
        check_network(lab, guest)
        right = guest.must('head -c 8000000 /dev/urandom >/root/kept && sync && md5sum /root/kept')
        power_off(guest)
    with boot(lab, cmdline, *options) as guest:
        assert guest.must('md5sum /root/kept') == right
        assert 'recover' not in guest.must('dmesg | grep -i ext4'), 'it was not unmounted'
        power_off(guest)


def boots_twice(*options, native=False):
    folder = made()
    with tempfile.TemporaryDirectory(dir=os.path.join(debian.ROOT, 'build')) as work:
        # The guest is the user's, and stays as it is.
        disk = os.path.join(work, 'root.img')
        subprocess.run(['cp', '--sparse=always', os.path.join(folder, 'root.img'), disk],
                       check=True)
        with open(os.path.join(folder, 'cmdline')) as f:
            cmdline = f.read().strip()
        lab = frame.Lab(files=['build/yado', os.path.join(folder, 'vmlinuz'),
                               os.path.join(folder, 'initrd.img')], disks=[disk], guest=False,
                        native=native)
        try:
            run(lab, cmdline, *options)
        finally:
            lab.end_guests()
            lab.close()


def test_boots_twice():
    """On KVM: this machine's, or that of an emulated host."""
    boots_twice()


def test_boots_twice_in_software():
    """What `make run` does on a machine without virtualization hardware."""
    boots_twice('--accel', 'soft', native=True)
