"""`yado host` as the first program of a bare machine: VMs and their one console on core.

Each test starts an emulated bare machine of its own; none needs the lab host. What the host does in
general is tested on Linux, by host.py.
"""

import io
import json
import os
import re
import shlex

from lab import cpio, debian
from tests.system import core
from tests.system.host import ESCAPE, Prompt

TEST_SECONDS = 500
READY_SECONDS = 180  # for a busy machine; ten are usual

GUEST = os.path.join(debian.CACHE, 'guest')


def vm(**more):
    return {'kernel': '/lib/yado/vmlinuz', 'initrd': '/lib/yado/initrd.gz',
            'cmdline': 'console=ttyS0 quiet panic=-1', 'cpus': 1, 'memory': '192M', **more}


def initramfs(vms):
    """build/yado as /init, the test guest, and VMs: as bytes."""
    core.metal.debian.run([os.path.join(debian.ROOT, 'lab/image'), 'guest'], 'no test guest')
    out = io.BytesIO()
    archive = cpio.Archive(out)
    archive.tree('bin/yado', os.path.join(debian.ROOT, 'build/yado'))
    archive.symlink('init', '/bin/yado')
    for name in ('vmlinuz', 'initrd.gz'):
        archive.tree(f'lib/yado/{name}', os.path.join(GUEST, name))
    archive.file('lib/yado/disk.img', b'from-outside'.ljust(1 << 20, b'\0'))
    for name, config in vms.items():
        archive.file(f'etc/yado/{name}.json', json.dumps(config).encode())
    archive.close()
    return out.getvalue()


class Host(Prompt):
    """A bare machine with `yado host`. Use it by `with`."""

    def __init__(self, vms, **options):
        self._archive = core.File(initramfs(vms))
        self._mark = 0
        self.machine = core.machine(initramfs=self._archive.__enter__(),
                                    **{'memory_mib': 1024, 'spare_cpu': True, **options})

    def __enter__(self):
        self.wait('yado host ')
        return self

    def __exit__(self, *_):
        core._write(self.machine.text)
        self.machine.close()
        self._archive.__exit__()

    def wait(self, pattern, timeout=READY_SECONDS):
        found = self.machine.wait(pattern, timeout)
        assert 'core: panic' not in self.machine.text, self.machine.text
        if not found:
            raise core.Timeout(f'no "{pattern}" on the console within {timeout} s')
        return found

    def send(self, text):
        self.machine.send(text)

    def wait_ready(self):
        """The test guest that is shown is up, and its shell answers."""
        self.wait('guest: ready')
        self.wait('guest# ')

    def must(self, command):
        """Runs a command in the shell of the guest that is shown. Return: its output."""
        self._mark += 1
        mark = f'mark{self._mark}'
        # The shell's echo has quotes inside of the marks, so that only output matches.
        self.send(f' echo "<""{mark}"; eval {shlex.quote(command)}; echo "<""{mark}:$?>"\n')
        found = self.wait(rf'<{mark}\n([^<]*)<{mark}:(\d+)>')
        assert found.group(2) == '0', found.group(0)
        return found.group(1)

    def power_off(self, timeout=READY_SECONDS):
        """From the prompt: the machine turns itself off."""
        self.ask('poweroff', 'power off', timeout)
        assert self.machine.ended(core.START_SECONDS), 'the machine did not turn itself off'


def test_bad_files_and_the_others_start():
    vms = {'a': vm(cpuz=2), 'b': vm(kernel='/lib/yado/none'), 'c': vm(cpus=2), 'd': vm(memory='2G'),
           'e': vm(memory='600M', disk=['path=/lib/yado/disk.img,readonly=on']),
           'f': vm(memory='600M'), 'g': vm(memory='100M', disk=['path=/lib/yado/disk.img']),
           'h': vm(memory='100M', disk=['path=/lib/yado/disk.img,readonly=on'])}
    with Host(vms) as host:
        for reason in (r'a is not started: unknown key "cpuz"; did you mean "cpus"\?',
                       'b is not started: kernel "/lib/yado/none": No such file or directory',
                       'c is not started: it wants 2 CPUs; this machine has 1',
                       'd is not started: memory: 2048M is more than this host has',
                       'h starts'):
            host.wait(reason)
        assert re.search('f is not started: it wants 616 MB', host.machine.text)
        assert re.search('g is not started: its disk "/lib/yado/disk.img" is used by e',
                         host.machine.text)
        host.ask('console h', r'\[h: ')
        host.wait_ready()
        assert host.must('head -c 12 /dev/vda') == 'from-outside'
        host.prompt()
        host.power_off()


