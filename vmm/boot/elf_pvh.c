#include "vmm/boot/elf_pvh.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

#include "lib/base/bytes.h"
#include "vmm/board/layout.h"
#include "vmm/boot/e820.h"
#include "vmm/log.h"

#define XEN_ELFNOTE_PHYS32_ENTRY 18
#define NOTES_MAX		 1024 /* looked at in one segment */

#define HVM_START_MAGIC 0x336ec578
#define INFO_MODULE	0x40 /* behind the start info, in the same page */
#define INFO_MEMMAP	0x80
/* No field says what the kernel takes; Linux takes this much and drops the rest silently. */
#define CMDLINE_MAX 2047

struct hvm_start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modlist_paddr, cmdline_paddr, rsdp_paddr, memmap_paddr;
	uint32_t memmap_entries, reserved;
};

struct hvm_modlist_entry {
	uint64_t paddr, size, cmdline_paddr, reserved;
};

struct hvm_memmap_table_entry {
	uint64_t addr, size;
	uint32_t type, reserved; /* types are those of E820 */
};

_Static_assert(sizeof(struct hvm_start_info) == 56, "pvh.pandoc");
_Static_assert(sizeof(struct hvm_modlist_entry) == 32, "pvh.pandoc");
_Static_assert(sizeof(struct hvm_memmap_table_entry) == 24, "pvh.pandoc");

bool elf_pvh_is(const uint8_t *head, size_t len)
{
	return len >= SELFMAG && memcmp(head, ELFMAG, SELFMAG) == 0;
}

static int refuse(const struct boot_file *f, const char *why)
{
	log_error("kernel '%s' %s", f->path, why);
	return -EINVAL;
}

static int truncated(const struct boot_file *f)
{
	return refuse(f, "is truncated: parts of it lie past its end; copy it again");
}

/* Where the program headers are, of both classes. */
struct table {
	uint64_t offset;
	unsigned entries, entry_size;
};

static int parse_header(const struct boot_file *f, const uint8_t *head, size_t len, struct table *t)
{
	Elf64_Ehdr e64;
	Elf32_Ehdr e32;
	uint16_t type, machine;

	if (len < sizeof(e64)) {
		return truncated(f);
	}
	if (head[EI_DATA] != ELFDATA2LSB) {
		return refuse(f, "is for a big-endian machine; give one for x86-64");
	}
	if (head[EI_CLASS] == ELFCLASS64) {
		memcpy(&e64, head, sizeof(e64));
		type = e64.e_type;
		machine = e64.e_machine;
		*t = (struct table){e64.e_phoff, e64.e_phnum, e64.e_phentsize};
	} else if (head[EI_CLASS] == ELFCLASS32) {
		memcpy(&e32, head, sizeof(e32));
		type = e32.e_type;
		machine = e32.e_machine;
		*t = (struct table){e32.e_phoff, e32.e_phnum, e32.e_phentsize};
	} else {
		return refuse(f, "is damaged: neither 32-bit nor 64-bit ELF; copy it again");
	}
	if (machine != EM_X86_64 && machine != EM_386) {
		return refuse(f, "is for another kind of CPU; give one for x86-64");
	}
	if (type != ET_EXEC && type != ET_DYN) {
		return refuse(f,
			      "is not an executable (perhaps a module); give vmlinux or bzImage");
	}
	if (t->entry_size !=
	    (head[EI_CLASS] == ELFCLASS64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr))) {
		return refuse(f,
			      "is damaged: its program headers have a wrong size; copy it again");
	}
	if (t->entries == 0 || t->entries > ELF_SEGMENTS_MAX) {
		return refuse(f, "has no or too many program headers; give vmlinux or bzImage");
	}
	return 0;
}

static int read_segments(const struct boot_file *f, const struct table *t, struct elf_pvh *k)
{
	uint8_t raw[ELF_SEGMENTS_MAX * sizeof(Elf64_Phdr)];
	uint64_t len = (uint64_t)t->entries * t->entry_size;

	if (!range_inside(t->offset, len, 0, f->size)) {
		return truncated(f);
	}
	int error = boot_file_read(f, t->offset, raw, len);
	if (error != 0) {
		return error;
	}
	for (unsigned i = 0; i < t->entries; i++) {
		struct elf_segment *s = &k->segment[i];

		if (t->entry_size == sizeof(Elf64_Phdr)) {
			Elf64_Phdr p;

			memcpy(&p, raw + i * sizeof(p), sizeof(p));
			*s = (struct elf_segment){p.p_type,  p.p_offset, p.p_filesz,
						  p.p_paddr, p.p_memsz,	 p.p_align};
		} else {
			Elf32_Phdr p;

			memcpy(&p, raw + i * sizeof(p), sizeof(p));
			*s = (struct elf_segment){p.p_type,  p.p_offset, p.p_filesz,
						  p.p_paddr, p.p_memsz,	 p.p_align};
		}
	}
	k->nsegments = t->entries;
	return 0;
}

static int check_segments(const struct boot_file *f, struct elf_pvh *k)
{
	uint64_t end;

	for (unsigned i = 0; i < k->nsegments; i++) {
		const struct elf_segment *s = &k->segment[i];

		if (s->type != PT_LOAD && s->type != PT_NOTE) {
			continue;
		}
		if (!range_inside(s->offset, s->file_len, 0, f->size)) {
			return truncated(f);
		}
		if (s->type != PT_LOAD || s->mem_len == 0) {
			continue;
		}
		if (s->file_len > s->mem_len) {
			return refuse(f, "is damaged: a segment is smaller than its contents; "
					 "copy it again");
		}
		if (s->paddr < LAYOUT_KERNEL_LOWEST || !range_end(s->paddr, s->mem_len, &end) ||
		    end > LAYOUT_LOW_RAM_MAX) {
			return refuse(f, "wants to be loaded where a guest has no free memory "
					 "(not between 1 MiB and 2816 MiB); link it elsewhere");
		}
		k->needs.end = MAX(k->needs.end, end);
	}
	return 0;
}

