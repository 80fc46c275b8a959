"""The edges: many vCPUs, floods on consoles that nobody reads, pauses, terminals, configurations."""

import json
import os
import re
import signal
import time

from tests.system import frame

LAB = {'cpus': 1}
TEST_SECONDS = 240
USUAL_SECONDS = 220


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, 'it did not come about in time'
        time.sleep(0.3)


def test_sixty_four_cpus(lab):
    with lab.guest(cpus=64, memory='512M') as guest:
        guest.wait_ready(200)
        assert guest.must('cat /sys/devices/system/cpu/online') == '0-63\n'
        assert 'Brought up 1 node, 64 CPUs' in guest.must('dmesg')
        # Each of them runs programs, and is who it says.
        ran = guest.must('for i in $(seq 0 63); do taskset -c $i cut -d " " -f 39 '
                         '/proc/self/stat; done')
        assert ran.split() == [str(number) for number in range(64)], ran
        guest.send('poweroff -f\n')
        assert guest.end() == 0


def slow_reader(lab, socket, output):
    """A client of a console socket that takes a little every now and then."""
    lab.must(f': >{output}')
    return lab.start('sh', '-c', f'socat -u UNIX-CONNECT:{socket} - | while dd bs=64k count=1 '
                     f'2>/dev/null >>{output}; do usleep 150000; done')


def sleeping_reader(lab, socket, output):
    """A client of a console socket that reads nothing until it gets SIGCONT."""
    lab.must(f': >{output}')
    reader = lab.start('socat', '-u', f'UNIX-CONNECT:{socket}', f'OPEN:{output},append')
    wait_until(lambda: lab.sh(f'grep -c {socket} /proc/net/unix')[1] == '2\n')
    reader.kill(signal.SIGSTOP)
    return reader


def flood(guest, numbers, device):
    """Has a program in the guest write a line for each number. Return: the lines."""
    guest.must(f'(echo start; seq -w 1 {numbers:06d}; echo end) >/tmp/flood')
    # In large pieces: for Linux each write is a request of its own.
    guest.must(f'(stty -opost; cat /tmp/flood >&0) <>{device} & sleep 3')
    return ''.join(f'{number:06d}\n' for number in range(1, numbers + 1)).encode()


def check_flood(lab, output, lines):
    wait_until(lambda: 'end' in lab.sh(f'tail -n 1 {output}')[1], 100)
    got = lab.get(output)
    got = got[got.index(b'start\n') + 6:got.rindex(b'end\n')]
    assert got == lines or without_a_fragment(got, lines), f'{len(got)} bytes of {len(lines)}'


def without_a_fragment(got, lines):
    """Are they the lines, but for the up to 16 bytes of a kernel's message that were not lost?"""
    start = len(os.path.commonprefix([got, lines]))
    size = len(got) - len(lines)
    return 0 < size <= 16 and got[start + size:] == lines[start:]


