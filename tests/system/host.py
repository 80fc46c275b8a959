"""`yado host` on Linux: several VMs, one console, and what becomes of those that end."""

import json
import signal

from tests.system import frame

LAB = {'cpus': 2}
TEST_SECONDS = 400
ESCAPE = '\x1d'


def put_vms(lab, **vms):
    """Makes etc/NAME.json of each."""
    lab.must('rm -rf etc; mkdir etc')
    for name, config in vms.items():
        text = config if isinstance(config, str) else json.dumps(config)
        lab.put(f'etc/{name}.json', text.encode())


def vm(**more):
    return {'kernel': 'vmlinuz', 'initrd': 'initrd.gz', 'cmdline': frame.CMDLINE, 'cpus': 1,
            'memory': '192M', **more}


class Prompt:
    """How one talks to a host, over a console with send() and wait()."""

    def ask(self, command, pattern, timeout=60):
        """A command at the prompt, and its answer."""
        self.send(command + '\r')
        return self.wait(pattern, timeout)

    def show(self, name):
        """From the prompt to a VM."""
        self.ask(f'console {name}', rf'\[{name}: ')

    def prompt(self):
        """From a VM to the prompt."""
        self.send(ESCAPE + '0')
        self.wait(r'\[host\]')
        self.wait('host> ')

    def pid(self, name):
        return int(self.ask('list', rf'\n{name} +running .*process (\d+)').group(1))


class Host(Prompt, frame.Guest):
    """A running `yado host` on Linux, and what its console shows."""

    def __init__(self, lab):
        super().__init__(lab, ['./yado', 'host', 'etc'])
        lab._guests.append(self)
        self.wait('host> ')


def test_bad_files_and_the_others_start(lab):
    put_vms(lab, a_unknown=vm(cpuz=2), b_kernel=vm(kernel='/nowhere/vmlinuz'),
            c_cpus=vm(cpus=64), d_memory=vm(memory='900G'), e_sum=vm(memory='3G', name='big'),
            f_sum=vm(memory='3G'), g_disk=vm(disk=['path=none.img']), h_text='{"cpus": ',
            i_same=vm(name='big'), j_policy=vm(restart='sometimes'),
            k_good=vm(memory='64M', cmdline='console=ttyS0 quiet panic=-1 guest.run=/bin/true'))
    with Host(lab) as host:
        for reason in (r'a_unknown is not started: unknown key "cpuz"; did you mean "cpus"\?',
                       'b_kernel is not started: kernel "/nowhere/vmlinuz": No such file',
                       'c_cpus is not started: it wants 64 CPUs; this machine has 2',
                       'd_memory is not started: memory: 921600M is more than this host has',
                       'big starts',
                       r'f_sum is not started: it wants 3088 MB of memory, .* \d+ are left',
                       'g_disk is not started: disk "none.img": No such file',
                       'h_text is not started: line 1, column 9: ',
                       'big is not started: its name is also that of etc/e_sum.json',
                       'j_policy is not started: restart: "sometimes" is none of',
                       'k_good starts'):
            host.wait(reason)
        host.ask('lsit', r'there is no command "lsit"; did you mean "list"\?')
        host.ask('start bog', r'there is no VM "bog"; did you mean "big"\?')
        host.ask('stop g_disk', 'g_disk does not run')
        host.ask('memory', r'big +3088 MB')
        host.ask('stop big --now', 'big was ended')
        # A file may be mended.
        lab.put('etc/b_kernel.json', json.dumps(vm(memory='64M')).encode())
        host.ask('start b_kernel', 'b_kernel starts')
        host.ask('poweroff --now', '')
        assert host.end() == 0


