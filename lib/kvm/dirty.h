/*
 * The dirty log of a slot: which of its pages were written since somebody asked last.
 *
 * A page whose bit is set may be mapped writable; one whose bit is clear may not, and a write to it
 * sets the bit. So clearing a bit goes with taking the right to write.
 */
#pragma once

#include <linux/kvm.h>

#include "lib/kvm/vcpu.h"

/** kvm_dirty_start() - gives the slot a log, if it has none. Return: 0 or -ENOMEM. */
must_use int kvm_dirty_start(struct kvm_vm *vm, struct kvm_slot *slot);

/** kvm_dirty_stop() - takes the log away, if there is one. */
void kvm_dirty_stop(struct kvm_vm *vm, struct kvm_slot *slot);

/** kvm_dirty_forget() - all logs begin anew. Context: vm->memory for writing; no vCPU exists. */
void kvm_dirty_forget(struct kvm_vm *vm);

/**
 * kvm_dirty_watch() - clears the bit of page @page of slot @id, which may be nonsense.
 * Return: is the backend to be flushed? Context: vm->memory for reading.
 */
bool kvm_dirty_watch(struct kvm_vm *vm, uint32_t id, uint64_t page);

/** kvm_dirty_enter() - kvm_dirty_mark() where there are rings: dirty_ring.c. */
void kvm_dirty_enter(struct kvm_vcpu *vcpu, const struct kvm_slot *slot, uint64_t page);

/** kvm_dirty_mark() - @vcpu writes to page @gfn, which is in @slot. Context: vcpu->lock. */
static inline void kvm_dirty_mark(struct kvm_vcpu *vcpu, const struct kvm_slot *slot, uint64_t gfn)
{
	uint64_t page = gfn - slot->gfn;
	uint64_t bit = BIT(page % 64);

	if (slot->dirty == NULL ||
	    (__atomic_load_n(&slot->dirty[page / 64], __ATOMIC_RELAXED) & bit) != 0) {
		return;
	}
	if (vcpu->ring.pages != NULL) {
		kvm_dirty_enter(vcpu, slot, page);
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
