"""Writes initramfs archives: cpio, "newc" format, as Linux's init/initramfs.c reads them.

Names and contents decide every byte: no time, owner or inode number of this machine goes in.
"""

import os
import stat


class Archive:
    """An archive in the making, written to `out`, a binary file. Parents are made on the way."""

    def __init__(self, out):
        self._out = out
        self._position = 0
        self._inode = 0
        self._names = set()

    def directory(self, name, mode=0o755):
        self._parents(name)
        self._entry(name, stat.S_IFDIR | mode)

    def file(self, name, data, mode=0o644):
        self._parents(name)
        self._entry(name, stat.S_IFREG | mode, data)

    def symlink(self, name, target):
        self._parents(name)
        self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def device(self, name, major, minor, mode=0o600):
        self._parents(name)
        self._entry(name, stat.S_IFCHR | mode, device=(major, minor))

    def tree(self, name, path):
        """A file of this machine, with its mode, or a directory with all that is in it."""
        if os.path.isdir(path):
            self.directory(name)
            for child in sorted(os.listdir(path)):
                self.tree(f'{name}/{child}', os.path.join(path, child))
        else:
            with open(path, 'rb') as f:
                self.file(name, f.read(), stat.S_IMODE(os.stat(path).st_mode) & 0o777)

    def close(self):
        """Writes the end mark. Linux takes several archives one behind the other."""
        self._entry('TRAILER!!!', 0)
        self._write(b'\0' * (-self._position % 512))

    def _parents(self, name):
        parts = name.split('/')[:-1]
        for i in range(1, len(parts) + 1):
            parent = '/'.join(parts[:i])
            if parent not in self._names:
                self._entry(parent, stat.S_IFDIR | 0o755)

    def _entry(self, name, mode, data=b'', device=(0, 0)):
        if name in self._names and stat.S_ISDIR(mode):
            return
        self._names.add(name)
        self._inode += 1
        encoded = os.fsencode(name) + b'\0'
        links = 2 if stat.S_ISDIR(mode) else 1
        fields = [self._inode, mode, 0, 0, links, 0, len(data), 0, 0, *device, len(encoded), 0]
        self._write(b'070701' + b''.join(b'%08X' % field for field in fields) + encoded)
        self._write(b'\0' * (-self._position % 4))
        self._write(data)
        self._write(b'\0' * (-self._position % 4))

    def _write(self, data):
        self._out.write(data)
        self._position += len(data)
