/*
 * A clock for vCPUs in translated code: every few milliseconds they look around, whether or not
 * somebody has kicked them.
 */
#pragma once

#include <stdatomic.h>

#include "lib/base/types.h"

/** Of a vCPU. */
struct st_tick {
	struct st_tick *next;	/* by the clock's lock */
	unsigned count;		/* likewise */
	_Atomic bool running;	/* in translated code, or near */
	_Atomic uint32_t *kick; /* constant: set to 1 */
	_Atomic bool *recheck;	/* constant: set to true */
};

/** st_tick_add(), st_tick_remove() - takes part from now on. Return: 0 or -errno. */
must_use int st_tick_add(struct st_tick *tick);
void st_tick_remove(struct st_tick *tick);

/** st_tick_run() - is it running? Context: the vCPU's thread. */
void st_tick_run(struct st_tick *tick, bool running);
