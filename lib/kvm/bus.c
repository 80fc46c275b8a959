#include "lib/kvm/bus.h"

#include <errno.h>
#include <string.h>

#include "lib/base/bytes.h"

#define FLAGS_KNOWN \
	(KVM_IOEVENTFD_FLAG_DATAMATCH | KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DEASSIGN)

#define RING_MAX                                                     \
	((KVM_PAGE_BYTES - sizeof(struct kvm_coalesced_mmio_ring)) / \
	 sizeof(struct kvm_coalesced_mmio))

/*
 * Sorted by address in one piece; those of one address are few. Looked up at each exit, so a binary
 * search of a table, not a list.
 */
struct kvm_doorbell {
	uint64_t addr;
	uint64_t data;
	void *eventfd;
	uint32_t bytes; /* 0: any */
	bool pio;
	bool match; /* only @data */
};

/* ---- doorbells ---- */

static uint64_t low_bytes(uint64_t value, unsigned bytes)
{
	return bytes < 8 ? value & (BIT(8 * bytes) - 1) : value;
}

/* The place of the first doorbell at or after (pio, addr). */
static uint32_t place_of(const struct kvm_vm *vm, bool pio, uint64_t addr)
{
	uint32_t low = 0;
	uint32_t high = vm->doorbell_count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct kvm_doorbell *d = &vm->doorbells[middle];

		if (d->pio < pio || (d->pio == pio && d->addr < addr)) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	return low;
}

static bool here(const struct kvm_vm *vm, uint32_t place, bool pio, uint64_t addr)
{
	return place < vm->doorbell_count && vm->doorbells[place].pio == pio &&
	       vm->doorbells[place].addr == addr;
}

/* Could one write ring both? */
static bool collide(const struct kvm_doorbell *a, const struct kvm_doorbell *b)
{
	return a->bytes == 0 || b->bytes == 0 ||
	       (a->bytes == b->bytes && (!a->match || !b->match || a->data == b->data));
}

static int add(struct kvm_vm *vm, const struct kvm_doorbell *new)
{
	uint32_t place = place_of(vm, new->pio, new->addr);

	for (uint32_t i = place; here(vm, i, new->pio, new->addr); i++) {
		if (collide(&vm->doorbells[i], new)) {
			return -EEXIST;
		}
	}
	if (vm->doorbell_count == KVM_DOORBELLS_MAX) {
		return -ENOSPC;
	}
	if (vm->doorbells == NULL) {
		vm->doorbells = kvm_ops(vm->env)->alloc(vm->env, KVM_STORE_TABLE,
							KVM_DOORBELLS_MAX * sizeof(*vm->doorbells));
		if (vm->doorbells == NULL) {
			return -ENOMEM;
		}
	}
	memmove(&vm->doorbells[place + 1], &vm->doorbells[place],
		(vm->doorbell_count - place) * sizeof(*vm->doorbells));
	vm->doorbells[place] = *new;
	vm->doorbell_count++;
	return 0;
}

/* Takes away the one that @old describes. Return: 0 or -ENOENT. */
static int take(struct kvm_vm *vm, const struct kvm_doorbell *old)
{
	uint32_t place = place_of(vm, old->pio, old->addr);

	for (uint32_t i = place; here(vm, i, old->pio, old->addr); i++) {
		const struct kvm_doorbell *d = &vm->doorbells[i];

		if (d->eventfd == old->eventfd && d->bytes == old->bytes &&
		    d->match == old->match && (!d->match || d->data == old->data)) {
			kvm_ops(vm->env)->eventfd_put(vm->env, d->eventfd);
			memmove(&vm->doorbells[i], &vm->doorbells[i + 1],
				(vm->doorbell_count - i - 1) * sizeof(*vm->doorbells));
			vm->doorbell_count--;
			return 0;
		}
	}
	return -ENOENT;
}

