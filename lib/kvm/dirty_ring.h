/*
 * The dirty ring: instead of one log of each slot, a ring of each vCPU, shared with user space, in
 * which the pages that the vCPU wrote to are named in order.
 *
 * Slots keep their bits (dirty.h). A bit that becomes set is an entry in a ring; that user space
 * gave the entry back clears the bit, and the page is watched again.
 * Spec: 8.29
 */
#pragma once

#include <linux/kvm.h>

#include "lib/kvm/vcpu.h"

/** Most entries of a ring, and how many are held back: a vCPU stops when only they are left. */
#define KVM_RING_MAX	  65536u
#define KVM_RING_RESERVED 64u

/** kvm_ring_set_size() - KVM_ENABLE_CAP: from now on, rings of @bytes.
 * Return: 0; -E2BIG; -EINVAL: no power of two, too small, done before, or there are vCPUs.
 * Context: vm->lock. */
must_use int kvm_ring_set_size(struct kvm_vm *vm, uint64_t bytes);

/** kvm_ring_init() - makes the vCPU's ring, if the VM has rings. Return: 0 or -ENOMEM;
 * kvm_ring_fini() is due in any case. */
must_use int kvm_ring_init(struct kvm_vcpu *vcpu);
void kvm_ring_fini(struct kvm_vcpu *vcpu);

/** kvm_ring_page() - page @page of the ring, or NULL. Context: any. */
void *kvm_ring_page(const struct kvm_vcpu *vcpu, uint64_t page);

/** kvm_ring_is_full() - has the vCPU to stop until user space gives entries back? */
bool kvm_ring_is_full(const struct kvm_vcpu *vcpu);

/**
 * kvm_ring_reset() - KVM_RESET_DIRTY_RINGS: takes back the entries that user space is done with.
 * Return: how many; -EINVAL: there are no rings.
 * Context: vm->lock; vm->memory for reading.
 * Spec: 8.29
 */
must_use int kvm_ring_reset(struct kvm_vm *vm);
