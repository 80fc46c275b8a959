#!/usr/bin/env python3
"""Runs all that must pass, and ends with one line: N passed, N failed, N skipped.

usage: tests/run.py [--list] [NAME]...

In this order: builds by gcc and clang, checks (tests/checks), unit tests under ASan and UBSan, the
same under TSan ("races"), fuzzers for a short while, system tests (tests/system) in lab hosts, as
many of its files at a time as there are processors. NAME picks from these: a group ("unit"), one of
it ("checks/format"), or a pattern ("system/*disk*").
Logs are kept under build/tests. The exit status is 1 if something failed.
"""

import contextlib
import fnmatch
import glob
import importlib.util
import inspect
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LOGS = os.path.join(ROOT, 'build', 'tests')
FUZZ_SECONDS = 15
TEST_SECONDS = 300  # for one system test, unless its module says otherwise
EXIT_SKIPPED = 77
TAIL = 30  # lines of a log that a failure shows

sys.path.insert(0, ROOT)


class Skipped(Exception):
    """Could not be tried here; the reason is said. Never a pass."""


class Failure(Exception):
    """str() says what is wrong in one line; the log has the rest."""


class Test:
    """Something that passes, fails or is skipped. run(log) raises Skipped or Failure, and may
    return a remark."""

    def __init__(self, name, run):
        self.name = name
        self.run = run


