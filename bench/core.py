"""what core is: instructions from power-on to its first program, bytes, lines"""

import os
import re
import tempfile

from lab import cpio, debian, metal

BUILD = os.path.join(debian.ROOT, 'build')
KERNEL = os.path.join(BUILD, 'core', 'core.elf')
SECONDS = 300
# As the lab starts its Linux host, on the same machine.
LINUX_CMDLINE = ('console=ttyS0 quiet loglevel=4 panic=-1 tsc=reliable clocksource=tsc '
                 'mitigations=off i8042.noaux random.trust_cpu=on')
MACHINE = 'q35,sata=off,usb=off,smbus=off,vmport=off'


def booted(options, wanted):
    """Boots a machine until its console shows the regular expression. Return: (the match, all that
    it said)."""
    with metal.Machine(options) as m:
        found = m.wait(wanted, SECONDS)
        if not found:
            raise debian.Failed(f'the machine did not say "{wanted}": {m.text[-300:]}')
        return found, m.text


def started(context, kernel, cmdline, memory_mib=512, cpus=1, count=True):
    """Boots a kernel with bench/guest/load.c as /init. Return: (ticks when it started, all the text)."""
    options = metal.Options()
    options.kernel, options.cmdline, options.machine = kernel, cmdline, MACHINE
    options.memory_mib, options.cpus, options.count = memory_mib, cpus, count
    options.spare_cpu = False
    with tempfile.TemporaryDirectory(dir=context.directory) as work:
        options.initramfs = os.path.join(work, 'initramfs')
        with open(options.initramfs, 'wb') as out:
            archive = cpio.Archive(out)
            archive.device('dev/console', 5, 1)
            archive.tree('init', context.compiled('guest/load.c'))
            archive.close()
        found, text = booted(options, r'bench: start\|(\d+)\n')
    return int(found.group(1)), text


def linux_kernel():
    with debian.locked('packages'):
        return debian.kernel('amd64').image


# What runs in ring 0, and the program of ring 3 that core.elf carries.
RING_0 = ('core/libcore.a', 'core/libcore-foreign.a')
ANNEX = ('core/annex.elf',)


def sources(*targets):
    """All files of the repository that these links depend on, headers among them."""
    shown = debian.run(['ninja', '-C', BUILD, '-t', 'inputs', *targets], 'ninja')
    objects = [name for name in shown.split() if name.endswith('.o')]
    shown = debian.run(['ninja', '-C', BUILD, '-t', 'deps', *objects], 'ninja')
    # Assembly is preprocessed without a list of what it reads, so its inputs are taken, too.
    inputs = debian.run(['ninja', '-C', BUILD, '-t', 'inputs', *targets], 'ninja').split()
    names = {line.strip() for line in shown.splitlines() if line.startswith('    ')} | set(inputs)
    paths = {os.path.realpath(os.path.join(BUILD, name)) for name in names}
    return sorted(path for path in paths if path.endswith(('.c', '.h', '.S', '.def')) and
                  path.startswith(debian.ROOT + '/') and not path.startswith(BUILD + '/'))


def lines(path):
    """Lines that are neither empty nor comments."""
    with open(path) as f:
        text = f.read()
    text = re.sub(r'/\*.*?\*/', lambda comment: '\n' * comment.group(0).count('\n'), text,
                  flags=re.DOTALL)
    text = re.sub(r'//.*', '', text)
    return sum(bool(line.strip()) for line in text.splitlines())


def rows(context):
    for subject in context.chosen(['core', 'linux-kvm']):
        kernel, cmdline = (KERNEL, '') if subject == 'core' else (linux_kernel(), LINUX_CMDLINE)
        ticks, text = started(context, kernel, cmdline)
        yield 'from power-on to the first program', subject, ticks, 'instructions'
        if subject != 'core':
            continue
        yield 'in use with 512 MiB and one CPU', subject, in_use(text), 'KiB'
        _, text = started(context, kernel, cmdline, memory_mib=4096, cpus=4, count=False)
        yield 'in use with 4 GiB and four CPUs', subject, in_use(text), 'KiB'
        stripped = os.path.join(context.directory, 'core')
        debian.run(['objcopy', '--strip-all', KERNEL, stripped], 'objcopy')
        yield 'image', subject, os.path.getsize(stripped), 'bytes'
        files = sources(*RING_0)
        for part in ('core', 'lib', 'abi'):
            yield (f'ring 0, of {part}/', subject, sum(
                lines(path) for path in files
                if path.startswith(os.path.join(debian.ROOT, part) + '/')), 'lines')
        yield 'ring 0', subject, sum(map(lines, files)), 'lines'
        yield 'ring 3, the annex', subject, sum(map(lines, sources(*ANNEX))), 'lines'


def in_use(text):
    found = re.search(r'memory: \d+ MiB, (\d+) KiB in use', text)
    if not found:
        raise debian.Failed('core does not say what memory it uses')
    return int(found.group(1))
