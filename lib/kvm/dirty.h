/*
 * The dirty log of a slot: which of its pages were written since somebody asked last.
 *
 * A page whose bit is set may be mapped writable; one whose bit is clear may not, and a write to it
 * sets the bit. So clearing a bit goes with taking the right to write.
 */
#pragma once

#include <linux/kvm.h>

#include "lib/kvm/vm.h"

/** kvm_dirty_start() - gives the slot a log, if it has none. Return: 0 or -ENOMEM. */
must_use int kvm_dirty_start(struct kvm_vm *vm, struct kvm_slot *slot);

/** kvm_dirty_stop() - takes the log away, if there is one. */
void kvm_dirty_stop(struct kvm_vm *vm, struct kvm_slot *slot);

/** kvm_dirty_mark() - page @gfn, which is in @slot, is written to. Context: any thread. */
static inline void kvm_dirty_mark(const struct kvm_slot *slot, uint64_t gfn)
{
	uint64_t page = gfn - slot->gfn;
	uint64_t bit = BIT(page % 64);

	if (slot->dirty == NULL ||
	    (__atomic_load_n(&slot->dirty[page / 64], __ATOMIC_RELAXED) & bit) != 0) {
		return;
	}
	/* Relaxed: who takes the log gets the page's contents by other means than this bit. */
	__atomic_fetch_or(&slot->dirty[page / 64], bit, __ATOMIC_RELAXED);
}

/** kvm_dirty_is_marked() - need a write to page @gfn not be noticed? Slots without a log: so. */
static inline bool kvm_dirty_is_marked(const struct kvm_slot *slot, uint64_t gfn)
{
	uint64_t page = gfn - slot->gfn;

	return slot->dirty == NULL ||
	       (__atomic_load_n(&slot->dirty[page / 64], __ATOMIC_RELAXED) & BIT(page % 64)) != 0;
}

/**
 * kvm_dirty_get() - KVM_GET_DIRTY_LOG: the log goes to user space; unless KVM_CLEAR_DIRTY_LOG is
 * to do so, it is cleared, and pages are watched again.
 * Return: 0; -EINVAL: no such number; -ENOENT: no such slot, or no log; -EFAULT; -ENXIO: rings.
 * Context: vm->memory for reading; one caller at a time (vm->lock).
 * Spec: 4.8
 */
must_use int kvm_dirty_get(struct kvm_vm *vm, const struct kvm_dirty_log *log);

/** kvm_dirty_clear() - KVM_CLEAR_DIRTY_LOG. Return and context: as kvm_dirty_get(). Spec: 4.117 */
must_use int kvm_dirty_clear(struct kvm_vm *vm, const struct kvm_clear_dirty_log *log);
