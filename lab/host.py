"""The lab's first machine: a Linux host with real KVM, on any machine.

QEMU's TCG emulates AMD SVM with nested paging, so Debian's kernel finds a processor that can
virtualize and offers /dev/kvm. The host's file system is an initramfs made here: busybox, the
modules, the agent (agent.c), passt and socat if this machine has them.
"""

import ctypes
import glob
import hashlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile

from lab import cpio, debian
from lab.agent import Agent, Died
from lab.debian import Failed, say

HERE = os.path.dirname(os.path.abspath(__file__))
DIRECTORY = '/lab'  # where programs start
BOOT_SECONDS = 180  # for a very busy machine; five is usual
SILENCE_SECONDS = 120  # without a heartbeat the host has hung: vCPU threads of TCG do, at times

# Loaded at the start. What else programs may want is found by modprobe, or by the kernel.
LOADED = ['virtio_pci', 'virtio_console', 'virtio_net', 'virtio_blk', 'kvm_amd', 'tun']
OFFERED = ['ext4', 'crc32c_generic', 'crc32c_intel', 'loop', 'vfat', 'nls_cp437', 'nls_ascii',
           'nls_iso8859_1', 'virtio_balloon', 'virtio_rng', 'vsock', 'vsock_loopback',
           'vmw_vsock_virtio_transport', 'vhost_net', 'vhost_vsock', 'bridge', 'veth', 'dummy',
           'macvtap', 'overlay', 'squashfs', 'isofs', 'msr', 'fuse']
PROGRAMS = ['passt', 'passt.avx2', 'socat']  # of this machine, with their libraries

PASSWD = '''root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
user:x:1000:1000:user:/home/user:/bin/sh
'''
GROUP = '''root:x:0:
tty:x:5:
kvm:x:106:user
nogroup:x:65534:
user:x:1000:
'''


def _compiled(source, *options):
    """An executable or a library of ours, built when its source has changed. Return: its path."""
    name = os.path.splitext(source)[0]
    source = os.path.join(HERE, source)
    with open(source, 'rb') as f:
        digest = hashlib.sha256(f.read()).hexdigest()[:16]
    path = os.path.join(debian.CACHE, f'{name}-{digest}')
    if not os.path.exists(path):
        debian.run([debian.needs('gcc', 'gcc'), '-std=gnu17', '-D_GNU_SOURCE', '-O2', '-Wall',
                    '-Wextra', *options, '-o', path + '.new', source], f'cannot build {source}')
        os.rename(path + '.new', path)
    return path


def _compiled_agent():
    return _compiled('agent.c', '-static')


def qemu_environment(counted):
    """The environment for a QEMU that runs guests in guests: with the library that gives it back the
    interrupts that it loses, but where instructions are counted: there, it loses none."""
    if counted:
        return None
    with debian.locked('host'):
        return {**os.environ, 'LD_PRELOAD': _compiled('apic_poll.c', '-shared', '-fPIC')}


