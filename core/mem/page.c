/*
 *	blocks[]          one of 32 bytes for each 2 MiB, from address 0 on
 *	   |
 *	   | state FREE:  first of 2^(order - 9) free blocks, in free_list[order]
 *	   | state TAIL:  one of those behind it
 *	   | state USED:  given out as a whole; has a count of its own
 *	   ` state SPLIT: records[512], one of 16 bytes for each page, in its first two pages;
 *blocks that have holes, or pages used before there was an allocator, have them elsewhere and stay
 *split for ever
 */
#include "core/mem/page.h"

#include <stdatomic.h>
#include <string.h>

#include "core/hw/cpu.h"
#include "core/hw/irq.h"
#include "core/lock.h"
#include "lib/base/check.h"

#define BLOCK_PAGES   (1U << PAGE_ORDER_BLOCK)
#define RECORDS_PAGES 2
#define NIL	      UINT32_MAX
#define CACHE_MAX     64
#define CACHE_REFILL  32

enum state {
	STATE_NONE, /* no RAM */
	STATE_FREE,
	STATE_TAIL,
	STATE_USED,
	STATE_SPLIT,
};

struct record {
	uint32_t next, prev; /* in the free list: page numbers */
	_Atomic uint32_t refs;
	uint8_t order;
	uint8_t state;
	uint8_t use;
};

struct block {
	struct record *records;
	uint32_t next, prev; /* in the free list: block numbers */
	_Atomic uint32_t refs;
	uint16_t free; /* pages, of a split one */
	uint8_t order;
	uint8_t state;
	uint8_t use;
	bool is_fixed; /* stays split */
};

_Static_assert(sizeof(struct record) == 16, "512 of them fill RECORDS_PAGES");
_Static_assert(sizeof(struct block) == 32, "page.h says so");

static struct {
	/* Constant after start-up. */
	struct block *blocks;
	uint32_t n_blocks;
	uint64_t total;

	struct spinlock lock;
	/* Guarded by lock: first of each order. Blocks' orders by block numbers. */
	uint32_t list[PAGE_ORDER_MAX + 1];

	/* Relaxed: each stands for itself. */
	_Atomic int64_t used[PAGE_USE_COUNT];
} ram = {.lock = SPINLOCK_INIT(LOCK_PAGE)};

/* Free pages that a CPU keeps. Guarded by its interrupts being off. */
static struct {
	unsigned n;
	uint32_t page[CACHE_MAX];
} caches[CPU_MAX];

static void count(enum page_use use, int64_t pages)
{
	atomic_fetch_add_explicit(&ram.used[use], pages, memory_order_relaxed);
}

static struct record *record_of(uint32_t page)
{
	return &ram.blocks[page / BLOCK_PAGES].records[page % BLOCK_PAGES];
}

/* Lists of free pages. */

static void page_link(uint32_t page, unsigned order)
{
	struct record *r = record_of(page);

	r->state = STATE_FREE;
	r->order = (uint8_t)order;
	r->prev = NIL;
	r->next = ram.list[order];
	if (r->next != NIL) {
		record_of(r->next)->prev = page;
	}
	ram.list[order] = page;
}

static void page_unlink(uint32_t page)
{
	struct record *r = record_of(page);

	if (r->prev != NIL) {
		record_of(r->prev)->next = r->next;
	} else {
		ram.list[r->order] = r->next;
	}
	if (r->next != NIL) {
		record_of(r->next)->prev = r->prev;
	}
	r->state = STATE_TAIL;
}

/* Lists of free blocks. */

static void block_link(uint32_t n, unsigned order)
{
	struct block *b = &ram.blocks[n];

	b->state = STATE_FREE;
	b->order = (uint8_t)order;
	b->prev = NIL;
	b->next = ram.list[order];
	if (b->next != NIL) {
		ram.blocks[b->next].prev = n;
	}
	ram.list[order] = n;
}

static void block_unlink(uint32_t n)
{
	struct block *b = &ram.blocks[n];

	if (b->prev != NIL) {
		ram.blocks[b->prev].next = b->next;
	} else {
		ram.list[b->order] = b->next;
	}
	if (b->next != NIL) {
		ram.blocks[b->next].prev = b->prev;
	}
	b->state = STATE_TAIL;
}

