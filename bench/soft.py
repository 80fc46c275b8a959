"""processor time of the same work natively, in a guest of soft's, and in one of QEMU's TCG (make bench-soft)"""

import contextlib
import gzip
import io
import json
import math
import os
import random
import re
import subprocess
import time

from bench.context import VMLINUZ, YADO
from lab import cpio, debian

SUBJECTS = ['native', 'soft', 'qemu-tcg']
MEMORY_MIB = 1024
DATA_MIB = 16
LONG = 8  # times that: for what is done with it in no time
REPEATS = 2
SECONDS = 1800  # for all rows of a guest
CMDLINE = 'console=ttyS0 quiet panic=-1 cryptomgr.notests rdinit=/init'
NATIVE = 'mount --rbind /dev "$0/dev" && exec chroot "$0" /bin/init native'
PLOT = os.path.join(debian.ROOT, 'docs', 'soft.png')
PYTHON = '/usr/bin/python3'  # Debian's own: the guests' too, and the one that has matplotlib

TIMES = '1 2 3 4 5 6'
# name: command of the shell. Natively each takes a tenth to some tenths of a second.
ROWS = {
    'shell loop': 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done',
    'md5': f'for i in {TIMES}; do md5sum /data; done',
    'sha256': 'for i in 1 2 3; do sha256sum /data; done',
    'openssl AES-CBC': 'openssl enc -aes-128-cbc -K 00 -iv 00 -in /long -out /dev/null 2>/dev/null',
    'openssl SHA-256': 'openssl dgst -sha256 /long',
    'SQLite': 'sqlite3 :memory: ".read /query.sql"',
    'Python': 'PYTHONHOME=/usr python3.11 -S /program.py',
    'C compiler': 'cc1 -fpreprocessed -quiet -O1 /program.i -o /dev/null',
    'xz': 'head -c 3000000 /data | /bin/xz -1 -c',
    'xz -d': '/bin/xz -dc /data.xz',
    'zstd': 'zstd -3 -q -c /data',
    'zstd -d': f'for i in {TIMES}; do zstd -dqc /data.zst; done',
    'fork+exec': 'work fork 600',
    'pipe ping-pong': 'work pipe 60000',
    'page faults': 'work faults 24',
    'getpid': 'work getpid 3000000',
    'memcpy, 16 MiB': 'work memcpy 240',
    'memcpy, 4 KiB': 'work memcpy4k 3000000',
    'pointer chase': 'work chase 600000',
    'matrix product': 'work scalar 30',
    'matrix product, AVX2': 'work avx2 150',
}
# The same with two processors.
PARALLEL = {
    '2 x md5': f'for j in 1 2; do (for i in {TIMES}; do md5sum /data; done) & done; wait',
    '2 x matrix product': 'work scalar 30 & work scalar 30 & wait',
    'xz -T2': 'head -c 3000000 /data | /bin/xz -1 -T2 --block-size=1500000 -c',
}
PROGRAMS = {'busybox': 'busybox-static', 'openssl': 'openssl', 'sqlite3': 'sqlite3',
            'python3.11': 'python3.11-minimal', 'xz': 'xz-utils', 'zstd': 'zstd'}
CC1 = '/usr/lib/gcc/x86_64-linux-gnu/12/cc1'
SQL = '''CREATE TABLE t(a INTEGER PRIMARY KEY, b INTEGER, c TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 150000)
INSERT INTO t SELECT i, (i * 7919) % 10007, 'row ' || i FROM n;
CREATE INDEX tb ON t(b);
SELECT b % 100, count(*), max(c) FROM t GROUP BY 1 ORDER BY 2;
SELECT sum(x.a) FROM t x JOIN t y ON x.b = y.b WHERE y.a < 9000;
'''
SCRIPT = '''
def sieve(n):
    flags = bytearray([1]) * n
    for i in range(2, int(n ** 0.5) + 1):
        if flags[i]:
            flags[i * i::i] = bytes(len(range(i * i, n, i)))
    return sum(flags) - 2
words = {}
for i in range(120000):
    key = 'k%d' % (i * 31 % 5003)
    words[key] = words.get(key, 0) + i
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)
assert sieve(300000) == 25997 and fib(20) == 6765 and len(words) == 5003
print(sorted(words.items(), key=lambda item: item[1])[:3])
'''


