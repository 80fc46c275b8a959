"""What `make run-metal` boots: two Debian guests with two processors each, side by side on core."""

import re

from lab import debian, metal_guests
from tests.system import core
from tests.system.core_host import ESCAPE, Host

TEST_SECONDS = 2000  # where it is not there yet, the guest is made first, as `make run` does
USUAL_SECONDS = 240
SHELL_SECONDS = 900  # for a busy machine


class Machine(Host):
    """The image that lab/image makes, booted as the Makefile does."""

    def __init__(self):
        self._mark = 0
        debian.run([f'{debian.ROOT}/lab/image', 'metal'], 'cannot make the image')
        self.machine = core.machine(initramfs=metal_guests.INITRAMFS, memory_mib=2048, cpus=2)

    def __exit__(self, *_):
        core._write(self.machine.text)
        self.machine.close()


def test_two_debian_guests():
    with Machine() as host:
        host.wait('two starts')
        host.show('one')
        host.wait('root@one:~# ', SHELL_SECONDS)
        host.send('echo "up: $(nproc) $(findmnt -no FSTYPE /)"; echo kept >/etc/mine\n')
        host.wait('up: 2 overlay')
        host.send(ESCAPE + 'n')
        host.wait(r'\[two: ')
        host.send('\n')
        host.wait('root@two:~# ', SHELL_SECONDS)
        # Of what the other one writes on their disk this one sees nothing.
        host.send('echo "mine: $(ls /etc/mine 2>&1)"\n')
        host.wait('mine: .*No such file')
        host.prompt()
        host.power_off(SHELL_SECONDS)
        # A busy machine may take them longer than the host waits.
        for name in metal_guests.NAMES:
            assert re.search(rf'{name} (powered off|was ended)', host.machine.text)
