/*
 * A guest that does what its case says, one access at a time: a vCPU in 64-bit mode, interrupts
 * off, that writes to a port whenever it has done what it was told. It logs the interrupts that
 * arrive and answers none by itself: EOI is an access like any other.
 */
#pragma once

#include "tests/kvm/vm.h"

#define HAND_LOG_MAX 64

/* Of the local APIC, by its address in memory. */
#define HAND_APIC      UINT64_C(0xfee00000)
#define HAND_APIC_TPR  (HAND_APIC + 0x80)
#define HAND_APIC_EOI  (HAND_APIC + 0xb0)
#define HAND_APIC_SVR  (HAND_APIC + 0xf0)
#define HAND_APIC_TMR  (HAND_APIC + 0x180)
#define HAND_APIC_IRR  (HAND_APIC + 0x200)
#define HAND_APIC_LDR  (HAND_APIC + 0xd0)
#define HAND_APIC_LVT0 (HAND_APIC + 0x350)

/** hand_start() - the vCPU is ready for the others; its APIC is enabled, its LINT0 masked
 *  (the first CPU comes out of reset with the PIC there). */
void hand_start(struct vcpu *vcpu);

/** hand_vm() - a VM with one vCPU that is ready. */
struct vcpu *hand_vm(struct vm *vm, enum vm_irqchip irqchip);

void hand_out8(struct vcpu *vcpu, uint16_t port, uint8_t value);
uint8_t hand_in8(struct vcpu *vcpu, uint16_t port);
void hand_write32(struct vcpu *vcpu, uint64_t gpa, uint32_t value);
uint32_t hand_read32(struct vcpu *vcpu, uint64_t gpa);

/* An access to the IOAPIC's register with this index. */
void hand_ioapic_write(struct vcpu *vcpu, uint8_t index, uint32_t value);
uint32_t hand_ioapic_read(struct vcpu *vcpu, uint8_t index);

/** hand_open() - interrupts on for some instructions. */
void hand_open(struct vcpu *vcpu);

/** hand_halt() - interrupts on and HLT, until one has arrived. */
void hand_halt(struct vcpu *vcpu);

/** hand_begin_*() - the next KVM_RUNs do that; the last of them ends with hand_is_done(). For what
 *  has other exits on its way. */
void hand_begin_write32(struct vcpu *vcpu, uint64_t gpa, uint32_t value);
void hand_begin_open(struct vcpu *vcpu);
void hand_begin_halt(struct vcpu *vcpu);
bool hand_is_done(struct vcpu *vcpu);

/** hand_count() - how many interrupts have arrived since hand_forget(). */
uint32_t hand_count(struct vcpu *vcpu);
uint8_t hand_vector(struct vcpu *vcpu, uint32_t index);
void hand_forget(struct vcpu *vcpu);

/* Opens, and checks that just these have arrived, in this order. */
#define expect_irqs(vcpu, ...)                                                        \
	hand_expect(__FILE__, __LINE__, (vcpu), true, (const uint8_t[]){__VA_ARGS__}, \
		    sizeof((const uint8_t[]){__VA_ARGS__}))
#define expect_no_irq(vcpu) hand_expect(__FILE__, __LINE__, (vcpu), true, NULL, 0)
/* Halts until one arrives, and checks which. */
#define expect_irq_wakes(vcpu, vector) \
	hand_expect(__FILE__, __LINE__, (vcpu), false, (const uint8_t[]){(vector)}, 1)

void hand_expect(const char *file, int line, struct vcpu *vcpu, bool open, const uint8_t *vectors,
		 size_t count);
