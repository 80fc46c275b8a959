"""The conformance suite on Linux KVM, its oracle: all of it passes, and it notices faults. And on
soft, on this machine, and on core, on an emulated one."""

from tests import conformance
from tests.system import frame

LAB = {'guest': False, 'files': [conformance.SUITE]}
TEST_SECONDS = conformance.SUITE_SECONDS + 60
USUAL_SECONDS = 200
THREADS = ['backing', 'dirty', 'ioeventfd', 'irqfd', 'mp', 'run', 'slots', 'steal']


def failures(results):
    return [conformance.shown(name, result) for name, result in results.items()
            if result.verdict == 'FAIL']


def test_linux_passes_all(lab):
    """Every case; and docs/conformance.md says the same."""
    code, text = conformance.run_suite(lab)
    results = conformance.parsed(text)
    assert not failures(results), failures(results)
    assert code == 0
    assert set(results) == set(conformance.listed())
    assert len(results) >= 250
    if not lab.native:  # other hardware skips other cases
        stale = conformance.stale('kvm', results)
        assert not stale, stale


def test_faults_are_noticed(lab):
    """A provider with one thing wrong fails the case that is about it."""
    code, text = conformance.run_suite(lab, '--prove')
    results = conformance.parsed(text)
    assert code == 0 and not failures(results), failures(results)
    assert len(results) >= 10


def test_needs_nothing_but_the_device(lab):
    """It runs where there is nothing else: no libraries, no /proc, no /sys."""
    lab.need_root()
    lab.must('mkdir -p jail/dev && cp conformance jail && cp -a /dev/kvm jail/dev')
    assert lab.must('chroot jail /conformance api self').endswith(', 0 failed, 0 skipped\n')


def soft_passes_all(engine):
    results = conformance.run_soft([], lambda text, end: None, engine)
    assert not failures(results), failures(results)
    assert set(results) == set(conformance.listed())
    if {'avx2', 'pcid', 'invpcid', 'xsave', 'fsgsbase', 'pdpe1gb'} <= frame.cpu_flags():
        keys = [] if 'pku' in frame.cpu_flags() else [
            name for name, result in results.items()
            if result == conformance.Result('skip', 'the CPU has no protection keys')]
        stale = conformance.stale('soft', results, but=keys)
        assert not stale, stale


def test_soft_interprets_all():
    """Yado's own provider in software passes every case, or says why not: the interpreter."""
    soft_passes_all('soft:interpret')


def test_soft_translates_all():
    """The translator, which is what one gets unless one chooses."""
    if 'bmi2' not in frame.cpu_flags():
        raise frame.Skip('the CPU has no BMI2, which translated code needs')
    soft_passes_all('soft:translate')


def test_soft_translates_all_checked():
    """The same, and all code that it emits stands before its judge."""
    if 'bmi2' not in frame.cpu_flags():
        raise frame.Skip('the CPU has no BMI2, which translated code needs')
    soft_passes_all('soft:translate-checked')


def test_soft_translates_all_again_and_again():
    """The same, with a cache for code that is full after some blocks: several vCPUs, too."""
    if 'bmi2' not in frame.cpu_flags():
        raise frame.Skip('the CPU has no BMI2, which translated code needs')
    soft_passes_all('soft:translate-small')


def test_core_passes_all():
    """Every case on core, on an emulated bare machine; and docs/conformance.md says the same."""
    results = conformance.run_core([], lambda text, end: None)
    assert not failures(results), failures(results)
    assert set(results) == set(conformance.listed())
    stale = conformance.stale('core', results)
    assert not stale, stale


def test_core_passes_on_several_cpus():
    """The areas in which threads meet vCPUs, each on a CPU of its own: nothing switches threads there
    that would hide what was left undone."""
    results = conformance.run_core(THREADS, lambda text, end: None, cpus=4)
    assert not failures(results), failures(results)
    assert {name.split('/')[0] for name in results} == set(THREADS)


def test_payloads_run_without_a_provider():
    """The bare payloads on QEMU's TCG as a machine: a second opinion on what they claim."""
    results = conformance.run_tcg([], lambda text, end: None)
    assert not failures(results), failures(results)
    stale = conformance.stale('tcg', results)
    assert not stale, stale