/* Frees 2^order pages that begin with block @n, and makes them one with their free neighbours. */
static void free_blocks(uint32_t n, unsigned order)
{
	for (uint32_t i = 0; i < 1U << (order - PAGE_ORDER_BLOCK); i++) {
		ram.blocks[n + i].state = STATE_TAIL;
	}
	for (; order < PAGE_ORDER_MAX; order++) {
		uint32_t buddy = n ^ 1U << (order - PAGE_ORDER_BLOCK);
		if (buddy >= ram.n_blocks || ram.blocks[buddy].state != STATE_FREE ||
		    ram.blocks[buddy].order != order) {
			break;
		}
		block_unlink(buddy);
		n &= buddy;
	}
	block_link(n, order);
}

/* Return: the first of 2^order pages' blocks, all in state USED, or NIL. */
static uint32_t take_blocks(unsigned order)
{
	unsigned from = order;

	while (from <= PAGE_ORDER_MAX && ram.list[from] == NIL) {
		from++;
	}
	if (from > PAGE_ORDER_MAX) {
		return NIL;
	}
	uint32_t n = ram.list[from];
	block_unlink(n);
	while (from > order) {
		from--;
		block_link(n + (1U << (from - PAGE_ORDER_BLOCK)), from);
	}
	for (uint32_t i = 0; i < 1U << (order - PAGE_ORDER_BLOCK); i++) {
		ram.blocks[n + i].state = STATE_USED;
		atomic_store_explicit(&ram.blocks[n + i].refs, 1, memory_order_relaxed);
	}
	return n;
}

/* All of a split block but its records is free: pieces of 2, 4, ..., 256 pages. */
static bool split_block(void)
{
	uint32_t n = take_blocks(PAGE_ORDER_BLOCK);

	if (n == NIL) {
		return false;
	}
	struct block *b = &ram.blocks[n];
	b->records = phys_ptr(hpa((uint64_t)n << HUGE_SHIFT));
	b->state = STATE_SPLIT;
	b->free = BLOCK_PAGES - RECORDS_PAGES;
	memset(b->records, 0, BLOCK_PAGES * sizeof(struct record));
	for (unsigned i = 0; i < BLOCK_PAGES; i++) {
		b->records[i].state = STATE_TAIL;
	}
	for (unsigned order = 1; order < PAGE_ORDER_BLOCK; order++) {
		page_link(n * BLOCK_PAGES + (1U << order), order);
	}
	count(PAGE_USE_FREE, -RECORDS_PAGES);
	count(PAGE_USE_BOOT, RECORDS_PAGES);
	return true;
}

static void join_block(uint32_t n)
{
	for (unsigned order = 1; order < PAGE_ORDER_BLOCK; order++) {
		page_unlink(n * BLOCK_PAGES + (1U << order));
	}
	ram.blocks[n].records = NULL;
	free_blocks(n, PAGE_ORDER_BLOCK);
	count(PAGE_USE_FREE, RECORDS_PAGES);
	count(PAGE_USE_BOOT, -RECORDS_PAGES);
}

static void free_pages(uint32_t page, unsigned order)
{
	struct block *b = &ram.blocks[page / BLOCK_PAGES];

	record_of(page)->state = STATE_TAIL;
	b->free = (uint16_t)(b->free + (1U << order));
	for (; order < PAGE_ORDER_BLOCK - 1; order++) {
		const struct record *r = record_of(page ^ 1U << order);
		if (r->state != STATE_FREE || r->order != order) {
			break;
		}
		page_unlink(page ^ 1U << order);
		page &= ~(1U << order);
	}
	page_link(page, order);
	if (!b->is_fixed && b->free == BLOCK_PAGES - RECORDS_PAGES) {
		join_block(page / BLOCK_PAGES);
	}
}

