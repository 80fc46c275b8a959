#include "core/mem/paging.h"

#include <errno.h>
#include <string.h>

#include "core/hw/cpu.h"
#include "core/hw/regs.h"
#include "core/mem/kmap.h"
#include "lib/base/check.h"

/* core.ld */
extern char kernel_start[], kernel_text_end[], kernel_rodata_end[], kernel_end[];

#define IMAGE_BASE UINT64_C(0xffffffff80000000) /* and the physical address */

#define TABLE_FLAGS (PTE_P | PTE_RW | PTE_A)

static struct {
	/* Constant after start-up. */
	hpa_t root;
	paging_page_fn *page;
	void *ctx;
} paging;

static hpa_t page_of_allocator(void *ctx)
{
	(void)ctx;
	return page_alloc_zero(0, PAGE_USE_TABLE);
}

static uint64_t *table_at(hpa_t pa)
{
	return phys_ptr(pa);
}

/* The table behind an entry, made if there is none. */
static must_use uint64_t *next_table(uint64_t *entry)
{
	if ((*entry & PTE_P) == 0) {
		hpa_t pa = paging.page(paging.ctx);
		if (page_is_none(pa)) {
			return NULL;
		}
		*entry = pa.v | TABLE_FLAGS;
	}
	check((*entry & PTE_PS) == 0);
	return table_at(hpa(*entry & PTE_ADDR));
}

/* How large a page can be at this place: as a shift. */
static unsigned best_shift(uint64_t va, uint64_t pa, uint64_t len)
{
	if (((va | pa) & (GIB - 1)) == 0 && len >= GIB && cpu_features()->gib_pages) {
		return 30;
	}
	return ((va | pa) & (HUGE_SIZE - 1)) == 0 && len >= HUGE_SIZE ? HUGE_SHIFT : PAGE_SHIFT;
}

static must_use int map_one(uint64_t va, uint64_t pa, unsigned shift, uint64_t flags)
{
	uint64_t *table = table_at(paging.root);

	for (unsigned level = 39; level > shift; level -= 9) {
		table = next_table(&table[va >> level & (PAGING_ENTRIES - 1)]);
		if (table == NULL) {
			return -ENOMEM;
		}
	}
	uint64_t *entry = &table[va >> shift & (PAGING_ENTRIES - 1)];
	check((*entry & PTE_P) == 0);
	*entry = pa | flags | (shift > PAGE_SHIFT ? PTE_PS : 0) | PTE_P | PTE_G | PTE_A | PTE_D;
	return 0;
}

int paging_map(uint64_t va, uint64_t pa, uint64_t len, uint64_t flags)
{
	while (len > 0) {
		unsigned shift = best_shift(va, pa, len);
		int r = map_one(va, pa, shift, flags);
		if (r != 0) {
			return r;
		}
		va += UINT64_C(1) << shift;
		pa += UINT64_C(1) << shift;
		len -= UINT64_C(1) << shift;
	}
	return 0;
}

/* RAM [base, end) in the direct map. What the image must not write is not writable here either. */
static must_use int map_ram(uint64_t base, uint64_t end)
{
	uint64_t low = (uint64_t)kernel_start - IMAGE_BASE;
	uint64_t high = (uint64_t)kernel_rodata_end - IMAGE_BASE;
	struct {
		uint64_t base, end, flags;
	} parts[] = {
		{base, MIN(end, low), PTE_RW | PTE_NX},
		{MAX(base, low), MIN(end, high), PTE_NX},
		{MAX(base, high), end, PTE_RW | PTE_NX},
	};

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		if (parts[i].base < parts[i].end) {
			int r = paging_map(PHYS_BASE + parts[i].base, parts[i].base,
					   parts[i].end - parts[i].base, parts[i].flags);
			if (r != 0) {
				return r;
			}
		}
	}
	return 0;
}

static must_use int map_image(void)
{
	const struct {
		const char *base, *end;
		uint64_t flags;
	} parts[] = {
		{kernel_start, kernel_text_end, 0},
		{kernel_text_end, kernel_rodata_end, PTE_NX},
		{kernel_rodata_end, kernel_end, PTE_RW | PTE_NX},
	};

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		uint64_t base = (uint64_t)parts[i].base;
		int r = paging_map(base, base - IMAGE_BASE, (uint64_t)parts[i].end - base,
				   parts[i].flags);
		if (r != 0) {
			return r;
		}
	}
	return 0;
}

int paging_init(const struct page_range *ram, size_t n, paging_page_fn *page, void *ctx)
{
	paging.page = page;
	paging.ctx = ctx;
	paging.root = page(ctx);
	if (page_is_none(paging.root)) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < n; i++) {
		int r = map_ram(ram[i].base, ram[i].base + ram[i].len);
		if (r != 0) {
			return r;
		}
	}
	int r = map_image();
	if (r != 0) {
		return r;
	}
	/* Spaces copy the highest table, so what can be mapped later begins below it. */
	uint64_t *root = table_at(paging.root);
	if (next_table(&root[KMAP_STACKS_BASE >> 39 & (PAGING_ENTRIES - 1)]) == NULL ||
	    next_table(&root[KMAP_DEVICES_BASE >> 39 & (PAGING_ENTRIES - 1)]) == NULL) {
		return -ENOMEM;
	}
	paging_load();
	paging.page = page_of_allocator;
	return 0;
}

void paging_load(void)
{
	asm_write_cr3(paging.root.v);
}

hpa_t paging_root(void)
{
	return paging.root;
}

void paging_share(uint64_t *root)
{
	size_t half = (PAGING_ENTRIES - PAGING_KERNEL_SLOT) * sizeof(*root);

	memcpy(root + PAGING_KERNEL_SLOT, table_at(paging.root) + PAGING_KERNEL_SLOT, half);
}
