"""Every refusal of `yado run`: one clear line on stderr, exit code 2, and nothing started."""

from tests.system import frame

LAB = {}


def refused(lab, options, *words, kernel='vmlinuz', initrd='initrd.gz', memory='256M'):
    """Runs yado with bad options; it must say why in one line that has all of `words`."""
    initrd = f'--initrd {initrd}' if initrd else ''
    cpus = '' if '--cpus' in options else '--cpus 1'  # or there is a warning, too
    status, output = lab.sh(f'timeout 30 ./yado run --kernel {kernel} {initrd} --memory {memory} '
                            f'--cmdline console=ttyS0 {cpus} {options} </dev/null')
    lines = output.splitlines()
    assert status == 2, f'exit status {status}: {output}'
    assert len(lines) == 1 and lines[0].startswith('yado: '), f'not one line: {output}'
    for word in words:
        assert word in lines[0], f'"{word}" is not in: {lines[0]}'


def test_kernels(lab):
    lab.must('head -c 300000 vmlinuz >short; seq 5000 >text; : >empty; mkdir folder')
    refused(lab, '', 'missing', 'No such file', kernel='missing')
    refused(lab, '', 'short', 'truncated', kernel='short')
    refused(lab, '', 'text', kernel='text')
    refused(lab, '', 'empty', 'empty', kernel='empty')
    refused(lab, '', 'folder', 'directory', kernel='folder')


def test_initrds(lab):
    lab.must(': >empty.gz')
    refused(lab, '', 'missing.gz', 'No such file', initrd='missing.gz')
    refused(lab, '', 'empty.gz', 'empty', initrd='empty.gz')


def test_memory(lab):
    lab.must('truncate -s 200M big.gz')
    refused(lab, '', 'memory', memory='32M', initrd='big.gz')
    refused(lab, '', 'memory', memory='900G')
    refused(lab, '', 'memory', memory='0M')
    refused(lab, '', '256', memory='256')
    refused(lab, '', 'memory', memory='2T')


def test_cpus(lab):
    refused(lab, '--cpus 0', 'cpus')
    refused(lab, '--cpus 65', 'cpus', '64')
    refused(lab, '--cpus two', 'cpus', 'two')
    refused(lab, '--cpu z80', 'z80')


def test_networks(lab):
    refused(lab, '--net passt,mac=52:54:00:00:00:01 --net passt,mac=52:54:00:00:00:01',
            '52:54:00:00:00:01')
    refused(lab, '--net passt,mac=01:54:00:00:00:01', '01:54:00:00:00:01')
    refused(lab, '--net tap=longer-than-a-name-can-be', 'longer-than-a-name-can-be')
    refused(lab, '--net passt,queues=2', 'passt')


def test_dead_passt(lab):
    # No passt at all, and one that dies at once.
    status, output = lab.sh('PATH=/nowhere ./yado run --kernel vmlinuz --memory 256M '
                            '--net passt </dev/null')
    assert status == 2 and 'passt' in output and 'install' in output, (status, output)
    lab.must('mkdir -p bad; printf "#!/bin/sh\\nexit 3\\n" >bad/passt; chmod +x bad/passt')
    status, output = lab.sh('PATH=$PWD/bad:$PATH ./yado run --kernel vmlinuz --memory 256M '
                            '--net passt </dev/null')
    assert status == 2 and 'passt' in output, (status, output)


def test_disks(lab):
    lab.must('mkdir -p dir; truncate -s 1000 odd; truncate -s 0 zero; truncate -s 1M disk')
    refused(lab, '--disk path=dir', 'dir', 'directory')
    refused(lab, '--disk path=gone', 'gone', 'no such file')
    refused(lab, '--disk path=odd', 'odd', '512')
    refused(lab, '--disk path=zero', 'zero')
    refused(lab, '--disk path=disk --disk path=disk', 'disk')
    refused(lab, '--disk readonly=on', 'path')
    refused(lab, '--disk path=disk,serail=x', 'serail', 'serial')


def test_locked_disk(lab):
    lab.must('truncate -s 1M locked')
    with lab.guest('--disk', 'path=locked', '--name', 'holder') as guest:
        guest.wait_ready()
        refused(lab, '--disk path=locked', 'locked', 'holder')
        refused(lab, '--disk path=locked,readonly=on', 'locked')
    # Its end gives the disk free.
    with lab.guest('--disk', 'path=locked') as guest:
        guest.wait_ready()


def test_sockets(lab):
    long = 'x' * 120
    refused(lab, f'--console socket={long}', 'socket')
    refused(lab, f'--vsock cid=3,socket={long}', 'socket')
    refused(lab, '--vsock cid=2,socket=s', 'cid')
    lab.must('touch plain')
    refused(lab, '--console socket=plain', 'plain')


def test_words(lab):
    refused(lab, '--memroy 1G', 'memroy', 'memory')
    refused(lab, '--console teletype', 'teletype')
    refused(lab, 'surplus', 'surplus')
    lab.put('vm.json', b'{"kernel": "vmlinuz", "memroy": "256M"}')
    status, output = lab.sh('./yado run --config vm.json </dev/null')
    assert status == 2 and 'memroy' in output and 'memory' in output, (status, output)
    lab.put('vm.json', b'{"kernel": "vmlinuz",\n "cpus": }')
    status, output = lab.sh('./yado run --config vm.json </dev/null')
    assert status == 2 and 'vm.json' in output and 'line 2' in output, (status, output)


def test_commands():
    for argv in (['walk'], ['run'], ['help', 'walk'], ['doctor', 'x']):
        status, output = frame.yado(*argv)
        assert status == 2, f'{argv}: exit status {status}'
        assert output.startswith('yado: ') and len(output.splitlines()) == 1, f'{argv}: {output}'
    status, output = frame.yado('version')
    assert status == 0 and output.startswith('yado '), output
    status, output = frame.yado('help', 'run')
    assert status == 0 and '--kernel' in output, output