def test_floods(lab):
    """More output than a console's reader takes: nothing is lost, and the guest goes on."""
    lab.must('rm -f con.sock hvc.sock')
    with lab.guest('--virtio-console', 'socket=hvc.sock') as guest:
        guest.wait_ready()
        reader = slow_reader(lab, 'hvc.sock', 'out')
        check_flood(lab, 'out', flood(guest, 260000, '/dev/hvc0'))
        reader.kill(signal.SIGKILL)
        reader.wait(20)
        check_both_ways(lab, guest)
        # Linux waits for this device with a CPU, so that it must not wait for the reader.
        reader = sleeping_reader(lab, 'hvc.sock', 'out')
        flood(guest, 100000, '/dev/hvc0')
        wait_until(lambda: 'nobody reads' in guest.messages)
        guest.must('echo unheard >/dev/hvc0')
        reader.kill(signal.SIGCONT)
        wait_until(lambda: 'start' in lab.sh('head -n 1 out')[1])
        guest.must('echo heard again >/dev/hvc0')
        wait_until(lambda: 'heard again' in lab.sh('tail -n 1 out')[1])
        reader.kill(signal.SIGKILL)
        # The serial port, as fast as the terminal takes it.
        assert guest.must('seq 1 3000') == ''.join(f'{n}\n' for n in range(1, 3001))
        guest.send('poweroff -f\n')
        assert guest.end() == 0
    with lab.guest('--console', 'socket=con.sock', '--virtio-console', 'tty') as guest:
        wait_until(lambda: lab.sh('test -S con.sock')[0] == 0)
        client = lab.start('socat', '-', 'UNIX-CONNECT:con.sock')
        wait_until(lambda: b'guest# ' in client.output, 120)
        client.write(b'setsid sh -c "sh </dev/hvc0 >/dev/hvc0 2>&1" &\n')
        wait_until(lambda: client.output.count(b'guest# ') >= 2)
        client.kill(signal.SIGKILL)
        client.wait(20)
        # With the serial port a program can wait for as long as it takes. Each byte costs the lab
        # a quarter of a millisecond, so these are not many: twice what yado and the socket keep.
        reader = sleeping_reader(lab, 'con.sock', 'out')
        lines = flood(guest, 6000, '/dev/ttyS0')
        time.sleep(7)
        assert 'cat /tmp/flood' in guest.must('ps'), 'the flood is over before anybody reads'
        assert lab.get('out') == b''
        # The kernel does not wait for a reader: at ten milliseconds a byte that would be minutes.
        guest.must('echo "<2>unheard" >/dev/kmsg')
        assert 'nobody reads' in guest.messages, guest.messages
        guest.must('echo "<2>unheard, and at once" >/dev/kmsg')
        reader.kill(signal.SIGCONT)
        check_flood(lab, 'out', lines)
        guest.send('poweroff -f\n')
        assert guest.end() == 0


def check_both_ways(lab, guest):
    client = lab.start('socat', '-', 'UNIX-CONNECT:hvc.sock')
    guest.send('read -r word </dev/hvc0; echo "got:$word"; echo "answer:$word" >/dev/hvc0\n')
    time.sleep(1)
    client.write(b'by-hvc\n')
    guest.wait('got:by-hvc\r', 20)
    wait_until(lambda: b'answer:by-hvc' in client.output)
    client.kill(signal.SIGKILL)
    client.wait(20)


def test_console_file(lab):
    lab.must('rm -f log; echo before >log')
    yado = lab.start('./yado', 'run', '--kernel', 'vmlinuz', '--initrd', 'initrd.gz', '--memory',
                     '256M', '--cmdline', 'console=ttyS0 guest.run=uptime', '--console',
                     'file=log')
    assert yado.wait(100) == 0, yado.error
    log = lab.get('log')
    assert log.startswith(b'before\n')
    for words in (b'Linux version', b'guest: ready', b'load average', b'Power down'):
        assert words in log, words
    assert not yado.output, yado.output


def test_configuration_and_messages(lab):
    """A guest from a configuration, with messages in JSON; it is paused in every way there is."""
    lab.put('vm.json', json.dumps({
        'name': 'configured', 'kernel': 'vmlinuz', 'initrd': 'initrd.gz',
        'cmdline': 'console=ttyS0 quiet panic=-1 from.config=1', 'cpus': 1, 'memory': '256M',
        'cpu': 'x86-64-v2', 'disk': [{'path': 'config.img', 'serial': 'c-1', 'queues': 2},
                                     'path=config2.img,readonly=on'],
        'net': [{'passt': True, 'mac': '52:54:00:00:00:99'}],
        'vsock': {'cid': 9, 'socket': 'config.vsock'}, 'virtio-console': {'file': 'config.log'},
        'json': True, 'sandbox': True}, indent=4).encode())
    lab.must('truncate -s 3M config.img; truncate -s 1M config2.img')
    with frame.Guest(lab, ['./yado', 'run', '--config', 'vm.json', '--cpus', '2']) as guest:
        guest.wait_ready()
        assert guest.must('nproc') == '2\n'
        assert 'from.config=1' in guest.must('cat /proc/cmdline')
        assert guest.must('cat /sys/block/vd?/size /sys/block/vd?/ro /sys/block/vda/serial'
                          ).split() == ['6144', '2048', '0', '1', 'c-1']
        assert guest.must('cat /sys/class/net/eth0/address') == '52:54:00:00:00:99\n'
        guest.must('echo by-config >/dev/hvc0')
        check_pause(guest, lambda: guest.send('\x1dp'), lambda: guest.send('\x1dp'))
        check_pause(guest, lambda: guest.send('\x1dp'), lambda: guest.signal(signal.SIGCONT))
        assert not re.search('soft lockup|stall', guest.must('dmesg'))
        guest.send('poweroff -f\n')
        assert guest.end() == 0
    lines = [json.loads(line) for line in guest.messages.splitlines()]
    assert all(set(line) == {'level', 'vm', 'message'} for line in lines), lines
    assert {line['vm'] for line in lines} == {'configured'}, lines
    assert 'powered off' in lines[-1]['message'], lines
    assert b'by-config' in lab.get('config.log')


