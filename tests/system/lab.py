"""The lab itself: what every other system test stands on."""

import os
import signal
import subprocess
import tempfile

from lab import debian

LAB = {'guest': False}
USUAL_SECONDS = 90


def lab_run(*arguments, **options):
    return subprocess.run([os.path.join(debian.ROOT, 'lab/run'), *arguments],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_programs_in_one_host(lab):
    """Exit status, both outputs, input, several programs at once, signals, terminals."""
    assert lab.sh('echo out; echo error >&2; exit 7') == (7, 'out\nerror\n')
    data = os.urandom(3_000_000)
    lab.put('data', data)
    assert lab.get('data') == data
    sleeping = lab.start('sleep', '1000')
    cat = lab.start('cat')
    cat.write(b'one')
    assert lab.sh('pidof sleep')[0] == 0
    sleeping.kill(signal.SIGTERM)
    assert sleeping.wait(20) == 128 + signal.SIGTERM
    cat.close_input()
    assert cat.wait(20) == 0 and cat.output == b'one'
    terminal = lab.start('sh', '-c', 'stty -echo; tty; read -r line; echo "<$line>" >&2', tty=True)
    terminal.write(b'typed\r')
    assert terminal.wait(20) == 0
    assert b'/dev/pts/' in terminal.output, terminal.output
    assert terminal.error == b'<typed>\n', terminal.error
    missing = lab.start('/no/such/program')
    assert missing.wait(20) == 127 and b'/no/such/program' in missing.error


def test_kvm_is_there(lab):
    assert lab.sh('[ -c /dev/kvm ] && grep -qwE "vmx|svm" /proc/cpuinfo') == (0, '')


def test_run_carries_everything():
    """lab/run: files in and out, standard input, exit status."""
    with tempfile.TemporaryDirectory() as work:
        given = os.path.join(work, 'given')
        with open(given, 'w') as f:
            f.write('given\n')
        disk = os.path.join(work, 'disk')
        with open(disk, 'wb') as f:
            f.truncate(1 << 20)
        back = os.path.join(work, 'back')
        done = lab_run('linux', '--cpus', '1', '--memory', '1G', '--in', given, '--disk', disk,
                       '--out', back, '--', 'sh', '-c',
                       'mkdir -p out/d; cat given - >out/d/f; printf on-disk >/dev/vda; '
                       'echo said; echo wrong >&2; exit 9', input='typed\n')
        assert (done.returncode, done.stdout, done.stderr) == (9, 'said\n', 'wrong\n')
        with open(os.path.join(back, 'd', 'f')) as f:
            assert f.read() == 'given\ntyped\n'
        with open(disk, 'rb') as f:
            assert f.read(7) == b'on-disk'


def test_run_time_limit():
    done = lab_run('linux', '--time', '15', '--', 'sleep', '1000', stdin=subprocess.DEVNULL)
    assert done.returncode == 124 and done.stderr.count('\n') == 1


def test_run_says_that_the_lab_died():
    done = lab_run('linux', '--', 'sh', '-c', 'echo c >/proc/sysrq-trigger; sleep 100',
                   stdin=subprocess.DEVNULL)
    assert done.returncode == 125
    assert done.stderr.startswith('lab: the lab died: Kernel panic'), done.stderr


def test_run_counts_alike_each_time():
    with tempfile.TemporaryDirectory() as work:
        source = os.path.join(work, 'count.c')
        with open(source, 'w') as f:
            f.write('#include <stdio.h>\n#include <unistd.h>\n#include <x86intrin.h>\n'
                    'int main(void) { for (int i = 0; i < 20; i++) { getppid(); '
                    'printf("%llu\\n", (unsigned long long)__rdtsc()); } return 3; }\n')
        program = os.path.join(work, 'count')
        subprocess.run(['gcc', '-static', '-o', program, source], check=True)
        runs = [lab_run('linux', '--count', '--in', program, '--', './count') for _ in range(2)]
        assert runs[0].returncode == 3 and runs[0].stdout.count('\n') == 20, runs[0].stderr
        assert runs[0].stdout == runs[1].stdout


def test_run_refuses_wrong_options():
    for arguments in ([], ['--help']):
        assert lab_run(*arguments).returncode == 0
    for wrong in (['windows'], ['linux'], ['linux', '--'], ['linux', 'true'],
                  ['linux', '--cpus', '0', '--', 'true'], ['linux', '--cpus'],
                  ['linux', '--memory', '1T', '--', 'true'], ['linux', '--in', '/no', '--', 'true'],
                  ['linux', '--in', '/bin/sh', '--in', '/usr/bin/sh', '--', 'true'],
                  ['linux', '--disk', '/no', '--', 'true'], ['linux', '--tty', '--', 'true'],
                  ['linux', '--count', '--cpus', '1', '--', 'true'],
                  ['linux', '--nope', '--', 'true'], ['linux', '--time', 'x', '--', 'true']):
        done = lab_run(*wrong, stdin=subprocess.DEVNULL)
        assert done.returncode == 2, wrong
        assert done.stdout == '' and done.stderr.count('\n') == 1, done.stderr