static uint32_t take_pages(unsigned order)
{
	unsigned from = order;

	for (;;) {
		while (from < PAGE_ORDER_BLOCK && ram.list[from] == NIL) {
			from++;
		}
		if (from < PAGE_ORDER_BLOCK) {
			break;
		}
		if (!split_block()) {
			return NIL;
		}
		from = order;
	}
	uint32_t page = ram.list[from];
	struct block *b = &ram.blocks[page / BLOCK_PAGES];
	page_unlink(page);
	while (from > order) {
		from--;
		page_link(page + (1U << from), from);
	}
	b->free = (uint16_t)(b->free - (1U << order));
	record_of(page)->state = STATE_USED;
	record_of(page)->order = (uint8_t)order;
	return page;
}

/* Of this CPU's own, with interrupts off. Return: a page, or NIL. */
static uint32_t take_cached(void)
{
	__typeof__(caches[0]) *c = &caches[cpu_index()];

	if (c->n == 0) {
		spin_take(&ram.lock);
		while (c->n < CACHE_REFILL) {
			uint32_t page = take_pages(0);
			if (page == NIL) {
				break;
			}
			record_of(page)->use = PAGE_USE_FREE;
			c->page[c->n++] = page;
		}
		spin_give(&ram.lock);
	}
	return c->n > 0 ? c->page[--c->n] : NIL;
}

static void drain_cache(unsigned left)
{
	__typeof__(caches[0]) *c = &caches[cpu_index()];

	spin_take(&ram.lock);
	while (c->n > left) {
		free_pages(c->page[--c->n], 0);
	}
	spin_give(&ram.lock);
}

static void free_cached(uint32_t page)
{
	__typeof__(caches[0]) *c = &caches[cpu_index()];

	if (c->n == CACHE_MAX) {
		drain_cache(CACHE_MAX - CACHE_REFILL);
	}
	c->page[c->n++] = page;
}

void page_drain_cpu(void)
{
	uint64_t flags = irq_save();

	drain_cache(0);
	irq_restore(flags);
}

static hpa_t alloc_blocks(unsigned order, enum page_use use)
{
	uint64_t flags = spin_take_irq(&ram.lock);
	uint32_t n = take_blocks(order);

	for (uint32_t i = 0; n != NIL && i < 1U << (order - PAGE_ORDER_BLOCK); i++) {
		ram.blocks[n + i].use = (uint8_t)use;
	}
	spin_give_irq(&ram.lock, flags);
	return n != NIL ? hpa((uint64_t)n << HUGE_SHIFT) : hpa(PAGE_NONE);
}

static hpa_t alloc_pages(unsigned order, enum page_use use)
{
	uint64_t flags = irq_save();
	uint32_t page;

	if (order == 0) {
		page = take_cached();
	} else {
		spin_take(&ram.lock);
		page = take_pages(order);
		spin_give(&ram.lock);
	}
	irq_restore(flags);
	if (page == NIL) {
		return hpa(PAGE_NONE);
	}
	record_of(page)->use = (uint8_t)use;
	atomic_store_explicit(&record_of(page)->refs, 1, memory_order_relaxed);
	return hpa((uint64_t)page << PAGE_SHIFT);
}

hpa_t page_alloc(unsigned order, enum page_use use)
{
	check(order <= PAGE_ORDER_MAX && use > PAGE_USE_FREE && use < PAGE_USE_COUNT);
	hpa_t pa = order >= PAGE_ORDER_BLOCK ? alloc_blocks(order, use) : alloc_pages(order, use);
	if (!page_is_none(pa)) {
		count(use, INT64_C(1) << order);
		count(PAGE_USE_FREE, -(INT64_C(1) << order));
	}
	return pa;
}

hpa_t page_alloc_zero(unsigned order, enum page_use use)
{
	hpa_t pa = page_alloc(order, use);

	if (!page_is_none(pa)) {
		memset(phys_ptr(pa), 0, PAGE_SIZE << order);
	}
	return pa;
}

/* The block of an address that is in use. */
static struct block *block_of(hpa_t pa)
{
	uint64_t n = pa.v >> HUGE_SHIFT;

	check(n < ram.n_blocks);
	struct block *b = &ram.blocks[n];
	check(b->state == STATE_USED || b->state == STATE_SPLIT);
	return b;
}

