"""What `make run-metal` and `make iso` boot: core's initramfs with yado as its first program, and two
Debian guests, of which `yado run debian` has made the parts.

The guests share a root disk, which is read-only there; what they write stays in their memory.
"""

import glob
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tempfile

from lab import cpio, debian

DIRECTORY = os.path.join(debian.ROOT, 'build/metal')
INITRAMFS = os.path.join(DIRECTORY, 'initramfs')
NAMES = ('one', 'two')
DISK_MAX = 512 << 20  # it is in the machine's memory


def _debian_guest():
    """The directory of the guest that `yado run debian` starts; made if need be."""
    yado = os.path.join(debian.ROOT, 'build/yado')
    if not os.path.exists(yado):
        raise debian.Failed('build/yado is missing; make build')
    if subprocess.run([yado, 'run', 'debian', '--prepare']).returncode != 0:
        raise debian.Failed('there is no Debian guest to put into the image')
    data = os.environ.get('XDG_DATA_HOME', '')
    if not data.startswith('/'):
        data = os.path.join(os.environ['HOME'], '.local/share')
    return os.path.join(data, 'yado/debian')


def _shrink(source, disk):
    """A copy of an ext4 image with little more in it than its files."""
    debian.run(['cp', '--sparse=always', source, disk], 'cannot copy the root disk')
    # The guest may run, or may have been ended: the copy is then as after a power cut.
    done = subprocess.run([debian.needs('e2fsck', 'e2fsprogs'), '-f', '-y', disk],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if done.returncode > 2:
        raise debian.Failed(f'{source} holds no file system that can be repaired')
    debian.run([debian.needs('resize2fs', 'e2fsprogs'), '-M', disk], 'cannot shrink the root disk')
    size = os.path.getsize(disk)
    if size > DISK_MAX:
        raise debian.Failed(f'{source} holds {size >> 20} MiB; {DISK_MAX >> 20} MiB are the most that '
                            'an image for core takes')


def _module(disk, name, work):
    """A kernel module that is on an ext4 image, as bytes."""
    debugfs = debian.needs('debugfs', 'e2fsprogs')
    found = re.search(r'/(\d[^/]*-cloud-amd64)/',
                      debian.run([debugfs, '-R', 'ls -p /usr/lib/modules', disk], 'debugfs'))
    target = os.path.join(work, name)
    if found:
        path = f'/usr/lib/modules/{found[1]}/kernel/fs/overlayfs/{name}'
        debian.run([debugfs, '-R', f'dump {path} {target}', disk], 'debugfs')
    if not found or not os.path.exists(target):
        raise debian.Failed(f"the Debian guest's disk has no module {name}")
    with open(target, 'rb') as f:
        return f.read()


def _initrd(initrd, disk, work):
    """The guest's initial RAM disk with another first program, as bytes."""
    out = io.BytesIO()
    archive = cpio.Archive(out)
    with open(os.path.join(debian.ROOT, 'lab/metal-init'), 'rb') as f:
        archive.file('init', f.read(), 0o755)
    archive.file('overlay.ko', _module(disk, 'overlay.ko', work))
    archive.close()
    with open(initrd, 'rb') as f:
        return f.read() + gzip.compress(out.getvalue(), 9, mtime=0)


def _config(name):
    # There is no network to wait for.
    masks = ' '.join(f'systemd.mask=systemd-{unit}.service' for unit in ('networkd', 'resolved'))
    return {'kernel': '/lib/yado/vmlinuz', 'initrd': '/lib/yado/initrd.img',
            'cmdline': f'console=ttyS0 quiet systemd.show_status=1 {masks} guest.name={name}',
            'cpus': 2, 'memory': '384M', 'restart': 'on-failure',
            'disk': [{'path': '/lib/yado/root.img', 'readonly': True}]}


def _stamp(guest):
    """What the parts are made of."""
    digest = hashlib.sha256()
    for name in ('vmlinuz', 'initrd.img', 'root.img'):
        status = os.stat(os.path.join(guest, name))
        digest.update(f'{name} {status.st_size} {status.st_mtime_ns}\n'.encode())
    for source in ('lab/metal-init', 'lab/metal_guests.py'):
        with open(os.path.join(debian.ROOT, source), 'rb') as f:
            digest.update(f.read())
    return digest.hexdigest()


def _make_parts(guest):
    """DIRECTORY/parts: what of the image does not change with yado."""
    parts = os.path.join(DIRECTORY, 'parts')
    stamp = _stamp(guest)
    try:
        with open(os.path.join(parts, 'made-from')) as f:
            if f.read() == stamp:
                return parts
    except FileNotFoundError:
        pass
    debian.say('making the disk of the guests for core')
    os.makedirs(DIRECTORY, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DIRECTORY) as work:
        new = os.path.join(work, 'parts')
        os.mkdir(new)
        disk = os.path.join(new, 'root.img')
        _shrink(os.path.join(guest, 'root.img'), disk)
        shutil.copyfile(os.path.join(guest, 'vmlinuz'), os.path.join(new, 'vmlinuz'))
        with open(os.path.join(new, 'initrd.img'), 'wb') as f:
            f.write(_initrd(os.path.join(guest, 'initrd.img'), disk, work))
        with open(os.path.join(new, 'made-from'), 'w') as f:
            f.write(stamp)
        shutil.rmtree(parts, ignore_errors=True)
        os.rename(new, parts)
    return parts


def make(packed=False):
    """Makes the initramfs. Return: its path; of a gzip file if `packed`."""
    parts = _make_parts(_debian_guest())
    path = INITRAMFS + ('.gz' if packed else '')
    with (gzip.GzipFile(path, 'wb', 6, mtime=0) if packed else open(path, 'wb')) as out:
        archive = cpio.Archive(out)
        archive.tree('bin/yado', os.path.join(debian.ROOT, 'build/yado'))
        archive.symlink('init', '/bin/yado')
        for name in NAMES:
            archive.file(f'etc/yado/{name}.json', (json.dumps(_config(name), indent=8) + '\n').encode())
        for part in sorted(glob.glob(os.path.join(parts, '*'))):
            if os.path.basename(part) != 'made-from':
                with open(part, 'rb') as f:
                    archive.file(f'lib/yado/{os.path.basename(part)}', f.read())
        archive.close()
    return path
