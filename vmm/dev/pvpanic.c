#include "vmm/dev/pvpanic.h"

#define EVENTS (PVPANIC_PANICKED | PVPANIC_CRASH_LOADED)

static uint64_t pvpanic_read(void *dev, uint64_t offset, unsigned len)
{
	(void)dev;
	(void)offset;
	(void)len;
	return EVENTS; /* what the guest may report */
}

static void pvpanic_write(void *dev, uint64_t offset, unsigned len, uint64_t value)
{
	const struct pvpanic *p = dev;

	(void)offset;
	(void)len;
	if ((value & EVENTS) != 0) {
		p->event(p->ctx, value & EVENTS);
	}
}

const struct bus_ops pvpanic_ops = {.read = pvpanic_read, .write = pvpanic_write};
