/*
 * The CPU's own local APIC, as xAPIC or x2APIC.
 *
 * Spec: AMD APM vol. 2, chapter 16; Intel SDM vol. 3A, "APIC"
 */
#pragma once

#include "lib/base/types.h"

/**
 * lapic_init() - once, on the first CPU: chooses x2APIC if the CPU has it.
 * @base: where the MADT says that it is; 0: where the CPU says.
 * Return: 0; -ENODEV without a local APIC; -ENOMEM.
 */
must_use int lapic_init(uint64_t base);

/** lapic_start() - on each CPU: enables it, all interrupts of its own masked. */
void lapic_start(void);

uint32_t lapic_id(void);
bool lapic_is_x2apic(void);
void lapic_eoi(void);

/** lapic_send() - @command is the low half of the ICR. Waits until it is sent, in xAPIC mode. */
void lapic_send(uint32_t apic_id, uint32_t command);

#define LAPIC_FIXED   0x0000
#define LAPIC_NMI     0x0400
#define LAPIC_INIT    0x4500 /* level, assert */
#define LAPIC_STARTUP 0x4600
#define LAPIC_OTHERS  0xc0000 /* shorthand: all but this one */

/** lapic_timer_mask() - no interrupts of the timer. */
void lapic_timer_mask(void);
/** lapic_timer_set() - one interrupt on @vector, when @count of the divided bus clock have gone by.
 * @count: not 0. */
void lapic_timer_set(unsigned vector, uint32_t count);
/** lapic_timer_count() - what is left. */
uint32_t lapic_timer_count(void);
/** lapic_timer_deadline_mode() - from now on the MSR TSC_DEADLINE decides. */
void lapic_timer_deadline_mode(unsigned vector);