class Report:
    """Says how it goes, and counts."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.seconds = {}

    def run(self, test):
        path = os.path.join(LOGS, test.name + '.log')
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if sys.stdout.isatty():
            print(f'      {test.name} ...', end='\r', flush=True)
        start = time.monotonic()
        with open(path, 'w+', errors='replace') as log:
            try:
                remark = test.run(log)
                verdict, reason = 'ok', remark or ''
            except Skipped as error:
                verdict, reason = 'skip', str(error)
            except Failure as error:
                verdict, reason = 'FAIL', str(error)
        self.record(test.name, verdict, time.monotonic() - start, reason, path)

    def record(self, name, verdict, seconds, reason, log):
        group = name.split('/')[0]
        self.seconds[group] = self.seconds.get(group, 0) + seconds
        print(f'{verdict:5} {name:44} {seconds:6.1f} s{"  " if reason else ""}{reason}', flush=True)
        if verdict == 'ok':
            self.passed += 1
        elif verdict == 'skip':
            self.skipped += 1
        else:
            self.failed += 1
            for line in tail(log):
                print(f'      | {line}')
            print(f'      the whole log: {os.path.relpath(log)}; this one again: '
                  f'tests/run.py {name}', flush=True)


def tail(path):
    with open(path, errors='replace') as f:
        return [line.rstrip() for line in f.read().splitlines()][-TAIL:]


def command(argv, log, **options):
    """Runs a tool into the log. Return: its exit status."""
    print('+', ' '.join(argv), file=log, flush=True)
    return subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT,
                          **options).returncode


def must(argv, log, what, **options):
    if command(argv, log, **options) != 0:
        raise Failure(what)


# Checks: programs in tests/checks. Exit status 0 passes, 77 skips, the last line being the reason.

def check_tests():
    for path in sorted(glob.glob(os.path.join(ROOT, 'tests/checks/*'))):
        if os.path.isfile(path) and os.access(path, os.X_OK):
            yield Test(f'checks/{os.path.basename(path)}', lambda log, path=path: check(path, log))


def check(path, log):
    status = command([path], log)
    if status == EXIT_SKIPPED:
        raise Skipped((tail(log.name) or ['no reason given'])[-1])
    if status != 0:
        raise Failure('')


# Builds. Both compilers' warnings are errors.

def configured(directory, log, *options, compiler='gcc'):
    if not os.path.isdir(os.path.join(ROOT, directory, 'meson-private')):
        must(['meson', 'setup', directory, *options], log, 'meson setup failed',
             env={**os.environ, 'CC': compiler})


def build(directory, log, *options, compiler='gcc'):
    configured(directory, log, *options, compiler=compiler)
    must(['meson', 'compile', '-C', directory], log, 'does not build')


def build_tests():
    yield Test('build/gcc', lambda log: build('build', log))
    yield Test('build/clang', lambda log: build('build-clang', log, compiler='clang'))


# Unit tests: Meson runs them all; each of its tests counts. They run twice: "unit" under ASan and
# UBSan, "races" under TSan, which finds data races and locks taken in different orders.

SANITIZED = ['-Db_sanitize=address,undefined', '-Db_lundef=false']
UNIT_BUILDS = {
    'unit': ('build-asan', SANITIZED, 'gcc'),
    # gcc's TSan does not know fences.
    'races': ('build-tsan', ['-Db_sanitize=thread', '-Db_lundef=false'], 'clang'),
}


def unit_names(directory):
    """Of the configured build, or None when there is none yet."""
    shown = subprocess.run(['meson', 'introspect', '--tests', directory], cwd=ROOT,
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return [test['name'] for test in json.loads(shown.stdout)] if shown.returncode == 0 else None


def run_units(report, picked, group):
    directory, options, compiler = UNIT_BUILDS[group]
    failed = report.failed
    report.run(Test(f'build/{directory.removeprefix("build-")}',
                    lambda log: build(directory, log, *options, compiler=compiler)))
    names = [n for n in unit_names(directory) or [] if picked(f'{group}/{n}')]
    if report.failed > failed or not names:
        return
    results = os.path.join(ROOT, directory, 'meson-logs/testlog.json')
    if os.path.exists(results):
        os.unlink(results)
    subprocess.run(['meson', 'test', '-C', directory, '--no-rebuild', '-q', *names], cwd=ROOT,
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with open(results) as f:
        for result in map(json.loads, f):
            # "project / name", or "project:suite / name"
            name = f'{group}/' + result['name'].split(' / ', 1)[-1]
            path = os.path.join(LOGS, name + '.log')
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, 'w') as log:
                log.write(result.get('stdout', '') + result.get('stderr', ''))
            verdict = {'OK': 'ok', 'SKIP': 'skip'}.get(result['result'], 'FAIL')
            reason = {'ok': '', 'skip': (tail(path) or [''])[-1]}.get(verdict, result['result'])
            report.record(name, verdict, result['duration'], reason, path)
            names.remove(name.removeprefix(f'{group}/'))
    for name in names:
        report.record(f'{group}/{name}', 'FAIL', 0, 'did not run', results)


# Fuzzers: each for a short while, from its seeds; what they find stays in build-fuzz/found.

def fuzz_tests():
    names = sorted(os.path.basename(d) for d in glob.glob(os.path.join(ROOT, 'tests/fuzz/seeds/*')))
    for name in names:
        yield Test(f'fuzz/{name}', lambda log, name=name: fuzz(name, log))


def fuzz(name, log):
    build('build-fuzz', log, '-Dfuzz=true', *SANITIZED, compiler='clang')
    found = os.path.join(ROOT, 'build-fuzz/found', name)
    corpus = os.path.join(ROOT, 'build-fuzz/corpus', name)
    for directory in (found, corpus):
        os.makedirs(directory, exist_ok=True)
    program, = glob.glob(os.path.join(ROOT, f'build-fuzz/**/{name}_fuzz'), recursive=True)
    must([program, f'-max_total_time={FUZZ_SECONDS}',
          '-timeout=10', '-rss_limit_mb=2048', f'-artifact_prefix={found}/', '-print_final_stats=1',
          corpus, os.path.join(ROOT, 'tests/fuzz/seeds', name)], log,
         f'found an input that breaks it, kept in {os.path.relpath(found, ROOT)}')


# System tests: functions test_*() of tests/system/*.py; frame.py there says what they get.

def system_modules():
    for path in sorted(glob.glob(os.path.join(ROOT, 'tests/system/*.py'))):
        if os.path.basename(path) != 'frame.py':
            yield os.path.basename(path)[:-3], path


def load(name, path):
    spec = importlib.util.spec_from_file_location(f'tests.system.{name}', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    functions = [(key, value) for key, value in vars(module).items()
                 if key.startswith('test_') and callable(value)]
    return module, functions


class SystemRun:
    """The tests of one module. They share a lab host, which starts when the first asks for it."""

    def __init__(self, module):
        self._module = module
        self._lab = None

    def test(self, function, log):
        from tests.system import frame
        seconds = getattr(self._module, 'TEST_SECONDS', TEST_SECONDS)
        remark = None
        with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            frame.log_to(log)
            try:
                try:
                    self._once(frame, function, seconds)
                except frame.Died as error:
                    # Emulation by several threads hangs or aborts at times, whatever runs in it.
                    remark = f'the lab died ({error}), passed in a fresh one'
                    print(remark, file=log)
                    self.close()
                    self._once(frame, function, seconds)
            except frame.Skip as error:
                raise Skipped(str(error)) from None
            except frame.Died as error:
                self.close()
                raise Failure(f'the lab died: {error}') from None
            except Exception as error:
                traceback.print_exc(file=log)
                words = ' | '.join(str(error).splitlines())
                self.close()
                raise Failure(f'{type(error).__name__}: {words}') from None
            finally:
                frame.log_to(None)
        return remark

    def _once(self, frame, function, seconds):
        def late(*_):
            raise frame.Timeout(f'not done after {seconds} s')

        signal.signal(signal.SIGALRM, late)
        signal.alarm(seconds)
        try:
            if not inspect.signature(function).parameters:
                function()
                return
            if self._lab is None:
                self._lab = frame.Lab(**getattr(self._module, 'LAB', {}))
            try:
                function(self._lab)
            finally:
                self._lab.end_guests()
        finally:
            signal.alarm(0)

    def close(self):
        if self._lab:
            self._lab.close()
        self._lab = None


class Messenger(Report):
    """A Report in a child process: tells its parent, line by line."""

    def __init__(self, fd):
        super().__init__()
        self._pipe = os.fdopen(fd, 'w', buffering=1)

    def record(self, *result):
        print(json.dumps(result), file=self._pipe, flush=True)


def run_module(report, module, chosen):
    """Runs the chosen functions of one module, which share a lab."""
    run = SystemRun(module)
    try:
        for name, function in chosen:
            report.run(Test(name, lambda log, function=function: run.test(function, log)))
    finally:
        run.close()


def run_apart(module, chosen):
    """The same in a process. Return: the pipe that its results come from, and its id."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reader)
            run_module(Messenger(writer), module, chosen)
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    return os.fdopen(reader), pid


