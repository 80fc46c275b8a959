#include "soft/map.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>

#define ENTRIES	   BIT(SOFT_MAP_BITS)
#define LEAF_BYTES (ENTRIES * sizeof(uint64_t))

static _Atomic(uint64_t) *leaf_of(const struct soft_map *map, uint64_t gfn)
{
	uint64_t top = gfn >> SOFT_MAP_BITS;

	/* Pairs with the release in leaf_make(): the leaf is zeroed. */
	return top < ENTRIES ? atomic_load_explicit(&map->top[top], memory_order_acquire) : NULL;
}

uint64_t soft_map_get(const struct soft_map *map, uint64_t gfn)
{
	_Atomic(uint64_t) *leaf = leaf_of(map, gfn);

	/* Pairs with the release in soft_map_set(): what map() did to the page is seen. */
	return leaf == NULL ? 0 : atomic_load_explicit(&leaf[gfn % ENTRIES], memory_order_acquire);
}

static _Atomic(uint64_t) *leaf_make(struct soft_map *map, uint64_t gfn)
{
	uint64_t top = gfn >> SOFT_MAP_BITS;
	_Atomic(uint64_t) *leaf = leaf_of(map, gfn), *other = NULL;
	void *fresh;

	if (leaf != NULL || top >= ENTRIES) {
		return leaf;
	}
	/* Most of it is never touched. */
	fresh = mmap(NULL, LEAF_BYTES, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (fresh == MAP_FAILED) {
		return NULL;
	}
	leaf = fresh;
	/* Another vCPU may have made it meanwhile. */
	if (!atomic_compare_exchange_strong_explicit(&map->top[top], &other, leaf,
						     memory_order_acq_rel, memory_order_acquire)) {
		munmap(fresh, LEAF_BYTES);
		return other;
	}
	return leaf;
}

int soft_map_set(struct soft_map *map, uint64_t gfn, uint64_t entry)
{
	_Atomic(uint64_t) *leaf = leaf_make(map, gfn);

	if (leaf == NULL) {
		return -ENOMEM;
	}
	atomic_store_explicit(&leaf[gfn % ENTRIES], entry, memory_order_release);
	return 0;
}

void soft_map_add(struct soft_map *map, uint64_t gfn, uint64_t pages, uint64_t entry)
{
	for (uint64_t i = 0; i < pages; i++) {
		_Atomic(uint64_t) *leaf = leaf_make(map, gfn + i);
		uint64_t none = 0;

		if (leaf == NULL) {
			return;
		}
		atomic_compare_exchange_strong_explicit(&leaf[(gfn + i) % ENTRIES], &none,
							entry + (i << 12), memory_order_release,
							memory_order_relaxed);
	}
}

/* Leaves @keep of the bits of each entry. */
static void mask_range(struct soft_map *map, uint64_t gfn, uint64_t pages, uint64_t keep)
{
	uint64_t end = MIN(gfn + pages, BIT(2 * SOFT_MAP_BITS));

	while (gfn < end) {
		uint64_t next = MIN(end, ALIGN_DOWN(gfn, ENTRIES) + ENTRIES);
		_Atomic(uint64_t) *leaf = leaf_of(map, gfn);

		for (; leaf != NULL && gfn < next; gfn++) {
			if (atomic_load_explicit(&leaf[gfn % ENTRIES], memory_order_relaxed) != 0) {
				atomic_fetch_and(&leaf[gfn % ENTRIES], keep);
			}
		}
		gfn = next;
	}
}

void soft_map_clear(struct soft_map *map, uint64_t gfn, uint64_t pages)
{
	mask_range(map, gfn, pages, 0);
}

void soft_map_protect(struct soft_map *map, uint64_t gfn, uint64_t pages)
{
	mask_range(map, gfn, pages, ~SOFT_MAP_WRITE);
}

void soft_map_fini(struct soft_map *map)
{
	for (size_t i = 0; i < ENTRIES; i++) {
		_Atomic(uint64_t) *leaf =
			atomic_exchange_explicit(&map->top[i], NULL, memory_order_relaxed);

		if (leaf != NULL) {
			munmap((void *)(uintptr_t)leaf, LEAF_BYTES);
		}
	}
}
