/*
 * Memory slots: which of the VMM's memory is where in the guest's physical address space. Slots
 * do not overlap there; the same user memory may be in several.
 */
#pragma once

#include <linux/kvm.h>

#include "lib/base/types.h"

struct kvm_env;
struct kvm_vm;

/** As many as Linux has on x86-64: the rest of 32767 were private ones. */
#define KVM_SLOTS_MAX	   32764
#define KVM_SLOT_PAGES_MAX (BIT(31) - 1)
#define KVM_SLOT_SPACES	   2 /* address spaces: the usual one, and that of SMM */
#define KVM_PAGE_SHIFT	   12
#define KVM_PAGE_BYTES	   UINT64_C(4096)

struct kvm_slot {
	uint32_t id;	/* the address space is in the upper half */
	uint32_t flags; /* KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY */
	uint64_t gfn;
	uint64_t pages;
	uint64_t user;	 /* address of the first page in the VMM */
	uint64_t *dirty; /* one bit a page; NULL without a log. Set atomically, at any time */
};

struct kvm_slots {
	uint32_t count;
	uint32_t room;
	struct kvm_slot **by_gfn; /* sorted by address, then, in the same piece, by number */
	struct kvm_slot **by_id;
	uint64_t generation; /* changes with every change, for caches */
};

/** kvm_slots_of() - those that @id is among; NULL: there is no such space or number. */
struct kvm_slots *kvm_slots_of(struct kvm_vm *vm, uint32_t id);

/** kvm_slot_is_seen() - do guests see it, so that the backend may have mapped it? */
static inline bool kvm_slot_is_seen(const struct kvm_slot *slot)
{
	return slot->id <= UINT16_MAX;
}

/**
 * kvm_slots_find() - the slot that page @gfn is in, or NULL.
 * Context: vm->memory.
 */
struct kvm_slot *kvm_slots_find(const struct kvm_slots *slots, uint64_t gfn);

/** kvm_slots_by_id() - the slot with number @id, or NULL. Context: vm->memory. */
struct kvm_slot *kvm_slots_by_id(const struct kvm_slots *slots, uint32_t id);

/**
 * kvm_slots_set() - KVM_SET_USER_MEMORY_REGION: creates, moves, changes or deletes a slot.
 * Return: 0; -EINVAL if the region is not allowed; -EEXIST if it overlaps; -ENOMEM.
 * Context: vm->memory for writing. Mappings of the backend are taken away as needed.
 * Spec: Linux Documentation/virt/kvm/api.rst, 4.35
 */
must_use int kvm_slots_set(struct kvm_vm *vm, const struct kvm_userspace_memory_region *region);

/** kvm_slots_fini() - frees all. Context: no vCPU exists any more. */
void kvm_slots_fini(struct kvm_vm *vm);
