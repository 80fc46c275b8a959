/*
 * What asm.h gives to the parts of the kernel whose unit tests run as programs of Linux. A thread
 * of the program is a CPU; RAM is an array of the program. core/hw/fake_hw.c has the other half.
 */
#pragma once

#include "lib/base/types.h"

struct cpu;

/* Constant while CPUs run. */
extern uint64_t hosted_phys_base;

extern _Thread_local struct cpu *hosted_cpu;
extern _Thread_local bool hosted_irqs_off;

static inline uint64_t asm_phys_base(void)
{
	return hosted_phys_base;
}

static inline struct cpu *asm_cpu_this(void)
{
	return hosted_cpu;
}

static inline void asm_irq_off(void)
{
	hosted_irqs_off = true;
}

static inline void asm_irq_on(void)
{
	hosted_irqs_off = false;
}

static inline bool asm_irq_is_on(void)
{
	return !hosted_irqs_off;
}

static inline uint64_t asm_irq_save(void)
{
	uint64_t flags = hosted_irqs_off ? 0 : 1;

	hosted_irqs_off = true;
	return flags;
}

static inline void asm_irq_restore(uint64_t flags)
{
	hosted_irqs_off = flags == 0;
}

static inline void asm_pause(void)
{
}

/* A test that needs it brings it. */
uint64_t asm_rdtsc(void);
