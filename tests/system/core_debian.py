"""What `make run-metal` and `make iso` boot: two Debian guests with two processors each on core."""

import os
import re
import shutil

from lab import debian, metal, metal_guests
from lab.host import SPARE_CPU
from tests.system import core
from tests.system.core_host import ESCAPE, Host
from tests.system.frame import Skip

TEST_SECONDS = 2000  # where it is not there yet, the guest is made first, as `make run` does
USUAL_SECONDS = 240
SHELL_SECONDS = 900  # for a busy machine


class Machine(Host):
    """`yado host` with the two guests, however it is booted."""

    def __init__(self, **options):
        self._mark = 0
        self.machine = core.machine(memory_mib=2048, **options)

    def __exit__(self, *_):
        core._write(self.machine.text)
        self.machine.close()


def test_two_debian_guests():
    debian.run([f'{debian.ROOT}/lab/image', 'metal'], 'cannot make the image')
    with Machine(initramfs=metal_guests.INITRAMFS, cpus=2, spare_cpu=True) as host:
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


def iso():
    """The image, made as a user makes it for QEMU. Return: its path."""
    for tool in ('grub-mkrescue', 'xorriso', 'mformat'):
        if not shutil.which(tool):
            raise Skip(f'no {tool}; lab/setup iso')
    debian.run(['make', '-C', debian.ROOT, 'iso', f'APPEND={SPARE_CPU}'], 'make iso')
    return os.path.join(metal_guests.DIRECTORY, 'yado.iso')


def check_listed(host):
    """The host's prompt, and both guests run."""
    host.wait('two starts')
    assert 'by Multiboot2 on' in host.machine.text
    host.ask('list', r'one +running +2 +384 MB on-failure .*\ntwo +running +2 +384 MB')


def test_image_on_bios():
    """From CD, to the shell of a guest; and from disk."""
    image = iso()
    with Machine(kernel=None, disc=image, cpus=3) as host:
        check_listed(host)
        host.show('two')
        host.wait('root@two:~# ', SHELL_SECONDS)
        host.send('echo "up: $(nproc) $(findmnt -no FSTYPE /)"\n')
        host.wait('up: 2 overlay')
        host.prompt()
        host.ask('poweroff --now', 'power off')
        assert host.machine.ended(core.START_SECONDS), 'the machine did not turn itself off'
    with Machine(kernel=None, disk=image, cpus=3) as host:
        check_listed(host)


def test_image_on_uefi():
    if not os.path.exists(metal.FIRMWARE):
        raise Skip('no UEFI firmware; apt-get install ovmf')
    image = iso()
    for kind in ('disc', 'disk'):
        with Machine(kernel=None, uefi=True, cpus=3, **{kind: image}) as host:
            check_listed(host)
