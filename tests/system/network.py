"""Networks: a TAP interface with several queues and offloads, and passt with ports and IPv6."""

import re
import shutil
import signal
import time

from tests.system import frame

# busybox makes no TAP interfaces of several queues.
LAB = {'cpus': 2, 'files': [shutil.which('ip', path='/usr/sbin:/sbin:/usr/bin:/bin') or 'ip']}
USUAL_SECONDS = 100

HOST = '192.168.77.1'
GUEST = '192.168.77.2'
MAC = '52:54:00:77:00:02'

# Feature bits. Spec: VIRTIO 1.2, 5.1.3 "Feature bits", and 6 "Reserved Feature Bits".
OFFLOADS = {'CSUM': 0, 'GUEST_CSUM': 1, 'GUEST_TSO4': 7, 'GUEST_TSO6': 8, 'HOST_TSO4': 11,
            'HOST_TSO6': 12}
OTHERS = {'MRG_RXBUF': 15, 'STATUS': 16, 'CTRL_VQ': 17, 'MQ': 22, 'VERSION_1': 32}

UDHCPD = f'''start {GUEST}
end {GUEST}
interface t0
lease_file /tmp/leases
pidfile /tmp/udhcpd.pid
option subnet 255.255.255.0
option router {HOST}
'''


def refused(lab, net, *words, user='root'):
    """Runs yado with a bad --net; it must say why in one line that has all of `words`."""
    status, output = lab.sh(f"su {user} -c 'timeout 90 ./yado run --kernel vmlinuz --memory 256M "
                            f"{net} </dev/null'", timeout=120)  # passt may take a minute there
    lines = output.splitlines()
    assert status == 2, f'exit status {status}: {output}'
    assert len(lines) == 1 and lines[0].startswith('yado: '), f'not one line: {output}'
    for word in words:
        assert word in lines[0], f'"{word}" is not in: {lines[0]}'


def wait_until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, 'it did not come about in time'
        time.sleep(0.5)


def features(guest):
    """The bits that the driver of eth0 has taken, as a set of numbers."""
    text = guest.must('cat /sys/class/net/eth0/device/features').strip()
    return {bit for bit, value in enumerate(text) if value == '1'}


def counters(lab, interface):
    """(bytes, packets) that the host has received and sent on it."""
    words = lab.must(f'cd /sys/class/net/{interface}/statistics && cat rx_bytes rx_packets '
                     'tx_bytes tx_packets').split()
    return [int(word) for word in words]


def interrupts(guest, name):
    """How many interrupts of that name there were, on all CPUs."""
    line = re.search(rf'^ *\d+: (.*) \S+-{name}$', guest.must('cat /proc/interrupts'), re.MULTILINE)
    return sum(int(word) for word in line.group(1).split() if word.isdigit()) if line else None


def md5(text):
    return text.split()[0]


def test_tap(lab):
    """Two queues, offloads, both ways, and what the host does to the interface."""
    lab.need_root()
    lab.put('udhcpd.conf', UDHCPD.encode())
    lab.must('mkdir -p www; head -c 8000000 /dev/urandom >www/big; '
             './ip tuntap add dev t0 mode tap user root multi_queue && '
             f'./ip addr add {HOST}/24 dev t0 && ./ip addr add fd00:77::1/64 dev t0 nodad && '
             './ip link set t0 up')
    dhcp = lab.start('udhcpd', '-f', 'udhcpd.conf')
    web = lab.start('busybox', 'httpd', '-f', '-p', '8000', '-h', 'www')
    try:
        with lab.guest('--net', f'tap=t0,queues=2,mac={MAC}', cpus=2) as guest:
            guest.wait_ready()
            guest.must('echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad; '
                       'ip -6 addr add fd00:77::2/64 dev eth0')
            check_features(lab, guest)
            check_pings(lab, guest)
            check_transfers(lab, guest)
            check_driver_restart(lab, guest)
            check_interface_down_and_gone(lab, guest)
            guest.send('poweroff -f\n')
            assert guest.end() == 0
    finally:
        for program in (web, dhcp):
            program.kill(signal.SIGKILL)
        lab.sh('./ip link del t0')


