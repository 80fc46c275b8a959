"""core on CPUs that QEMU does not emulate: Bochs' have next-RIP save, or x2APIC and PCID."""

import re
import shutil

from lab import bochs
from tests import conformance
from tests.system import core, core_guest, core_user
from tests.system.frame import Skip

TEST_SECONDS = 600
USUAL_SECONDS = 180
GUEST_SECONDS = 450  # thirty where nothing else runs


def emulated(cpu):
    if not shutil.which('bochs'):
        raise Skip('no bochs; lab/setup test')
    return {'emulator': bochs, 'cpu': cpu, 'memory_mib': 1024}


def check_guest(host, cpus):
    guest = host.guest(0, '--disk', 'path=/disk.img,readonly=on', cpus=cpus)
    guest.wait('guest: ready', GUEST_SECONDS)
    guest.wait('guest# ')
    assert guest.must('nproc; head -c 12 /dev/vda') == f'{cpus}\nfrom-outside'
    guest.must('sleep 1')
    guest.send('poweroff -f')
    assert guest.end() == 0, guest.text


def test_guest_with_next_rip():
    """The CPU says where the next instruction is, and forgets a guest's TLB by its ASID."""
    with core_guest.Host(cpus=2, **emulated('ryzen')) as host:
        summary = re.search(core.SUMMARY, host.machine.text)
        assert summary.group(1, 2, 3) == ('Multiboot2', '2', 'xAPIC'), summary.group(0)
        assert re.search('svm: 32768 ASIDs, next RIP, flush by ASID\n', host.machine.text)
        check_guest(host, 2)
        host.power_off()


def test_ring_3_with_pcid():
    """Programs that share, fork, remap and unmap memory, on CPUs that keep their TLBs meanwhile."""
    core_user.check_user(core_user.run({'init': core_user.build('user')}, cpus=2,
                                       **emulated('bx_generic')))


def test_guest_with_x2apic_and_pcid():
    with core_guest.Host(cpus=2, **emulated('bx_generic')) as host:
        summary = re.search(core.SUMMARY, host.machine.text)
        assert summary.group(1, 2, 3) == ('Multiboot2', '2', 'x2APIC'), summary.group(0)
        assert re.search('by HPET, PCID\n', host.machine.text)
        check_guest(host, 1)
        host.power_off()


def check_suite(cpu):
    emulated(cpu)
    results = conformance.run_core([], lambda text, end: None, bochs_cpu=cpu)
    failed = [name for name, result in results.items() if result.verdict == 'FAIL']
    assert not failed, failed
    cannot = conformance.picker(conformance.bochs_cannot(cpu))
    assert set(results) == {name for name in conformance.listed() if not cannot(name)}


def test_suite_with_next_rip():
    check_suite('ryzen')


def test_suite_with_x2apic_and_pcid():
    check_suite('bx_generic')
