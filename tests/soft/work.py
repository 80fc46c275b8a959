#!/usr/bin/env python3
"""Debian's own programs on soft, each with the same results as natively, on this machine.

usage: tests/soft/work.py [--engine NAME] [--cpus N] [--seconds N] [--kinds KIND,...] [WORK]...

WORK is one of python, perl, openssl, sqlite, compiler, keys and stress; all of them unless told. The
guest has N processors (2); stress-ng's part lasts N seconds (20) for each of its kinds of work.
--kinds picks from these, by the names of stress-ng's options, and WORK is stress then unless told:
--kinds cpu,vm,atomic --seconds 600 verifies each of the three for ten minutes. The exit status is 1
if a result is another one than natively.
"""

import argparse
import io
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
from lab import cpio, debian, host  # noqa: E402
from tests.system import frame  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
PYTHON = '/usr/bin/python3.11'
GCC = '/usr/lib/gcc/x86_64-linux-gnu/12'
LIBRARIES = '/usr/lib/x86_64-linux-gnu'
INSN = ['decode', 'effects', 'operands']
PROGRAMS = {
    'python': {PYTHON: 'python3.11-minimal'},
    'perl': {'/usr/bin/perl': 'perl-base'},
    'openssl': {'/usr/bin/openssl': 'openssl'},
    'sqlite': {'/usr/bin/sqlite3': 'sqlite3'},
    'compiler': {f'{GCC}/cc1': 'gcc-12', '/usr/bin/as': 'binutils', '/usr/bin/ld': 'binutils'},
    'keys': {},
    'stress': {'/usr/bin/stress-ng': 'stress-ng'},
}
FILES = {  # what else they want, and ldd does not know
    'python': ['/usr/lib/python3.11'],
    'perl': [f'{LIBRARIES}/perl-base'],
    'openssl': ['/etc/ssl/openssl.cnf'],
    'compiler': [f'{LIBRARIES}/{name}' for name in ('crt1.o', 'crti.o', 'crtn.o', 'libc.a')] +
                [f'{GCC}/{name}' for name in ('crtbeginT.o', 'crtend.o', 'libgcc.a', 'libgcc_eh.a')],
}
SQL = '''CREATE TABLE t(a INTEGER PRIMARY KEY, b INTEGER, c TEXT, d REAL);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
INSERT INTO t SELECT i, (i * 7919) % 10007, printf('row %x', i * i), i / 7.0 FROM n;
CREATE INDEX tb ON t(b);
SELECT 'sqlite', b % 100, count(*), max(c), round(avg(d), 6) FROM t GROUP BY 2 ORDER BY 2;
SELECT 'sqlite', sum(x.a), sum(length(x.c)) FROM t x JOIN t y ON x.b = y.b WHERE y.a < 2000;
UPDATE t SET c = upper(c) || hex(b) WHERE b % 3 = 1;
DELETE FROM t WHERE b % 7 = 2;
SELECT 'sqlite', count(*), max(c), min(c), total(d) FROM t WHERE c LIKE '%F3%';
PRAGMA integrity_check;
'''
LINK = (f'ld -static -o compiled {LIBRARIES}/crt1.o {LIBRARIES}/crti.o {GCC}/crtbeginT.o *.o '
        f'--start-group {GCC}/libgcc.a {GCC}/libgcc_eh.a {LIBRARIES}/libc.a --end-group '
        f'{GCC}/crtend.o {LIBRARIES}/crtn.o')