def take_result(report, pipe, expected):
    """Records one result. Return: False if there will be no more."""
    line = pipe.readline()
    if line:
        name, *rest = json.loads(line)
        expected.remove(name)
        report.record(name, *rest)
    return bool(line)


def run_modules(report, modules):
    """[(module, [(name, function), ...]), ...], as many at a time as there are processors."""
    running = {}  # pipe: (pid, names that have not been heard of)
    waiting = list(modules)
    while waiting or running:
        while waiting and len(running) < (os.cpu_count() or 1):
            module, chosen = waiting.pop(0)
            pipe, pid = run_apart(module, chosen)
            running[pipe] = pid, [name for name, _ in chosen]
        for pipe in select.select(list(running), [], [])[0]:
            pid, expected = running[pipe]
            if not take_result(report, pipe, expected):
                os.waitpid(pid, 0)
                pipe.close()
                del running[pipe]
                for name in expected:
                    report.record(name, 'FAIL', 0, 'its process ended', os.devnull)


def run_systems(report, picked):
    modules = []
    for name, path in system_modules():
        module, functions = load(name, path)
        chosen = [(f'system/{name}.{key[5:]}', f) for key, f in functions
                  if picked(f'system/{name}.{key[5:]}')]
        if chosen:
            modules.append((module, chosen))
    if not modules:
        return
    failed = report.failed
    report.run(Test('build/guest', prepare_guest))
    if report.failed == failed:
        # The longest first.
        modules.sort(key=lambda entry: -getattr(entry[0], 'USUAL_SECONDS', 60))
        run_modules(report, modules)
        return
    for _, chosen in modules:
        for name, _ in chosen:
            report.record(name, 'skip', 0, 'no yado or no guest to test', os.devnull)


def prepare_guest(log):
    build('build', log)
    must(['lab/image', 'guest', 'host'], log, 'cannot make the test guest')


def listed():
    for test in [*build_tests(), *check_tests()]:
        yield test.name
    for group, (directory, _, _) in UNIT_BUILDS.items():
        for name in unit_names(directory) or ['*']:
            yield f'{group}/{name}'
    for test in fuzz_tests():
        yield test.name
    for name, path in system_modules():
        for key, _ in load(name, path)[1]:
            yield f'system/{name}.{key[5:]}'


def picker(words):
    def picked(name):
        return not words or any(name == word or name.startswith((word + '/', word + '.')) or
                                fnmatch.fnmatch(name, word) for word in words)
    return picked


def unknown(words):
    """The first of `words` that picks nothing."""
    names = list(listed())
    for word in words:
        group = word.split('/')[0]
        if group in UNIT_BUILDS and unit_names(UNIT_BUILDS[group][0]) is None:
            continue
        if not any(map(picker([word]), names)):
            return word
    return None


def main():
    words = sys.argv[1:]
    if '--help' in words or '-h' in words:
        print(__doc__.strip())
        return 0
    if words[:1] == ['--list']:
        print('\n'.join(name for name in listed() if picker(words[1:])(name)))
        return 0
    word = unknown(words)
    if word:
        print(f'tests/run.py: nothing is called "{word}"; see tests/run.py --list', file=sys.stderr)
        return 2
    picked = picker(words)
    report = Report()
    for test in [*build_tests(), *check_tests()]:
        if picked(test.name):
            report.run(test)
    for group, (directory, _, _) in UNIT_BUILDS.items():
        if (any(word.startswith(f'{group}/') for word in words) or
                any(picked(f'{group}/{name}') for name in unit_names(directory) or [''])):
            run_units(report, picked, group)
    for test in fuzz_tests():
        if picked(test.name):
            report.run(test)
    run_systems(report, picked)
    print('time: ' + ', '.join(f'{group} {s:.0f} s' for group, s in report.seconds.items()))
    print(f'{report.passed} passed, {report.failed} failed, {report.skipped} skipped')
    return 1 if report.failed else 0


if __name__ == '__main__':
    sys.exit(main())
