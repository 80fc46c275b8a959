"""The frame of the system tests: a host with KVM, and real guests driven over their consoles.

A test is a function test_*() in a file of this folder; tests/run.py runs it. It passes unless it
raises; `assert` is the usual way. One that takes a parameter gets a Lab: the lab's emulated Linux
host (lab/run), or this machine itself where it has real KVM. The tests of a file share one Lab,
which holds build/yado and the test guest's vmlinuz and initrd.gz in its working directory.

    LAB = {'cpus': 2, 'files': ['tests/data/x']}    # optional: what the Lab is made of
    TEST_SECONDS = 120                              # optional: the limit for one test
    USUAL_SECONDS = 200                             # optional: of all; the longest start first

    def test_disk(lab):
        lab.sh('truncate -s 16M disk.img')
        with lab.guest('--disk', 'path=disk.img', memory='256M') as guest:
            guest.wait_ready()
            assert guest.sh('echo hello >/dev/vda') == (0, '')
            guest.send('poweroff -f\n')
            assert guest.end() == 0
        assert lab.get('disk.img')[:5] == b'hello'

    def test_no_kernel():                           # without a Lab: on this machine
        status, output = frame.yado('run', '--kernel', '/nowhere')
        assert status == 2 and '/nowhere' in output

Use `from tests.system import frame` for Skip, yado() and so on. All waits have a limit and raise
Timeout; consoles and commands go to the test's log. Everything here is slow under emulation: a
guest is ready after 5 to 10 seconds, so let one guest serve several questions.
"""

import codecs
import os
import re
import shlex
import signal
import subprocess
import time

from lab import debian, host
from lab.agent import Died

__all__ = ['Died', 'Guest', 'Lab', 'Skip', 'Timeout', 'yado']

GUEST_FILES = ['build/yado', *(os.path.join(debian.CACHE, 'guest', name)
                               for name in ('vmlinuz', 'initrd.gz'))]
CMDLINE = 'console=ttyS0 quiet panic=-1'
READY_SECONDS = 120

_log = None


class Skip(Exception):
    """raise Skip(reason): the test cannot be done here."""


class Timeout(Exception):
    """Something did not come in time."""


def log_to(file):
    """Where the frame writes what happens; None: nowhere. For tests/run.py."""
    global _log
    _log = file


def _write(text):
    if _log:
        _log.write(text)
        _log.flush()


def yado(*arguments, timeout=30):
    """Runs build/yado on this machine, without input. Return: (exit status, all its output)."""
    _write(f'+ yado {shlex.join(arguments)}\n')
    done = subprocess.run([os.path.join(debian.ROOT, 'build/yado'), *arguments],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=timeout)
    output = done.stdout.decode(errors='replace')
    _write(f'{output}= {done.returncode}\n')
    return done.returncode, output


def cpu_flags():
    """Names of what this machine's processor has, as in /proc/cpuinfo."""
    with open('/proc/cpuinfo') as f:
        return set(next((line for line in f if line.startswith('flags')), '').split())


def real_kvm():
    """Does this machine have a /dev/kvm with hardware behind it, for us?"""
    with open('/proc/cpuinfo') as f:
        hardware = re.search(r'^flags\s*:.*\b(vmx|svm)\b', f.read(), re.MULTILINE)
    return bool(hardware) and os.access('/dev/kvm', os.R_OK | os.W_OK)


class Lab:
    """A host with KVM. YADO_LAB=native or emulated overrides the choice.

    `files`: further files, relative to the repository or absolute; `guest=False` leaves the guest's out.
    `disks`: raw images; the attribute of that name says where they are there: /dev/vda, ... on the
    emulated host. `native=True`: this machine, with or without KVM, in any case.
    """

    def __init__(self, cpus=1, memory_mib=4096, files=(), disks=(), guest=True, native=False):
        options = host.Options()
        options.cpus = cpus
        options.memory_mib = memory_mib
        names = [*(GUEST_FILES if guest else []), *files]
        options.files = [os.path.join(debian.ROOT, name) for name in names]
        options.disks = [os.path.join(debian.ROOT, disk) for disk in disks]
        wish = os.environ.get('YADO_LAB', 'auto')
        self.native = native or wish == 'native' or (wish == 'auto' and real_kvm())
        self._guests = []
        _write(f'[lab: {"this machine" if self.native else "emulated host"}]\n')
        if self.native:
            self.disks = options.disks
            self._host = host.NativeHost(options)
            self.directory = self._host.directory
        else:
            self.disks = [f'/dev/vd{chr(ord("a") + number)}' for number in range(len(disks))]
            self._host = host.LinuxHost(options)
            self.directory = host.DIRECTORY

    def close(self):
        self._host.close()

    def end_guests(self):
        """Ends what a test left behind. tests/run.py calls it after each."""
        for guest in self._guests:
            guest.close()
        self._guests.clear()

    def need_root(self):
        """Skips the test where its host does not let us be root."""
        if self.native and os.geteuid() != 0:
            raise Skip('needs root on the host')

    def start(self, *argv, tty=False):
        """Starts a program; see lab/agent.py, Program. With `tty` its input and output are a
        terminal, its error output still is a pipe."""
        _write(f'+ {shlex.join(argv)} &\n')
        return self._host.agent.start(argv, self.directory, tty=tty, error_on_tty=False)

    def sh(self, command, timeout=60, input=b''):
        """Runs a shell command. Return: (exit status, output and error output as text)."""
        _write(f'+ {command}\n')
        program = self._host.agent.start(['sh', '-c', f'{{ {command}\n}} 2>&1'], self.directory)
        program.write(input)
        program.close_input()
        status = program.wait(timeout)
        output = program.output.decode(errors='replace')
        _write(f'{output}= {status}\n')
        if status is None:
            program.kill(signal.SIGKILL)
            raise Timeout(f'not done after {timeout} s: {command}')
        return status, output

    def must(self, command, timeout=60):
        """As sh(), for commands that are to succeed. Return: the output."""
        status, output = self.sh(command, timeout)
        assert status == 0, f'{command}: exit status {status}: {output.strip()[-200:]}'
        return output

    def put(self, name, data):
        """Writes a file into the working directory."""
        program = self.start('sh', '-c', 'cat >"$1"', 'sh', name)
        program.write(data)
        program.close_input()
        assert program.wait(60) == 0, program.error.decode()

    def get(self, name):
        """The content of a file of the host."""
        program = self.start('cat', name)
        assert program.wait(60) == 0, program.error.decode()
        return bytes(program.output)

    def guest(self, *options, kernel='vmlinuz', initrd='initrd.gz', cmdline=CMDLINE, memory='256M',
              cpus=1, run='run', program='./yado'):
        """Starts `yado run` with a guest on a terminal. Return: a Guest, to be used by `with`."""
        argv = [program, run, '--kernel', kernel, '--cmdline', cmdline, '--memory', memory,
                '--cpus', str(cpus)]
        if initrd:
            argv += ['--initrd', initrd]
        guest = Guest(self, [*argv, *options])
        self._guests.append(guest)
        return guest


