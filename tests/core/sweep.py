#!/usr/bin/env python3
"""Guests on core that try all there is (tests/sweep), beside others that compute. By hand.

usage: tests/core/sweep.py [--cpus N] [PART...]

The parts are those of tests/sweep/main.c; all of them if none is named. "storm" takes one CPU, with
counted instructions, in any case. The exit status is 1 if anything is not as it shall be. Most of
it is part of `make test`, too, with two CPUs.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
from tests.system import core_hostile, frame  # noqa: E402


def main(words):
    cpus = 2
    if words[:1] == ['--cpus'] and words[1:2] and words[1].isdigit():
        cpus = int(words[1])
        words = words[2:]
    unknown = sorted(set(words) - set(core_hostile.SWEEP))
    if unknown:
        sys.exit(f'{sys.argv[0]}: there is no part {unknown[0]}; the parts are '
                 f'{" ".join(core_hostile.SWEEP)}')
    frame.log_to(sys.stdout)
    for part in words or core_hostile.SWEEP:
        core_hostile.sweep([part], cpus)
    print(f'{len(words or core_hostile.SWEEP)} parts: all as it shall be')


if __name__ == '__main__':
    main(sys.argv[1:])
