#!/usr/bin/env python3
"""Runs the kernel's own KVM selftests on a provider: programs that were not written for Yado.

usage: tests/selftests.py [--table] PROVIDER [TEST]...

  kvm   Linux KVM, in the lab's Linux host
  core  Yado's kernel, on the lab's bare machine

The tests are Linux 6.1's (tools/testing/selftests/kvm), built from Debian's package
linux-source-6.1; nothing of them is in this repository. With --table the results of a whole run go
into docs/selftests.md, too. The exit status is 1 if a test failed.
"""

import collections
import concurrent.futures
import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lab import cpio, debian, metal  # noqa: E402

PACKAGE = 'linux-source-6.1'
TREE = 'linux-source-6.1/'
WANTED = ('tools/testing/selftests/kvm/', 'tools/testing/selftests/rseq/',
          'tools/testing/selftests/kselftest', 'tools/lib/rbtree.c', 'tools/include/', 'tools/arch/x86/include/')
BUILT = os.path.join(debian.CACHE, 'selftests')
RUNNER = os.path.join(debian.ROOT, 'tests/selftests/runner.c')
TABLE = os.path.join(debian.ROOT, 'docs/selftests.md')
COLUMNS = ['kvm', 'core']
MEMORY_MIB = 4096
START_SECONDS = 120  # until the first test starts, on a busy machine
SKIPPED = 4  # an exit status; Spec: kselftest.h, KSFT_SKIP
SILENT_LINES = 6  # of a test's output that a failure shows

# 6.1's dirty_log_test got a fix that uses a later name of a macro; steal_time finds another
# linux/stddef.h than the system's headers want.
FLAGS = ('-w -O2 -std=gnu99 -U_FORTIFY_SOURCE -fno-stack-protector -fno-PIE -D_GNU_SOURCE='
         ' -I../../../include -I../../../arch/x86/include -Iinclude -Iinclude/x86_64 -I../rseq'
         ' -I.. -Ix86_64 -DTEST_ASSERT_EQ=ASSERT_EQ'
         ' -include /usr/include/linux/stddef.h').split()
LIBRARY = ['assert', 'elf', 'guest_modes', 'io', 'kvm_util', 'perf_test_util', 'rbtree',
           'sparsebit', 'test_util', 'string_override', 'x86_64/apic', 'x86_64/handlers',
           'x86_64/perf_test_util', 'x86_64/processor', 'x86_64/svm', 'x86_64/ucall',
           'x86_64/vmx']

Selftest = collections.namedtuple('Selftest', 'name words seconds cpus')
Result = collections.namedtuple('Result', 'verdict reason')


def _of(name, words='', seconds=60, cpus=1):
    return Selftest(name, words.split(), seconds, cpus)


# What tests plain behaviour of the API, with arguments that fit the lab.
TESTS = [
    _of('x86_64/cpuid_test'),
    _of('x86_64/cr4_cpuid_sync_test'),
    _of('x86_64/get_msr_index_features'),
    _of('x86_64/set_sregs_test'),
    _of('x86_64/sync_regs_test'),
    _of('x86_64/state_test'),
    _of('x86_64/userspace_io_test'),
    _of('x86_64/set_boot_cpu_id'),
    _of('kvm_create_max_vcpus', seconds=120),
    _of('x86_64/max_vcpuid_cap_test'),
    _of('x86_64/tsc_msrs_test'),
    _of('x86_64/xapic_state_test'),
    _of('x86_64/xapic_ipi_test', seconds=120),
    _of('set_memory_region_test', '1'),
    _of('demand_paging_test', seconds=120),
    _of('kvm_page_table_test', seconds=180),
    _of('memslot_modification_stress_test', seconds=180),
    _of('dirty_log_test', '-M clear-log -i 3', seconds=300),
    _of('dirty_log_perf_test', '-i 2 -b 16M -v 1', seconds=120),
    _of('max_guest_memory_test', '-m 2 -s 1 -c 1', seconds=180, cpus=2),
    _of('x86_64/userspace_msr_exit_test'),
    _of('x86_64/monitor_mwait_test'),
    _of('x86_64/platform_info_test'),
    _of('system_counter_offset_test'),
    _of('kvm_binary_stats_test'),
    _of('x86_64/kvm_clock_test'),
    _of('steal_time'),
    _of('x86_64/kvm_pv_test'),
    _of('x86_64/fix_hypercall_test'),
    _of('rseq_test', seconds=600, cpus=2),
]


# ---- building ----

def archive():
    """The package's archive of the kernel's source."""
    path = os.path.join('usr/src', PACKAGE + '.tar.xz')
    if os.path.exists('/' + path):
        return '/' + path
    with debian.locked('packages'):
        return os.path.join(debian.unpacked(PACKAGE), path)


