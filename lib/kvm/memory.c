#include "lib/kvm/memory.h"

#include <errno.h>

#include "lib/kvm/dirty.h"

struct kvm_slot *kvm_memory_slot(struct kvm_vcpu *vcpu, uint64_t gfn)
{
	struct kvm_slots *slots = &vcpu->vm->slots;
	struct kvm_slot *slot = kvm_memory_hint(vcpu, gfn);

	if (slot != NULL) {
		return slot;
	}
	slot = kvm_slots_find(slots, gfn);
	if (slot != NULL) {
		vcpu->slot_hint = slot;
		vcpu->slot_generation = slots->generation;
	}
	return slot;
}

int kvm_memory_read(struct kvm_vcpu *vcpu, uint64_t gpa, void *data, unsigned bytes)
{
	const struct kvm_slot *slot = kvm_memory_slot(vcpu, gpa >> KVM_PAGE_SHIFT);

	if (slot == NULL) {
		return -ENOENT;
	}
	return kvm_ops(vcpu->env)->copy_in(vcpu->env, data, kvm_memory_user(slot, gpa), bytes);
}

/* The slot, if it can be written to. */
static const struct kvm_slot *writable(struct kvm_vcpu *vcpu, uint64_t gpa)
{
	const struct kvm_slot *slot = kvm_memory_slot(vcpu, gpa >> KVM_PAGE_SHIFT);

	return slot != NULL && (slot->flags & KVM_MEM_READONLY) == 0 ? slot : NULL;
}

int kvm_memory_write(struct kvm_vcpu *vcpu, uint64_t gpa, const void *data, unsigned bytes)
{
	const struct kvm_slot *slot = writable(vcpu, gpa);
	int r;

	if (slot == NULL) {
		return -ENOENT;
	}
	r = kvm_ops(vcpu->env)->copy_out(vcpu->env, kvm_memory_user(slot, gpa), data, bytes);
	if (r == 0) {
		kvm_dirty_mark(vcpu, slot, gpa >> KVM_PAGE_SHIFT);
	}
	return r;
}

int kvm_memory_cmpxchg(struct kvm_vcpu *vcpu, uint64_t gpa, const void *old, const void *new,
		       unsigned bytes)
{
	const struct kvm_slot *slot = writable(vcpu, gpa);
	int r;

	if (slot == NULL) {
		return -ENOENT;
	}
	r = kvm_ops(vcpu->env)->cmpxchg(vcpu->env, kvm_memory_user(slot, gpa), old, new, bytes);
	if (r == 0) {
		kvm_dirty_mark(vcpu, slot, gpa >> KVM_PAGE_SHIFT);
	}
	return r;
}
