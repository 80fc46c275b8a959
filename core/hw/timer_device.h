/*
 * A CPU's own timer: TSC deadlines where the CPU has them, else the local APIC's counter.
 */
#pragma once

#include "lib/base/types.h"

/** timer_device_init() - once, after clock_init(). */
void timer_device_init(void);

/** timer_device_start() - on each CPU, after local_apic_start(). */
void timer_device_start(void);

/**
 * timer_device_set() - timer_run() is to be called at @deadline_ns, or at once if that has passed;
 * with CLOCK_NEVER not at all. It may come early, if the deadline is far. Context: interrupts off.
 */
void timer_device_set(uint64_t deadline_ns);