DIGESTS = 'md5 sha1 sha256 sha512 sha3-256 blake2b512'
CIPHERS = 'aes-128-cbc aes-256-ctr aes-256-cfb camellia-128-cbc chacha20'
# Run in the folder of the files, by a shell; each says only what is the same at any time.
COMMANDS = {
    'python': f'PYTHONHASHSEED=1 {PYTHON} -S program.py',
    'perl': '/usr/bin/perl program.pl',
    'openssl': f'''for d in {DIGESTS}; do /usr/bin/openssl dgst -$d data; done
for c in {CIPHERS}; do
  /usr/bin/openssl enc -$c -K 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff \\
    -iv 0102030405060708090a0b0c0d0e0f10 -in data 2>/dev/null | /usr/bin/openssl dgst -sha256
done
for k in rsa ed25519; do
  if [ $k = rsa ]; then
    /usr/bin/openssl dgst -sha256 -sign rsa.pem -out sig data
    /usr/bin/openssl dgst -sha256 -prverify rsa.pem -signature sig data
  else
    head -c 1000 data >part
    /usr/bin/openssl pkeyutl -sign -inkey ed25519.pem -rawin -in part -out sig
    /usr/bin/openssl pkeyutl -verify -inkey ed25519.pem -rawin -in part -sigfile sig
  fi
  /usr/bin/openssl dgst -sha256 sig
done
/usr/bin/openssl ecparam -genkey -name prime256v1 -out own.pem
/usr/bin/openssl dgst -sha256 -sign own.pem -out sig data
/usr/bin/openssl dgst -sha256 -prverify own.pem -signature sig data
/usr/bin/openssl prime -hex FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF43''',
    'sqlite': '/usr/bin/sqlite3 -init /dev/null :memory: <query.sql',
    'compiler': f'''set -e; rm -f *.o
for f in *.i; do
  {GCC}/cc1 -fpreprocessed -quiet -O2 $f -o out.s && sha256sum <out.s
  as out.s -o ${{f%.i}}.o && sha256sum <${{f%.i}}.o
done
{LINK} && sha256sum <compiled && ./compiled data''',
    'keys': 'for f in pku ospke; do grep -q -w $f /proc/cpuinfo && echo $f; done; ./keys',
}
STRESS = {
    'cpu': '--cpu-method all',
    'vm': '--vm-bytes 64M --vm-method all',
    **dict.fromkeys(('atomic', 'fp', 'vecmath', 'memcpy', 'str', 'qsort', 'mutex', 'futex', 'pipe',
                     'fork'), ''),
    'mmap': '--mmap-bytes 32M',
    'switch': '',
}  # kind: further options


# ---- the files ----

def _folder(directory, works):
    """Writes what the commands read into a folder."""
    def write(name, data):
        with open(os.path.join(directory, name), 'wb') as f:
            f.write(data)

    with open(debian.needs('busybox', 'busybox-static'), 'rb') as f:
        write('data', f.read(1_000_000))
    write('query.sql', SQL.encode())
    for name in ('program.py', 'program.pl'):
        shutil.copy(os.path.join(HERE, name), directory)
    if 'openssl' in works:
        for key in (['rsa', '-pkeyopt', 'rsa_keygen_bits:2048'], ['ed25519']):
            debian.run(['openssl', 'genpkey', '-quiet', '-algorithm', *key, '-out',
                        os.path.join(directory, key[0] + '.pem')], 'openssl')
    if 'keys' in works:
        debian.run(['gcc', '-O2', '-static', '-D_GNU_SOURCE', 'tests/soft/keys.c', '-o',
                    os.path.join(directory, 'keys')], 'gcc', cwd=debian.ROOT)
    if 'compiler' in works:
        sources = [os.path.join('lib/insn', name + '.c') for name in INSN]
        for source in [*sources, 'build/lib/insn/tables.c', 'tests/soft/compiled.c']:
            name = os.path.basename(source)[:-2]
            debian.run(['gcc', '-E', '-P', '-std=gnu17', '-D_GNU_SOURCE', '-O2', '-I.', '-Ibuild',
                        '-Ibuild/lib/insn', source, '-o', os.path.join(directory, name + '.i')],
                       'gcc', cwd=debian.ROOT)


def _initrd(directory, works):
    """The test guest's initrd, with the programs and the folder, as /work, behind it."""
    packed = io.BytesIO()
    archive = cpio.Archive(packed)
    files = {}
    for work in works:
        for program, package in PROGRAMS[work].items():
            if not os.path.exists(program):
                raise debian.Failed(f'{program} is missing; apt-get install {package}')
            files.update({name: name for name in [program, *host.libraries(program)]})
        for name in FILES.get(work, []):
            files[name] = name
    if 'python' in works:
        modules = os.path.join(files.pop('/usr/lib/python3.11'), 'lib-dynload')
        for name in sorted(os.listdir(modules)):
            path = os.path.join(modules, name)
            files.update({path: path, **{file: file for file in host.libraries(path)}})
        for name in sorted(os.listdir('/usr/lib/python3.11')):
            if name.endswith('.py') or name in ('encodings', 'collections', 'importlib', 're',
                                                'json'):
                archive.tree(f'usr/lib/python3.11/{name}', f'/usr/lib/python3.11/{name}')
    for name in sorted(files):
        archive.tree(name[1:], files[name])
    archive.tree('work', directory)
    archive.close()
    with open(os.path.join(debian.CACHE, 'guest/initrd.gz'), 'rb') as f:
        first = f.read()
    return first + b'\0' * (-len(first) % 4) + packed.getvalue()  # Linux wants it aligned


