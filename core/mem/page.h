/*
 * Free and used RAM: a buddy allocator over 4 KiB pages.
 *
 * RAM is cut into blocks of 2 MiB. A block is free, or used as a whole (alone or with neighbours:
 * orders PAGE_ORDER_BLOCK and above), or split: then it begins with the records of its 4 KiB pages,
 * which are given out by orders below PAGE_ORDER_BLOCK. So RAM that is free or used as large pages
 * costs 32 bytes for 2 MiB. A split block whose pages are all free becomes one block again.
 *
 * Each CPU keeps some free pages of order 0 for itself.
 *
 * Pages that more than one may hold (order 0 and order PAGE_ORDER_BLOCK only) are counted:
 * page_get(), page_put(). All others are freed by page_free() with the order they were taken with.
 */
#pragma once

#include "core/mem/phys.h"
#include "lib/base/types.h"

#define PAGE_ORDER_BLOCK 9  /* 2 MiB */
#define PAGE_ORDER_MAX	 18 /* 1 GiB */

#define PAGE_NONE UINT64_MAX /* .v of no page */

/* What it is used for: counted, so that leaks show. */
enum page_use {
	PAGE_USE_FREE,
	PAGE_USE_BOOT,	/* the kernel's image, boot data, records of pages */
	PAGE_USE_TABLE, /* page tables of the kernel and of processes */
	PAGE_USE_STACK, /* kernel stacks */
	PAGE_USE_HEAP,	/* small objects */
	PAGE_USE_NODE,	/* indices of memory objects */
	PAGE_USE_USER,	/* memory of ring 3: pages of memory objects */
	PAGE_USE_FILE,	/* the initramfs */
	PAGE_USE_SVM,	/* VMCBs, nested page tables, permission maps */
	PAGE_USE_KVM,	/* pages shared with VMMs: struct kvm_run, dirty bitmaps */
	PAGE_USE_OTHER,
	PAGE_USE_COUNT,
};

/**
 * page_alloc() - 2^@order pages, aligned to their size, contents left as they are.
 * Return: the first's address, or .v == PAGE_NONE if there is no such piece.
 * Context: any; takes LOCK_PAGE.
 */
must_use hpa_t page_alloc(unsigned order, enum page_use use);

/** page_alloc_zero() - as page_alloc(), filled with zeros. */
must_use hpa_t page_alloc_zero(unsigned order, enum page_use use);

/** page_is_none() - did page_alloc() find nothing? */
static inline bool page_is_none(hpa_t pa)
{
	return pa.v == PAGE_NONE;
}

/** page_free() - gives back what page_alloc() gave, by the same order. A counted page's last holder
 * may use it instead of page_put(). Context: any. */
void page_free(hpa_t pa, unsigned order);

/**
 * page_get() - one more holds the page of order 0, or the block, that has @pa in it.
 * A fresh page has one holder.
 * Context: any; the caller holds it, or a lock that keeps it from being freed.
 */
void page_get(hpa_t pa);

/** page_put() - one holder less; the last one frees it. Context: any. */
void page_put(hpa_t pa);

/** page_refs() - how many hold it. For tests, and where a lock keeps it from changing. */
uint32_t page_refs(hpa_t pa);

/** page_used() - pages (of 4 KiB) in use for @use at this moment; PAGE_USE_FREE: free ones. */
uint64_t page_used(enum page_use use);

/** page_total() - all pages (of 4 KiB) that the allocator manages. */
uint64_t page_total(void);

/** page_drain_cpu() - gives this CPU's own free pages back to all: for tests. */
void page_drain_cpu(void);

/* Start-up. */

struct page_range {
	uint64_t base; /* bytes */
	uint64_t len;
};

/** page_area_bytes() - how much room page_init() wants for its records, at most. */
must_use uint64_t page_area_bytes(const struct page_range *ram, size_t n_ram, size_t n_used);

/**
 * page_init() - takes over RAM.
 * @ram: ranges of usable RAM, sorted, apart from each other, page-aligned, below PAGE_RAM_END.
 * @used: ranges in use already, sorted, apart, page-aligned; what lies in @ram counts as
 * PAGE_USE_BOOT until page_release().
 * @area: room for the records, page_area_bytes() long; within @used.
 */
void page_init(const struct page_range *ram, size_t n_ram, const struct page_range *used,
	       size_t n_used, void *area);

#define PAGE_RAM_END (UINT64_C(1) << 44) /* page numbers have 32 bits */

/** page_release() - frees whole pages in [@base, @base + @len) that were in @used. */
void page_release(uint64_t base, uint64_t len);
