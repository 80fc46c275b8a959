"""instructions of a guest's work, on core and on Linux KVM"""

import os
import re
import tempfile

from bench import context as bench
from bench import core, peers
from lab import cpio, debian, metal

UNITS = {'compute': 'instructions', 'fork and exec': 'instructions', 'touch': 'instructions',
         'touch again': 'instructions'}


def command():
    return peers.argv(peers.YADO, ['work'])


def on_linux(context):
    return context.in_lab([*peers.files(peers.YADO, context), initrd(context)],
                          *command())


def initrd(context):
    return context.initrd('guest/load.c')


def on_core(context):
    options = metal.Options()
    options.memory_mib, options.count = 1024, True
    argv = [word.replace('./', '/') for word in command()]
    with tempfile.TemporaryDirectory(dir=context.directory) as work:
        options.initramfs = os.path.join(work, 'initramfs')
        with open(options.initramfs, 'wb') as out:
            archive = cpio.Archive(out)
            archive.tree('init', context.compiled('host/core_init.c'))
            archive.tree('yado', bench.YADO)
            archive.tree('vmlinuz', bench.VMLINUZ)
            archive.tree('initrd.gz', initrd(context))
            archive.file('etc/command', ''.join(word + '\n' for word in argv).encode())
            archive.close()
        return core.booted(options, r'init has ended')[1]


def rows(context):
    for subject in context.chosen(['linux-kvm', 'core']):
        text = (on_core if subject == 'core' else on_linux)(context)
        found = dict(re.findall(r'bench: ([a-z ]+)\|(\d+)', text))
        for row, unit in UNITS.items():
            if row not in found:
                raise debian.Failed(f'{subject}: the guest did not do "{row}": {text[-300:]}')
            yield row, subject, int(found[row]), unit
