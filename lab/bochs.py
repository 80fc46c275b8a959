"""A bare machine for core emulated by Bochs, whose CPUs have features that QEMU's lack.

Nothing of it is shown but the serial line, which is a pseudo-terminal, as its text display is.
"""

import os
import pty
import re
import subprocess
import termios
import threading

from lab import debian, host, metal

BIOS = '/usr/share/bochs/BIOS-bochs-latest'
VGA_BIOS = '/usr/share/bochs/VGABIOS-lgpl-latest'
CPU = 'ryzen'  # next-RIP save, flush by ASID
# x2APIC and PCID; CPUID's leaf of SVM says what it has, but the bit that announces it is forgotten.
GENERIC = ('level=6, family=23, vendor_string="AuthenticAMD", apic=x2apic, simd=avx2, svm=1, vmx=0, '
           'pcid=1, xsave=1, xsaveopt=1, 1g_pages=1, smep=1, smap=1, sse4a=1, fsgsbase=1, bmi=2, '
           'movbe=1, aes=1, adx=1')
CONFIG = '''display_library: term
romimage: file={bios}, options=fastboot
vgaromimage: file={vga_bios}
megs: {memory}
cpu: model={cpu}, count={cpus}, ips=50000000
{cpuid}
ata0-master: type=cdrom, path={image}, status=inserted
ata1: enabled=0
boot: cdrom
com1: enabled=1, mode=term, dev={serial}
log: {work}/log
panic: action=fatal
error: action=ignore
info: action=ignore
'''


def _repair():
    """Commands for Bochs' debugger: CPUID 0x80000001, ECX, gets its bit of SVM when core asks.

    With several CPUs the debugger sees no breakpoint where a CPU's turn of five instructions ends: so
    there are two, one instruction apart. Where it stops at the first, it does at the second, too.
    """
    shown = debian.run(['objdump', '-d', metal.KERNEL], 'objdump')
    # start.S asks first, before paging is on, and for other bits.
    found = re.findall(r'\$0x80000001,%eax\n(?:.*\n){0,4}?.*\tcpuid *\n *([0-9a-f]+):(.*)\n'
                       r'(?:.*\t[0-9a-f ]+\n)? *([0-9a-f]+):', shown)[1:]
    if not found:
        raise debian.Failed('core.elf does not ask for CPUID 0x80000001')
    first, instruction, second = found[0]
    if re.search('%(rcx|ecx|cx|cl)$', instruction.rstrip()):
        raise debian.Failed(f'core.elf keeps CPUID 0x80000001, ECX, for no instruction: {instruction}')
    return f'lb 0x{first}\nlb 0x{second}\nc\n' + 'set ecx = ecx | 4\nc\n' * 2


def _raw(fd):
    """A terminal that passes all bytes as they are."""
    mode = termios.tcgetattr(fd)
    mode[0] = mode[1] = mode[3] = 0
    termios.tcsetattr(fd, termios.TCSANOW, mode)


class Machine(metal.Machine):
    """As metal.Machine. Of its options: cpus, memory_mib, cmdline, initramfs, and cpu, which is a model
    of Bochs; 'bx_generic' is made to be GENERIC."""

    def _start(self, options):
        program = debian.needs('bochs', 'bochs bochs-term bochsbios')
        work = self._work.name
        image = os.path.join(work, 'core.iso')
        metal.iso(image, options.initramfs, options.cmdline)
        generic = options.cpu == 'bx_generic'
        self._console, serial = pty.openpty()
        self._display, display = pty.openpty()
        _raw(serial)
        with open(os.path.join(work, 'config'), 'w') as f:
            f.write(CONFIG.format(bios=BIOS, vga_bios=VGA_BIOS, memory=options.memory_mib, work=work,
                                  cpu=options.cpu, cpus=options.cpus, image=image,
                                  cpuid=f'cpuid: {GENERIC}' if generic else '',
                                  serial=os.ttyname(serial)))
        with open(os.path.join(work, 'commands'), 'w') as f:
            f.write(_repair() if generic else 'c\n')
        process = subprocess.Popen(
            [program, '-q', '-f', f.name.replace('commands', 'config'), '-rc', f.name],
            stdin=display, stdout=display, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, 'TERM': 'vt100'}, preexec_fn=host.die_with_parent)
        os.close(display)
        self._serial = serial  # kept open, so that its end is not taken for the machine's
        threading.Thread(target=self._drop_display, daemon=True).start()
        return process, self._console, self._console

    def _drop_display(self):
        try:
            while os.read(self._display, 65536):
                pass
        except OSError:
            pass
        # The machine has ended: so does its serial line.
        os.close(self._serial)
