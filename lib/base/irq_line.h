/*
 * One interrupt wire, as a device sees it: a level that it drives, and who listens.
 */
#pragma once

#include "lib/base/types.h"

struct irq_line {
	void (*set)(void *ctx, unsigned pin, bool level);
	void *ctx;
	unsigned pin;
};

/** irq_line_set() - drives the wire; a wire that is not connected is allowed. */
static inline void irq_line_set(const struct irq_line *line, bool level)
{
	if (line->set != NULL) {
		line->set(line->ctx, line->pin, level);
	}
}
