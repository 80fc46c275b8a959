#!/usr/bin/env python3
"""Other systems on soft, unmodified, as Debian's packages have them.

usage: tests/soft/systems.py [--cpus N] [SYSTEM]...

SYSTEM is one of:
  rt         Linux with PREEMPT_RT, with the guest of the system tests
  installer  Debian's installer, to its menu
  i386       Debian's installer for i386: a Linux of 32 bits, which a guest starts by kexec
  memtest    memtest86+ of 32 bits, started likewise, through the first of its tests
All of them unless told. The exit status is 1 if one does not come so far.
"""

import argparse
import io
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
from lab import cpio, debian, host  # noqa: E402
from tests.system import frame  # noqa: E402

INSTALLER = 'usr/lib/debian-installer/images/12/{0}/text/debian-installer/{0}'
TEXT = 'console=ttyS0 DEBIAN_FRONTEND=text'
KEXEC = '/sbin/kexec'


def package(name):
    with debian.locked('packages'):
        return debian.unpacked(name)


def rt(lab, cpus):
    with debian.locked('packages'):
        kernel = debian.kernel('rt-amd64')
    with guest(lab, cpus, kernel.image) as it:
        it.wait_ready(300)
        assert 'PREEMPT_RT' in it.must('uname -v')
        assert it.must('nproc') == f'{cpus}\n'
        it.send('poweroff -f\n')
        assert it.end() == 0


def installer(lab, cpus):
    folder = os.path.join(package('debian-installer-12-netboot-amd64'), INSTALLER.format('amd64'))
    with guest(lab, cpus, f'{folder}/linux', f'{folder}/initrd.gz', TEXT) as it:
        it.wait('Select a language', 300)
        quit_guest(it)


def i386(lab, cpus):
    folder = os.path.join(package('debian-installer-12-netboot-i386'), INSTALLER.format('i386'))
    with kexec(lab, cpus, f'{folder}/linux', f'{folder}/initrd.gz', TEXT) as it:
        it.wait('Select a language', 300)
        quit_guest(it)


def memtest(lab, cpus):
    image = os.path.join(package('memtest86+'), 'boot/memtest86+ia32.bin')
    with kexec(lab, cpus, image, None, 'console=ttyS0,115200') as it:
        it.wait(r'#1 ', 300)
        assert it.wait(r'Pass:\s+0\s+Errors: (\d+)', 60).group(1) == '0'
        quit_guest(it)


SYSTEMS = {'rt': rt, 'installer': installer, 'i386': i386, 'memtest': memtest}


# ---- guests ----

def guest(lab, cpus, kernel, initrd='initrd.gz', cmdline=frame.CMDLINE, memory='1G'):
    return lab.guest('--accel', 'soft', kernel=kernel, initrd=initrd, cmdline=cmdline,
                     memory=memory, cpus=cpus)


def quit_guest(it):
    it.send('\x1dq')
    assert it.end(20) == 5


def initrd_with(files):
    """The test guest's, with more files: {path in it: path here}."""
    packed = io.BytesIO()
    archive = cpio.Archive(packed)
    for name in sorted(files):
        archive.tree(name, files[name])
    archive.close()
    with open(os.path.join(debian.CACHE, 'guest/initrd.gz'), 'rb') as f:
        first = f.read()
    return first + b'\0' * (-len(first) % 4) + packed.getvalue()  # Linux wants it aligned


def kexec(lab, cpus, kernel, initrd, cmdline):
    """A guest that goes on as another kernel. x2APIC, once on, is none for 32 bits."""
    program = os.path.join(package('kexec-tools'), KEXEC[1:])
    files = {'kexec/kexec': program, 'kexec/kernel': kernel}
    files.update({name[1:]: name for name in host.libraries(program)})
    load = f'/kexec/kexec -l /kexec/kernel --command-line="{cmdline}"'
    if initrd:
        files['kexec/initrd'] = initrd
        load += ' --initrd=/kexec/initrd'
    with open(os.path.join(lab.directory, 'kexec.initrd'), 'wb') as f:
        f.write(initrd_with(files))
    it = guest(lab, cpus, 'vmlinuz', 'kexec.initrd', frame.CMDLINE + ' nox2apic')
    it.wait_ready(300)
    it.must(load, 60)
    it.send('/kexec/kexec -e\n')
    return it


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split('usage: ')[1])
    parser.add_argument('--cpus', type=int, default=2)
    parser.add_argument('systems', nargs='*', choices=[*SYSTEMS, []])
    options = parser.parse_args()
    wrong = 0
    for name in options.systems or SYSTEMS:
        lab = frame.Lab(native=True)
        try:
            SYSTEMS[name](lab, options.cpus)
            print(f'ok    {name}', flush=True)
        except (AssertionError, debian.Failed, frame.Timeout) as error:
            print(f'FAIL  {name}: {error}', flush=True)
            wrong += 1
        finally:
            lab.end_guests()
            lab.close()
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main())
