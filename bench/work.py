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


def _rows(shown):
    return [line.split('|') for line in shown.splitlines() if line.count('|') == 2]


def _run(context, files, command, wanted):
    """A guest hangs or ends at times while it starts or works in the lab, with any VMM, and would do so
    again in the same run: the next attempt starts it a moment later. `wanted`: how many rows at least.
    """
    for delay in ('0.51', '0.67', '0.23', '0.37'):
        try:
            shown = context.in_lab(files, 'sh', '-c', f'{PREPARE}sleep {delay}\n{command}',
                                   seconds=SECONDS)
            if len(_rows(shown)) >= wanted:
                return shown
            error = f'{len(_rows(shown))} of {wanted} rows: {shown.strip()[-200:]}'
        except debian.Failed as failed:
            error = failed
        debian.say(f'{error}; once more')
    raise debian.Failed(f'four attempts failed, the last one so: {error}')


def measured(context, what, words, subjects, disk=False, net=False):
    """Runs the guest with each subject, each in a lab host of its own, which is the same for all.

    Yields (row, subject, value, unit). @what: "work" or "memory", see host/measure.c.
    @words: what guest/work.c is told.
    """
    tools = [context.compiled('host/measure.c'), context.compiled('host/peer.c'),
             context.initrd('guest/work.c', peers.MODULES)]
    wanted = 1
    for subject in context.chosen(subjects):
        argv = peers.argv(subject, words, DISK if disk else None, 'tap0' if net else None,
                          memfd=what == 'memory')
        found = _rows(_run(context, [*tools, *peers.files(subject, context)],
                           f'./measure {what} {quoted(argv)} 2>&1\nkill $!\n', wanted))
        wanted = len(found)
        for row, value, unit in found:
            yield row, subject, int(value), unit
