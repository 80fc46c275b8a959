/*
 * All of a machine's state but its RAM, by the KVM API's GET and SET ioctls: what a VMM saves,
 * sends, and loads into another VM. saved_take() may be called only where the API says that state
 * is whole: between exits whose I/O has been completed (see saved_settle()).
 */
#pragma once

#include "tests/kvm/vm.h"

#define SAVED_MSRS_MAX 512

struct saved_vcpu {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_debugregs debugregs;
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp_state;
	uint32_t xsave[1024]; /* struct kvm_xsave, which has no fixed size */
	struct kvm_xcrs xcrs;
	struct kvm_lapic_state lapic; /* of VMs with local APICs */
	bool has_tsc_offset;
	uint64_t tsc_offset; /* to this host's TSC */
	uint32_t msr_count;
	struct kvm_msr_entry msrs[SAVED_MSRS_MAX];
};

struct saved_machine {
	struct kvm_clock_data clock;
	struct kvm_irqchip irqchips[3]; /* PIC master, PIC slave, IOAPIC; of the full irqchip */
	struct kvm_pit_state2 pit;
	unsigned int vcpu_count;
	struct saved_vcpu vcpus[VM_VCPUS_MAX];
};

/** saved_settle() - completes I/O that a vCPU is in the middle of, and executes nothing more. */
void saved_settle(struct vcpu *vcpu);

/** saved_vcpu_take(), saved_vcpu_put() - one vCPU; CPUID must be set before it is put. */
void saved_vcpu_take(struct saved_vcpu *saved, struct vcpu *vcpu);
void saved_vcpu_put(const struct saved_vcpu *saved, struct vcpu *vcpu);

/** saved_take(), saved_put() - the VM and all of its vCPUs. The VM that it is put into has as many
 *  vCPUs, and the same irqchip (with a PIT if that is the full one and @pit). */
void saved_take(struct saved_machine *saved, struct vm *vm, bool pit);
void saved_put(const struct saved_machine *saved, struct vm *vm, bool pit);

/** saved_list() - the indices of MSRs that are to be saved. Return: how many. */
uint32_t saved_list(struct vm *vm, uint32_t indices[SAVED_MSRS_MAX]);