# ---- the work ----

def natively(directory, work):
    done = subprocess.run(['sh', '-c', COMMANDS[work]], cwd=directory, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise debian.Failed(f'{work}, natively: {done.stdout[-400:]}')
    return done.stdout


def difference(work, there, here):
    """One line, or None."""
    for number, (a, b) in enumerate(zip(there.splitlines(), here.splitlines())):
        if a != b:
            return f'{work}, line {number + 1}: "{a[:120]}" in the guest, "{b[:120]}" natively'
    return None if there == here else f'{work}: {len(there)} bytes in the guest, {len(here)} natively'


def stress(guest, seconds, kinds):
    """Return: what went wrong."""
    wrong = []
    for kind in kinds:
        command = (f'stress-ng --verify --timeout {seconds} --temp-path /tmp --{kind} 2 '
                   f'{STRESS[kind]}').strip()
        status, output = guest.sh(command, seconds * 10 + 120)
        if status != 0 or 'fail' in output.replace('failed: 0', ''):
            wrong.append(f'{command}: {status}: {output[-400:]}')
    return wrong


def run(lab, works, seconds, engine='auto', cpus=2, say=lambda text: None, kinds=tuple(STRESS)):
    """All of it, in one guest. Return: what is wrong, a line each."""
    directory = os.path.join(lab.directory, '-'.join(works))
    os.makedirs(directory)
    _folder(directory, works)
    with open(os.path.join(lab.directory, 'work.initrd'), 'wb') as f:
        f.write(_initrd(directory, works))
    wrong = []
    with lab.guest('--accel', 'soft', '--soft', engine, initrd='work.initrd', memory='1G', cpus=cpus,
                   cmdline=frame.CMDLINE + ' cryptomgr.notests') as guest:
        guest.wait_ready(300)
        for work in works:
            say(f'{work}\n')
            if work == 'stress':
                wrong += stress(guest, seconds, kinds)
                continue
            status, output = guest.sh(f'cd /work; ({COMMANDS[work]}) 2>&1', 600)
            found = difference(work, output, natively(directory, work))
            if found or status != 0:
                wrong.append(found or f'{work}: exit status {status}')
        log = guest.must('dmesg -r | grep -E "^<[0-3]>" || true')
        if log:
            wrong.append(f'the kernel says: {log[-400:]}')
        guest.send('poweroff -f\n')
        if guest.end() != 0:
            wrong.append('the guest did not power off')
    return wrong


def kinds_of(text):
    """For argparse: the kinds of a list with commas."""
    kinds = text.split(',')
    for kind in kinds:
        if kind not in STRESS:
            raise argparse.ArgumentTypeError(f'no kind is called "{kind}"; there are: '
                                             f'{",".join(STRESS)}')
    return kinds


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split('usage: ')[1])
    parser.add_argument('--engine', default='auto')
    parser.add_argument('--cpus', type=int, default=2)
    parser.add_argument('--seconds', type=int, default=20)
    parser.add_argument('--kinds', type=kinds_of)
    parser.add_argument('works', nargs='*', choices=[*PROGRAMS, []])
    options = parser.parse_args()
    works = options.works or (['stress'] if options.kinds else list(PROGRAMS))
    lab = frame.Lab(native=True)
    try:
        wrong = run(lab, works, options.seconds, options.engine, options.cpus,
                    lambda text: print(text, end='', flush=True), options.kinds or list(STRESS))
    except debian.Failed as error:
        debian.say(error)
        return 1
    finally:
        lab.end_guests()
        lab.close()
    for line in wrong:
        print('FAIL', line)
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main())
