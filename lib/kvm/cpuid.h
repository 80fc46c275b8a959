/*
 * CPUID of a guest: what is supported, what user space set, what changes by itself.
 * Spec: Linux Documentation/virt/kvm/x86/cpuid.rst
 */
#pragma once

#include "lib/kvm/vcpu.h"
#include "lib/x86/cpuid.h"

#define KVM_CPUID_MAX 256 /* entries */

/**
 * kvm_cpuid_supported() - KVM_GET_SUPPORTED_CPUID: all that a guest may be shown.
 * @entries: room for @room; @count is set to how many there are.
 * Return: 0, or -E2BIG if the room does not suffice.
 */
must_use int kvm_cpuid_supported(struct kvm_env *env, struct kvm_cpuid_entry2 *entries,
				 uint32_t room, uint32_t *count);

/** kvm_cpuid_supports() - as kvm_cpuid_has(), of what a guest may be shown; @leaf: 1 or 7. */
must_use bool kvm_cpuid_supports(struct kvm_env *env, uint32_t leaf, enum cpuid_reg reg,
				 uint32_t bits);

/** kvm_cpuid_emulated() - KVM_GET_EMULATED_CPUID: what works although the CPU lacks it. */
must_use int kvm_cpuid_emulated(struct kvm_env *env, struct kvm_cpuid_entry2 *entries,
				uint32_t room, uint32_t *count);

/**
 * kvm_cpuid_set() - KVM_SET_CPUID2.
 * @entries: KVM_STORE_TABLE of @count; the vCPU's own afterwards, if 0 is returned.
 * Return: 0; -EINVAL: nonsense, or a change after the vCPU ran.
 */
must_use int kvm_cpuid_set(struct kvm_vcpu *vcpu, struct kvm_cpuid_entry2 *entries, uint32_t count);

/** kvm_cpuid_free() - frees a table of @count entries. */
void kvm_cpuid_free(struct kvm_env *env, struct kvm_cpuid_entry2 *entries, uint32_t count);

/** kvm_cpuid_find() - the entry for a leaf and subleaf, or NULL. */
struct kvm_cpuid_entry2 *kvm_cpuid_find(const struct kvm_vcpu *vcpu, uint32_t leaf,
					uint32_t subleaf);

/** kvm_cpuid_has() - are all of @bits set in a register of a leaf (subleaf 0)? */
must_use bool kvm_cpuid_has(const struct kvm_vcpu *vcpu, uint32_t leaf, enum cpuid_reg reg,
			    uint32_t bits);

/**
 * kvm_cpuid_refresh() - the bits that follow CR4, XCR0, IA32_APIC_BASE, IA32_MISC_ENABLE. To be
 * called when one of them changes.
 */
void kvm_cpuid_refresh(struct kvm_vcpu *vcpu);

/** kvm_cpuid_query() - what CPUID gives the guest. @regs: EAX, ECX in, all four out. */
void kvm_cpuid_query(struct kvm_vcpu *vcpu, uint32_t regs[4]);

/** kvm_cpuid_defaults() - features of a vCPU that has no CPUID yet. */
void kvm_cpuid_defaults(struct kvm_vcpu *vcpu);

/** kvm_xsave_bytes() - the area that the features in @xcr0 need. */
must_use uint32_t kvm_xsave_bytes(const struct kvm_backend *backend, uint64_t xcr0, bool compact);
