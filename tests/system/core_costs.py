"""What docs/promises.md says of core's cost beside Linux KVM's, by the benches themselves.

In counting mode figures repeat exactly, so that ratios can be asserted.
"""

import tempfile

from bench import idle, load, micro
from bench.context import Context
from tests.system.frame import _write

TEST_SECONDS = 400
USUAL_SECONDS = 60


def measured(bench):
    """{row: (Linux's figure, core's)}."""
    figures = {}
    with tempfile.TemporaryDirectory() as work:
        for row, subject, value, _ in bench.rows(Context(work, ['linux-kvm', 'core'])):
            figures.setdefault(row, {})[subject] = value
    pairs = {row: (by['linux-kvm'], by['core']) for row, by in figures.items()}
    _write(''.join(f'{row}: {linux} {core} {core / linux:.3f}\n'
                   for row, (linux, core) in pairs.items()))
    return pairs


def check(bench, rows, most):
    pairs = measured(bench)
    assert len(pairs) >= rows, pairs
    above = {row: pair for row, pair in pairs.items() if not 0 < pair[1] <= pair[0] * most}
    assert not above, above


def test_exits_and_calls_cost_a_quarter_of_linuxs():
    check(micro, 38, 1 / 4)


def test_guests_work_costs_no_more_than_on_linux():
    check(load, len(load.UNITS), 1)


def test_idle_cpus_are_left_alone():
    """One interrupt ends the sleep of who counts them. Linux takes several a second."""
    linux, core = measured(idle)[idle.ROW]
    assert core <= 1 < linux
    with tempfile.TemporaryDirectory() as work:
        program = Context(work).compiled('host/idle.c')
        taken = idle.taken(idle.on_core(program, cpus=4, count=False))
    assert len(taken) == 4 + 1 and sum(taken) <= 1, taken  # one is spare
