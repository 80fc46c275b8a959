"""A bare machine for core, by QEMU with Linux KVM on the lab's Linux host: its local APIC is KVM's.

So it has TSC deadlines, and SVM all the same: guests of core are guests of a guest then. It has no
XSAVE: QEMU 7.2 does not intercept XSETBV, so that KVM would put back another XCR0 than core's.
"""

import os
import shutil
import subprocess

from lab import debian, host, metal

FIRMWARE = ['bios-256k.bin', 'kvmvapic.bin', 'linuxboot_dma.bin', 'pvh.bin']
FIRMWARE_AT = ['/usr/share/seabios', '/usr/share/qemu']
HOST_MIB = 1024  # more than core has


def firmware(directory, names=FIRMWARE):
    """Fills a new directory with what QEMU loads, of this machine's packages. Return: @directory."""
    os.mkdir(directory)
    for name in names:
        found = [path for path in (os.path.join(at, name) for at in FIRMWARE_AT)
                 if os.path.exists(path)]
        if not found:
            raise debian.Failed(f'{name} is missing; install it: apt-get install seabios '
                                'qemu-system-data, or lab/setup')
        shutil.copyfile(found[0], os.path.join(directory, name))
    return directory


class Machine(metal.Machine):
    """As metal.Machine. Of its options: cpus, memory_mib, cmdline and initramfs, which there must be."""

    def _start(self, options):
        qemu = debian.needs('qemu-system-x86_64', 'qemu-system-x86')
        files = [qemu, metal.KERNEL, options.initramfs,
                 firmware(os.path.join(self._work.name, 'firmware'))]
        process = subprocess.Popen(
            [os.path.join(debian.ROOT, 'lab/run'), 'linux', '--time', '0',
             '--cpus', '1', '--memory', str(options.memory_mib + HOST_MIB),
             *[word for name in files for word in ('--in', name)], '--',
             f'./{os.path.basename(qemu)}', '-L', 'firmware', '-nodefaults', '-no-user-config',
             '-no-reboot', '-M', 'q35', '-accel', 'kvm', '-cpu', 'host,-xsave', '-display', 'none',
             '-smp', str(options.cpus), '-m', str(options.memory_mib),
             '-kernel', os.path.basename(metal.KERNEL), '-append', options.cmdline,
             '-initrd', os.path.basename(options.initramfs), '-serial', 'stdio'],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            preexec_fn=host.die_with_parent, start_new_session=True)
        return process, process.stdin.fileno(), process.stdout.fileno()
