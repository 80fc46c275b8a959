/*
 * A counter's rate: how its ticks and nanoseconds become one another, without a loss that grows
 * with the time that has passed.
 */
#pragma once

#include "core/hw/asm.h"

struct rate {
	uint64_t mult; /* ns = ticks * mult >> 32; not 0 */
};

/** rate_of() - @khz: not 0. */
static inline struct rate rate_of(uint64_t khz)
{
	return (struct rate){MAX((UINT64_C(1000000) << 32) / khz, UINT64_C(1))};
}

static inline uint64_t rate_ns(struct rate r, uint64_t ticks)
{
	return (uint64_t)((unsigned __int128)ticks * r.mult >> 32);
}

/** rate_ticks() - the first tick at which rate_ns() is not below @ns: who waits for that does not
 * wake too early. UINT64_MAX if there is none. */
static inline uint64_t rate_ticks(struct rate r, uint64_t ns)
{
	uint64_t below = ns - 1;

	if (ns == 0) {
		return 0;
	}
	/* (ns << 32) / mult, rounded up. */
	return (below >> 32) + 1 < r.mult
		       ? asm_div(below >> 32, below << 32 | UINT32_MAX, r.mult) + 1
		       : UINT64_MAX;
}
