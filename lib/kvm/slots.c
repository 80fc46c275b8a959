#include "lib/kvm/slots.h"

#include <errno.h>
#include <string.h>

#include "lib/kvm/backend.h"
#include "lib/kvm/dirty.h"
#include "lib/kvm/vm.h"

#define FLAGS_KNOWN (KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY)
#define ROOM_FIRST  32

/* ---- the two sorted tables ---- */

/* The place in by_gfn of the first slot that ends behind @gfn. */
static uint32_t place_of_gfn(const struct kvm_slots *slots, uint64_t gfn)
{
	uint32_t low = 0;
	uint32_t high = slots->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct kvm_slot *slot = slots->by_gfn[middle];

		if (slot->gfn + slot->pages <= gfn) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	return low;
}

/* The place in by_id of the first slot whose number is not below @id. */
static uint32_t place_of_id(const struct kvm_slots *slots, uint32_t id)
{
	uint32_t low = 0;
	uint32_t high = slots->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (slots->by_id[middle]->id < id) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	return low;
}

struct kvm_slot *kvm_slots_find(const struct kvm_slots *slots, uint64_t gfn)
{
	uint32_t place = place_of_gfn(slots, gfn);

	return place < slots->count && slots->by_gfn[place]->gfn <= gfn ? slots->by_gfn[place]
									: NULL;
}

struct kvm_slot *kvm_slots_by_id(const struct kvm_slots *slots, uint32_t id)
{
	uint32_t place = place_of_id(slots, id);

	return place < slots->count && slots->by_id[place]->id == id ? slots->by_id[place] : NULL;
}

struct kvm_slots *kvm_slots_of(struct kvm_vm *vm, uint32_t id)
{
	if (id >> 16 >= KVM_SLOT_SPACES || (id & UINT16_MAX) >= KVM_SLOTS_MAX) {
		return NULL;
	}
	return id >> 16 == 0 ? &vm->slots : &vm->smm_slots;
}

static size_t tables_bytes(uint32_t room)
{
	return 2 * (size_t)room * sizeof(struct kvm_slot *);
}

/* Makes room for one more slot. */
static int grow(struct kvm_vm *vm, struct kvm_slots *slots)
{
	const struct kvm_env_ops *ops = kvm_ops(vm->env);
	uint32_t room = slots->room == 0 ? ROOM_FIRST : slots->room * 2;
	struct kvm_slot **tables;

	if (slots->count < slots->room) {
		return 0;
	}
	tables = ops->alloc(vm->env, KVM_STORE_TABLE, tables_bytes(room));
	if (tables == NULL) {
		return -ENOMEM;
	}
	if (slots->room != 0) {
		memcpy(tables, slots->by_gfn, slots->count * sizeof(struct kvm_slot *));
		memcpy(tables + room, slots->by_id, slots->count * sizeof(struct kvm_slot *));
		ops->free(vm->env, KVM_STORE_TABLE, slots->by_gfn, tables_bytes(slots->room));
	}
	slots->by_gfn = tables;
	slots->by_id = tables + room;
	slots->room = room;
	return 0;
}

static void insert_at(struct kvm_slot **table, uint32_t count, uint32_t place,
		      struct kvm_slot *slot)
{
	memmove(table + place + 1, table + place, (count - place) * sizeof(struct kvm_slot *));
	table[place] = slot;
}

static void remove_at(struct kvm_slot **table, uint32_t count, uint32_t place)
{
	memmove(table + place, table + place + 1, (count - place - 1) * sizeof(struct kvm_slot *));
}

static void insert(struct kvm_slots *slots, struct kvm_slot *slot)
{
	insert_at(slots->by_gfn, slots->count, place_of_gfn(slots, slot->gfn), slot);
	insert_at(slots->by_id, slots->count, place_of_id(slots, slot->id), slot);
	slots->count++;
}

static void take_out(struct kvm_slots *slots, const struct kvm_slot *slot)
{
	remove_at(slots->by_gfn, slots->count, place_of_gfn(slots, slot->gfn));
	remove_at(slots->by_id, slots->count, place_of_id(slots, slot->id));
	slots->count--;
}

/* Does another slot than @self lie in these pages? */
static bool overlaps(const struct kvm_slots *slots, const struct kvm_slot *self, uint64_t gfn,
		     uint64_t pages)
{
	uint32_t place = place_of_gfn(slots, gfn);

	if (place < slots->count && slots->by_gfn[place] == self) {
		place++;
	}
	return place < slots->count && slots->by_gfn[place]->gfn < gfn + pages;
}

/* ---- changes ---- */

/* Takes away the mappings that guests may have of a slot, which is or was at @gfn. */
static void unmap(struct kvm_vm *vm, const struct kvm_slot *slot, uint64_t gfn)
{
	if (kvm_slot_is_seen(slot)) {
		vm->env->backend->unmap(vm, gfn, slot->pages);
	}
}

