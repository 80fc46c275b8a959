#include "tests/kvm/faults.h"

#include <string.h>

#include "tests/kvm/bare_machine.h"

/* One a line. */
/* clang-format off */
static const struct fault *const tables[] = {
	api_faults,
	io_faults,
	irq_faults,
	state_faults,
};
/* clang-format on */

static const struct fault *current;

const struct fault *fault_listed(size_t index)
{
	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
		for (const struct fault *fault = tables[i]; fault->name != NULL; fault++) {
			if (index-- == 0) {
				return fault;
			}
		}
	}
	return NULL;
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
