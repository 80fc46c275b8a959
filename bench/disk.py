"""instructions for each MiB and each request of a virtio disk, past the guest's page cache"""

from bench import peers, work


def rows(context):
    yield from work.measured(context, 'work', ['disk', '0x2000000', '1000'], peers.SUBJECTS, disk=True)
