"""core with TSC deadlines, which no CPU with SVM has that QEMU or Bochs emulates: on Linux KVM, in
the lab's Linux host, whose local APIC has them. Guests of core are guests of a guest here.
"""

import re

from lab import nested
from tests.system import core, core_bochs, core_guest, core_user

TEST_SECONDS = 400
USUAL_SECONDS = 30
SUMMARY = core.SUMMARY + ', TSC deadlines\n'


def test_ring_3():
    """Programs that sleep, time out, and take turns, on two CPUs that share one: shares of it are
    not asked about."""
    text = core_user.run({'init': core_user.build('user')}, cpus=2, emulator=nested)
    assert re.search(SUMMARY, text), text
    core_user.check_user(text)


def test_guest():
    with core_guest.Host(emulator=nested) as host:
        assert re.search(SUMMARY, host.machine.text), host.machine.text
        core_bochs.check_guest(host, 1)
        host.power_off()