def unpack(target):
    names = tuple(TREE + name for name in WANTED)
    with tarfile.open(archive(), 'r|xz') as tar:
        for entry in tar:
            if entry.name.startswith(names):
                entry.name = entry.name[len(TREE):]
                tar.extract(entry, target)


def compile_all(source, target):
    """Makes static programs of the tests. @source: the folder of the selftests for KVM."""
    gcc = debian.needs('gcc', 'gcc')
    objects = os.path.join(target, 'objects')
    os.makedirs(objects)

    def library(name):
        out = os.path.join(objects, name.replace('/', '_') + '.o')
        path = f'lib/{name}.c'
        path = path if os.path.exists(os.path.join(source, path)) else f'lib/{name}.S'
        own = ['-ffreestanding'] if name == 'string_override' else []
        debian.run([gcc, *FLAGS, *own, '-c', path, '-o', out], f'cannot build {path}', cwd=source)
        return out

    def program(name):
        out = os.path.join(target, os.path.basename(name))
        debian.run([gcc, *FLAGS, name + '.c', *parts, '-o', out, '-static', '-s', '-no-pie',
                    '-pthread'], f'cannot build {name}', cwd=source)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = list(pool.map(library, LIBRARY))
        list(pool.map(program, [test.name for test in TESTS]))
    shutil.rmtree(objects)


def build():
    """Builds what is not there yet. Return: the folder with the programs."""
    with debian.locked('selftests'):
        for test in TESTS:
            if not os.path.exists(os.path.join(BUILT, os.path.basename(test.name))):
                break
        else:
            return BUILT
        debian.say("building Linux's selftests for KVM")
        with tempfile.TemporaryDirectory(dir=debian.CACHE) as work:
            unpack(os.path.join(work, 'source'))
            compile_all(os.path.join(work, 'source', WANTED[0]), os.path.join(work, 'programs'))
            shutil.rmtree(BUILT, ignore_errors=True)
            os.rename(os.path.join(work, 'programs'), BUILT)
    return BUILT


def runner(directory):
    out = os.path.join(directory, 'runner')
    debian.run([debian.needs('gcc', 'gcc'), '-D_GNU_SOURCE', '-std=gnu17', '-O2', '-Wall',
                '-Wextra', '-Werror', '-static', '-s', '-o', out, RUNNER],
               'cannot build tests/selftests/runner.c')
    return out


def listing(tests, folder):
    return ''.join(f'{t.seconds} {os.path.basename(t.name)} {folder}/{os.path.basename(t.name)} '
                   f'{" ".join(t.words)}\n' for t in tests)


# ---- running ----

def outcome(how, shown):
    """A Result of the runner's word and the test's output."""
    lines = [line.strip() for line in shown.strip().splitlines() if line.strip()]
    if how == 'exit 0':
        return Result('ok', '')
    if how == f'exit {SKIPPED}':
        said = [line for line in lines if 'skip' in line.lower() or 'required' in line.lower()]
        return Result('skip', (said or lines or [''])[-1])
    told = [line for line in lines if re.search(r'==== Test Assertion|errno|!=|Unexpected|Unhandled'
                                                r'|fail', line, re.IGNORECASE)]
    return Result('FAIL', '; '.join([how, *(told or lines)[:SILENT_LINES]]))


def parsed(text, tests):
    """{name: Result} of what the runner says."""
    results = {}
    for test in tests:
        name = os.path.basename(test.name)
        found = re.search(rf'^== {name}\n(.*?)^== {name}: ([\w :]+)$', text,
                          re.MULTILINE | re.DOTALL)
        results[test.name] = (outcome(found.group(2), found.group(1)) if found else
                              Result('FAIL', 'the machine did not come to its end'))
    return results


def seconds_of(tests):
    return START_SECONDS + sum(test.seconds for test in tests)


def run_kvm(tests, cpus, say):
    programs = build()
    with tempfile.TemporaryDirectory(prefix='yado-selftests-') as work:
        path = os.path.join(work, 'selftests.list')
        with open(path, 'w') as f:
            f.write(listing(tests, '.'))
        words = [os.path.join(debian.ROOT, 'lab/run'), 'linux', '--cpus', str(cpus), '--memory',
                 str(MEMORY_MIB), '--time', str(seconds_of(tests)), '--in', path, '--in', runner(work)]
        for test in tests:
            words += ['--in', os.path.join(programs, os.path.basename(test.name))]
        done = subprocess.Popen([*words, '--', './runner'], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                errors='replace')
        text = ''
        for line in done.stdout:
            say(line)
            text += line
        if done.wait() == 125:
            say('the lab died\n')
    return parsed(text, tests)


