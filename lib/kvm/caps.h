/*
 * Capabilities: what is announced, and what user space switches on.
 */
#pragma once

#include <linux/kvm.h>

#include "lib/kvm/vcpu.h"

#define KVM_QUIRKS_KNOWN                                                         \
	(KVM_X86_QUIRK_LINT0_REENABLED | KVM_X86_QUIRK_CD_NW_CLEARED |           \
	 KVM_X86_QUIRK_LAPIC_MMIO_HOLE | KVM_X86_QUIRK_OUT_7E_INC_RIP |          \
	 KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT | KVM_X86_QUIRK_FIX_HYPERCALL_INSN | \
	 KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS)

#define KVM_DIRTY_MANUAL_KNOWN (KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET)

/** kvm_cap_check() - KVM_CHECK_EXTENSION. Return: 0 if there is no such thing. Spec: 4.4 */
must_use int64_t kvm_cap_check(const struct kvm_env *env, uint64_t capability);

/** kvm_cap_enable() - KVM_ENABLE_CAP of a VM. Return: 0 or -errno. Spec: 4.37, 7 */
must_use int kvm_cap_enable(struct kvm_vm *vm, const struct kvm_enable_cap *cap);

/** kvm_cap_enable_vcpu() - KVM_ENABLE_CAP of a vCPU. Return: 0 or -errno. Spec: 4.37, 6 */
must_use int kvm_cap_enable_vcpu(struct kvm_vcpu *vcpu, const struct kvm_enable_cap *cap);
