"""The VMMs that are measured side by side, each as a command line, all with the same devices."""

import os
import shutil

from bench import context
from lab import debian

YADO = 'yado'
MICROVM = 'qemu-microvm'
Q35 = 'qemu-q35'
SUBJECTS = [YADO, MICROVM, Q35]

CMDLINE = 'console=ttyS0 quiet panic=-1 nokaslr'
FIRMWARE = ['bios-256k.bin', 'bios-microvm.bin', 'qboot.rom', 'kvmvapic.bin', 'linuxboot_dma.bin']
FIRMWARE_AT = ['/usr/share/seabios', '/usr/share/qemu']

MACHINES = {
    MICROVM: 'microvm,rtc=on',
    Q35: 'q35,sata=off,usb=off,smbus=off,vmport=off',
}


def argv(subject):
    """The command that boots vmlinuz and initrd.gz: 256 MiB, one vCPU, a serial console."""
    if subject == YADO:
        return ['./yado', 'run', '--kernel', 'vmlinuz', '--initrd', 'initrd.gz', '--memory', '256M',
                '--cpus', '1', '--cmdline', CMDLINE]
    bus = 'pci' if subject == Q35 else 'device'
    return ['./qemu-system-x86_64', '-L', 'firmware', '-nodefaults', '-no-user-config', '-display',
            'none', '-no-reboot', '-M', MACHINES[subject], '-accel', 'kvm,kernel-irqchip=split',
            '-cpu', 'host', '-m', '256', '-kernel', 'vmlinuz', '-initrd', 'initrd.gz', '-append',
            CMDLINE, '-serial', 'stdio', '-device', f'virtio-rng-{bus}', '-device',
            f'virtio-balloon-{bus},free-page-reporting=on,deflate-on-oom=on']


def files(subject, ctx):
    """What the command needs beside the initramfs, as files of this machine."""
    if subject == YADO:
        return [context.VMLINUZ, context.YADO]
    return [context.VMLINUZ, debian.needs('qemu-system-x86_64', 'qemu-system-x86'), firmware(ctx)]


def firmware(ctx):
    directory = os.path.join(ctx.directory, 'firmware')
    if os.path.isdir(directory):
        return directory
    os.mkdir(directory)
    for name in FIRMWARE:
        found = [path for path in (os.path.join(at, name) for at in FIRMWARE_AT)
                 if os.path.exists(path)]
        if not found:
            raise debian.Failed(f'{name} is missing; install it: apt-get install seabios '
                                'qemu-system-data, or lab/setup')
        shutil.copyfile(found[0], os.path.join(directory, name))
    return directory
