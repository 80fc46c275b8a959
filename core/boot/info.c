#include "core/boot/info.h"

#include <errno.h>
#include <string.h>

#include "lib/base/bytes.h"

#define MB2_TAG_END	 0
#define MB2_TAG_CMDLINE	 1
#define MB2_TAG_MODULE	 3
#define MB2_TAG_MMAP	 6
#define MB2_TAG_RSDP_OLD 14
#define MB2_TAG_RSDP_NEW 15
#define MB2_INFO_MAX	 (1 * MIB)

#define PVH_MAGIC UINT64_C(0x336ec578)

#define MEMORY_USABLE 1
#define ENTRIES_MAX   1024

/* A memory map: usable entries first, then whatever else overlaps them is taken away. */
static void add_entries(struct memmap *ram, const uint8_t *p, size_t n, size_t stride)
{
	for (size_t i = 0; i < n; i++) {
		const uint8_t *e = p + i * stride;
		if (load_le32(e + 16) == MEMORY_USABLE) {
			memmap_add(ram, load_le64(e), load_le64(e + 8));
		}
	}
	for (size_t i = 0; i < n; i++) {
		const uint8_t *e = p + i * stride;
		if (load_le32(e + 16) != MEMORY_USABLE) {
			memmap_remove(ram, load_le64(e), load_le64(e + 8));
		}
	}
	memmap_align(ram);
}

static void keep_cmdline(struct boot_info *info, const char *text, size_t most)
{
	size_t n = 0;

	while (n < most && n < sizeof(info->cmdline) - 1 && text[n] != '\0') {
		info->cmdline[n] = text[n];
		n++;
	}
	info->cmdline[n] = '\0';
	info->cmdline_cut = n < most && text[n] != '\0';
}

static void take_mmap_tag(struct boot_info *info, const uint8_t *tag, uint32_t size)
{
	uint32_t stride = size >= 16 ? load_le32(tag + 8) : 0;

	if (stride >= 24 && stride % 8 == 0) {
		add_entries(&info->ram, tag + 16, MIN((size - 16) / stride, ENTRIES_MAX), stride);
	}
}

static void take_tag(struct boot_info *info, const uint8_t *tag, uint32_t type, uint32_t size)
{
	switch (type) {
	case MB2_TAG_CMDLINE:
		keep_cmdline(info, (const char *)tag + 8, size - 8);
		break;
	case MB2_TAG_MODULE:
		if (size >= 16 && info->module_len == 0 &&
		    load_le32(tag + 12) > load_le32(tag + 8)) {
			info->module = load_le32(tag + 8);
			info->module_len = load_le32(tag + 12) - load_le32(tag + 8);
		}
		break;
	case MB2_TAG_MMAP:
		take_mmap_tag(info, tag, size);
		break;
	case MB2_TAG_RSDP_OLD:
	case MB2_TAG_RSDP_NEW:
		/* The new one has more; it comes later or not at all. */
		if (size - 8 > info->rsdp_copy_len) {
			info->rsdp_copy_len = MIN(size - 8, sizeof(info->rsdp_copy));
			memcpy(info->rsdp_copy, tag + 8, info->rsdp_copy_len);
		}
		break;
	default:
		break;
	}
}

int boot_info_multiboot2(struct boot_info *info, uint64_t pa, boot_mem_fn *mem, void *ctx)
{
	const uint8_t *p = mem(ctx, pa, 8);

	*info = (struct boot_info){.loader = "Multiboot2"};
	if (p == NULL) {
		return -EINVAL;
	}
	uint32_t total = load_le32(p);
	if (total < 16 || total > MB2_INFO_MAX) {
		return -EINVAL;
	}
	p = mem(ctx, pa, total);
	if (p == NULL) {
		return -EINVAL;
	}
	for (uint32_t at = 8; total - at >= 8;) {
		uint32_t type = load_le32(p + at);
		uint32_t size = load_le32(p + at + 4);
		if (type == MB2_TAG_END) {
			return 0;
		}
		if (size < 8 || size > total - at) {
			return -EINVAL;
		}
		take_tag(info, p + at, type, size);
		at += MIN(ALIGN_UP(size, 8), total - at);
	}
	return -EINVAL; /* no end tag */
}

/* A string somewhere in memory, of unknown length. */
static void take_pvh_cmdline(struct boot_info *info, uint64_t pa, boot_mem_fn *mem, void *ctx)
{
	const char *text = mem(ctx, pa, BOOT_CMDLINE_BYTES);

	if (pa != 0 && text != NULL) {
		keep_cmdline(info, text, BOOT_CMDLINE_BYTES);
	}
}

/*
 * struct hvm_start_info: magic, version, flags, nr_modules (32 bits each), modlist_paddr,
 * cmdline_paddr, rsdp_paddr, and since version 1 memmap_paddr, memmap_entries (32 bits).
 */
int boot_info_pvh(struct boot_info *info, uint64_t pa, boot_mem_fn *mem, void *ctx)
{
	const uint8_t *p = mem(ctx, pa, 56);

	*info = (struct boot_info){.loader = "PVH"};
	if (p == NULL || load_le32(p) != PVH_MAGIC || load_le32(p + 4) < 1) {
		return -EINVAL;
	}
	take_pvh_cmdline(info, load_le64(p + 24), mem, ctx);
	info->rsdp = load_le64(p + 32);
	if (load_le32(p + 12) > 0) {
		const uint8_t *module = mem(ctx, load_le64(p + 16), 32);
		if (module == NULL) {
			return -EINVAL;
		}
		info->module = load_le64(module);
		info->module_len = load_le64(module + 8);
	}
	/* Entries of 24 bytes: address, size, type, reserved. */
	uint32_t n = MIN(load_le32(p + 48), ENTRIES_MAX);
	const uint8_t *entries = mem(ctx, load_le64(p + 40), (uint64_t)n * 24);
	if (n == 0 || entries == NULL) {
		return -EINVAL;
	}
	add_entries(&info->ram, entries, n, 24);
	return 0;
}