static int create(struct kvm_vm *vm, struct kvm_slots *slots, const struct kvm_slot *wanted)
{
	const struct kvm_env_ops *ops = kvm_ops(vm->env);
	struct kvm_slot *slot;
	int r;

	if (overlaps(slots, NULL, wanted->gfn, wanted->pages)) {
		return -EEXIST;
	}
	r = grow(vm, slots);
	if (r != 0) {
		return r;
	}
	slot = ops->alloc(vm->env, KVM_STORE_TABLE, sizeof(*slot));
	if (slot == NULL) {
		return -ENOMEM;
	}
	*slot = *wanted;
	if ((slot->flags & KVM_MEM_LOG_DIRTY_PAGES) != 0) {
		r = kvm_dirty_start(vm, slot);
	}
	if (r != 0) {
		ops->free(vm->env, KVM_STORE_TABLE, slot, sizeof(*slot));
		return r;
	}
	insert(slots, slot);
	return 0;
}

static void destroy(struct kvm_vm *vm, struct kvm_slot *slot)
{
	kvm_dirty_stop(vm, slot);
	kvm_ops(vm->env)->free(vm->env, KVM_STORE_TABLE, slot, sizeof(*slot));
}

static int set_flags(struct kvm_vm *vm, struct kvm_slot *slot, uint32_t flags)
{
	if ((flags & KVM_MEM_LOG_DIRTY_PAGES) != 0) {
		int r = kvm_dirty_start(vm, slot);

		if (r != 0) {
			return r;
		}
	} else {
		kvm_dirty_stop(vm, slot);
	}
	slot->flags = flags;
	/* What was mapped without a log in mind must not be written to unseen. */
	unmap(vm, slot, slot->gfn);
	return 0;
}

static int move(struct kvm_vm *vm, struct kvm_slots *slots, struct kvm_slot *slot,
		const struct kvm_slot *wanted)
{
	uint64_t old = slot->gfn;
	int r;

	if (overlaps(slots, slot, wanted->gfn, wanted->pages)) {
		return -EEXIST;
	}
	r = set_flags(vm, slot, wanted->flags);
	if (r != 0) {
		return r;
	}
	take_out(slots, slot);
	slot->gfn = wanted->gfn;
	insert(slots, slot);
	/* Also in the new place: nothing was there, and backends may remember that. */
	unmap(vm, slot, old);
	return 0;
}

static bool region_valid(struct kvm_vm *vm, const struct kvm_userspace_memory_region *region)
{
	uint64_t end;
	uint64_t last = BIT(vm->env->backend->phys_bits);

	return (region->flags & ~(uint32_t)FLAGS_KNOWN) == 0 &&
	       kvm_slots_of(vm, region->slot) != NULL &&
	       region->memory_size % KVM_PAGE_BYTES == 0 &&
	       region->guest_phys_addr % KVM_PAGE_BYTES == 0 &&
	       region->userspace_addr % KVM_PAGE_BYTES == 0 &&
	       kvm_ops(vm->env)->user_range(vm->env, region->userspace_addr, region->memory_size) &&
	       range_end(region->guest_phys_addr, region->memory_size, &end) &&
	       region->memory_size >> KVM_PAGE_SHIFT <= KVM_SLOT_PAGES_MAX &&
	       (region->memory_size == 0 || end <= last);
}

static int change(struct kvm_vm *vm, const struct kvm_userspace_memory_region *region)
{
	struct kvm_slots *slots = kvm_slots_of(vm, region->slot);
	struct kvm_slot *slot = kvm_slots_by_id(slots, region->slot);
	struct kvm_slot wanted = {
		.id = region->slot,
		.flags = region->flags,
		.gfn = region->guest_phys_addr >> KVM_PAGE_SHIFT,
		.pages = region->memory_size >> KVM_PAGE_SHIFT,
		.user = region->userspace_addr,
	};

	if (wanted.pages == 0) {
		if (slot == NULL) {
			return -EINVAL;
		}
		take_out(slots, slot);
		unmap(vm, slot, slot->gfn);
		destroy(vm, slot);
		return 0;
	}
	if (slot == NULL) {
		return create(vm, slots, &wanted);
	}
	if (wanted.user != slot->user || wanted.pages != slot->pages ||
	    ((wanted.flags ^ slot->flags) & KVM_MEM_READONLY) != 0) {
		return -EINVAL;
	}
	if (wanted.gfn != slot->gfn) {
		return move(vm, slots, slot, &wanted);
	}
	return wanted.flags != slot->flags ? set_flags(vm, slot, wanted.flags) : 0;
}

int kvm_slots_set(struct kvm_vm *vm, const struct kvm_userspace_memory_region *region)
{
	int r;

	if (!region_valid(vm, region)) {
		return -EINVAL;
	}
	r = change(vm, region);
	if (r == 0) {
		vm->slots.generation++;
	}
	return r;
}

static void fini(struct kvm_vm *vm, struct kvm_slots *slots)
{
	for (uint32_t i = 0; i < slots->count; i++) {
		destroy(vm, slots->by_gfn[i]);
	}
	if (slots->room != 0) {
		kvm_ops(vm->env)->free(vm->env, KVM_STORE_TABLE, slots->by_gfn,
				       tables_bytes(slots->room));
	}
	*slots = (struct kvm_slots){0};
}

void kvm_slots_fini(struct kvm_vm *vm)
{
	fini(vm, &vm->slots);
	fini(vm, &vm->smm_slots);
}
