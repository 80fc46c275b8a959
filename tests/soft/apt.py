#!/usr/bin/env python3
"""Debian on soft, from its disk: installs a compiler, and builds and tests a C library with it.

usage: tests/soft/apt.py [--kernel cloud|standard] [--cpus N]

The guest is a copy of that of `make run`. A second disk is the mirror: packages in a directory, and
zlib's source. In the guest apt-get installs gcc and make from there, zlib is built, and its own tests
run. --kernel standard has apt-get install linux-image-amd64, too, boots that one with 1, 2 and 4
processors, and builds zlib again on each. The exit status is 1 if anything is not as it shall be.
"""

import argparse
import bz2
import glob
import os
import re
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
from lab import debian  # noqa: E402
from tests.system import debian as guest_of_make_run  # noqa: E402
from tests.system import frame  # noqa: E402

PACKAGES = ['gcc', 'libc6-dev', 'make']
STANDARD = ['linux-image-amd64']
SOURCE = 'zlib'
KERNELS = {'cloud': [], 'standard': STANDARD}


def closure(packages):
    """The packages and all that they depend on."""
    shown = debian.run(['apt-cache', 'depends', '--recurse', '--no-recommends', '--no-suggests',
                        '--no-conflicts', '--no-breaks', '--no-replaces', '--no-enhances',
                        *packages], 'apt-cache')
    return sorted({line for line in shown.splitlines() if re.match(r'\w', line)})


def fetch_source(directory):
    """By lists of sources of its own: most machines have none."""
    apt = ['apt-get', '-q', '-o', 'APT::Sandbox::User=root', '-o', f'Dir::State={directory}/state',
           '-o', f'Dir::Etc::SourceList={directory}/sources', '-o', 'Dir::Etc::SourceParts=-']
    os.makedirs(f'{directory}/state/lists/partial')
    with open(f'{directory}/sources', 'w') as f:
        f.write('deb-src http://deb.debian.org/debian bookworm main\n')
    debian.run([*apt, 'update'], 'no lists of sources', cwd=directory)
    debian.run([*apt, '--download-only', 'source', SOURCE], 'no source', cwd=directory)


def mirror(directory, packages):
    """Return: path of a disk with what apt-get wants."""
    tree = os.path.join(directory, 'mirror')
    os.makedirs(tree)
    debian.run(['apt-get', '-q', '-o', 'APT::Sandbox::User=root', 'download', *closure(packages)],
               'cannot fetch the packages', cwd=tree)
    listed = debian.run(['dpkg-scanpackages', '-m', '.'], 'dpkg-dev', cwd=tree)
    with open(os.path.join(tree, 'Packages'), 'w') as f:
        f.write(listed)
    fetch_source(directory)
    # The guest has no bzip2.
    for name in glob.glob(f'{directory}/{SOURCE}_*.orig.tar.bz2'):
        with bz2.open(name) as packed, open(os.path.join(tree, 'source.tar'), 'wb') as plain:
            shutil.copyfileobj(packed, plain)
    disk = os.path.join(directory, 'mirror.img')
    debian.run(['mke2fs', '-q', '-t', 'ext4', '-d', tree, disk, '1G'], 'mke2fs')
    return disk


def boot(lab, kernel, initrd, cmdline, cpus):
    guest = lab.guest('--accel', 'soft', *(f'--disk=path={disk}' for disk in lab.disks),
                      kernel=kernel, initrd=initrd, cmdline=cmdline, memory='1G', cpus=cpus)
    guest.wait(guest_of_make_run.PROMPT, 300)
    assert guest.must('nproc') == f'{cpus}\n'
    assert guest.sh('systemctl is-system-running --wait', 120) == (0, 'running\n')
    return guest


def power_off(guest):
    wrong = guest.must('dmesg -r | grep -E "^<[0-3]>" | grep -v -e firmware '
                       '-e "RETBleed: WARNING" || true')  # of this machine's CPU
    assert not wrong, wrong
    guest.send('poweroff\n')
    assert guest.end(120) == 0


def work(guest, packages):
    """Installs, builds, tests."""
    guest.must('mkdir -p /mirror && mount -o ro /dev/vdb /mirror')
    guest.must('rm -rf /etc/apt/sources.list.d/* && '
               'echo "deb [trusted=yes] file:/mirror ./" >/etc/apt/sources.list')
    guest.must('apt-get -q update', 120)
    guest.must('DEBIAN_FRONTEND=noninteractive apt-get -qy --no-install-recommends install '
               + ' '.join(packages), 1500)
    print(guest.must('gcc --version | head -n1'), end='')
    guest.must('mkdir /root/source && tar xf /mirror/source.tar -C /root/source --strip-components=1')
    guest.must('cd /root/source && ./configure', 300)
    build(guest)


def build(guest):
    guest.must('cd /root/source && make clean && make -j2', 600)
    output = guest.must('cd /root/source && make test', 300)
    assert output.count('test OK') >= 2 and 'FAILED' not in output, output
    print(output, end='')


def installed_kernel(disk, directory):
    """Takes the standard kernel and its initramfs from the guest's disk. Return: their names."""
    shown = debian.run(['debugfs', '-R', 'ls -p /boot', disk], 'debugfs')
    release = re.search(r'/vmlinuz-([^/]*[0-9]-amd64)/', shown).group(1)
    for name in ('vmlinuz', 'initrd.img'):
        debian.run(['debugfs', '-R', f'dump /boot/{name}-{release} {directory}/{name}', disk],
                   'debugfs')
    return release


def run(options, directory):
    folder = guest_of_make_run.made()
    disk = os.path.join(directory, 'root.img')
    debian.run(['cp', '--sparse=always', os.path.join(folder, 'root.img'), disk], 'cp')
    with open(os.path.join(folder, 'cmdline')) as f:
        cmdline = f.read().strip()
    packages = PACKAGES + KERNELS[options.kernel]
    disks = [disk, mirror(directory, packages)]
    lab = frame.Lab(files=['build/yado'], disks=disks, guest=False, native=True)
    try:
        with boot(lab, f'{folder}/vmlinuz', f'{folder}/initrd.img', cmdline, options.cpus) as guest:
            work(guest, packages)
            power_off(guest)
        for cpus in (1, 2, 4) if options.kernel == 'standard' else ():
            release = installed_kernel(disk, directory)
            with boot(lab, f'{directory}/vmlinuz', f'{directory}/initrd.img', cmdline,
                      cpus) as guest:
                assert guest.must('uname -r') == f'{release}\n'
                build(guest)
                print(f'{release} with {cpus}: running')
                power_off(guest)
    finally:
        lab.end_guests()
        lab.close()


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split('usage: ')[1])
    parser.add_argument('--kernel', choices=KERNELS, default='cloud')
    parser.add_argument('--cpus', type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.path.join(debian.ROOT, 'build')) as directory:
        try:
            run(options, directory)
        except (AssertionError, debian.Failed, frame.Timeout) as error:
            print(f'FAIL {error}')
            return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
