/*
 * The interrupt half for tests of the rest: one pending vector, one start-up message.
 */
#pragma once

#include "lib/base/types.h"

struct fake_irq {
	int pending; /* vector + 1; 0: none */
	bool init_sipi;
	bool stopped;
	uint64_t deadline;
};

extern struct fake_irq fake_irq;
