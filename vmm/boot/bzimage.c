#include "vmm/boot/bzimage.h"

#include <errno.h>
#include <string.h>

#include "lib/base/bytes.h"
#include "vmm/board/layout.h"
#include "vmm/boot/e820.h"
#include "vmm/log.h"

#define SECTOR		512
#define HEADER		offsetof(struct boot_params, hdr) /* 0x1f1 */
#define HEADER_MAGIC	0x202
#define HEADER_MIN	0x264 /* through init_size, of protocol 2.10 */
#define ENTRY_64	0x200
#define PROTOCOL_MIN	0x020c /* xloadflags; Linux 3.8 */
#define PROTOCOL_RSDP	0x020e /* acpi_rsdp_addr */
#define LOADER_OTHER	0xff
#define VIDEO_NORMAL	0xffff
#define CMDLINE_MAX_ANY 255 /* what a kernel that says 0 has room for */

_Static_assert(sizeof(struct boot_params) == 4096, "the zero page is a page");
_Static_assert(HEADER == 0x1f1, "boot.rst, \"The Real-Mode Kernel Header\"");
_Static_assert(offsetof(struct boot_params, e820_table) == 0x2d0, "zero-page.rst");

bool bzimage_is(const uint8_t *head, size_t len)
{
	return len >= HEADER_MAGIC + 4 && memcmp(head + HEADER_MAGIC, "HdrS", 4) == 0 &&
	       load_le16(head + 0x1fe) == 0xaa55;
}

static int damaged(const struct boot_file *f, const char *why)
{
	log_error("kernel '%s' is damaged: %s; copy or build it again", f->path, why);
	return -EINVAL;
}

static int truncated(const struct boot_file *f, uint64_t want)
{
	log_error("kernel '%s' is truncated: its header promises %llu bytes, it has %llu; "
		  "copy it again",
		  f->path, (unsigned long long)want, (unsigned long long)f->size);
	return -EINVAL;
}

/* Is it a kernel that can be started at its 64-bit entry? Its header ends at @end in the file. */
static int check_kind(const struct boot_file *f, const struct setup_header *h, size_t end)
{
	if (h->version < PROTOCOL_MIN) {
		log_error("kernel '%s' is too old (boot protocol %u.%02u); Linux 3.8 or newer is "
			  "needed",
			  f->path, h->version >> 8, h->version & 0xff);
		return -EINVAL;
	}
	if (end < HEADER_MIN) {
		return damaged(f, "its header is too short");
	}
	if ((h->xloadflags & XLF_KERNEL_64) == 0) {
		log_error("kernel '%s' is a 32-bit kernel; give a 64-bit (amd64) one", f->path);
		return -EINVAL;
	}
	if ((h->loadflags & LOADED_HIGH) == 0) {
		log_error("kernel '%s' is a zImage; give a bzImage", f->path);
		return -EINVAL;
	}
	return 0;
}

/* Where it goes, and how much room it needs from there. */
static int choose_address(const struct boot_file *f, struct bzimage *k)
{
	const struct setup_header *h = &k->hdr;
	uint64_t align = h->relocatable_kernel ? h->kernel_alignment : 1;
	uint64_t span = MAX(h->init_size, k->len);

	if (align == 0 || (align & (align - 1)) != 0) {
		return damaged(f, "its alignment is not a power of two");
	}
	/*
	 * Loaded lower than it prefers, a kernel moves itself up there; loaded higher, it needs
	 * more memory. So there is one good place.
	 */
	if (h->pref_address < LAYOUT_KERNEL_LOWEST || h->pref_address >= LAYOUT_LOW_RAM_MAX) {
		return damaged(f, "its preferred address is not in low memory");
	}
	k->load = gpa(ALIGN_UP(h->pref_address, align));
	k->needs = (struct boot_needs){
		.end = k->load.v + span,
		.initrd_limit = (uint64_t)h->initrd_addr_max + 1,
		.cmdline_max = h->cmdline_size != 0 ? h->cmdline_size : CMDLINE_MAX_ANY,
	};
	return 0;
}

int bzimage_parse(const struct boot_file *f, const uint8_t *head, size_t len, struct bzimage *k)
{
	struct setup_header *h = &k->hdr;

	*k = (struct bzimage){0};
	if (len < HEADER_MIN) {
		return truncated(f, HEADER_MIN);
	}
	/* The byte after the jump at 0x200 says how far the header reaches. */
	size_t end = HEADER_MAGIC + head[0x201];
	end = MAX(end, HEADER_MAGIC + 16); /* enough to tell an old kernel */
	memcpy(h, head + HEADER, MIN(MIN(end, len) - HEADER, sizeof(*h)));
	int error = check_kind(f, h, end);
	if (error != 0) {
		return error;
	}

	k->offset = (h->setup_sects != 0 ? h->setup_sects + 1u : 5u) * SECTOR;
	k->len = (uint64_t)h->syssize * 16;
	/* syssize is rounded up, and not every build pads the file. */
	if (k->offset + k->len > f->size + 15) {
		return truncated(f, k->offset + k->len);
	}
	k->len = MIN(k->len, f->size - k->offset);
	if (k->len < 2 * ENTRY_64 || (uint64_t)h->payload_offset + h->payload_length > k->len) {
		return damaged(f, "its payload lies outside of it");
	}
	return choose_address(f, k);
}

static void fill_params(const struct bzimage *k, const struct boot_place *place,
			const struct guest_memory *mem, struct boot_params *p)
{
	*p = (struct boot_params){.hdr = k->hdr};
	p->hdr.type_of_loader = LOADER_OTHER;
	p->hdr.loadflags &= (uint8_t)~CAN_USE_HEAP; /* there is no real-mode code */
	p->hdr.vid_mode = VIDEO_NORMAL;
	p->hdr.code32_start = (uint32_t)k->load.v;
	p->hdr.cmd_line_ptr = LAYOUT_CMDLINE;
	p->hdr.ramdisk_image = (uint32_t)place->initrd.v;
	p->hdr.ramdisk_size = (uint32_t)place->initrd_size;
	p->hdr.setup_data = 0;
	if (k->hdr.version >= PROTOCOL_RSDP) {
		p->acpi_rsdp_addr = place->rsdp.v;
	}
	p->e820_entries = (uint8_t)e820_build(mem, p->e820_table);
}

int bzimage_load(const struct bzimage *k, const struct boot_file *f, const struct boot_place *place,
		 struct guest_memory *mem, struct boot_entry *entry)
{
	struct boot_params params;
	int error = boot_file_load(f, k->offset, mem, k->load, k->len);

	if (error != 0) {
		return error;
	}
	*entry = (struct boot_entry){
		.mode = BOOT_LONG,
		.rip = gpa_add(k->load, ENTRY_64),
		.params = gpa(LAYOUT_BOOT_PARAMS),
	};
	fill_params(k, place, mem, &params);
	error = guest_write(mem, entry->params, &params, sizeof(params));
	if (error == 0) {
		error = boot_entry_tables(entry, mem);
	}
	if (error != 0) {
		log_error("memory is too small to start a kernel in");
	}
	return error;
}
