"""What the checks share. Each takes the tree to look at as its argument, or takes this one."""

import concurrent.futures
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SKIPPED = 77
FLAGS = ['-std=gnu17', '-D_GNU_SOURCE', '-DYADO_VERSION="check"', '-DDEBUG_LOCKS=1', '-Wall', '-Wextra']


def tree():
    return os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else ROOT


def files(root, pattern):
    """Files of the tree whose name matches the regular expression, sorted, relative to it."""
    if os.path.exists(os.path.join(root, '.git')):
        listed = subprocess.run(['git', 'ls-files', '-co', '--exclude-standard'], cwd=root,
                                stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    else:
        listed = [os.path.relpath(os.path.join(folder, name), root)
                  for folder, _, names in os.walk(root) for name in names]
    return sorted(name for name in set(listed)
                  if re.search(pattern, name) and os.path.exists(os.path.join(root, name)))


def beside(name):
    """Does it stand beside the product for its unit tests: foo_test.c, test_foo.h, fake_foo.c?"""
    base = os.path.basename(name)
    return base.endswith('_test.c') or base.startswith(('test_', 'fake_'))


def is_test(name):
    return beside(name) or name.split('/')[0] in ('tests', 'bench')


def include_flags(root):
    """Generated files are in the build directory."""
    return ['-I', root, '-I', os.path.join(root, 'build')]


def run_all(commands, root, stdin=None):
    """Runs [argv] two at a time. Prints what the failing ones said. Return: how many failed."""
    def run(argv):
        return subprocess.run(argv, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              input=stdin(argv) if stdin else None, text=True)

    failed = 0
    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        for done in pool.map(run, commands):
            if done.returncode != 0:
                failed += 1
                print(done.stdout, end='')
    return failed


def need(program, package):
    """Skips the check where its tool is missing."""
    if subprocess.run(['sh', '-c', f'command -v {program}'],
                      stdout=subprocess.DEVNULL).returncode != 0:
        print(f'{program} is missing; apt-get install {package}')
        sys.exit(SKIPPED)
