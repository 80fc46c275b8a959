#include <errno.h>

#include "lib/base/state.h"
#include "lib/chip/ioapic_internal.h"

void ioapic_state(struct ioapic *ioapic, struct state *s)
{
	struct ioapic copy = *ioapic;

	state_begin(s, "ioapic", 1);
	state_u8(s, &copy.ioregsel);
	state_u8(s, &copy.id);
	state_u32(s, &copy.lines);
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		uint64_t *entry = &copy.redirection[pin];

		state_u64(s, entry);
		if ((*entry & ~(ENTRY_WRITABLE | ENTRY_REMOTE_IRR)) != 0 ||
		    ((*entry & ENTRY_REMOTE_IRR) != 0 && (*entry & ENTRY_LEVEL) == 0)) {
			state_fail(s, -EINVAL);
		}
	}
	if (copy.id > 0xf || copy.lines >> IOAPIC_PINS != 0) {
		state_fail(s, -EINVAL);
	}
	state_end(s);
	if (!s->loading || s->error != 0) {
		return;
	}
	*ioapic = copy;
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		ioapic->ops->changed(ioapic->ctx, pin);
	}
}
