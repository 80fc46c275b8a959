/*
 * Page tables of a space: four levels, entries as the CPU reads them. All of it under the space's
 * lock.
 *
 * Spec: AMD APM vol. 2, 5.3 "Long-Mode Page Translation"
 */
#pragma once

#include "core/mem/page.h"
#include "lib/base/types.h"

#define TABLE_BATCH 32

/* Tables that are out of use, but may still be looked at by CPUs until table_flush(). */
struct table_gather {
	uint64_t start, end; /* what has changed; start > end: nothing */
	unsigned n;
	hpa_t table[TABLE_BATCH];
};

void table_gather_init(struct table_gather *g);

/**
 * table_set() - @va shows @pa.
 * @bytes: PAGE_SIZE or HUGE_SIZE; @va and @pa are aligned to it.
 * @flags: PTE_* without PTE_P and PTE_PS.
 * Return: 0; -ENOMEM; -EEXIST: of 2 MiB are asked for and there are small pages, or the other way
 * round.
 */
must_use int table_set(hpa_t root, uint64_t va, hpa_t pa, uint64_t bytes, uint64_t flags);

/** table_get() - the entry that shows @va, 0 if none. */
uint64_t table_get(hpa_t root, uint64_t va);

/**
 * table_zap() - empties [start, end); tables that lie in it as a whole are gathered. What of a 2
 * MiB page lies in it takes all of that page along.
 * @g: when it is full, this stops.
 * Return: where it stopped; @end when it is done. The caller flushes and goes on.
 */
uint64_t table_zap(hpa_t root, uint64_t start, uint64_t end, struct table_gather *g);

/** table_free_gathered() - after the flush. */
void table_free_gathered(struct table_gather *g);
