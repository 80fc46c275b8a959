/*
 * How fast the TSC and the local APIC's timer count, by a timer whose rate is known.
 */
#pragma once

#include "lib/base/types.h"

/* Such a timer counts up, at the rate it says, to `wraps` (a power of two) and from 0 again. */
struct reference {
	const char *name;
	uint64_t hz;
	uint64_t wraps;
	uint64_t ns; /* how long to measure */
	void (*start)(void);
	uint64_t (*read)(void);
	/* Has it come to its end since start()? NULL: it takes seconds to get there. */
	bool (*wrapped)(void);
};

struct calibration {
	uint64_t tsc_khz;
	uint64_t lapic_mult; /* counts = ns * lapic_mult >> 32: rather too many than too few */
};

/**
 * calibrate() - measures both rates by @r.
 *
 * Right also where the machine stands still at times: by an SMI, or as a virtual machine whose CPU
 * is taken away. Leaves the local APIC's timer masked.
 *
 * Return: did the timer count at all?
 * Context: start-up, interrupts off.
 */
bool calibrate(const struct reference *r, struct calibration *found);