static bool spec_valid(const struct kvm_ioeventfd *spec)
{
	uint64_t end;

	if ((spec->flags & KVM_IOEVENTFD_FLAG_DEASSIGN) != 0) {
		return true; /* what does not match is not found */
	}
	return spec->len <= 8 && (spec->len & (spec->len - 1)) == 0 &&
	       range_end(spec->addr, spec->len, &end) &&
	       (spec->flags & ~(uint32_t)FLAGS_KNOWN) == 0 &&
	       (spec->len != 0 || (spec->flags & KVM_IOEVENTFD_FLAG_DATAMATCH) == 0);
}

int kvm_bus_ioeventfd(struct kvm_vm *vm, const struct kvm_ioeventfd *spec)
{
	const struct kvm_env_ops *ops = kvm_ops(vm->env);
	bool deassign = (spec->flags & KVM_IOEVENTFD_FLAG_DEASSIGN) != 0;
	struct kvm_doorbell doorbell = {
		.addr = spec->addr,
		.data = spec->datamatch,
		.bytes = spec->len,
		.pio = (spec->flags & KVM_IOEVENTFD_FLAG_PIO) != 0,
		.match = (spec->flags & KVM_IOEVENTFD_FLAG_DATAMATCH) != 0,
	};
	int r;

	if (!spec_valid(spec)) {
		return -EINVAL;
	}
	r = ops->eventfd_get(vm->env, spec->fd, &doorbell.eventfd);
	if (r != 0) {
		return r;
	}
	ops->lock(vm->env, &vm->memory);
	r = deassign ? take(vm, &doorbell) : add(vm, &doorbell);
	ops->unlock(vm->env, &vm->memory);
	if (deassign || r != 0) {
		ops->eventfd_put(vm->env, doorbell.eventfd);
	}
	return r;
}

/* Is it one that a write of @value rings? No two are: add(). */
static inline bool rings(const struct kvm_doorbell *d, bool pio, uint64_t addr, unsigned bytes,
			 uint64_t value)
{
	return d->addr == addr && d->pio == pio &&
	       (d->bytes == 0 ||
		(d->bytes == bytes && (!d->match || low_bytes(value, bytes) == d->data)));
}

static __attribute__((noinline)) const struct kvm_doorbell *
find_doorbell(struct kvm_vm *vm, bool pio, uint64_t addr, unsigned bytes, uint64_t value)
{
	uint32_t place = place_of(vm, pio, addr);

	for (; here(vm, place, pio, addr); place++) {
		if (rings(&vm->doorbells[place], pio, addr, bytes, value)) {
			__atomic_store_n(&vm->doorbell_last, place, __ATOMIC_RELAXED);
			return &vm->doorbells[place];
		}
	}
	return NULL;
}

bool kvm_bus_ring(struct kvm_vm *vm, bool pio, uint64_t addr, unsigned bytes, uint64_t value)
{
	/* Whatever place that is: it is looked at like any other. */
	uint32_t last = __atomic_load_n(&vm->doorbell_last, __ATOMIC_RELAXED);
	const struct kvm_doorbell *d = &vm->doorbells[last];

	if (last >= vm->doorbell_count || !rings(d, pio, addr, bytes, value)) {
		d = find_doorbell(vm, pio, addr, bytes, value);
		if (d == NULL) {
			return false;
		}
	}
	kvm_ops(vm->env)->eventfd_signal(vm->env, d->eventfd);
	return true;
}

/* ---- coalesced zones ---- */

static bool zone_has(const struct kvm_zone *zone, bool pio, uint64_t addr, unsigned bytes)
{
	return zone->pio == pio && range_inside(addr, bytes, zone->addr, zone->bytes);
}

int kvm_bus_register(struct kvm_vm *vm, const struct kvm_coalesced_mmio_zone *zone)
{
	const struct kvm_env_ops *ops = kvm_ops(vm->env);
	int r = 0;

	if (zone->pio > 1) {
		return -EINVAL;
	}
	ops->lock(vm->env, &vm->memory);
	if (vm->zones == NULL) {
		vm->zones =
			ops->alloc(vm->env, KVM_STORE_TABLE, KVM_ZONES_MAX * sizeof(*vm->zones));
	}
	if (vm->zones == NULL) {
		r = -ENOMEM;
	} else if (vm->zone_count == KVM_ZONES_MAX) {
		r = -ENOSPC;
	} else {
		vm->zones[vm->zone_count++] = (struct kvm_zone){
			.addr = zone->addr, .bytes = zone->size, .pio = zone->pio != 0};
	}
	ops->unlock(vm->env, &vm->memory);
	return r;
}

