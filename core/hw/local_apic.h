/*
 * The CPU's own local APIC, as xAPIC or x2APIC.
 *
 * Spec: AMD APM vol. 2, chapter 16; Intel SDM vol. 3A, "APIC"
 */
#pragma once

#include "lib/base/types.h"

/**
 * local_apic_init() - once, on the first CPU: chooses x2APIC if the CPU has it.
 * @base: where the MADT says that it is; 0: where the CPU says.
 * Return: 0; -ENODEV without a local APIC; -ENOMEM.
 */
must_use int local_apic_init(uint64_t base);

/** local_apic_start() - on each CPU: enables it, all interrupts of its own masked. */
void local_apic_start(void);

uint32_t local_apic_id(void);
bool local_apic_is_x2apic(void);
void local_apic_eoi(void);

/** local_apic_send() - @command is the low half of the ICR. Waits until it is sent, in xAPIC mode.
 */
void local_apic_send(uint32_t apic_id, uint32_t command);

#define LOCAL_APIC_FIXED   0x0000
#define LOCAL_APIC_NMI	   0x0400
#define LOCAL_APIC_INIT	   0x4500 /* level, assert */
#define LOCAL_APIC_STARTUP 0x4600
#define LOCAL_APIC_OTHERS  0xc0000 /* shorthand: all but this one */

/** local_apic_timer_mask() - no interrupts of the timer. */
void local_apic_timer_mask(void);
#define LOCAL_APIC_DIVIDE 16
/** local_apic_timer_divide() - the bus clock, for the timer. @by: 1, or LOCAL_APIC_DIVIDE as at the
 * start. */
void local_apic_timer_divide(unsigned by);
/** local_apic_timer_set() - one interrupt on @vector, when @count of the divided bus clock have
 * gone by.
 * @count: not 0. */
void local_apic_timer_set(unsigned vector, uint32_t count);
/** local_apic_timer_count() - what is left. */
uint32_t local_apic_timer_count(void);
/** local_apic_timer_deadline_mode() - from now on the MSR TSC_DEADLINE decides. */
void local_apic_timer_deadline_mode(unsigned vector);
