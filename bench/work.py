"""Guests that work with a disk or a network."""

from bench import peers
from lab import debian

DISK = '/run/bench/disk.img'
DISK_MIB = 64
SECONDS = 180  # a minute is usual where other tests run, too; a hang is given up then

# Nothing polls (halt_poll_ns), since a poll would count as work. Arguments: what is before the
# guest, the VMM and so on.
PREPARE = f'''set -e
echo 0 >/sys/module/kvm/parameters/halt_poll_ns
modprobe vhost_net
echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
mkdir -p /run/bench
mount -t tmpfs bench /run/bench
dd if=/dev/zero of={DISK} bs=1M count={DISK_MIB} 2>/dev/null
./peer tap0 >/run/bench/peer &
while [ ! -s /run/bench/peer ]; do sleep 0.1; done
'''


def quoted(words):
    return ' '.join("'" + word.replace("'", "'\\''") + "'" for word in words)


def _run(context, files, command):
    """A guest hangs at times while it starts in the lab, with any VMM, and would hang again in the
    same run: the next attempt starts it a moment later."""
    for delay in ('0.23', '0.37'):
        try:
            return context.in_lab(files, 'sh', '-c', f'{PREPARE}sleep {delay}\n{command}',
                                  seconds=SECONDS)
        except debian.Failed as error:
            debian.say(f'{error}; once more')
    return context.in_lab(files, 'sh', '-c', f'{PREPARE}sleep 0.51\n{command}', seconds=SECONDS)


def measured(context, what, words, subjects, disk=False, net=False):
    """Runs the guest with each subject, each in a lab host of its own, which is the same for all.

    Yields (row, subject, value, unit). @what: "work" or "memory", see host/measure.c.
    @words: what guest/work.c is told.
    """
    tools = [context.compiled('host/measure.c'), context.compiled('host/peer.c'),
             context.initrd('guest/work.c', peers.MODULES)]
    for subject in context.chosen(subjects):
        argv = peers.argv(subject, words, DISK if disk else None, 'tap0' if net else None,
                          memfd=what == 'memory')
        shown = _run(context, [*tools, *peers.files(subject, context)],
                     f'./measure {what} {quoted(argv)} 2>&1\nkill $!\n')
        found = [line.split('|') for line in shown.splitlines() if line.count('|') == 2]
        if not found:
            raise debian.Failed(f'{subject} measured nothing: {shown.strip()[-200:]}')
        for row, value, unit in found:
            yield row, subject, int(value), unit
