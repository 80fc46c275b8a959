"""The lab's second machine: a bare one for core, emulated by QEMU. No /dev/kvm of this machine is used.

Its console is a serial line; what comes is kept, and can be waited for.
"""

import io
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time

from lab import cpio, debian, host

KERNEL = os.path.join(debian.ROOT, 'build/core/core.elf')
FIRMWARE = '/usr/share/OVMF/OVMF_CODE_4M.fd'
FIRMWARE_VARIABLES = '/usr/share/OVMF/OVMF_VARS_4M.fd'


class Options:
    """What the machine is made of."""

    def __init__(self):
        self.cpus = 1
        self.spare_cpu = True  # with several: one more, the first, where no programs run (lab/host)
        self.memory_mib = 512
        self.cpu = 'max,+svm'
        self.machine = 'q35'
        self.kernel = KERNEL  # started directly, by PVH; None: from the disc
        self.initramfs = None  # a file
        self.cmdline = ''
        self.disc = None  # an ISO image, as a CD
        self.disk = None  # the same image, as a hard disk
        self.uefi = False
        self.count = False  # count instructions: one processor, and a run repeats exactly
        self.terminal = False  # the console is this terminal
        self.serial_port = 0  # which one the console is; those before it lead nowhere
        self.writes = None  # a file for a list of all writes to devices


def iso(out, initramfs=None, cmdline=''):
    """Makes an image that boots core from CD and from disk, by BIOS and by UEFI."""
    debian.needs('grub-mkrescue', 'grub-common')
    debian.needs('xorriso', 'xorriso')
    debian.needs('mformat', 'mtools')
    with tempfile.TemporaryDirectory(prefix='yado-iso-') as work:
        boot = os.path.join(work, 'boot/grub')
        os.makedirs(boot)
        debian.run(['objcopy', '--strip-all', KERNEL, os.path.join(work, 'boot/core')],
                   'cannot copy the kernel')
        lines = ['serial --unit=0 --speed=115200', 'terminal_input serial console',
                 'terminal_output serial console', 'set timeout=0',
                 'menuentry "Yado" {', f'\tmultiboot2 /boot/core {cmdline}']
        if initramfs:
            shutil.copyfile(initramfs, os.path.join(work, 'boot/initramfs'))
            # GRUB would unpack it while it loads: core does that itself.
            lines.append('\tmodule2 --nounzip /boot/initramfs')
        lines += ['\tboot', '}']
        with open(os.path.join(boot, 'grub.cfg'), 'w') as f:
            f.write('\n'.join(lines) + '\n')
        debian.run(['grub-mkrescue', '-o', out, work],
                   'cannot make the image')


def argv(options, variables=None):
    """QEMU's command line. `variables`: a copy of the firmware's variables, for UEFI."""
    cpus, cmdline = options.cpus, options.cmdline
    if options.spare_cpu and cpus > 1:
        cpus, cmdline = cpus + 1, f'{host.SPARE_CPU} {cmdline}'
    words = [debian.needs('qemu-system-x86_64', 'qemu-system-x86'), '-nodefaults',
             '-no-user-config', '-no-reboot', '-M', options.machine, '-cpu', options.cpu,
             '-m', str(options.memory_mib), '-display', 'none']
    if options.count:
        words += ['-accel', 'tcg,thread=single', '-smp', '1', '-seed', '1',
                  '-icount', 'shift=0,sleep=off', '-rtc', 'clock=vm,base=2024-01-01T00:00:00']
    else:
        words += ['-accel', 'tcg,thread=multi', '-smp', str(cpus)]
    if options.kernel and not (options.disc or options.disk):
        words += ['-kernel', options.kernel, '-append', cmdline]
        if options.initramfs:
            words += ['-initrd', options.initramfs]
    if options.disc:
        words += ['-cdrom', options.disc]
    if options.disk:
        words += ['-drive', f'file={options.disk},format=raw,if=none,id=disk,snapshot=on',
                  '-device', 'virtio-blk-pci,drive=disk,bootindex=1']
    if options.writes:
        words += ['-trace', 'memory_region_ops_write', '-D', options.writes]
    words += ['-serial', 'null'] * options.serial_port
    if options.uefi:
        words += ['-drive', f'if=pflash,format=raw,readonly=on,file={FIRMWARE}',
                  '-drive', f'if=pflash,format=raw,file={variables}']
    return words


