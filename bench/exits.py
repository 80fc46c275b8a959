"""how often the guest's start leaves the guest, and how often it comes to the VMM"""

from bench import peers

# Counts in the kernel, by what the trace points of KVM tell.
TRACE = '''set -e
mount -t tracefs tracefs /sys/kernel/tracing
cd /sys/kernel/tracing/events/kvm
echo hist:keys=exit_reason >kvm_exit/trigger
echo hist:keys=reason >kvm_userspace_exit/trigger
(cd /lab && "$@" >/dev/null)
for point in kvm_exit kvm_userspace_exit; do
	echo "$point $(sed -n 's/^ *Hits: //p' $point/hist)"
done
'''


def rows(context):
    for subject in context.chosen(peers.SUBJECTS):
        files = [context.initrd('guest/init.c'), *peers.files(subject, context)]
        shown = context.in_lab(files, 'sh', '-c', TRACE, 'sh', *peers.argv(subject))
        counts = dict(line.split() for line in shown.splitlines() if line.startswith('kvm_'))
        yield 'all', subject, int(counts['kvm_exit']), 'exits'
        yield 'to the VMM', subject, int(counts['kvm_userspace_exit']), 'exits'
