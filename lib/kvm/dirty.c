#include "lib/kvm/dirty.h"

#include <errno.h>
#include <string.h>

#include "lib/kvm/backend.h"

#define CHUNK 64 /* words that are dealt with at a time */

static size_t words_of(const struct kvm_slot *slot)
{
	return (size_t)((slot->pages + 63) / 64);
}

int kvm_dirty_start(struct kvm_vm *vm, struct kvm_slot *slot)
{
	size_t words = words_of(slot);

	if (slot->dirty != NULL) {
		return 0;
	}
	slot->dirty = kvm_ops(vm->env)->alloc(vm->env, KVM_STORE_BITMAP, words * sizeof(uint64_t));
	if (slot->dirty == NULL) {
		return -ENOMEM;
	}
	/* With rings a bit that is set means an entry, and there is none. */
	if ((vm->dirty_manual & KVM_DIRTY_LOG_INITIALLY_SET) != 0 && vm->dirty_ring == 0) {
		memset(slot->dirty, 0xff, words * sizeof(uint64_t));
		if (slot->pages % 64 != 0) {
			slot->dirty[words - 1] = BIT(slot->pages % 64) - 1;
		}
	}
	return 0;
}

void kvm_dirty_stop(struct kvm_vm *vm, struct kvm_slot *slot)
{
	if (slot->dirty != NULL) {
		kvm_ops(vm->env)->free(vm->env, KVM_STORE_BITMAP, slot->dirty,
				       words_of(slot) * sizeof(uint64_t));
		slot->dirty = NULL;
	}
}

/* The slot whose log user space talks about. */
static int find(struct kvm_vm *vm, uint32_t id, struct kvm_slot **slot)
{
	const struct kvm_slots *slots;

	if (vm->dirty_ring != 0) {
		return -ENXIO;
	}
	slots = kvm_slots_of(vm, id);
	if (slots == NULL) {
		return -EINVAL;
	}
	*slot = kvm_slots_by_id(slots, id);
	return *slot == NULL || (*slot)->dirty == NULL ? -ENOENT : 0;
}

/*
 * Takes the bits @mask out of a word; their pages are to be watched from now on. What is written
 * between the two steps is in the bits that were taken: user space reads memory after this call.
 */
static uint64_t take(struct kvm_vm *vm, const struct kvm_slot *slot, size_t word, uint64_t mask)
{
	uint64_t taken;

	if (__atomic_load_n(&slot->dirty[word], __ATOMIC_RELAXED) == 0) {
		return 0;
	}
	taken = __atomic_fetch_and(&slot->dirty[word], ~mask, __ATOMIC_ACQ_REL) & mask;
	if (taken != 0 && kvm_slot_is_seen(slot)) {
		vm->env->backend->write_protect(vm, slot->gfn + word * 64, taken);
	}
	return taken;
}

void kvm_dirty_forget(struct kvm_vm *vm)
{
	for (uint32_t i = 0; i < vm->slots.count; i++) {
		const struct kvm_slot *slot = vm->slots.by_gfn[i];

		if (slot->dirty != NULL) {
			memset(slot->dirty, 0, words_of(slot) * sizeof(uint64_t));
		}
	}
}

bool kvm_dirty_watch(struct kvm_vm *vm, uint32_t id, uint64_t page)
{
	const struct kvm_slot *slot = kvm_slots_by_id(&vm->slots, id);

	return slot != NULL && slot->dirty != NULL && page < slot->pages &&
	       take(vm, slot, page / 64, BIT(page % 64)) != 0;
}

int kvm_dirty_get(struct kvm_vm *vm, const struct kvm_dirty_log *log)
{
	struct kvm_slot *slot;
	uint64_t to = (uintptr_t)log->dirty_bitmap;
	uint64_t buffer[CHUNK];
	uint64_t any = 0;
	size_t words;
	int r = find(vm, log->slot, &slot);

	if (r != 0) {
		return r;
	}
	words = words_of(slot);
	for (size_t first = 0; first < words && r == 0; first += CHUNK) {
		size_t count = MIN(words - first, (size_t)CHUNK);

		for (size_t i = 0; i < count; i++) {
			buffer[i] = vm->dirty_manual != 0 ? __atomic_load_n(&slot->dirty[first + i],
									    __ATOMIC_RELAXED)
							  : take(vm, slot, first + i, UINT64_MAX);
			any |= buffer[i];
		}
		r = kvm_ops(vm->env)->copy_out(vm->env, to + first * sizeof(uint64_t), buffer,
					       count * sizeof(uint64_t));
	}
	if (vm->dirty_manual == 0 && any != 0) {
		vm->env->backend->flush(vm);
	}
	return r;
}

/* May a request name these pages? Whole words, but at the end of the slot. */
static bool range_valid(const struct kvm_slot *slot, const struct kvm_clear_dirty_log *log)
{
	uint64_t rest = slot->pages - log->first_page;

	return log->first_page <= slot->pages && log->num_pages <= rest &&
	       (log->num_pages == rest || log->num_pages % 64 == 0);
}

int kvm_dirty_clear(struct kvm_vm *vm, const struct kvm_clear_dirty_log *log)
{
	struct kvm_slot *slot;
	uint64_t from = (uintptr_t)log->dirty_bitmap;
	uint64_t buffer[CHUNK];
	uint64_t any = 0;
	size_t words = ((size_t)log->num_pages + 63) / 64;
	int r;

	if (vm->dirty_ring == 0 && log->first_page % 64 != 0) {
		return -EINVAL;
	}
	r = find(vm, log->slot, &slot);
	if (r != 0) {
		return r;
	}
	if (!range_valid(slot, log)) {
		return -EINVAL;
	}
	for (size_t done = 0; done < words; done += CHUNK) {
		size_t count = MIN(words - done, (size_t)CHUNK);

		r = kvm_ops(vm->env)->copy_in(vm->env, buffer, from + done * sizeof(uint64_t),
					      count * sizeof(uint64_t));
		if (r != 0) {
			break;
		}
		for (size_t i = 0; i < count; i++) {
			size_t word = log->first_page / 64 + done + i;

			any |= take(vm, slot, word, buffer[i]);
		}
	}
	if (any != 0) {
		vm->env->backend->flush(vm);
	}
	return r;
}
