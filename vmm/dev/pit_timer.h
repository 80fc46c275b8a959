/*
 * The 8254 (lib/chip) on the ports of the machine, with the event loop for its clock. Only for
 * providers that have none of their own.
 */
#pragma once

#include "lib/chip/pit.h"
#include "vmm/board/bus.h"
#include "vmm/lock.h"
#include "vmm/loop.h"

struct pit_timer {
	struct loop *loop; /* constant after init */
	struct loop_timer timer;

	struct lock lock; /* guards the rest */
	struct pit pit;
	uint64_t deadline_ns; /* what the timer is set to; UINT64_MAX: nothing */
};

/** pit_timer_init() - the timer at its ports, driving @irq0. Return: 0 or -errno, logged. */
must_use int pit_timer_init(struct pit_timer *t, struct bus *pio, struct loop *loop,
			    struct irq_line irq0);
void pit_timer_fini(struct pit_timer *t);

/** pit_timer_state() - saves or loads it; after loading, the next interrupt is armed. */
void pit_timer_state(struct pit_timer *t, struct state *s);
