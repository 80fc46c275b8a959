"""The VMMs that are measured side by side, each as a command line, all with the same devices."""

import os

from bench import context
from lab import debian, nested

YADO = 'yado'
MICROVM = 'qemu-microvm'
Q35 = 'qemu-q35'
Q35_VHOST = 'qemu-q35-vhost'  # packets are moved by the host's kernel
SUBJECTS = [YADO, MICROVM, Q35]

CMDLINE = 'console=ttyS0 quiet panic=-1 nokaslr'
FIRMWARE = ['bios-256k.bin', 'bios-microvm.bin', 'kvmvapic.bin', 'linuxboot_dma.bin']
MACHINES = {
    MICROVM: 'microvm,rtc=on',
    Q35: 'q35,sata=off,usb=off,smbus=off,vmport=off',
}
MODULES = ['virtio_pci', 'virtio_mmio', 'virtio_blk', 'virtio_net']


def argv(subject, words=(), disk=None, tap=None, memfd=False):
    """The command that boots vmlinuz and initrd.gz: 256 MiB, one vCPU, a serial console.

    @words: arguments of the guest's first program. @memfd: guest RAM in a memfd, apart from the
    VMM's own memory, as yado always has it; QEMU starts faster without.
    """
    cmdline = ' '.join([CMDLINE, *(['ipv6.disable=1', '--', *words] if words else [])])
    if subject == YADO:
        return ['./yado', 'run', '--kernel', 'vmlinuz', '--initrd', 'initrd.gz', '--memory', '256M',
                '--cpus', '1', '--cmdline', cmdline,
                *(['--disk', f'path={disk}'] if disk else []),
                *(['--net', f'tap={tap}'] if tap else [])]
    # QEMU starts with fewer instructions with the one, and works with fewer with the other.
    accel = 'kvm' if words else 'kvm,kernel-irqchip=split'
    machine = MACHINES[subject.removesuffix('-vhost')]
    bus = 'device' if subject == MICROVM else 'pci'
    command = ['./qemu-system-x86_64', '-L', 'firmware', '-nodefaults', '-no-user-config',
               '-display', 'none', '-no-reboot', '-M', machine, '-m', '256',
               '-accel', accel, '-cpu', 'host', '-kernel', 'vmlinuz',
               '-initrd', 'initrd.gz', '-append', cmdline, '-serial', 'stdio',
               '-global', 'virtio-mmio.force-legacy=off', '-device', f'virtio-rng-{bus}', '-device',
               f'virtio-balloon-{bus},free-page-reporting=on,deflate-on-oom=on']
    if memfd:
        command += ['-object', 'memory-backend-memfd,id=ram,size=256M', '-machine',
                    'memory-backend=ram']
    if disk:
        command += ['-object', 'iothread,id=io', '-drive',
                    f'if=none,id=disk,format=raw,file={disk}',
                    '-device', f'virtio-blk-{bus},drive=disk,iothread=io']
    if tap:
        vhost = 'on' if subject.endswith('-vhost') else 'off'
        command += ['-netdev', f'tap,id=net,ifname={tap},script=no,downscript=no,vhost={vhost}',
                    '-device', f'virtio-net-{bus},netdev=net,romfile='
                    if bus == 'pci' else f'virtio-net-{bus},netdev=net']
    return command


def files(subject, ctx):
    """What the command needs beside the initramfs, as files of this machine."""
    if subject == YADO:
        return [context.VMLINUZ, context.YADO]
    return [context.VMLINUZ, debian.needs('qemu-system-x86_64', 'qemu-system-x86'), firmware(ctx)]


def firmware(ctx):
    """The directory of what QEMU loads."""
    directory = os.path.join(ctx.directory, 'firmware')
    return directory if os.path.isdir(directory) else nested.firmware(directory, FIRMWARE)
