#include "core/mem/table.h"

#include <errno.h>

#include "core/hw/regs.h"

#define ENTRIES	    512
#define TOP_SHIFT   39
#define TABLE_FLAGS (PTE_P | PTE_RW | PTE_US | PTE_A)

static uint64_t *entries(uint64_t entry)
{
	return phys_ptr(hpa(entry & PTE_ADDR));
}

static unsigned index_of(uint64_t va, unsigned shift)
{
	return va >> shift & (ENTRIES - 1);
}

void table_gather_init(struct table_gather *g)
{
	g->n = 0;
	g->start = UINT64_MAX;
	g->end = 0;
}

int table_set(hpa_t root, uint64_t va, hpa_t pa, uint64_t bytes, uint64_t flags)
{
	unsigned last = bytes == HUGE_SIZE ? HUGE_SHIFT : PAGE_SHIFT;
	uint64_t *table = phys_ptr(root);

	for (unsigned shift = TOP_SHIFT; shift > last; shift -= 9) {
		uint64_t *entry = &table[index_of(va, shift)];
		if (*entry == 0) {
			hpa_t page = page_alloc_zero(0, PAGE_USE_TABLE);
			if (page_is_none(page)) {
				return -ENOMEM;
			}
			*entry = page.v | TABLE_FLAGS;
		} else if ((*entry & PTE_PS) != 0) {
			return -EEXIST;
		}
		table = entries(*entry);
	}
	uint64_t *entry = &table[index_of(va, last)];
	if (last == HUGE_SHIFT && *entry != 0 && (*entry & PTE_PS) == 0) {
		return -EEXIST;
	}
	/* The CPU may read it at this moment. */
	__atomic_store_n(entry, pa.v | flags | PTE_P | (last == HUGE_SHIFT ? PTE_PS : 0),
			 __ATOMIC_RELEASE);
	return 0;
}

uint64_t table_get(hpa_t root, uint64_t va)
{
	const uint64_t *table = phys_ptr(root);

	for (unsigned shift = TOP_SHIFT; shift > PAGE_SHIFT; shift -= 9) {
		uint64_t entry = table[index_of(va, shift)];
		if (entry == 0 || (entry & PTE_PS) != 0) {
			return entry;
		}
		table = entries(entry);
	}
	return table[index_of(va, PAGE_SHIFT)];
}

static void note(struct table_gather *g, uint64_t start, uint64_t end)
{
	g->start = MIN(g->start, start);
	g->end = MAX(g->end, end);
}

static uint64_t zap(uint64_t *table, unsigned shift, uint64_t start, uint64_t end,
		    struct table_gather *g)
{
	uint64_t size = UINT64_C(1) << shift;

	while (start < end) {
		uint64_t *entry = &table[index_of(start, shift)];
		uint64_t base = ALIGN_DOWN(start, size);
		uint64_t stop = MIN(base + size, end);
		bool is_leaf = shift == PAGE_SHIFT || (*entry & PTE_PS) != 0;
		if (*entry != 0 && is_leaf) {
			__atomic_store_n(entry, 0, __ATOMIC_RELEASE);
			note(g, base, base + size);
		} else if (*entry != 0) {
			uint64_t at = zap(entries(*entry), shift - 9, start, stop, g);
			if (at < stop) {
				return at;
			}
			if (stop - base == size && start == base) {
				if (g->n == TABLE_BATCH) {
					return start; /* once more for this one: it is empty now */
				}
				g->table[g->n++] = hpa(*entry & PTE_ADDR);
				__atomic_store_n(entry, 0, __ATOMIC_RELEASE);
				note(g, base, base + size);
			}
		}
		start = stop;
	}
	return start;
}

uint64_t table_zap(hpa_t root, uint64_t start, uint64_t end, struct table_gather *g)
{
	return zap(phys_ptr(root), TOP_SHIFT, start, end, g);
}

void table_free_gathered(struct table_gather *g)
{
	for (unsigned i = 0; i < g->n; i++) {
		page_free(g->table[i], 0);
	}
	table_gather_init(g);
}
