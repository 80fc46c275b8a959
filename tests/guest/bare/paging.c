/* The page tables of bare payloads. */
#include "tests/guest/bare/bare.h"

#define POOL_START 0x400000
#define POOL_END   (BARE_RAM - 0x100000)

static uint64_t next_page = POOL_START;

uint64_t bare_pages(uint32_t count)
{
	uint64_t align = 4096, page;
	uint8_t *bytes;

	while (align < UINT64_C(4096) * count) {
		align *= 2;
	}
	page = (next_page + align - 1) & ~(align - 1);
	next_page = page + UINT64_C(4096) * count;
	check(next_page <= POOL_END);
	bytes = (uint8_t *)page;
	for (size_t i = 0; i < (size_t)4096 * count; i++) {
		bytes[i] = 0;
	}
	return page;
}

uint64_t bare_page(void)
{
	return bare_pages(1);
}

static uint64_t *entry_in(uint64_t table, uint64_t va, unsigned int level)
{
	return (uint64_t *)(table & PTE_ADDRESS) + (va >> (12 + 9 * (level - 1)) & 511);
}

uint64_t *bare_pte(uint64_t va, unsigned int level)
{
	uint64_t *entry = entry_in(read_cr3(), va, 4);

	for (unsigned int at = 4; at > level; at--) {
		if ((*entry & PTE_P) == 0 || (at < 4 && (*entry & PTE_PS) != 0)) {
			return NULL;
		}
		entry = entry_in(*entry, va, at - 1);
	}
	return entry;
}

void bare_map(uint64_t va, uint64_t pa, unsigned int level, uint64_t flags)
{
	uint64_t *entry = entry_in(read_cr3(), va, 4);

	for (unsigned int at = 4; at > level; at--) {
		if ((*entry & PTE_P) == 0) {
			*entry = bare_page() | PTE_P | PTE_W | PTE_U;
		} else if (at < 4 && (*entry & PTE_PS) != 0) {
			/* Split it: the same page in 512 parts. */
			uint64_t table = bare_page(), size = UINT64_C(1) << (12 + 9 * (at - 2));
			uint64_t part = *entry & ~(at == 2 ? PTE_PS : 0);

			for (unsigned int i = 0; i < 512; i++) {
				((uint64_t *)table)[i] = part + i * size;
			}
			*entry = table | PTE_P | PTE_W | PTE_U;
		}
		entry = entry_in(*entry, va, at - 1);
	}
	*entry = pa | flags | (level > 1 ? PTE_PS : 0);
}
