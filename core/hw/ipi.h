/*
 * Calls from one CPU to others.
 */
#pragma once

#include "lib/base/types.h"

typedef void ipi_fn(void *arg);

/**
 * ipi_call() - runs fn(arg) on each CPU of @cpus and waits until all have done so. On this CPU, if
 * it is in the set, it runs here. On the others in an interrupt handler: it must not wait.
 * @cpus: bit n is CPU n; CPUs that do not run are left out.
 * Context: interrupts on, or @cpus has no other CPU; no lock held that is taken with interrupts
 * off. Spinlocks of the other kind may be held: who waits for them still takes calls.
 */
void ipi_call(uint64_t cpus, ipi_fn *fn, void *arg);

/** ipi_reschedule() - interrupts CPU @cpu: it looks at its work (cpu.h), leaves HLT or a guest.
 * Does not wait. Context: any. */
void ipi_reschedule(unsigned cpu);

/** ipi_init() - start-up. */
void ipi_init(void);

/** ipi_stop_others() - for panic(): the other CPUs halt for good. Context: any. */
void ipi_stop_others(void);
