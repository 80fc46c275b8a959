/*
 * Timers: a function to be called at a time, by the interrupt of the CPU that started it. Each CPU
 * keeps its own in a heap and sets its hardware timer to the earliest; without timers it has no
 * interrupts at all.
 */
#pragma once

#include <stdatomic.h>

#include "lib/base/types.h"

struct timer;

/** A timer's function: in the interrupt handler, interrupts off, no lock held. It may start its
 * timer again. */
typedef void timer_fn(struct timer *t);

/* Storage is the caller's. Only timer.c touches what is in it. */
struct timer {
	timer_fn *fn; /* constant after init */
	uint64_t deadline_ns;
	struct timer *child, *sibling, *parent; /* in a pairing heap; guarded by the CPU's lock */
	_Atomic int cpu;			/* in whose heap; -1: in none */
};

void timer_init(struct timer *t, timer_fn *fn);

/**
 * timer_start() - at @deadline_ns of clock_now_ns(), or soon if that has passed. A timer that
 * already runs gets the new time and moves to this CPU.
 * Context: any; one caller at a time for one timer.
 */
void timer_start(struct timer *t, uint64_t deadline_ns);

/**
 * timer_stop() - it will not fire any more, unless its function runs at this moment.
 * Return: was it still to come?
 * Context: any; one caller at a time for one timer.
 */
bool timer_stop(struct timer *t);

/** timer_stop_wait() - as timer_stop(), and its function does not run any more either. Context:
 * interrupts on, not within the function. */
bool timer_stop_wait(struct timer *t);

/** timer_init_cpu() - on each CPU, before its first timer. */
void timer_init_cpu(void);

/** timer_run() - calls what is due and sets the device for the rest. Context: the device's
 * interrupt. */
void timer_run(void);
