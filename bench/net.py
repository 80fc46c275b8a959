"""instructions for each MiB and each packet of a virtio network on a TAP interface"""

from bench import peers, work


def rows(context):
    yield from work.measured(context, 'work', ['net', '0x1000000', '1000'],
                             [*peers.SUBJECTS, peers.Q35_VHOST], net=True)
