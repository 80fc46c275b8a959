"""What a bench is given: a directory of its own, a compiler, initramfs archives, and the lab."""

import gzip
import io
import os
import subprocess

from lab import cpio, debian

YADO = os.path.join(debian.ROOT, 'build', 'yado')
VMLINUZ = os.path.join(debian.CACHE, 'guest', 'vmlinuz')
HERE = os.path.dirname(os.path.abspath(__file__))


class Context:
    """What is made here lies in `directory`, which the caller takes away at the end."""

    def __init__(self, directory, subjects=None):
        self.directory = directory
        self._subjects = subjects
        self._made = {}

    def chosen(self, subjects):
        """Those of a bench's subjects that are to be measured: all, unless the caller chose."""
        return [s for s in subjects if self._subjects is None or s in self._subjects]

    def compiled(self, source):
        """A static program from bench/`source`, made once. Return: its path."""
        if source not in self._made:
            path = os.path.join(self.directory, os.path.basename(source)[:-2])
            debian.run([debian.needs('gcc', 'gcc'), '-std=gnu17', '-D_GNU_SOURCE', '-O2', '-Wall',
                        '-Wextra', '-static', '-s', '-I', debian.ROOT, '-o', path,
                        os.path.join(HERE, source)], f'cannot build bench/{source}')
            self._made[source] = path
        return self._made[source]

    def initrd(self, source, modules=()):
        """initrd.gz, an initramfs with bench/`source` as its first program. Return: its path.

        Kernel modules lie in it, too, and /modules names them in the order to load them in.
        """
        key = ('initrd', source)
        if key not in self._made:
            packed = io.BytesIO()
            archive = cpio.Archive(packed)
            archive.device('dev/console', 5, 1)
            archive.tree('init', self.compiled(source))
            if modules:
                with debian.locked('packages'):
                    paths = debian.kernel('cloud-amd64').add_modules(archive, list(modules))
                archive.file('modules', ''.join(path + '\n' for path in paths).encode())
            archive.close()
            path = os.path.join(self.directory, source.replace('/', '-'), 'initrd.gz')
            os.mkdir(os.path.dirname(path))
            with open(path, 'wb') as f:
                f.write(gzip.compress(packed.getvalue(), 9, mtime=0))
            self._made[key] = path
        return self._made[key]

    def in_lab(self, files, *command, memory='2G', seconds=300):
        """Runs a command in the lab's counting mode. Return: its output."""
        argv = [os.path.join(debian.ROOT, 'lab/run'), 'linux', '--count', '--memory', memory,
                '--time', str(seconds)]
        for file in files:
            argv += ['--in', file]
        return debian.run([*argv, '--', *command], f'{command[0]} in the lab',
                          stdin=subprocess.DEVNULL)