def check_features(lab, guest):
    assert guest.must('cat /sys/class/net/eth0/address') == MAC + '\n'
    assert f'inet {GUEST}/24' in guest.must('ip -4 addr show dev eth0')
    taken = features(guest)
    missing = [name for name, bit in {**OFFLOADS, **OTHERS}.items() if bit not in taken]
    assert not missing, missing
    assert guest.must('ls /sys/class/net/eth0/queues') .split() == ['rx-0', 'rx-1', 'tx-0', 'tx-1']
    # The driver has switched the second pair on, and the kernel attached it to the interface.
    assert lab.must('ls /sys/class/net/t0/queues').split() == ['rx-0', 'rx-1', 'tx-0', 'tx-1']


def check_pings(lab, guest):
    guest.must(f'ping -c 2 -W 5 {HOST}')
    lab.must(f'ping -c 2 -W 5 {GUEST}')
    # Fragments: each one a packet without checksum offload.
    guest.must(f'ping -c 2 -W 5 -s 20000 {HOST}')
    lab.must(f'ping -c 2 -W 5 -s 20000 {GUEST}')
    guest.must('ping6 -c 2 -W 5 fd00:77::1')
    lab.must('ping6 -c 2 -W 5 fd00:77::2')


def check_transfers(lab, guest):
    """Megabytes both ways, by IPv4 and IPv6, in several streams, whole and in large segments."""
    right = md5(lab.must('md5sum www/big'))
    before = counters(lab, 't0')
    second = interrupts(guest, 'input.1')
    assert second is not None and interrupts(guest, 'output.1') is not None
    guest.must(f'for i in 1 2 3 4; do wget -q -O /tmp/big$i http://{HOST}:8000/big & done; wait')
    sums = guest.must('md5sum /tmp/big*').split()[::2]
    assert sums == [right] * 4, (sums, right)
    assert md5(guest.must('wget -q -O - http://[fd00:77::1]:8000/big | md5sum')) == right
    after = counters(lab, 't0')
    assert (after[2] - before[2]) / (after[3] - before[3]) > 2000, 'the host does not segment less'
    assert interrupts(guest, 'input.1') > second, 'nothing came by the second pair'

    guest.must('rm /tmp/big[234]; busybox httpd -p 80 -h /tmp')
    before = after
    lab.must(f'for i in 1 2 3; do wget -q -O big$i http://{GUEST}/big1 & done; wait', timeout=120)
    sums = lab.must('md5sum big1 big2 big3').split()[::2]
    assert sums == [right] * 3, (sums, right)
    assert md5(lab.must('wget -q -O - http://[fd00:77::2]/big1 | md5sum')) == right
    after = counters(lab, 't0')
    assert (after[0] - before[0]) / (after[1] - before[1]) > 2000, 'the guest does not segment less'


def check_driver_restart(lab, guest):
    """The driver lets go of the device and takes it again: a reset, and all set up anew."""
    device = guest.must('basename $(readlink /sys/class/net/eth0/device)').strip()
    guest.must(f'cd /sys/bus/virtio/drivers/virtio_net && echo {device} >unbind && '
               f'echo {device} >bind && ip addr add {GUEST}/24 dev eth0 && ip link set eth0 up')
    guest.must(f'ping -c 2 -W 5 {HOST}')
    right = md5(lab.must('md5sum www/big'))
    assert md5(guest.must(f'wget -q -O - http://{HOST}:8000/big | md5sum')) == right
    assert lab.must('ls /sys/class/net/t0/queues | wc -l') == '4\n'


def check_interface_down_and_gone(lab, guest):
    lab.must('./ip link set t0 down')
    assert guest.sh(f'ping -c 1 -W 1 {HOST}')[0] != 0
    lab.must('./ip link set t0 up')
    lab.must(f'ping -c 2 -W 5 {GUEST}')
    lab.must('./ip link del t0')
    wait_until(lambda: guest.must('cat /sys/class/net/eth0/carrier') == '0\n')
    assert 'interface t0 has gone' in guest.messages, guest.messages
    assert guest.messages.count('\n') == 1, guest.messages
    assert guest.sh(f'ping -c 1 -W 1 {HOST}')[0] != 0