void page_free(hpa_t pa, unsigned order)
{
	struct block *b = block_of(pa);
	uint32_t page = (uint32_t)(pa.v >> PAGE_SHIFT);
	uint8_t use;

	check(order <= PAGE_ORDER_MAX && (pa.v & ((PAGE_SIZE << order) - 1)) == 0);
	check((b->state == STATE_USED) == (order >= PAGE_ORDER_BLOCK));
	uint64_t flags = irq_save();
	if (order >= PAGE_ORDER_BLOCK) {
		use = b->use;
		spin_take(&ram.lock);
		free_blocks(page / BLOCK_PAGES, order);
		spin_give(&ram.lock);
	} else {
		struct record *r = record_of(page);
		check(r->state == STATE_USED && r->order == order && r->use != PAGE_USE_FREE);
		use = r->use;
		r->use = PAGE_USE_FREE;
		if (order == 0) {
			free_cached(page);
		} else {
			spin_take(&ram.lock);
			free_pages(page, order);
			spin_give(&ram.lock);
		}
	}
	irq_restore(flags);
	count(use, -(INT64_C(1) << order));
	count(PAGE_USE_FREE, INT64_C(1) << order);
}

static _Atomic uint32_t *refs_of(hpa_t pa)
{
	struct block *b = block_of(pa);

	if (b->state == STATE_USED) {
		return &b->refs;
	}
	struct record *r = record_of((uint32_t)(pa.v >> PAGE_SHIFT));
	check(r->state == STATE_USED && r->order == 0 && r->use != PAGE_USE_FREE);
	return &r->refs;
}

void page_get(hpa_t pa)
{
	uint32_t before = atomic_fetch_add_explicit(refs_of(pa), 1, memory_order_relaxed);

	check(before > 0 && before < UINT32_MAX);
}

void page_put(hpa_t pa)
{
	/* What the other holders wrote comes before it is used for something else. */
	uint32_t before = atomic_fetch_sub_explicit(refs_of(pa), 1, memory_order_acq_rel);

	check(before > 0);
	if (before == 1) {
		if (block_of(pa)->state == STATE_USED) {
			page_free(hpa(ALIGN_DOWN(pa.v, HUGE_SIZE)), PAGE_ORDER_BLOCK);
		} else {
			page_free(hpa(ALIGN_DOWN(pa.v, PAGE_SIZE)), 0);
		}
	}
}

uint32_t page_refs(hpa_t pa)
{
	return atomic_load_explicit(refs_of(pa), memory_order_relaxed);
}

uint64_t page_used(enum page_use use)
{
	return (uint64_t)MAX(atomic_load_explicit(&ram.used[use], memory_order_relaxed), 0);
}

uint64_t page_total(void)
{
	return ram.total;
}

/* Start-up. */

static uint64_t overlap(const struct page_range *r, size_t n, uint64_t base, uint64_t len)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < n; i++) {
		uint64_t low = MAX(r[i].base, base);
		uint64_t high = MIN(r[i].base + r[i].len, base + len);
		sum += high > low ? high - low : 0;
	}
	return sum;
}

uint64_t page_area_bytes(const struct page_range *ranges, size_t n_ram, size_t n_used)
{
	uint64_t end = n_ram > 0 ? ranges[n_ram - 1].base + ranges[n_ram - 1].len : 0;
	uint64_t blocks = ALIGN_UP(end, HUGE_SIZE) >> HUGE_SHIFT;

	/* Each end of a range cuts a block at most; two more for the area itself. */
	return ALIGN_UP(blocks * sizeof(struct block), PAGE_SIZE) +
	       2 * (n_ram + n_used + 1) * RECORDS_PAGES * PAGE_SIZE;
}