def run_core(tests, cpus, say):
    programs = build()
    options = metal.Options()
    options.memory_mib, options.cpus = MEMORY_MIB, cpus
    with tempfile.TemporaryDirectory(prefix='yado-selftests-') as work:
        options.initramfs = os.path.join(work, 'initramfs')
        with open(options.initramfs, 'wb') as out:
            made = cpio.Archive(out)
            made.tree('init', runner(work))
            made.file('selftests.list', listing(tests, '/bin').encode())
            for test in tests:
                name = os.path.basename(test.name)
                made.tree(f'bin/{name}', os.path.join(programs, name))
            made.close()
        with metal.Machine(options) as m:
            told, end = 0, time.monotonic() + seconds_of(tests)
            while not re.search(r'== done|panic|core: ', m.text) and time.monotonic() < end:
                m.wait(r'\n== \w+: .*', 10)
                say(m.text[told:])
                told += len(m.text[told:])
            m.ended(5)
            say(m.text[told:])
            return parsed(m.text, tests)


PROVIDERS = {'kvm': run_kvm, 'core': run_core}


def run(provider, tests, say):
    """Runs tests; those that want as many CPUs share a machine. Return: {name: Result}."""
    results = {}
    for cpus in sorted({test.cpus for test in tests}):
        results.update(PROVIDERS[provider]([t for t in tests if t.cpus == cpus], cpus, say))
    return {test.name: results[test.name] for test in tests}


# ---- the table in docs ----

HEAD = '''# Linux's selftests for KVM

Programs that were not written for Yado: `tools/testing/selftests/kvm` of Linux 6.1, built from Debian's package `linux-source-6.1` when they are
needed. `make selftests PROVIDER=core` runs them on `core`, `PROVIDER=kvm` on Linux KVM, both in the lab, most on one CPU. Left out is what needs
nested guests, SMM, Hyper-V, Xen, SEV or a PMU, and what this lab cannot run: `hardware_disable_test` and `memslot_perf_test` hang it, `debug_regs`
wants intercepts of #BP.

This file is written by `tests/selftests.py --table`; a test compares it with what they say.
'''


def read_table():
    """{(test, provider): Result} from docs/selftests.md."""
    if not os.path.exists(TABLE):
        return {}
    with open(TABLE) as f:
        text = f.read()
    results = {}
    for name, cells in re.findall(r'^\| `([^` ]+)[^`]*` \|(.*)\|$', text, re.MULTILINE):
        for provider, cell in zip(COLUMNS, cells.split('|')):
            if cell.strip() != '-':
                results[name, provider] = Result(cell.strip(), '')
    for name, provider, reason in re.findall(r'^- `([^`]+)` on (\w+): (.*)$', text, re.MULTILINE):
        if (name, provider) in results:
            results[name, provider] = Result(results[name, provider].verdict, reason)
    return results


def write_table(provider, results):
    known = read_table()
    known.update({(name, provider): result for name, result in results.items()})
    none = Result('-', '')
    lines = [HEAD, '| test | ' + ' | '.join(COLUMNS) + ' |', '|---|' + '---|' * len(COLUMNS)]
    reasons = []
    for test in TESTS:
        cells = [known.get((test.name, column), none) for column in COLUMNS]
        lines.append(f'| `{" ".join([test.name, *test.words])}` | ' +
                     ' | '.join(cell.verdict for cell in cells) + ' |')
        reasons += [f'- `{test.name}` on {column}: {cell.reason}'
                    for column, cell in zip(COLUMNS, cells) if cell.reason]
    with open(TABLE, 'w') as f:
        f.write('\n'.join([*lines, '', *reasons]).rstrip() + '\n')


def stale(provider, results):
    """What the table says otherwise, in one line, or None."""
    table = read_table()
    for name, result in results.items():
        said = table.get((name, provider), Result('-', '')).verdict
        if said != result.verdict:
            return (f'docs/selftests.md says "{said}" of {name} on {provider}, which is '
                    f'"{result.verdict}": {result.reason}')
    return None


def picked(words):
    return [test for test in TESTS if not words or any(
        fnmatch.fnmatch(test.name, word) or os.path.basename(test.name) == word for word in words)]


def main():
    words = sys.argv[1:]
    if not words or '--help' in words or '-h' in words:
        print(__doc__.strip())
        return 0 if words else 2
    table = words[0] == '--table'
    provider, *names = words[table:] or ['']
    if provider not in PROVIDERS:
        debian.say(f'there is no provider "{provider}"; there are: {", ".join(PROVIDERS)}')
        return 2
    if not picked(names) or (table and names):
        debian.say('--table wants a whole run' if table else
                   f'no test is called "{" ".join(names)}"')
        return 2
    try:
        results = run(provider, picked(names), lambda t: print(t, end='', flush=True))
        if table:
            write_table(provider, results)
    except debian.Failed as error:
        debian.say(error)
        return 1
    for name, result in results.items():
        print(f'{result.verdict:6}{name}{": " if result.reason else ""}{result.reason}')
    number = collections.Counter(result.verdict for result in results.values())
    print(f'{number["ok"]} passed, {number["FAIL"]} failed, {number["skip"]} skipped')
    return 1 if number['FAIL'] else 0


if __name__ == '__main__':
    sys.exit(main())
