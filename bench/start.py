"""instructions from the start of the VMM to the guest's first program"""

import re

from bench import peers
from lab import debian


def rows(context):
    for subject in context.chosen(peers.SUBJECTS):
        files = [context.compiled('host/start.c'), context.initrd('guest/init.c'),
                 *peers.files(subject, context)]
        shown = context.in_lab(files, './start', *peers.argv(subject))
        found = re.search(r'init (\d+)', shown)
        if not found:
            raise debian.Failed(f'{subject}: the guest did not start')
        yield 'to guest init', subject, int(found.group(1)), 'instructions'
