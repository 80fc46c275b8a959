"""Debian's packages as material: fetched and unpacked under build/lab, never installed."""

import contextlib
import fcntl
import glob
import lzma
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CACHE = os.environ.get('YADO_LAB_CACHE') or os.path.join(ROOT, 'build', 'lab')


class Failed(Exception):
    """Something is missing. str() says in one line what, and what to do."""


def say(message):
    print(f'lab: {message}', file=sys.stderr, flush=True)


@contextlib.contextmanager
def locked(name):
    """One process at a time makes a part of the cache."""
    os.makedirs(CACHE, exist_ok=True)
    with open(os.path.join(CACHE, f'{name}.lock'), 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def needs(program, package):
    """The program's path."""
    path = shutil.which(program, path=os.environ.get('PATH', '') + ':/usr/sbin:/sbin')
    if not path:
        raise Failed(f'{program} is missing; install it: apt-get install {package}, or lab/setup')
    return path


def run(argv, what, **options):
    """Runs a tool, silently when it succeeds. Return: its output."""
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines() or ['no reason given']
        raise Failed(f'{what}: {lines[-1]}')
    return done.stdout


def dependency(package, pattern):
    """The name of the package that a metapackage stands for."""
    shown = subprocess.run(['apt-cache', 'show', '--no-all-versions', package],
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    found = re.search(rf'^Depends:.*?\b({pattern})\b', shown, re.MULTILINE)
    if not found:
        raise Failed(f'the package lists have no {package}; run apt-get update '
                     '(Debian 12, amd64, is expected)')
    return found.group(1)


def _download(package, directory):
    """Fetches a package; lists that name an outdated one are brought up to date, if we may."""
    fetch = ['apt-get', '-q', '-o', 'APT::Sandbox::User=root', 'download', package]
    try:
        run(fetch, '', cwd=directory)
        return
    except Failed:
        say('that failed; once more with fresh package lists')
    as_root = [] if os.geteuid() == 0 else ['sudo', '-n']
    try:
        subprocess.run([*as_root, 'apt-get', '-q', 'update'], stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        pass  # no sudo
    run(fetch, f'cannot fetch {package} (is there a network? have you run apt-get update?)',
        cwd=directory)


def unpacked(package):
    """The directory with the package's files, fetched when it is not there yet.

    Call with locked().
    """
    target = os.path.join(CACHE, 'packages', package)
    if os.path.isdir(target):
        return target
    os.makedirs(os.path.dirname(target), exist_ok=True)
    say(f'fetching {package}')
    with tempfile.TemporaryDirectory(dir=os.path.dirname(target)) as work:
        _download(package, work)
        tree = os.path.join(work, 'tree')
        run(['dpkg-deb', '-x', *glob.glob(os.path.join(work, '*.deb')), tree],
            f'cannot unpack {package}')
        os.rename(tree, target)
    return target


def kernel(flavour):
    """Debian's kernel of that flavour ('amd64', 'cloud-amd64'): a Kernel. Call with locked()."""
    done = sorted(glob.glob(os.path.join(CACHE, 'packages', f'linux-image-[0-9]*-[0-9]*-{flavour}')))
    done = [d for d in done if re.search(rf'-\d+-{flavour}$', d)]
    if done:
        return Kernel(done[-1])
    name = dependency(f'linux-image-{flavour}', rf'linux-image-\d[\w.]*-\d+-{flavour}')
    return Kernel(unpacked(name))


class Kernel:
    """An unpacked kernel package."""

    def __init__(self, directory):
        self.directory = directory
        self.release = os.path.basename(directory).removeprefix('linux-image-')
        self.image = os.path.join(directory, 'boot', f'vmlinuz-{self.release}')
        self._files = None

    def vmlinux(self):
        """The ELF file inside the bzImage.

        Spec: Linux Documentation/x86/boot.rst, payload_offset and payload_length.
        """
        with open(self.image, 'rb') as f:
            image = f.read()
        setup_sectors = image[0x1f1] or 4
        offset, length = struct.unpack_from('<II', image, 0x248)
        start = (setup_sectors + 1) * 512 + offset
        payload = image[start:start + length - 4]  # its unpacked size comes last
        if payload.startswith(b'\xfd7zXZ\0'):
            elf = lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(payload)
        elif payload.startswith(b'\x02\x21\x4c\x18'):
            elf = subprocess.run([needs('lz4', 'lz4'), '-d', '-c'], input=payload,
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
        else:
            elf = b''
        if not elf.startswith(b'\x7fELF'):
            raise Failed(f'{self.image}: cannot take its ELF file out')
        return elf

    def module_files(self):
        """{name: path} of all modules, names with underscores."""
        if self._files is None:
            base = os.path.join(self.directory, 'lib', 'modules')
            self._files = {
                name[:-3].replace('-', '_'): os.path.join(folder, name)
                for folder, _, names in os.walk(base) for name in names if name.endswith('.ko')
            }
        return self._files

    def modules(self, names):
        """[Module] with all that they need, each after what it depends on. Built-in ones are left
        out; a name that is nowhere is an error."""
        with open(glob.glob(os.path.join(self.directory, 'lib/modules/*/modules.builtin'))[0]) as f:
            builtin = {os.path.basename(line.strip())[:-3].replace('-', '_') for line in f}
        ordered = {}

        def add(name):
            if name in ordered or name in builtin:
                return
            if name not in self.module_files():
                raise Failed(f'Linux {self.release} has no module {name}')
            module = Module(name, self.module_files()[name])
            for needed in module.depends:
                add(needed)
            ordered[name] = module

        for name in names:
            add(name.replace('-', '_'))
        return list(ordered.values())

    def add_modules(self, archive, names):
        """Puts modules and what modprobe wants to know of them into an initramfs. Return: the
        paths there, in the order of loading."""
        base = f'lib/modules/{self.release}'
        modules = self.modules(names)
        for module in modules:
            with open(module.path, 'rb') as f:
                archive.file(f'{base}/{module.name}.ko', f.read())
        archive.file(f'{base}/modules.dep', ''.join(
            f'{m.name}.ko:{"".join(f" {d}.ko" for d in self._closure(m, modules))}\n'
            for m in modules).encode())
        archive.file(f'{base}/modules.alias', ''.join(
            f'alias {alias} {m.name}\n' for m in modules for alias in m.aliases).encode())
        return [f'/{base}/{m.name}.ko' for m in modules]

    @staticmethod
    def _closure(module, modules):
        """All that a module needs, the nearest first, as modules.dep lists them."""
        by_name = {m.name: m for m in modules}
        found = []
        todo = list(module.depends)
        while todo:
            name = todo.pop(0)
            if name in by_name:
                if name in found:
                    found.remove(name)
                found.append(name)
                todo += by_name[name].depends
        return found


class Module:
    """A kernel module file and what its .modinfo section says."""

    def __init__(self, name, path):
        self.name = name
        self.path = path
        with open(path, 'rb') as f:
            info = self._modinfo(f.read())
        self.depends = [d.replace('-', '_') for d in info.get('depends', [''])[0].split(',') if d]
        self.aliases = info.get('alias', [])

    @staticmethod
    def _modinfo(elf):
        """{key: [value, ...]}. Spec: System V ABI, "Object Files", 64-bit section headers."""
        section_offset, = struct.unpack_from('<Q', elf, 0x28)
        entry_size, count, names_index = struct.unpack_from('<HHH', elf, 0x3a)
        sections = [struct.unpack_from('<IIQQQQ', elf, section_offset + i * entry_size)
                    for i in range(count)]
        names = sections[names_index][4]
        info = {}
        for name, _, _, _, offset, size in sections:
            if elf[names + name:names + name + 9] == b'.modinfo\0':
                for item in elf[offset:offset + size].split(b'\0'):
                    key, equals, value = item.decode(errors='replace').partition('=')
                    if equals:
                        info.setdefault(key, []).append(value)
        return info
