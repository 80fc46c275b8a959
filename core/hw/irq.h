/*
 * Interrupts of this machine: vectors, and the IOAPIC's wires that lead to them. Each vector is the
 * same on all CPUs. Handlers run with interrupts off, on the kernel stack of whoever was
 * interrupted; the end-of-interrupt is sent before them for edges and after them for levels.
 */
#pragma once

#include "core/hw/asm.h"
#include "lib/base/types.h"

#define IRQ_VECTOR_CONSOLE  0x30
#define IRQ_VECTOR_TIMER    0xf0
#define IRQ_VECTOR_CALL	    0xf1 /* ipi.h */
#define IRQ_VECTOR_RESCHED  0xf2
#define IRQ_VECTOR_ERROR    0xfe
#define IRQ_VECTOR_SPURIOUS 0xff

typedef void irq_handler(void);

/** irq_save() - interrupts off. Return: how they were, for irq_restore(). */
static inline must_use uint64_t irq_save(void)
{
	return asm_irq_save();
}

static inline void irq_restore(uint64_t flags)
{
	asm_irq_restore(flags);
}

static inline void irq_on(void)
{
	asm_irq_on();
}

static inline void irq_off(void)
{
	asm_irq_off();
}

/** irq_is_on() - does this CPU take interrupts? */
static inline bool irq_is_on(void)
{
	return asm_irq_is_on();
}

/**
 * irq_connect_isa() - leads the wire that ISA calls @irq (0 to 15; the MADT's overrides are
 * applied) to @vector on CPU 0, unmasked. Start-up.
 * Return: 0, or -ENODEV without an IOAPIC that has the wire.
 */
must_use int irq_connect_isa(unsigned irq, unsigned vector, irq_handler *fn);

/* Start-up, and for entry.c. */

/** irq_dispatch() - the handler of @vector, with all around it. Context: interrupts off. */
void irq_dispatch(unsigned vector);

/** irq_set_handler() - of one of the vectors above. Start-up. */
void irq_set_handler(unsigned vector, irq_handler *fn);
