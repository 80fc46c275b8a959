/*
 * Guest debugging by user space: breakpoints and single steps beside the guest's own.
 * Spec: Linux Documentation/virt/kvm/api.rst, 4.87 KVM_SET_GUEST_DEBUG
 */
#pragma once

#include <linux/kvm.h>

#include "lib/kvm/vcpu.h"

#define KVM_DEBUG_CONTROL_KNOWN                                                     \
	(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_SW_BP |   \
	 KVM_GUESTDBG_USE_HW_BP | KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP | \
	 KVM_GUESTDBG_BLOCKIRQ)

/** kvm_debug_set() - KVM_SET_GUEST_DEBUG. Return: 0; -EINVAL; -EBUSY: an exception is pending. */
must_use int kvm_debug_set(struct kvm_vcpu *vcpu, const struct kvm_guest_debug *debug);

/** kvm_debug_update() - what the debug registers of the hardware are to hold changed. */
void kvm_debug_update(struct kvm_vcpu *vcpu);

/** kvm_debug_before() - just before entry in a single step: sets TF. */
void kvm_debug_before(struct kvm_vcpu *vcpu);

/** kvm_debug_after() - after the stop: TF is the guest's again. */
void kvm_debug_after(struct kvm_vcpu *vcpu);

/**
 * kvm_debug_exception() - #DB or #BP stopped the guest. Return: true: user space has an exit;
 * false: the exception is the guest's, and pending.
 */
must_use bool kvm_debug_exception(struct kvm_vcpu *vcpu, uint8_t vector, uint64_t dr6);

/**
 * kvm_debug_stepped() - an instruction was completed here instead of by the CPU: does that end a
 * single step? The guest's own step (TF as of before, @was_set) becomes a pending #DB.
 * Return: true: user space has an exit.
 */
must_use bool kvm_debug_stepped(struct kvm_vcpu *vcpu, bool was_set);
