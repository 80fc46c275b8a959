/*
 * The guest: routines of 64-bit code in payload.S, copied as they are into the guest's memory.
 *
 * Where a routine measures by itself, it writes one sample, in ticks, for each operation. Two
 * arrays may be filled at once.
 */
#pragma once

#include <stdint.h>

#define PORT_DONE   0xf4 /* the routine is at its end */
#define PORT_TAKEN  0xf5 /* an interrupt's handler runs */
#define PORT_SETTLE 0xf6 /* wait until other vCPUs have nothing left to do */
#define PORT_TEST   0xf0

#define VECTOR	     0x40
#define VECTOR_REPLY 0x41
#define VECTOR_STOP  0x42

extern const uint8_t payload_start[], payload_end[];

/* Handlers of interrupts. */
extern const uint8_t guest_handler_xapic[], guest_handler_x2apic[];
extern const uint8_t guest_handler_answer[], guest_handler_out[], guest_handler_stop[];

/* With samples. */
extern const uint8_t guest_nothing[], guest_cpuid[], guest_msr_read[], guest_msr_write[];
extern const uint8_t guest_port_notify[], guest_mmio_notify[], guest_touch[];
extern const uint8_t guest_eoi_idle[];
extern const uint8_t guest_apic_test[];
extern const uint8_t guest_cr4_write[];
extern const uint8_t guest_ipi_self_xapic[], guest_ipi_self_x2apic[], guest_hlt_pending[];
extern const uint8_t guest_deadline_due[], guest_deadline_late[], guest_deadline_halted[];
extern const uint8_t guest_ipi_vcpu[];

/* Two readings of the TSC as the samples, with exits between. */
extern const uint8_t guest_clock[];

/* Endless: each KVM_RUN is one operation. */
extern const uint8_t guest_out[], guest_in[], guest_mmio_write[], guest_mmio_read[], guest_hlt[];
extern const uint8_t guest_halted[], guest_open[];