# ---- what is in the guests, and natively in a chroot ----

def _with_libraries(path):
    """A program and the shared libraries that it is loaded with."""
    shown = subprocess.run(['ldd', path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                           text=True).stdout
    return [path, *re.findall(r'(/\S+) \(0x', shown)]


def _data():
    """Text and numbers, as a log has them; the same each time."""
    chance = random.Random(1)
    words = [''.join(chance.choice('abcdefghijklmnoprstuvwz') for _ in range(chance.randint(2, 9)))
             for _ in range(3000)]
    part = ' '.join(chance.choice(words) if chance.random() < .8 else str(chance.randrange(10**6))
                    for _ in range(400_000)).encode()
    return (part * (DATA_MIB * 2**20 // len(part) + 1))[:DATA_MIB * 2**20]


def _tree(context, rows):
    """A directory with all that the rows need. Return: its path."""
    root = os.path.join(context.directory, 'soft-tree')
    files = {'/bin/init': context.compiled('soft/init.c'), '/bin/work': context.compiled('soft/work.c')}
    for program, package in PROGRAMS.items():
        path = debian.needs(program, package)
        for file in _with_libraries(path):
            files[f'/bin/{program}' if file == path else file] = file
    if not os.path.exists(CC1):
        raise debian.Failed(f'{CC1} is missing; apt-get install cpp-12')
    for file in _with_libraries(CC1):
        files['/bin/cc1' if file == CC1 else file] = file
    for name, file in files.items():
        os.makedirs(os.path.dirname(root + name), exist_ok=True)
        debian.run(['cp', '-L', '--preserve=mode', file, root + name], f'cannot copy {file}')
    library = '/usr/lib/python3.11'
    os.makedirs(root + library)
    for name in os.listdir(library):
        if name.endswith('.py') or name in ('encodings', 'collections', 'importlib', 're'):
            debian.run(['cp', '-rL', os.path.join(library, name), root + library], 'Python')
    for name in ('dev', 'proc', 'tmp'):
        os.makedirs(os.path.join(root, name))
    for name in ('sh', 'cat', 'head', 'md5sum', 'sha256sum'):
        os.symlink('busybox', os.path.join(root, 'bin', name))
    os.symlink('bin/init', os.path.join(root, 'init'))
    _contents(context, root, rows)
    return root


def _contents(context, root, rows):
    def write(name, data):
        with open(os.path.join(root, name), 'wb') as f:
            f.write(data)

    data = _data()
    write('data', data)
    write('long', data * LONG)
    write('query.sql', SQL.encode())
    write('program.py', SCRIPT.encode())
    write('rows', rows.encode())
    write('program.i', debian.run(['gcc', '-E', '-D_GNU_SOURCE', '-O1', os.path.join(
        debian.ROOT, 'bench/soft/work.c')], 'cpp').encode())
    debian.run(['xz', '-1k', os.path.join(root, 'data')], 'xz')
    debian.run(['zstd', '-qk', os.path.join(root, 'data')], 'zstd')


def _initrd(root, path):
    packed = io.BytesIO()
    archive = cpio.Archive(packed)
    archive.device('dev/console', 5, 1)
    for directory, _, names in os.walk(root):
        for name in sorted(names):
            full = os.path.join(directory, name)
            inside = os.path.relpath(full, root)
            if os.path.islink(full):
                archive.symlink(inside, os.readlink(full))
            else:
                archive.tree(inside, full)
    for name in ('proc', 'tmp'):
        archive.directory(name)
    archive.close()
    with open(path, 'wb') as f:
        f.write(packed.getvalue())
    return path


# ---- running ----

def _processor_s(pid):
    """What a process and its children have used, s."""
    with open(f'/proc/{pid}/stat') as f:
        words = f.read().rpartition(')')[2].split()
    return sum(map(int, words[11:15])) / os.sysconf('SC_CLK_TCK')


def _lines(program, seconds):
    """Lines of its output as they come, to its end."""
    deadline = time.monotonic() + seconds
    timer = subprocess.Popen(['sh', '-c', f'sleep {seconds}; kill -9 {program.pid}'],
                             start_new_session=True)
    try:
        for line in program.stdout:
            yield line.decode(errors='replace').strip()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(timer.pid, 9)
        timer.wait()
    if time.monotonic() > deadline:
        raise debian.Failed(f'not done after {seconds} s')


def _run(argv, native=False):
    """Return: ({row: seconds, the least of the repeats}, seconds to the first program)."""
    found, start = {}, None
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL) as program:
        row = before = None
        for line in _lines(program, SECONDS):
            words = line.split()
            if line.startswith('bench: init'):
                start = _processor_s(program.pid)
            elif line.startswith('bench: begin '):
                row, before = line[13:], _processor_s(program.pid)
            elif line.startswith('bench: end ') and row:
                used = int(words[3]) / 1e9 if native else _processor_s(program.pid) - before
                if words[2] == '0':
                    found[row] = min(used, found.get(row, used))
                elif words[2] != '77':
                    debian.say(f'{argv[0]}: "{row}" ended with {words[2]}')
    if program.returncode != 0:
        raise debian.Failed(f'{" ".join(argv[:2])} ended with {program.returncode}')
    return found, start


def _argv(subject, initrd, cpus):
    if subject == 'soft':
        return [YADO, 'run', '--accel', 'soft', '--kernel', VMLINUZ, '--initrd', initrd,
                '--cmdline', CMDLINE, '--cpus', str(cpus), '--memory', f'{MEMORY_MIB}M']
    return [debian.needs('qemu-system-x86_64', 'qemu-system-x86'), '-nodefaults',
            '-no-user-config', '-no-reboot', '-display', 'none', '-M', 'q35', '-accel', 'tcg',
            '-cpu', 'max', '-smp', str(cpus), '-m', str(MEMORY_MIB), '-kernel', VMLINUZ,
            '-initrd', initrd, '-append', CMDLINE, '-serial', 'stdio']


def _measure(context, subject, rows, cpus):
    """{row: seconds}."""
    lines = ''.join(f'{row}\t{command}\n' * REPEATS for row, command in rows.items())
    root = os.path.join(context.directory, 'soft-tree')
    if not os.path.exists(root):
        _tree(context, lines)
    with open(os.path.join(root, 'rows'), 'w') as f:
        f.write(lines)
    if subject == 'native':
        return _run(['unshare', '-rm', 'sh', '-c', NATIVE, root], native=True)[0]
    initrd = _initrd(root, os.path.join(context.directory, 'soft.cpio'))
    return _run(_argv(subject, initrd, cpus))[0]


def _boot(context, subject):
    """Of a kernel with nothing else."""
    initrd = context.initrd('guest/init.c')
    with gzip.open(initrd) as f:
        plain = os.path.join(context.directory, 'init.cpio')
        with open(plain, 'wb') as out:
            out.write(f.read())
    return min(_run(_argv(subject, plain, 1))[1] or math.inf for _ in range(REPEATS))


def rows(context):
    subjects = context.chosen(SUBJECTS)
    values = {'boot to init': {s: _boot(context, s) for s in subjects if s != 'native'}}
    for rows_, cpus in ((ROWS, 1), (PARALLEL, 2)):
        for subject in subjects:
            for row, value in _measure(context, subject, rows_, cpus).items():
                values.setdefault(row, {})[subject] = value
    for row, found in values.items():
        for subject, value in found.items():
            yield row, subject, round(value * 1000), 'ms'
        yield from _ratios(row, found)
    yield from _means(values)
    _plot(context, values)


def _ratios(row, found):
    if found.get('native') and 'soft' in found:
        yield row, 'soft / native', found['soft'] / found['native'], 'ms'
    if found.get('soft') and 'qemu-tcg' in found:
        yield row, 'tcg / soft', found['qemu-tcg'] / found['soft'], 'ms'


def _means(values):
    """Geometric means of the ratios."""
    ratios = {}
    for row, found in values.items():
        for _, name, value, _ in _ratios(row, found):
            ratios.setdefault(name, []).append(value)
    for name, all_ in ratios.items():
        yield 'geometric mean', name, math.exp(sum(map(math.log, all_)) / len(all_)), 'ratio'


def _plot(context, values):
    given = os.path.join(context.directory, 'plot.json')
    with open(given, 'w') as f:
        json.dump(values, f)
    done = subprocess.run([PYTHON, os.path.join(debian.ROOT, 'bench/soft/plot.py'), given, PLOT],
                          stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        debian.say(f'there is no plot: {done.stderr.strip().splitlines()[-1:]}; apt-get install '
                   'python3-matplotlib')
