/*
 * Guest-physical memory, as lib/kvm itself reads and writes it: by the VMM's addresses.
 */
#pragma once

#include "lib/kvm/vcpu.h"

/** kvm_memory_slot() - the slot of page @gfn, by a cache of the last one. Context: vm->memory. */
struct kvm_slot *kvm_memory_slot(struct kvm_vcpu *vcpu, uint64_t gfn);

/** kvm_memory_user() - the VMM's address of @gpa, which is in @slot. */
static inline uint64_t kvm_memory_user(const struct kvm_slot *slot, uint64_t gpa)
{
	return slot->user + (gpa - (slot->gfn << KVM_PAGE_SHIFT));
}

/**
 * kvm_memory_read() / kvm_memory_write() - @bytes at @gpa, within one page.
 * Return: 0; -ENOENT: no memory there, or only to read: a device's business; -EFAULT: the VMM's
 * memory is not there.
 * Context: vCPU thread, vm->memory for reading.
 */
/** kvm_memory_hint() - the slot of @gfn if it is the one that was found last, else NULL. */
static inline struct kvm_slot *kvm_memory_hint(const struct kvm_vcpu *vcpu, uint64_t gfn)
{
	struct kvm_slot *slot = vcpu->slot_hint;

	return vcpu->slot_generation == vcpu->vm->slots.generation && slot != NULL &&
			       gfn - slot->gfn < slot->pages
		       ? slot
		       : NULL;
}

must_use int kvm_memory_read(struct kvm_vcpu *vcpu, uint64_t gpa, void *data, unsigned bytes);
must_use int kvm_memory_write(struct kvm_vcpu *vcpu, uint64_t gpa, const void *data,
			      unsigned bytes);

/** kvm_memory_cmpxchg() - atomic, @bytes aligned; -EAGAIN: it was not @old. Otherwise as above. */
must_use int kvm_memory_cmpxchg(struct kvm_vcpu *vcpu, uint64_t gpa, const void *old,
				const void *new, unsigned bytes);
