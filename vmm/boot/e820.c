#include "vmm/boot/e820.h"

#include "vmm/board/layout.h"

struct map {
	struct boot_e820_entry *entry;
	unsigned n;
};

static void add(struct map *m, uint64_t start, uint64_t end, uint32_t type)
{
	if (start < end) {
		m->entry[m->n++] =
			(struct boot_e820_entry){.addr = start, .size = end - start, .type = type};
	}
}

unsigned e820_build(const struct guest_memory *mem, struct boot_e820_entry out[E820_ENTRIES_MAX])
{
	struct map m = {.entry = out};
	uint64_t low = mem->region[0].len;

	add(&m, 0, MIN(low, LAYOUT_EBDA), E820_RAM);
	add(&m, LAYOUT_EBDA, LAYOUT_KERNEL_LOWEST, E820_RESERVED);
	add(&m, LAYOUT_KERNEL_LOWEST, low, E820_RAM);
	add(&m, LAYOUT_ECAM, LAYOUT_ECAM + LAYOUT_ECAM_SIZE, E820_RESERVED);
	add(&m, LAYOUT_KVM_IDENTITY, LAYOUT_KVM_IDENTITY + LAYOUT_KVM_PAGES, E820_RESERVED);
	for (unsigned i = 1; i < mem->nregions; i++) {
		add(&m, mem->region[i].base.v, mem->region[i].base.v + mem->region[i].len,
		    E820_RAM);
	}
	return m.n;
}