def test_two_vms_share_the_console(lab):
    put_vms(lab, one=vm(), two=vm(restart='on-failure'))
    with Host(lab) as host:
        host.wait('one starts')
        host.wait('two starts')
        host.send(ESCAPE + 'n')
        host.wait(r'\[one: ')
        host.wait_ready()
        host.must('hostname one; (while :; do i=$((i + 1)); echo $i >/tmp/count; done) &')
        host.send(ESCAPE + 'n')
        host.wait(r'\[two: ')
        host.send('\n')
        host.wait('guest# ', 120)
        host.must('hostname two')
        host.send(ESCAPE + 'n')
        host.wait(r'\[one: ')
        host.send('\n')
        assert host.must('hostname').strip() == 'one'
        host.wait('guest# ')
        host.send(ESCAPE + '?')
        host.wait("the host's prompt")
        # A literal Ctrl-] reaches the guest.
        host.send('cat -v\n')
        host.wait(r'cat -v\r*\n')
        host.send(ESCAPE + ESCAPE + '\n')
        host.wait(r'\^\]\r*\n')
        host.send('\x03')
        host.wait('guest# ')
        before = int(host.must('until grep . /tmp/count; do :; done'))

        # The other one is killed and comes back; this one has computed all the while.
        host.prompt()
        pid = host.pid('two')
        lab.must(f'kill -9 {pid}')
        host.wait(r'two lost its process: SIGKILL; it is started again in 0\.5 s')
        host.wait('two starts')
        host.show('two')
        host.wait_ready()
        assert host.must('hostname').strip() != 'two'
        host.prompt()
        assert host.pid('two') != pid
        host.show('one')
        host.send('\n')
        assert int(host.must('until grep . /tmp/count; do :; done')) > before

        # By the power button, and by the guest itself.
        host.prompt()
        host.ask('stop one', 'one powered off')
        host.ask('start one', 'one starts')
        host.show('one')
        host.wait_ready()
        host.send('poweroff -f\n')
        host.wait('powered off')
        host.wait(r'\[host\]')
        host.ask('console one', 'one does not run')
        host.ask('log one 3', 'powered off')
        host.ask('poweroff', 'two powered off')
        assert host.end() == 0


def test_a_vm_disturbs_nobody(lab):
    put_vms(lab, loud=vm(restart='always'), quiet=vm())
    with Host(lab) as host:
        host.show('loud')
        host.wait_ready()
        host.send('yes 0123456789012345678901234567890123456789012345678901234567890123456789\n')
        host.wait('789\r*\n0123456')
        host.prompt()
        host.ask('log loud 2', '0123456789')
        host.show('quiet')
        host.send('\n')
        host.wait('guest# ', 120)
        host.must('echo it works')
        host.prompt()
        pid = host.pid('loud')
        # It is busy, but bounded: 640 KB/s are read at most, 64 KiB are kept.
        host.ask('log loud 100000', 'host> ', 120)
        memory = int(lab.must('set -- $(grep PPid /proc/%d/status); grep VmRSS /proc/$2/status' % pid).split()[1])
        assert memory < 8192, memory
        lab.must(f'kill -SEGV {pid}')
        host.wait('loud lost its process: SIGSEGV.*; it is started again')
        # A VM whose process stands still is no matter for the others, nor for the end.
        pid = int(host.ask('list', r'\nquiet .*process (\d+)').group(1))
        lab.must(f'kill -STOP {pid}')
        host.ask('stop quiet', 'host> ')
        host.ask('stop quiet', 'quiet is being stopped')
        host.ask('stop quiet --now', 'host> ')
        host.wait('quiet does not end: it is killed')
        host.wait('quiet was killed')
        host.signal(signal.SIGTERM)
        host.wait('all VMs are asked to turn themselves off')
        host.signal(signal.SIGTERM)
        assert host.end() == 0


def test_restarts_do_not_storm(lab):
    put_vms(lab, dying=vm(restart='always', cmdline='console=ttyS0 quiet panic=-1 rdinit=/none'))
    with Host(lab) as host:
        for delay in ('0.5', '1.0', '2.0', '4.0'):
            host.wait(rf'dying (?:crashed|asked).*; it is started again in {delay} s', 120)
        host.ask('stop dying', 'dying is not started again')
        host.ask('list', r'dying +stopped')
        host.ask('poweroff', '')
        assert host.end() == 0


def test_ends_its_vms_when_it_is_killed(lab):
    put_vms(lab, one=vm())
    with Host(lab) as host:
        host.wait('one starts')
        pid = host.pid('one')
        host.signal(signal.SIGKILL)
        lab.must(f'for i in $(seq 50); do kill -0 {pid} 2>/dev/null || exit 0; sleep 0.2; done; '
                 'exit 1')


def test_refusals():
    status, output = frame.yado('host', '/nowhere', 'twice')
    assert status == 2 and 'takes one directory' in output, output