class Guest:
    """A running `yado` and the console of the guest in it.

    The console is one stream of text. wait() looks for a pattern in what has come since the last
    match, and moves on behind it.
    """

    _count = 0

    def __init__(self, lab, argv):
        self._lab = lab
        self._decoder = codecs.getincrementaldecoder('utf-8')(errors='replace')
        self._decoded = 0  # bytes of output that are in .console
        self._seen = 0  # how much of .console wait() has passed
        self._mark = 0
        self.console = ''  # all that the guest has written, as far as wait() or end() looked
        self._program = lab.start(*argv, tty=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def messages(self):
        """All that yado has said on stderr so far."""
        return self._program.error.decode(errors='replace')

    @property
    def running(self):
        return self._program.code is None

    def wait(self, pattern, timeout=60):
        """Waits until the console shows the regular expression. Return: the match.

        `.` does not match line ends; lines end with \\r\\n.
        """
        expression = re.compile(pattern)
        deadline = time.monotonic() + timeout
        while True:
            ended = not self.running
            self._take_output()
            found = expression.search(self.console, self._seen)
            if found:
                self._seen = found.end()
                return found
            if ended:
                raise AssertionError(f'yado ended with {self._program.code} while "{pattern}" was '
                                     f'awaited: {self.messages.strip()[-300:]}')
            if time.monotonic() > deadline:
                raise Timeout(f'no "{pattern}" on the console within {timeout} s')
            self._program.wait_activity(min(1, max(0, deadline - time.monotonic())))

    def wait_ready(self, timeout=READY_SECONDS):
        """Waits until the test guest is up."""
        self.wait('guest: ready', timeout)
        self.wait('guest# ', timeout)

    def send(self, text):
        """Types. A key is a character: '\\n' is Return, '\\x1d' is Ctrl-]."""
        self._program.write(text.encode())

    def sh(self, command, timeout=60):
        """Runs a command in the guest's shell. Return: (exit status, output, lines ended by \\n)."""
        self._mark += 1
        mark = f'mark{self._mark}'
        # The shell's echo has quotes inside of the marks, so that only output matches.
        self.send(f' echo "<""{mark}"; eval {shlex.quote(command)}; echo "<""{mark}:$?>"\n')
        self.wait(f'<{mark}\r*\n', timeout)
        start = self._seen
        end = self.wait(f'<{mark}:(\\d+)>', timeout)
        return int(end.group(1)), self.console[start:end.start()].replace('\r', '')

    def must(self, command, timeout=60):
        """As sh(), for commands that are to succeed. Return: the output."""
        status, output = self.sh(command, timeout)
        assert status == 0, f'{command}: exit status {status}: {output.strip()[-200:]}'
        return output

    def signal(self, number):
        """Signals yado."""
        self._program.kill(number)

    def end(self, timeout=60):
        """Waits for yado to end. Return: its exit status."""
        status = self._program.wait(timeout)
        self._take_output()
        if status is None:
            raise Timeout(f'yado still runs after {timeout} s')
        _write(f'\n[yado said: {self.messages.strip()}]\n[yado ended: {status}]\n')
        return status

    def close(self):
        """Ends yado if it still runs."""
        if self.running:
            try:
                self._program.kill(signal.SIGKILL)
                self._program.wait(20)
            except Died:
                pass
            self._take_output()
            _write(f'\n[yado said: {self.messages.strip()}]\n[yado was killed]\n')

    def _take_output(self):
        data = bytes(self._program.output[self._decoded:])
        self._decoded += len(data)
        new = self._decoder.decode(data)
        self.console += new
        _write(new.replace('\r', ''))
