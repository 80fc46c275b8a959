#include "bench/micro/guest_clock.h"

#include <linux/kvm.h>
#include <stdint.h>
#include <sys/ioctl.h>

#include "bench/micro/clock.h"
#include "bench/micro/payload.h"

#define EXITS	 100
#define TRIES	 20
#define IA32_TSC 0x10

/* The guest counts its own time over many exits, which cannot be much less than from outside. */
enum verdict guest_clock_check(struct result *result)
{
	struct start start = {.routine = guest_clock, .samples = EXITS};
	struct machine m;
	enum verdict verdict = machine_create(&m, MACHINE_PLAIN, 1, result);

	/* The first time there are many page faults; later a busy host may be elsewhere for a
	 * while. */
	for (unsigned i = 0; i < TRIES && verdict == MEASURED; i++) {
		int64_t begin = clock_ticks();
		int64_t guest, host;

		verdict = machine_start(&m, 0, &start, result);
		if (verdict == MEASURED) {
			verdict = machine_run_to_port(&m, 0, PORT_DONE, result);
		}
		host = clock_ticks() - begin;
		guest = machine_samples(&m, 0)[1] - machine_samples(&m, 0)[0];
		if (verdict == MEASURED && i > 0 && guest <= host && guest >= host - host / 4) {
			break;
		}
		if (verdict == MEASURED && i == TRIES - 1) {
			verdict = result_fail(
				result,
				"the guest's TSC is no clock: %lld of its ticks are %lld "
				"of the host",
				(long long)guest, (long long)host);
		}
	}
	machine_destroy(&m);
	return verdict;
}

/* The guest's TSC less the host's is between *least and *most. */
static int offset(int vcpu, int64_t *least, int64_t *most)
{
	_Alignas(struct kvm_msrs)
		uint8_t space[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)] = {0};
	struct kvm_msrs *msrs = (void *)space;
	int64_t before, after;

	msrs->nmsrs = 1;
	msrs->entries[0].index = IA32_TSC;
	before = clock_ticks();
	if (ioctl(vcpu, KVM_GET_MSRS, msrs) != 1) {
		return -1;
	}
	after = clock_ticks();
	*most = (int64_t)msrs->entries[0].data - before;
	*least = (int64_t)msrs->entries[0].data - after;
	return 0;
}

enum verdict guest_clock_same(struct machine *m, struct result *result)
{
	int64_t least[MACHINE_CPUS], most[MACHINE_CPUS];

	for (unsigned cpu = 0; cpu < MACHINE_CPUS; cpu++) {
		if (offset(m->vcpu[cpu], &least[cpu], &most[cpu]) != 0) {
			return result_skip(result, "KVM_GET_MSRS does not tell a vCPU's TSC");
		}
	}
	if (least[0] > most[1] || least[1] > most[0]) {
		return result_skip(result, "the TSCs of two vCPUs differ");
	}
	return MEASURED;
}