static void init_fixed_block(uint32_t n, struct record *records, const struct page_range *ranges,
			     size_t n_ram, const struct page_range *used, size_t n_used)
{
	struct block *b = &ram.blocks[n];

	memset(records, 0, BLOCK_PAGES * sizeof(*records));
	*b = (struct block){.records = records, .state = STATE_SPLIT, .is_fixed = true};
	for (uint32_t i = 0; i < BLOCK_PAGES; i++) {
		uint64_t pa = (uint64_t)(n * BLOCK_PAGES + i) << PAGE_SHIFT;
		if (overlap(ranges, n_ram, pa, PAGE_SIZE) != 0) {
			records[i].state = STATE_USED;
			records[i].use = PAGE_USE_BOOT;
			records[i].refs = 1;
			ram.total++;
			count(PAGE_USE_BOOT, 1);
		}
	}
	for (uint32_t i = 0; i < BLOCK_PAGES; i++) {
		uint64_t pa = (uint64_t)(n * BLOCK_PAGES + i) << PAGE_SHIFT;
		if (records[i].state == STATE_USED && overlap(used, n_used, pa, PAGE_SIZE) == 0) {
			page_release(pa, PAGE_SIZE);
		}
	}
}

void page_init(const struct page_range *ranges, size_t n_ram, const struct page_range *used,
	       size_t n_used, void *area)
{
	uint64_t end = n_ram > 0 ? ranges[n_ram - 1].base + ranges[n_ram - 1].len : 0;
	uint8_t *records = area;

	check(end <= PAGE_RAM_END);
	ram.blocks = area;
	ram.n_blocks = (uint32_t)(ALIGN_UP(end, HUGE_SIZE) >> HUGE_SHIFT);
	ram.total = 0;
	for (unsigned i = 0; i <= PAGE_ORDER_MAX; i++) {
		ram.list[i] = NIL;
	}
	for (unsigned i = 0; i < PAGE_USE_COUNT; i++) {
		atomic_store_explicit(&ram.used[i], 0, memory_order_relaxed);
	}
	memset(ram.blocks, 0, ram.n_blocks * sizeof(struct block));
	records += ALIGN_UP(ram.n_blocks * sizeof(struct block), PAGE_SIZE);
	for (uint32_t n = 0; n < ram.n_blocks; n++) {
		uint64_t base = (uint64_t)n << HUGE_SHIFT;
		uint64_t have = overlap(ranges, n_ram, base, HUGE_SIZE);
		uint64_t busy = overlap(used, n_used, base, HUGE_SIZE);
		struct block *b = &ram.blocks[n];
		if (have == 0) {
			continue;
		}
		if (have == HUGE_SIZE && (busy == 0 || busy == HUGE_SIZE)) {
			*b = (struct block){.state = STATE_USED, .use = PAGE_USE_BOOT, .refs = 1};
			ram.total += BLOCK_PAGES;
			count(PAGE_USE_BOOT, BLOCK_PAGES);
			if (busy == 0) {
				page_release(base, HUGE_SIZE);
			}
			continue;
		}
		init_fixed_block(n, (struct record *)records, ranges, n_ram, used, n_used);
		records += BLOCK_PAGES * sizeof(struct record);
	}
}

void page_release(uint64_t base, uint64_t len)
{
	uint64_t end = ALIGN_DOWN(base + len, PAGE_SIZE);
	uint64_t at = ALIGN_UP(base, PAGE_SIZE);

	while (at < end) {
		const struct block *b = block_of(hpa(at));
		if (b->state == STATE_SPLIT) {
			const struct record *r = record_of((uint32_t)(at >> PAGE_SHIFT));
			check(r->state == STATE_USED && r->use == PAGE_USE_BOOT);
			uint64_t flags = spin_take_irq(&ram.lock);
			free_pages((uint32_t)(at >> PAGE_SHIFT), 0);
			spin_give_irq(&ram.lock, flags);
			count(PAGE_USE_BOOT, -1);
			count(PAGE_USE_FREE, 1);
			at += PAGE_SIZE;
		} else {
			/* Cut blocks have records; a whole one goes as a whole, or stays. */
			uint64_t next = ALIGN_DOWN(at, HUGE_SIZE) + HUGE_SIZE;
			if ((at & (HUGE_SIZE - 1)) == 0 && next <= end) {
				page_free(hpa(at), PAGE_ORDER_BLOCK);
			}
			at = next;
		}
	}
}
