"""Disks: block devices and raw files of every kind, and what is on them when yado is killed."""

import hashlib
import re
import signal
import time

from tests.system.refusals import refused

LAB = {'cpus': 1}
TEST_SECONDS = 240
USUAL_SECONDS = 160

MIB = 1 << 20
PATTERN_MIB = 20  # of each disk that is discarded and zeroed
PATTERN = (b'yado-disk\n' * (4 * MIB // 10 + 1))[:4 * MIB]


def loop_device(lab, image, options=''):
    return lab.must(f'losetup {options} -f {image} && losetup -a | grep {image}').split(':')[0]


def flushes(lab, device):
    """How many flushes a block device of the host has done."""
    # Spec: Linux Documentation/block/stat.rst
    return int(lab.must(f'cat /sys/block/{device.rsplit("/", 1)[1]}/stat').split()[15])


def used_kib(lab, image):
    return int(lab.must(f'du -k {image}').split()[0])


def test_sixteen_disks(lab):
    """All in one guest: block devices, direct, read-only, several queues, and ten small ones."""
    lab.need_root()
    lab.must('modprobe loop; truncate -s 64M device.img direct-device.img holes.img queues.img '
             'fs.img; head -c 1000000 /dev/urandom >ro.img; truncate -s 1M ro.img; mkdir -p fs')
    device, direct_device, fs = [loop_device(lab, image) for image in
                                 ('device.img', 'direct-device.img', 'fs.img')]
    lab.must(f'mke2fs {fs} >/dev/null && mount -t ext4 {fs} fs && truncate -s 32M fs/direct.img')
    small = [f'small{number}.img' for number in range(6, 16)]
    lab.must(f'for i in {" ".join(small)}; do echo $i >$i; truncate -s 1M $i; done')
    disks = [device, f'{direct_device},direct=on', 'fs/direct.img,direct=on', 'holes.img',
             'ro.img,readonly=on', 'queues.img,queues=2', *small]
    try:
        read_only = lab.must('md5sum ro.img')
        with lab.guest(*(word for disk in disks for word in ('--disk', f'path={disk}')),
                       cpus=2) as guest:
            guest.wait_ready()
            for number, name in enumerate(small, 6):
                letter = chr(ord('a') + number)
                assert guest.must(f'head -n 1 /dev/vd{letter}') == name + '\n'
            guest.must(f'yes yado-disk | head -c {4 * MIB} >/tmp/pattern')
            check_flush(lab, guest, device)
            check_zeroes(lab, guest, 'vda', 'device.img')
            check_zeroes(lab, guest, 'vdb', 'direct-device.img')
            check_zeroes(lab, guest, 'vdc', 'fs/direct.img')
            check_zeroes(lab, guest, 'vdd', 'holes.img')
            check_direct(guest, 'vdb')
            check_direct(guest, 'vdc')
            check_read_only(guest)
            check_queues(lab, guest)
            check_cut_image(lab, guest)
            guest.send('poweroff -f\n')
            assert guest.end() == 0
        assert lab.must('md5sum ro.img') == read_only
    finally:
        lab.sh(f'umount fs; for i in {device} {direct_device} {fs}; do losetup -d $i; done')


def check_flush(lab, guest, device):
    before = flushes(lab, device)
    guest.must('printf flushed | dd of=/dev/vda bs=1k seek=1 conv=fsync,notrunc')
    assert flushes(lab, device) > before, 'fsync() in the guest flushes nothing'
    assert lab.must('dd if=device.img bs=1k skip=1 count=1 2>/dev/null | head -c 7') == 'flushed'


def check_zeroes(lab, guest, disk, image):
    """A pattern, and in it a hole by discard, zeroes that may be a hole, and written zeroes."""
    for limit in ('discard_max_bytes', 'write_zeroes_max_bytes'):
        assert int(guest.must(f'cat /sys/block/{disk}/queue/{limit}')) > 0, limit
    for offset in range(0, PATTERN_MIB, 4):
        guest.must(f'dd if=/tmp/pattern of=/dev/{disk} bs=1M seek={offset} conv=notrunc,fsync')
    lab.must('sync')
    full = used_kib(lab, image)
    assert full >= PATTERN_MIB * 1024, full
    guest.must(f'blkdiscard -o {2 * MIB} -l {4 * MIB} /dev/{disk}')
    guest.must(f'zero -u /dev/{disk} {8 * MIB} {4 * MIB}')
    holes = full - used_kib(lab, image)
    assert abs(holes - 8 * 1024) <= 64, f'{image}: {holes} KiB became holes'
    # Neither begins nor ends with a block.
    guest.must(f'zero /dev/{disk} {14 * MIB + 512} {4 * MIB + 1024}; sync')
    lab.must('sync')
    assert used_kib(lab, image) == full - holes, 'zeroed blocks did not stay allocated'

    expected = bytearray(PATTERN * (PATTERN_MIB // 4))
    for start, length in ((2 * MIB, 4 * MIB), (8 * MIB, 4 * MIB),
                          (14 * MIB + 512, 4 * MIB + 1024)):
        expected[start:start + length] = bytes(length)
    right = hashlib.md5(expected).hexdigest()
    inside = guest.must('echo 3 >/proc/sys/vm/drop_caches; dd bs=1M 2>/dev/null '
                        f'if=/dev/{disk} count={PATTERN_MIB} | md5sum').split()[0]
    outside = lab.must(f'dd if={image} bs=1M count={PATTERN_MIB} 2>/dev/null | md5sum').split()[0]
    assert inside == outside == right, (image, inside, outside, right)


def check_direct(guest, disk):
    """Direct requests of the guest, of a sector each, which the host's disk may not take."""
    guest.must(f'head -c 20480 /dev/urandom >/tmp/s && dd if=/tmp/s of=/dev/{disk} bs=512 '
               'seek=50001 oflag=direct conv=notrunc')
    there = guest.must(f'dd if=/dev/{disk} bs=512 skip=50001 count=40 iflag=direct 2>/dev/null | '
                       'md5sum; md5sum </tmp/s').split()
    assert there[0] == there[2], there


def check_read_only(guest):
    assert guest.must('cat /sys/block/vde/ro') == '1\n'
    status, output = guest.sh('echo x >/dev/vde')
    assert status != 0, output
    assert guest.sh('blkdiscard /dev/vde')[0] != 0
    assert guest.must('head -c 1000 /dev/vde | wc -c') == '1000\n'


def check_queues(lab, guest):
    """Two programs on two processors write at a time, each through its own queue."""
    assert guest.must('ls /sys/block/vdf/mq').split() == ['0', '1']
    guest.must('for i in 0 1; do head -c 4194304 /dev/urandom >/tmp/r$i; done; '
               'for i in 0 1; do taskset -c $i dd if=/tmp/r$i of=/dev/vdf bs=64k '
               'seek=$((i * 64)) oflag=direct conv=notrunc,fsync 2>/dev/null & done; wait')
    right = guest.must('cat /tmp/r0 /tmp/r1 | md5sum').split()[0]
    assert lab.must('dd if=queues.img bs=1M count=8 2>/dev/null | md5sum').split()[0] == right
    guest.must('for i in 0 1; do taskset -c $i dd if=/dev/vdf of=/tmp/r$i bs=64k count=64 '
               'skip=$((i * 64)) iflag=direct 2>/dev/null & done; wait')
    assert guest.must('cat /tmp/r0 /tmp/r1 | md5sum').split()[0] == right
    device = guest.must('basename $(readlink /sys/block/vdf/device)').strip()
    lines = re.findall(rf'^ *\d+: (.*) \S+ +\S+ +{device}-req\.(\d)\r?$',
                       guest.must('cat /proc/interrupts'), re.MULTILINE)
    used = {number for counts, number in lines if any(int(c) for c in counts.split()[:2])}
    assert used == {'0', '1'}, lines


def check_cut_image(lab, guest):
    """Somebody cuts the image of a running VM: an error for the guest, and nothing else."""
    lab.must('truncate -s 4096 small15.img')
    status, output = guest.sh('dd if=/dev/vdp of=/dev/null bs=4k skip=16 count=1 iflag=direct')
    assert status != 0 and 'error' in output, output
    assert 'small15.img' in guest.must('head -n 1 /dev/vdp')


def test_killed_while_writing(lab):
    """SIGKILL in the middle of writes: the disk is free at once, and has what was synced."""
    lab.must('truncate -s 64M killed.img')
    with lab.guest('--disk', 'path=killed.img', '--name', 'killed') as guest:
        guest.wait_ready()
        right = guest.must('head -c 4194304 /dev/urandom >/tmp/r; dd if=/tmp/r of=/dev/vda bs=64k '
                           'conv=fsync,notrunc 2>/dev/null; md5sum </tmp/r').split()[0]
        guest.send('while :; do dd if=/dev/zero of=/dev/vda bs=64k seek=256 oflag=direct '
                   'conv=notrunc; done\n')
        before = lab.must('du -k killed.img')
        deadline = time.monotonic() + 30
        while lab.must('du -k killed.img') == before:
            assert time.monotonic() < deadline, 'the guest does not write'
        refused(lab, '--cpus 1 --disk path=killed.img', 'killed.img', 'killed', 'locked')
        guest.signal(signal.SIGKILL)
        assert guest.end() == 128 + signal.SIGKILL
    assert lab.must('dd if=killed.img bs=1M count=4 2>/dev/null | md5sum').split()[0] == right
    with lab.guest('--disk', 'path=killed.img') as guest:
        guest.wait_ready()
        assert guest.must('dd if=/dev/vda bs=1M count=4 2>/dev/null | md5sum').split()[0] == right
        guest.send('poweroff -f\n')
        assert guest.end() == 0


def test_refusals(lab):
    lab.need_root()
    lab.must('modprobe loop; truncate -s 8M plain.img on.img; mkdir -p on')
    refused(lab, '--cpus 1 --disk path=plain.img,direct=on', 'plain.img', 'direct=on')
    refused(lab, '--cpus 1 ' + ' '.join(f'--disk path=plain{number}.img' for number in range(17)),
            '16')
    refused(lab, '--cpus 1 --disk path=/dev/null', '/dev/null', 'character device')
    device = loop_device(lab, 'on.img')
    try:
        lab.must(f'mke2fs {device} >/dev/null && mount -t ext4 {device} on')
        refused(lab, f'--cpus 1 --disk path={device}', device, 'mounted')
        lab.must(f'umount on && losetup -d {device}')
        device = loop_device(lab, 'on.img', '-r')
        # Linux opens it for writing nevertheless.
        refused(lab, f'--cpus 1 --disk path={device}', device, 'readonly=on')
    finally:
        lab.sh(f'umount on; losetup -d {device}')