def test_two_vms_share_the_console():
    with Host({'one': vm(), 'two': vm(restart='on-failure')}) as host:
        host.wait('two starts')
        host.send(ESCAPE + 'n')
        host.wait(r'\[one: ')
        host.wait_ready()
        host.must('hostname one; (while :; do i=$((i + 1)); echo $i >/tmp/count; done) &')
        host.send(ESCAPE + 'n')
        host.wait(r'\[two: ')
        host.send('\n')
        host.wait('guest# ')
        host.must('hostname two')
        host.prompt()

        # One is killed and started again while the other computes.
        host.show('one')
        host.send('\n')
        assert host.must('hostname').strip() == 'one'
        before = int(host.must('until grep . /tmp/count; do :; done'))
        host.prompt()
        host.ask('stop two --now', 'two was ended')
        host.ask('start two', 'two starts')
        host.show('two')
        host.wait_ready()
        assert host.must('hostname').strip() != 'two'
        # It asks for a reboot, and its kernel panics: it comes back by itself.
        host.send('reboot -f\n')
        host.wait(r'\[asked for a reboot; it is started again in 0\.5 s\]')
        host.wait_ready()
        host.send('echo c >/proc/sysrq-trigger\n')
        host.wait(r'\[(crashed|asked).*; it is started again in [\d.]+ s\]')
        host.wait_ready()
        host.prompt()
        host.show('one')
        host.send('\n')
        assert int(host.must('until grep . /tmp/count; do :; done')) > before
        host.prompt()
        host.power_off()
        assert 'one powered off' in host.machine.text and 'two powered off' in host.machine.text


def test_a_loud_vm_disturbs_nobody():
    with Host({'loud': vm(), 'quiet': vm()}) as host:
        host.wait('quiet starts')
        host.show('loud')
        host.wait_ready()
        host.send('yes 0123456789012345678901234567890123456789\n')
        host.wait('789\n0123456')
        host.prompt()
        host.show('quiet')
        host.send('\n')
        host.wait('guest# ')
        assert host.must('echo it works') == 'it works\n'
        host.prompt()
        host.ask('log loud 2', '0123456789')
        host.ask('stop loud --now', 'loud was ended')
        host.power_off()


def test_every_word_of_the_prompt():
    """And the kernel's own: another console, another first program with an argument, few messages."""
    with Host({'one': vm(), 'two': vm(memory='128M', restart='always')}, cpus=2, serial_port=1,
              cmdline='console=ttyS1,115200 init=/bin/yado loglevel=4 -- host') as host:
        host.wait('two starts')
        assert 'TSC' not in host.machine.text, 'a message of level 6 was shown'
        host.ask('list', r'NAME +STATE +CPUS +MEMORY +RESTART *\n'
                 r'one +running +1 +192 MB no +for \d+ s, process \d+\n'
                 r'two +running +1 +128 MB always +for ')
        host.ask('cpus', r'2 CPUs, for 2 vCPUs\n +one +1\n +two +1\n')
        host.ask('memory', r'MB in all; .* set aside\n +one +208 MB, 16 MB of it for its process\n'
                 r' +two +144 MB')
        host.ask('help', r'console NAME  .*\n(.*\n)*.*poweroff \[--now\]')
        for wrong, answer in (('lsit', r'there is no command "lsit"; did you mean "list"\?'),
                              ('start', "start needs a VM's name"), ('cpus 3', 'cpus has no use for "3"'),
                              ('console tow', r'there is no VM "tow"; did you mean "two"\?'),
                              ('stop one --later', 'stop does not know "--later", only --now'),
                              ('start one', 'one runs already'), ('\x01\x7f\xff', 'host> ')):
            host.ask(wrong, answer)
        host.ask('console one', r'\[one: ')
        host.wait_ready()
        host.send(ESCAPE + '?')
        host.wait("the host's prompt")
        host.send(ESCAPE + 'x')  # is not known, and does nothing
        host.wait('\a')
        assert host.must('echo here') == 'here\n'
        host.wait('guest# ')
        host.send('cat -v\n')
        host.wait(r'cat -v\n')
        host.send(ESCAPE + ESCAPE + '\n')
        host.wait(r'\^\]\n')
        host.send('\x03')
        host.wait('guest# ')
        host.send(ESCAPE + 'n')
        host.wait(r'\[two: ')
        host.send(ESCAPE + 'n')
        host.wait(r'\[one: ')
        host.prompt()
        host.ask('stop one', 'one (powered off|was ended)')
        host.ask('console one', 'one does not run; `log one` shows what it said')
        host.ask('stop one', 'one does not run')
        host.ask('log one', r'echo .*(.*\n)*here\n')
        host.ask('log', r'one starts(.*\n)*one (powered off|was ended)')
        host.ask('list', r'one +stopped ')
        host.ask('start one', 'one starts')
        host.ask('list', r'one +running .* not for the first time')
        # Who has not come to its power button yet is ended after a minute.
        host.ask('poweroff', r'two (powered off|was ended)', READY_SECONDS)
        assert host.machine.ended(core.START_SECONDS), 'the machine did not turn itself off'
