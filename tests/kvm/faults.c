#include "tests/kvm/faults.h"

#include <string.h>

#include "tests/kvm/bare_machine.h"

static const struct fault *current;

static int older_version(int fd, unsigned long request, uintptr_t argument)
{
	return request == KVM_GET_API_VERSION ? 11 : door_call(fd, request, argument);
}

static const struct fault faults[] = {
	{"older_version", "api/version_is_12", older_version, NULL, 0},
	{"stale_tlb", "self/stale_tlb", NULL, "bare_fault_invlpg", 3},
	{"stale_large_page", "paging/invlpg_whole_large_page", NULL, "bare_fault_invlpg_large", 3},
	{"smap_stays_open", "paging/smap", NULL, "bare_fault_clac", 3},
	{"no_swapgs", "modes/swapgs", NULL, "bare_fault_swapgs", 3},
	{"wrong_flag", "insn/inc_dec_keep_carry", NULL, "bare_fault_stc", 1},
};

const struct fault *fault_listed(size_t index)
{
	return index < sizeof(faults) / sizeof(faults[0]) ? &faults[index] : NULL;
}

const struct fault *fault_find(const char *name)
{
	const struct fault *fault;

	for (size_t i = 0; (fault = fault_listed(i)) != NULL; i++) {
		if (strcmp(fault->name, name) == 0) {
			return fault;
		}
	}
	return NULL;
}

void fault_put_in(const struct fault *fault)
{
	current = fault;
	door_set_filter(fault->filter);
}

void fault_patch(uint8_t *ram)
{
	if (current != NULL && current->symbol != NULL) {
		memset(ram + bare_symbol(current->symbol), 0x90, current->symbol_bytes);
	}
}