int kvm_bus_unregister(struct kvm_vm *vm, const struct kvm_coalesced_mmio_zone *zone)
{
	const struct kvm_env_ops *ops = kvm_ops(vm->env);
	uint32_t kept = 0;

	if (zone->pio > 1) {
		return -EINVAL;
	}
	ops->lock(vm->env, &vm->memory);
	for (uint32_t i = 0; i < vm->zone_count; i++) {
		if (!zone_has(&vm->zones[i], zone->pio != 0, zone->addr, zone->size)) {
			vm->zones[kept++] = vm->zones[i];
		}
	}
	vm->zone_count = kept;
	ops->unlock(vm->env, &vm->memory);
	return 0;
}

/* User space takes entries out at `first` and may write anything to the page. */
static bool put_into_ring(struct kvm_vm *vm, bool pio, uint64_t addr, unsigned bytes,
			  const void *data)
{
	struct kvm_coalesced_mmio_ring *ring = vm->ring_page;
	const struct kvm_env_ops *ops = kvm_ops(vm->env);
	uint32_t last;
	uint32_t first;
	bool room;

	ops->lock(vm->env, &vm->ring_lock);
	last = __atomic_load_n(&ring->last, __ATOMIC_RELAXED);
	/* Pairs with user space's store after it has read the entries before. */
	first = __atomic_load_n(&ring->first, __ATOMIC_ACQUIRE);
	room = last < RING_MAX && (last + 1) % RING_MAX != first;
	if (room) {
		struct kvm_coalesced_mmio *entry = &ring->coalesced_mmio[last];

		entry->phys_addr = addr;
		entry->len = bytes;
		entry->pio = pio;
		memcpy(entry->data, data, bytes);
		/* Pairs with user space's load of `last`: the entry is complete. */
		__atomic_store_n(&ring->last, (last + 1) % RING_MAX, __ATOMIC_RELEASE);
	}
	ops->unlock(vm->env, &vm->ring_lock);
	return room;
}

static __attribute__((noinline)) bool coalesce(struct kvm_vm *vm, bool pio, uint64_t addr,
					       unsigned bytes, const void *data)
{
	for (uint32_t i = 0; i < vm->zone_count; i++) {
		if (zone_has(&vm->zones[i], pio, addr, bytes)) {
			return put_into_ring(vm, pio, addr, bytes, data);
		}
	}
	return false;
}

bool kvm_bus_write(struct kvm_vm *vm, bool pio, uint64_t addr, unsigned bytes, const void *data)
{
	return (vm->doorbell_count != 0 &&
		kvm_bus_ring(vm, pio, addr, bytes, load_le(data, bytes))) ||
	       (vm->zone_count != 0 && coalesce(vm, pio, addr, bytes, data));
}

void kvm_bus_fini(struct kvm_vm *vm)
{
	const struct kvm_env_ops *ops = kvm_ops(vm->env);

	for (uint32_t i = 0; i < vm->doorbell_count; i++) {
		ops->eventfd_put(vm->env, vm->doorbells[i].eventfd);
	}
	if (vm->doorbells != NULL) {
		ops->free(vm->env, KVM_STORE_TABLE, vm->doorbells,
			  KVM_DOORBELLS_MAX * sizeof(*vm->doorbells));
	}
	if (vm->zones != NULL) {
		ops->free(vm->env, KVM_STORE_TABLE, vm->zones, KVM_ZONES_MAX * sizeof(*vm->zones));
	}
	vm->doorbells = NULL;
	vm->zones = NULL;
	vm->doorbell_count = 0;
	vm->zone_count = 0;
}