class Machine:
    """A running machine. Use it by `with`: at the end it is turned off in any case."""

    def __init__(self, options):
        self._work = tempfile.TemporaryDirectory(prefix='yado-metal-')
        self.text = ''
        self._seen = 0
        self._news = threading.Condition()
        self._process, self._input, self._output = self._start(options)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _start(self, options):
        """Return: the emulator's process, and the descriptors of its console: input, output."""
        variables = None
        if options.uefi:
            variables = os.path.join(self._work.name, 'variables')
            with open(FIRMWARE_VARIABLES, 'rb') as f, open(variables, 'wb') as copy:
                copy.write(f.read())
        words = argv(options, variables)
        words += ['-chardev', 'stdio,id=console,signal=off', '-serial', 'chardev:console']
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, preexec_fn=host.die_with_parent,
                                   start_new_session=True,
                                   env=host.qemu_environment(options.count))
        return process, process.stdin.fileno(), process.stdout.fileno()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _read(self):
        while True:
            try:
                data = os.read(self._output, 65536)
            except OSError:  # of a terminal: nobody has its other end any more
                data = b''
            with self._news:
                if not data:
                    self._news.notify_all()
                    return
                self.text += data.decode(errors='replace').replace('\r', '')
                self._news.notify_all()

    def running(self):
        return self._process.poll() is None

    def wait(self, pattern, seconds=60):
        """Waits until the console shows the regular expression. Return: the match, or None if it did
        not come in time, or the machine ended before."""
        expression = re.compile(pattern)
        deadline = time.monotonic() + seconds
        with self._news:
            while True:
                found = expression.search(self.text, self._seen)
                if found:
                    self._seen = found.end()
                    return found
                left = deadline - time.monotonic()
                if left <= 0 or not self._reader.is_alive():
                    return None
                self._news.wait(min(left, 1))

    def pause(self, seconds):
        """Waits for the console to show more, if not for as long as that."""
        with self._news:
            self._news.wait(seconds)

    def send(self, data):
        """Types."""
        data = data.encode()
        while data:
            data = data[os.write(self._input, data):]

    def ended(self, seconds=60):
        """Waits for the emulator to end. Return: did it?"""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        self._reader.join(5)
        return True

    def close(self):
        if self.running():
            self._process.kill()
        self._process.wait()
        self._reader.join(5)
        self._work.cleanup()


def _init():
    """The static program that starts another with arguments, made when its source is newer."""
    source = os.path.join(debian.ROOT, 'lab/core-init.c')
    out = os.path.join(debian.ROOT, 'build/lab-core-init')
    if not os.path.exists(out) or os.path.getmtime(out) < os.path.getmtime(source):
        made = f'{out}.{os.getpid()}'
        debian.run([debian.needs('gcc', 'gcc'), '-std=gnu17', '-O2', '-Wall', '-Wextra', '-static',
                    '-s', '-o', made, source], 'cannot build lab/core-init.c')
        os.rename(made, out)
    return out


def run(program, *words, options=None, files=None, seconds=300, say=None, emulator=Machine):
    """Boots core, runs a static program with arguments, and waits for its end.

    `files`: more {name: path} for the initramfs. say() gets the console's text as it comes.
    `emulator`: which kind of Machine.
    Return: (exit status, what the console showed from the program's start on).
    """
    options = options or Options()
    archive = io.BytesIO()
    made = cpio.Archive(archive)
    name = '/' + os.path.basename(program)
    made.tree('init', _init())
    made.tree(name[1:], program)
    made.file('words', '\n'.join([name, *words]).encode() + b'\n')
    for other, path in (files or {}).items():
        made.tree(other, path)
    made.close()
    with tempfile.NamedTemporaryFile(prefix='yado-core-') as initramfs:
        initramfs.write(archive.getvalue())
        initramfs.flush()
        options.initramfs = initramfs.name
        with emulator(options) as machine:
            return _watch(machine, name, seconds, say)


def _watch(machine, name, seconds, say):
    """Follows the console until the program ends."""
    told, deadline = 0, time.monotonic() + seconds
    while True:
        running = machine.running()
        text = machine.text
        if say:
            say(text[told:])
            told = len(text)
        found = re.search(r'^\[ *[\d.]+\] init (?:has ended with status (\d+)|was ended.*)$', text,
                          re.MULTILINE)
        if found:
            return int(found.group(1) or -1), text
        if not running:
            raise debian.Failed(f'core ended without a word while {name} ran: {text[-300:].strip()}')
        if time.monotonic() > deadline:
            raise debian.Failed(f'{name} on core was not done after {seconds} s; the console said '
                                f'last: {text[-300:].strip()}')
        machine.pause(1)