def libraries(program):
    """The shared libraries a program of this machine needs, as paths; none if it is static."""
    with open(program, 'rb') as f:
        if f.read(4) != b'\x7fELF':
            return []
    listed = subprocess.run(['ldd', program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                            text=True)
    words = listed.stdout.split() if listed.returncode == 0 else []
    return sorted({word for word in words if word.startswith('/')})


def _installed():
    found = [shutil.which(program) for program in PROGRAMS]
    return [program for program in found if program]


def _write_base(out, kernel):
    """The initramfs without what one run adds."""
    busybox = debian.needs('busybox', 'busybox-static')
    if libraries(busybox):
        raise Failed('busybox is not the static one; install it: apt-get install busybox-static')
    archive = cpio.Archive(out)
    for name in ['proc', 'sys', 'dev', 'tmp', 'run', 'mnt', 'root', 'home/user', 'var/tmp', 'lab',
                 'lib64', 'usr/bin', 'usr/sbin']:
        archive.directory(name)
    archive.symlink('var/run', '/run')
    archive.device('dev/console', 5, 1)
    archive.device('dev/null', 1, 3, 0o666)
    archive.tree('bin/busybox', busybox)
    for applet in debian.run([busybox, '--list-full'], 'busybox').split():
        if applet not in ('bin/busybox', 'linuxrc'):
            archive.symlink(applet, '/bin/busybox')
    archive.file('etc/passwd', PASSWD.encode())
    archive.file('etc/group', GROUP.encode())
    archive.file('etc/hosts', b'127.0.0.1 localhost lab\n')
    archive.file('etc/resolv.conf', b'nameserver 10.0.2.3\n')
    archive.file('etc/nsswitch.conf', b'hosts: files dns\n')
    order = kernel.add_modules(archive, LOADED + OFFERED)
    loaded = {m.name for m in kernel.modules(LOADED)}
    order = [path for path in order if os.path.basename(path)[:-3] in loaded]
    archive.file('etc/lab-modules', ''.join(path + '\n' for path in order).encode())
    _add_script(archive, 'init', 'linux-init')
    _add_script(archive, 'sbin/lab-start', 'linux-start')
    archive.tree('sbin/agent', _compiled_agent())
    added = set()
    for program in _installed():
        for path in [program, *libraries(program)]:
            if path not in added:
                archive.tree(path[1:], path)
                added.add(path)
    archive.close()


def _add_script(archive, name, source):
    with open(os.path.join(HERE, source), 'rb') as f:
        archive.file(name, f.read(), 0o755)


def _inputs_digest(kernel):
    """What decides the base archive's content."""
    digest = hashlib.sha256(kernel.release.encode())
    for path in sorted(glob.glob(os.path.join(HERE, '*'))):
        if os.path.isfile(path):
            with open(path, 'rb') as f:
                digest.update(f.read())
    for program in ['busybox', *PROGRAMS]:
        path = shutil.which(program)
        if path:
            status = os.stat(path)
            digest.update(f'{path} {status.st_size} {status.st_mtime_ns}'.encode())
    return digest.hexdigest()[:16]


def prepared():
    """Makes what is not in the cache yet. Return: the paths of the kernel and the base archive."""
    with debian.locked('host'), debian.locked('packages'):
        kernel = debian.kernel('amd64')
        image = os.path.join(debian.CACHE, f'vmlinux-{kernel.release}')
        if not os.path.exists(image):
            with open(image + '.new', 'wb') as f:
                f.write(kernel.vmlinux())
            os.rename(image + '.new', image)
        base = os.path.join(debian.CACHE, f'host-{_inputs_digest(kernel)}.cpio')
        if not os.path.exists(base):
            with open(base + '.new', 'wb') as f:
                _write_base(f, kernel)
            for old in glob.glob(os.path.join(debian.CACHE, 'host-*.cpio')):
                os.unlink(old)
            os.rename(base + '.new', base)
        # Another process may replace the archive at any time: hold on to this one.
        return image, open(base, 'rb')


# QEMU's emulation of XRSTOR and the like clears a bit in the flags of the machine's first CPU, whichever
# CPU executes it, and does so without a lock (cpu_clear_ignne() in target/i386/tcg/sysemu/fpu_helper.c,
# in 7.2 as in 10.0). GIF and "nested paging" are among these flags: a guest that runs on that CPU, while
# others switch threads, comes to host state, loses interrupts or hangs. So a host with several CPUs has
# one more, and leaves the first to its kernel.
SPARE_CPU = 'isolcpus=0'


class Options:
    """What a lab host is made of."""

    def __init__(self):
        self.cpus = 2  # for programs
        self.memory_mib = 4096
        self.files = []  # paths of this machine, into DIRECTORY under their base names
        self.disks = []  # raw images, /dev/vda and so on
        self.script = None  # frames for a counted run, or None


class LinuxHost:
    """A running lab host. `agent` starts programs in it."""

    def __init__(self, options):
        self._qemu = None
        self._work = tempfile.TemporaryDirectory(prefix='yado-lab-')
        self._options = options
        self.counted_output = os.path.join(self._work.name, 'counted')
        self._console = os.path.join(self._work.name, 'console')
        self._errors = os.path.join(self._work.name, 'errors')
        self.agent = None
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _start(self):
        image, base = prepared()
        with base:
            initrd = self._write_initrd(base)
        ours, theirs = socket.socketpair()
        with theirs:
            argv = self._argv(image, initrd, theirs.fileno())
            with open(self._errors, 'wb') as errors:
                # In a group of its own, out of reach of the terminal's Ctrl-C: close() ends it.
                self._qemu = subprocess.Popen(
                    argv, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors,
                    env=qemu_environment(self._options.script is not None),
                    pass_fds=[theirs.fileno()], preexec_fn=die_with_parent, start_new_session=True)
        if self._options.script is None:
            self.agent = Agent(ours, self.why_dead, SILENCE_SECONDS)
            if not self.agent.wait_ready(BOOT_SECONDS):
                raise Died(f'it did not start within {BOOT_SECONDS} seconds')
        else:
            ours.close()

    def _write_initrd(self, base):
        path = os.path.join(self._work.name, 'initrd')
        with open(path, 'wb') as out:
            shutil.copyfileobj(base, out, 1 << 20)
            archive = cpio.Archive(out)
            for file in self._options.files:
                archive.tree(f'{DIRECTORY[1:]}/{os.path.basename(file)}', file)
            for library in sorted({lib for file in self._options.files if os.path.isfile(file)
                                   for lib in libraries(file)}):
                archive.tree(library[1:], library)
            if self._options.script is not None:
                archive.file('etc/lab-script', self._options.script)
            archive.close()
        return path

    def _argv(self, image, initrd, agent_fd):
        counted = self._options.script is not None
        append = ['console=ttyS0', 'quiet', 'loglevel=4', 'panic=-1', 'tsc=reliable',
                  'clocksource=tsc', 'mitigations=off', 'i8042.noaux', 'random.trust_cpu=on']
        cpus = self._options.cpus
        if cpus > 1 and not counted:
            cpus += 1
            append.append(SPARE_CPU)
        argv = [debian.needs('qemu-system-x86_64', 'qemu-system-x86'), '-nodefaults',
                '-no-user-config', '-no-reboot', '-display', 'none',
                '-M', 'q35,sata=off,usb=off,smbus=off,vmport=off', '-cpu', 'max,+svm',
                '-m', str(self._options.memory_mib), '-kernel', image, '-initrd', initrd,
                '-append', ' '.join(append),
                '-chardev', f'file,id=console,path={self._console}', '-serial', 'chardev:console']
        if counted:
            argv += ['-accel', 'tcg,thread=single', '-smp', '1', '-seed', '1',
                     '-icount', 'shift=0,sleep=off', '-rtc', 'clock=vm,base=2024-01-01T00:00:00',
                     '-chardev', f'file,id=agent,path={self.counted_output}',
                     '-serial', 'chardev:agent']
        else:
            argv += ['-accel', 'tcg,thread=multi', '-smp', str(cpus),
                     '-device', 'virtio-serial-pci',
                     '-chardev', f'socket,id=agent,fd={agent_fd}',
                     '-device', 'virtserialport,chardev=agent,name=lab',
                     '-netdev', 'user,id=net', '-device', 'virtio-net-pci,netdev=net,romfile=']
        for number, disk in enumerate(self._options.disks):
            path = disk.replace(',', ',,')
            argv += ['-drive', f'if=none,id=disk{number},format=raw,discard=unmap,file={path}',
                     '-device', f'virtio-blk-pci,drive=disk{number}']
        return argv

    def running(self):
        return self._qemu.poll() is None

    def why_dead(self):
        """One line on why QEMU ended, or is about to."""
        try:
            code = self._qemu.wait(5)
        except subprocess.TimeoutExpired:
            return 'its agent ended'
        for line in _lines(self._console):
            if 'Kernel panic' in line or 'lab agent:' in line:
                return line[line.find('Kernel panic'):] if 'Kernel' in line else line
        errors = _lines(self._errors)
        if code < 0:
            errors.append(f'QEMU was ended by {signal.Signals(-code).name}')
        return errors[-1] if errors else 'QEMU ended'

    def console_tail(self, count=20):
        """The last kernel messages."""
        return _lines(self._console)[-count:]

    def close(self):
        """Ends the host at once. Disks are as after a power cut: sync in the host before."""
        if self._qemu and self._qemu.poll() is None:
            self._qemu.kill()
            self._qemu.wait()
        self._work.cleanup()

    def power_off(self, seconds=20):
        """Ends the host with its file systems written back."""
        self.agent.close()
        try:
            self._qemu.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
        self.close()


class NativeHost:
    """This machine in the lab host's place, where it has real KVM: same agent, no emulation."""

    def __init__(self, options):
        self._work = tempfile.TemporaryDirectory(prefix='yado-lab-')
        self.directory = self._work.name
        for file in options.files:
            target = os.path.join(self.directory, os.path.basename(file))
            os.symlink(os.path.abspath(file), target)
        with debian.locked('host'):
            path = _compiled_agent()
        ours, theirs = socket.socketpair()
        with theirs:
            self._agent_process = subprocess.Popen(
                [path, f'fd:{theirs.fileno()}'], stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()], preexec_fn=die_with_parent, start_new_session=True)
        self.agent = Agent(ours, lambda: 'its agent ended', SILENCE_SECONDS)
        self.agent.wait_ready(10)

    def close(self):
        self.agent.close()
        try:
            self._agent_process.wait(10)
        except subprocess.TimeoutExpired:
            self._agent_process.kill()
        self._work.cleanup()

    power_off = close


def die_with_parent():
    """For a child, before exec: ends it when this process ends in whatever way.

    Spec: Linux, prctl(2), PR_SET_PDEATHSIG. It follows the thread that made the child.
    """
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


def _lines(path):
    try:
        text = pathlib.Path(path).read_text(errors='replace')
    except OSError:
        return []
    return [line.strip() for line in text.splitlines() if line.strip()]
