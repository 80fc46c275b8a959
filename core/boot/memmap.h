/*
 * Ranges of physical memory: sorted, apart from each other. The firmware's map is made into one:
 * its entries may overlap, come in any order and be nonsense.
 */
#pragma once

#include "core/mem/page.h"
#include "lib/base/types.h"

#define MEMMAP_MAX 128

struct memmap {
	struct page_range range[MEMMAP_MAX];
	size_t n;
	bool is_full; /* something had no room: a range is missing */
};

/** memmap_add() - the range is in the map from now on; what wraps around 2^64 is cut. */
void memmap_add(struct memmap *m, uint64_t base, uint64_t len);

/** memmap_remove() - the range is not in the map any more. */
void memmap_remove(struct memmap *m, uint64_t base, uint64_t len);

/** memmap_align() - cuts each range to whole pages. */
void memmap_align(struct memmap *m);

/** memmap_limit() - drops the highest ranges, so that @bytes are left at most. */
void memmap_limit(struct memmap *m, uint64_t bytes);

/** memmap_bytes() - the sum. */
uint64_t memmap_bytes(const struct memmap *m);

/** memmap_has() - is the whole range in it? */
bool memmap_has(const struct memmap *m, uint64_t base, uint64_t len);

/** memmap_find() - the lowest aligned place for @len bytes within [@low, @high). Return: it, or
 * PAGE_NONE. @align: a power of two. */
uint64_t memmap_find(const struct memmap *m, uint64_t len, uint64_t align, uint64_t low,
		     uint64_t high);
