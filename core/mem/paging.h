/*
 * The kernel's own page tables. What each address is for: docs/core.md.
 */
#pragma once

#include "core/mem/page.h"
#include "lib/base/types.h"

#define PAGING_ENTRIES	   512
#define PAGING_KERNEL_SLOT 256 /* from this entry of the highest table on, all spaces are alike */

/** paging_entry_fn - gives an empty page for a table, below 4 GiB; .v == PAGE_NONE: none left. */
typedef hpa_t paging_page_fn(void *ctx);

/**
 * paging_init() - makes the kernel's tables, as they stay: all of @ram in the direct map, the image
 * with a right for each of its parts, room for kmap.h; and loads them.
 * @page: where tables come from as long as there is no page_alloc().
 * Return: 0 or -ENOMEM.
 */
must_use int paging_init(const struct page_range *ram, size_t n, paging_page_fn *page, void *ctx);

/** paging_load() - on this CPU: the kernel's tables, without any space of ring 3. */
void paging_load(void);

/** paging_root() - the highest table. */
hpa_t paging_root(void);

/**
 * paging_map() - maps kernel addresses, with the largest pages that fit. What is mapped there
 * already is an error of the caller.
 * @flags: PTE_* without the address; PTE_P and PTE_G are added.
 * Return: 0 or -ENOMEM; then a part may be mapped.
 * Context: start-up, or LOCK_KMAP held.
 */
must_use int paging_map(uint64_t va, uint64_t pa, uint64_t len, uint64_t flags);

/** paging_share() - copies the kernel's half into the highest table of a space. */
void paging_share(uint64_t *root);
