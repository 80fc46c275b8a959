#include "cli/host/restart.h"

#include <sys/wait.h>

#include "vmm/vmm.h"

bool restart_wanted(enum restart_policy policy, int status)
{
	if (policy == RESTART_NO) {
		return false;
	}
	if (!WIFEXITED(status)) {
		return true;
	}
	switch (WEXITSTATUS(status)) {
	case VM_END_USAGE:
		return false;
	case VM_END_POWEROFF:
	case VM_END_QUIT:
		return policy == RESTART_ALWAYS;
	default:
		return true;
	}
}

uint64_t restart_delay_ns(struct restart *r, uint64_t ran_ns)
{
	uint64_t delay_ns = RESTART_FIRST_NS;

	if (ran_ns >= RESTART_HEALTHY_NS) {
		r->quick_ends = 0;
	}
	for (unsigned i = 0; i < r->quick_ends && delay_ns < RESTART_LONGEST_NS; i++) {
		delay_ns *= 2;
	}
	if (delay_ns < RESTART_LONGEST_NS) {
		r->quick_ends++;
	}
	return MIN(delay_ns, RESTART_LONGEST_NS);
}