def test_tap_refusals(lab):
    lab.need_root()
    refused(lab, '--net tap=nowhere', 'nowhere', 'ip tuntap add')
    refused(lab, '--net tap=lo', 'lo', 'no TAP interface')
    lab.must('./ip tuntap add dev one mode tap user root && '
             './ip tuntap add dev two mode tap user root multi_queue')
    try:
        refused(lab, '--net tap=one,queues=2', 'one', 'multi_queue')
        refused(lab, '--net tap=one --net tap=one', 'one')
        if not lab.native:  # which has a user for this
            refused(lab, '--net tap=one', 'no permission', 'one', user='user')
            lab.must('chmod 600 /dev/net/tun')
            refused(lab, '--net tap=one', 'no permission', '/dev/net/tun', user='user')
    finally:
        lab.sh('chmod 666 /dev/net/tun; ./ip link del one; ./ip link del two')


def test_tap_of_a_user(lab):
    """Without root, on an interface made for the user; one queue of one made for several."""
    lab.need_root()
    if lab.native:
        raise frame.Skip('wants the user of an emulated host')
    lab.must('./ip tuntap add dev t1 mode tap user user multi_queue && '
             f'./ip addr add {HOST}/24 dev t1 && ./ip link set t1 up')
    yado = lab.start('su', 'user', '-c', './yado run --kernel vmlinuz --initrd initrd.gz --memory '
                     '256M --cpus 1 --net tap=t1 --cmdline "console=ttyS0 quiet"', tty=True)
    try:
        wait_for(yado, b'guest# ', 120)
        yado.write(f'ip addr add {GUEST}/24 dev eth0; echo "se""t"\n'.encode())
        wait_for(yado, b'set\r', 20)
        lab.must(f'ping -c 2 -W 5 {GUEST}')
        # Linux would let a second program in, and each would see a part of the packets.
        refused(lab, '--net tap=t1', 't1', 'in use')
        yado.write(b'poweroff -f\n')
        assert yado.wait(60) == 0
    finally:
        yado.kill(signal.SIGKILL)
        lab.sh('./ip link del t1')


def wait_for(program, what, seconds):
    deadline = time.monotonic() + seconds
    while what not in program.output:
        assert program.code is None, f'it ended with {program.code}: {bytes(program.error)}'
        assert time.monotonic() < deadline, f'no {what} within {seconds} s'
        program.wait_activity(1)


def test_passt_ports_and_ipv6(lab):
    """The host reaches a server in the guest by a forwarded port; IPv6 goes through, too."""
    if lab.native:
        raise frame.Skip('wants to know the addresses of an emulated host')
    lab.must('mkdir -p www; head -c 3000000 /dev/urandom >www/some; '
             './ip addr add fd00:99::15/64 dev eth0 nodad')
    right = md5(lab.must('md5sum www/some'))
    # passt gives the guest what the host has when it starts.
    wait_until(lambda: 'default' in lab.must('./ip -6 route'))
    web = lab.start('busybox', 'httpd', '-f', '-p', '8000', '-h', 'www')
    with lab.guest('--net', 'passt,args=-t 8080:80') as guest:
        guest.wait_ready()
        taken = features(guest)
        assert {OFFLOADS['CSUM'], OTHERS['VERSION_1']} <= taken, taken
        gateway = guest.must('ip route').split('default via ')[1].split()[0]
        guest.must(f'wget -q -O /tmp/some http://{gateway}:8000/some; busybox httpd -p 80 -h /tmp')
        assert md5(guest.must('md5sum /tmp/some')) == right
        assert md5(lab.must('wget -q -O - http://127.0.0.1:8080/some | md5sum')) == right
        # The guest makes its IPv6 address from what passt's router advertisement tells.
        wait_until(lambda: 'inet6 fd00:99:' in guest.must('ip -6 addr show dev eth0'))
        assert md5(guest.must('wget -q -O - http://[fd00:99::15]:8000/some | md5sum')) == right
        assert md5(lab.must('wget -q -O - http://[::1]:8080/some | md5sum')) == right
        guest.send('poweroff -f\n')
        assert guest.end() == 0
    web.kill(signal.SIGKILL)


def test_bad_words_for_passt(lab):
    refused(lab, '--net "passt,args=--no-such-option"', 'passt', 'no-such-option')
    refused(lab, '--net "passt,args=-t 99999"', 'passt', '99999')
