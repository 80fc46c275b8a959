"""memory of the VMM beside the guest's, while it starts and works with a disk and a network"""

from bench import peers, work


def rows(context):
    yield from work.measured(context, 'memory', ['disk', '0x800000', '200', 'net', '0x800000', '200'],
                             peers.SUBJECTS, disk=True, net=True)
