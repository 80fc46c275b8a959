"""Debian's programs in a guest whose CPUs run in software: each result is that of this machine.
tests/soft/work.py runs the same by hand, longer, or under another engine."""

from lab import debian
from tests.soft import work
from tests.system import frame

LAB = {'native': True}
TEST_SECONDS = 900
USUAL_SECONDS = 120
STRESS_SECONDS = 2  # for each kind of stress-ng's work


def check(lab, works, engine='auto'):
    try:
        wrong = work.run(lab, works, STRESS_SECONDS, engine)
    except debian.Failed as error:
        raise frame.Skip(str(error)) from error
    assert not wrong, wrong


def test_programs(lab):
    """Python, Perl, openssl, SQLite; gcc's compiler makes the same objects, which run; keys
    protect memory."""
    check(lab, ['python', 'perl', 'openssl', 'sqlite', 'compiler', 'keys'])


def test_stress(lab):
    """stress-ng verifies what two processors compute and do to memory, alone and with each other."""
    check(lab, ['stress'])
