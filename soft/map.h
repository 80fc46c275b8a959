/*
 * Which of the VMM's pages is behind a guest-physical page: what nested page tables are to
 * hardware. Filled by the backend's map() one page at a time, read by all vCPUs without a lock.
 * Two levels; the leaves are made when they are needed, and stay.
 */
#pragma once

#include "lib/base/types.h"

/** Guest-physical addresses have so many bits. */
#define SOFT_PHYS_BITS 40
#define SOFT_MAP_BITS  ((SOFT_PHYS_BITS - 12) / 2)

/** Flags in the low bits of an entry. 0: nothing is mapped. */
#define SOFT_MAP_PRESENT BIT(0)
#define SOFT_MAP_WRITE	 BIT(1)

struct soft_map {
	_Atomic(uint64_t) *_Atomic top[BIT(SOFT_MAP_BITS)];
};

/** soft_map_get() - the page's address in the VMM and flags, or 0. Context: any. */
uint64_t soft_map_get(const struct soft_map *map, uint64_t gfn);

/**
 * soft_map_set() - enters a page. Return: 0 or -ENOMEM.
 * Context: excludes soft_map_clear() of the same pages, not other setters.
 */
must_use int soft_map_set(struct soft_map *map, uint64_t gfn, uint64_t entry);

/**
 * soft_map_add() - enters those of @pages neighbouring pages that are not mapped, the first as
 * @entry, as long as there is memory for that. Context: as soft_map_set().
 */
void soft_map_add(struct soft_map *map, uint64_t gfn, uint64_t pages, uint64_t entry);

/** soft_map_clear() - forgets pages. Context: any; who reads later finds nothing. */
void soft_map_clear(struct soft_map *map, uint64_t gfn, uint64_t pages);

/** soft_map_protect() - takes the right to write. */
void soft_map_protect(struct soft_map *map, uint64_t gfn, uint64_t pages);

/** soft_map_fini() - frees the leaves. */
void soft_map_fini(struct soft_map *map);