/*
 * Looks through the notes of @s for the entry. Return: 1 if found, 0 if not, -errno.
 */
static int find_entry(const struct boot_file *f, const struct elf_segment *s, gpa_t *entry)
{
	uint64_t align = s->align == 8 ? 8 : 4;
	uint64_t pos = 0;

	for (unsigned n = 0; n < NOTES_MAX; n++) {
		uint8_t note[sizeof(Elf64_Nhdr) + 4 + 8]; /* header, "Xen", address */

		if (s->file_len - pos < sizeof(Elf64_Nhdr)) {
			return 0;
		}
		uint64_t have = MIN(sizeof(note), s->file_len - pos);
		memset(note, 0, sizeof(note));
		int error = boot_file_read(f, s->offset + pos, note, have);
		if (error != 0) {
			return error;
		}

		uint32_t name_len = load_le32(note);
		uint32_t desc_len = load_le32(note + 4);
		uint32_t type = load_le32(note + 8);
		if (name_len == 4 && memcmp(note + 12, "Xen", 4) == 0 &&
		    type == XEN_ELFNOTE_PHYS32_ENTRY && (desc_len == 4 || desc_len == 8) &&
		    have >= 16 + desc_len) {
			*entry = gpa(load_le(note + 16, desc_len));
			return 1;
		}
		/* Cannot wrap: both lengths have 32 bits. */
		uint64_t step = ALIGN_UP(
			ALIGN_UP(sizeof(Elf64_Nhdr) + (uint64_t)name_len, align) + desc_len, align);
		if (step > s->file_len - pos) {
			return 0;
		}
		pos += step;
	}
	return 0;
}

static bool loaded(const struct elf_pvh *k, gpa_t addr)
{
	for (unsigned i = 0; i < k->nsegments; i++) {
		const struct elf_segment *s = &k->segment[i];

		if (s->type == PT_LOAD && range_inside(addr.v, 1, s->paddr, s->mem_len)) {
			return true;
		}
	}
	return false;
}

int elf_pvh_parse(const struct boot_file *f, const uint8_t *head, size_t len, struct elf_pvh *k)
{
	struct table table;
	int found = 0;

	*k = (struct elf_pvh){
		.needs = {.initrd_limit = LAYOUT_LOW_RAM_MAX, .cmdline_max = CMDLINE_MAX}};
	int error = parse_header(f, head, len, &table);
	if (error == 0) {
		error = read_segments(f, &table, k);
	}
	if (error == 0) {
		error = check_segments(f, k);
	}
	if (error != 0) {
		return error;
	}
	for (unsigned i = 0; i < k->nsegments && found == 0; i++) {
		if (k->segment[i].type == PT_NOTE) {
			found = find_entry(f, &k->segment[i], &k->entry);
		}
	}
	if (found < 0) {
		return found;
	}
	if (found == 0) {
		return refuse(f, "is an ELF file without a PVH entry (CONFIG_PVH); "
				 "give the kernel's bzImage (vmlinuz) instead");
	}
	if (!loaded(k, k->entry)) {
		return refuse(f,
			      "is damaged: its PVH entry is not in what it loads; copy it again");
	}
	return 0;
}

static int write_start_info(const struct boot_place *place, struct guest_memory *mem)
{
	struct boot_e820_entry map[E820_ENTRIES_MAX];
	unsigned n = e820_build(mem, map);
	uint8_t page[4096] = {0};
	struct hvm_start_info info = {
		.magic = HVM_START_MAGIC,
		.version = 1,
		.nr_modules = place->initrd_size > 0,
		.modlist_paddr = place->initrd_size > 0 ? LAYOUT_PVH_INFO + INFO_MODULE : 0,
		.cmdline_paddr = LAYOUT_CMDLINE,
		.rsdp_paddr = place->rsdp.v,
		.memmap_paddr = LAYOUT_PVH_INFO + INFO_MEMMAP,
		.memmap_entries = n,
	};
	struct hvm_modlist_entry module = {.paddr = place->initrd.v, .size = place->initrd_size};

	memcpy(page, &info, sizeof(info));
	memcpy(page + INFO_MODULE, &module, sizeof(module));
	for (unsigned i = 0; i < n; i++) {
		struct hvm_memmap_table_entry entry = {
			.addr = map[i].addr, .size = map[i].size, .type = map[i].type};

		memcpy(page + INFO_MEMMAP + i * sizeof(entry), &entry, sizeof(entry));
	}
	return guest_write(mem, gpa(LAYOUT_PVH_INFO), page, sizeof(page));
}

int elf_pvh_load(const struct elf_pvh *k, const struct boot_file *f, const struct boot_place *place,
		 struct guest_memory *mem, struct boot_entry *entry)
{
	for (unsigned i = 0; i < k->nsegments; i++) {
		const struct elf_segment *s = &k->segment[i];

		if (s->type != PT_LOAD || s->file_len == 0 || s->mem_len == 0) {
			continue;
		}
		int error = boot_file_load(f, s->offset, mem, gpa(s->paddr), s->file_len);
		if (error != 0) {
			return error;
		}
	}
	*entry = (struct boot_entry){
		.mode = BOOT_PROTECTED, .rip = k->entry, .params = gpa(LAYOUT_PVH_INFO)};
	int error = write_start_info(place, mem);
	if (error == 0) {
		error = boot_entry_tables(entry, mem);
	}
	if (error != 0) {
		log_error("memory is too small to start a kernel in");
	}
	return error;
}