def check_pause(guest, pause, go_on):
    said = len(guest.messages.splitlines())
    pause()
    wait_until(lambda: 'paused' in ''.join(guest.messages.splitlines()[said:]))
    guest.send('echo "thr""ough"\n')
    try:
        guest.wait('through', 4)
    except frame.Timeout:
        pass
    else:
        raise AssertionError('it runs')
    go_on()
    guest.wait('through', 30)
    assert 'goes on' in ''.join(guest.messages.splitlines()[said:])


def stty(lab, tty):
    """How a terminal of the host is set, without its size and speed."""
    return lab.must(f'stty -F {tty} -a').split('\n', 1)[1]


def test_terminal_is_restored(lab):
    """After each end, and while it is stopped: the shell's terminal is as it was."""
    shell = lab.start('sh', tty=True)
    shell.write(b'PS1="sh""$ "; tty >tty; stty intr ^T -echoe; echo "s""et"\n')
    wait_until(lambda: b'set\r\n' in shell.output)
    tty = lab.must('cat tty').strip()

    def start():
        seen = len(shell.output)
        shell.write(b'./yado run --kernel vmlinuz --memory 256M --name term; echo "st""atus:$?"\n')
        wait_until(lambda: b'Linux version' in shell.output[seen:])
        assert '-icanon' in stty(lab, tty) and '-opost' in stty(lab, tty)
        return lab.must('pidof yado').strip(), seen

    def ended(seen, status):
        wait_until(lambda: b'status:' in shell.output[seen:])
        assert b'status:%d\r\n' % status in shell.output[seen:], shell.output[-100:]

    # The shell has its own settings while it waits for a line; these are what it gives programs.
    shell.write(b'stty -a >before; sleep 1\n')
    wait_until(lambda: lab.sh('grep -q flusho before')[0] == 0)
    before = lab.must('cat before').split('\n', 1)[1]
    assert 'intr = ^T' in lab.must('cat before')

    def check_restored():
        lab.must('rm -f after')
        shell.write(b'stty -a >after\n')
        wait_until(lambda: lab.sh('grep -q flusho after')[0] == 0)
        assert lab.must('cat after').split('\n', 1)[1] == before

    _, seen = start()
    shell.write(b'\x1dq')
    ended(seen, 5)
    check_restored()
    for number, status in ((signal.SIGTERM, 5), (signal.SIGSEGV, 128 + signal.SIGSEGV),
                           (signal.SIGABRT, 128 + signal.SIGABRT)):
        pid, seen = start()
        lab.must(f'kill -{int(number)} {pid}')
        ended(seen, status)
        check_restored()
    pid, seen = start()
    lab.must(f'kill -TSTP {pid}')
    wait_until(lambda: b'Stopped' in shell.error)
    check_restored()
    shell.write(b'fg\n')
    wait_until(lambda: '-opost' in stty(lab, tty))
    shell.write(b'\x1dq')
    wait_until(lambda: lab.sh('pidof yado')[0] != 0)
    check_restored()
    shell.write(b'exit\n')
    shell.wait(20)
