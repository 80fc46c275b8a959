"""Linux's selftests for KVM on core: docs/selftests.md says what is, but for those that take long."""

from tests import selftests
from tests.system.frame import Timeout, _write

TEST_SECONDS = 900  # with the build of the programs, where they are not there yet
USUAL_SECONDS = 140
LONG = ('kvm_page_table_test', 'demand_paging_test', 'max_guest_memory_test',
        'memslot_modification_stress_test', 'dirty_log_test', 'x86_64/xapic_ipi_test')


def test_core_does_as_the_table_says():
    short = [test for test in selftests.TESTS if test.name not in LONG]
    results = selftests.run('core', short, _write)
    difference = selftests.stale('core', results)
    if difference and 'did not come to its end' in difference:
        raise Timeout(difference)
    assert difference is None, difference


def test_differences_have_reasons():
    table = selftests.read_table()
    for test in selftests.TESTS:
        cells = [table.get((test.name, provider)) for provider in selftests.COLUMNS]
        assert all(cells), f'docs/selftests.md does not know {test.name}'
        if cells[0].verdict == 'ok':
            assert cells[1].verdict != 'FAIL', f'{test.name} fails on core'
            assert cells[1].verdict == 'ok' or cells[1].reason, f'{test.name}: no reason'
