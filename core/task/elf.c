#include "core/task/elf.h"

#include <errno.h>
#include <linux/elf.h>
#include <string.h>

#include "core/hw/user.h"
#include "core/mem/phys.h"
#include "core/mem/space.h"

static bool header_is_good(const struct elf64_hdr *h, size_t len)
{
	return memcmp(h->e_ident, ELFMAG, SELFMAG) == 0 && h->e_ident[EI_CLASS] == ELFCLASS64 &&
	       h->e_ident[EI_DATA] == ELFDATA2LSB && h->e_ident[EI_VERSION] == EV_CURRENT &&
	       (h->e_type == ET_EXEC || h->e_type == ET_DYN) && h->e_machine == EM_X86_64 &&
	       h->e_phentsize == sizeof(struct elf64_phdr) && h->e_phnum != 0 &&
	       range_inside(h->e_phoff, h->e_phnum * sizeof(struct elf64_phdr), 0, len);
}

static unsigned prot_of(uint32_t flags)
{
	return ((flags & PF_R) != 0 ? SPACE_READ : 0u) | ((flags & PF_W) != 0 ? SPACE_WRITE : 0u) |
	       ((flags & PF_X) != 0 ? SPACE_EXEC : 0u);
}

static int add_segment(struct elf *e, const struct elf64_phdr *p, uint64_t size)
{
	struct elf_segment *s = &e->segment[e->segment_count];
	uint64_t end;

	if (p->p_memsz == 0) {
		return 0;
	}
	if (e->segment_count == ELF_SEGMENTS_MAX || p->p_filesz > p->p_memsz ||
	    !range_inside(p->p_offset, p->p_filesz, 0, size) ||
	    p->p_offset % PAGE_SIZE != p->p_vaddr % PAGE_SIZE ||
	    !range_end(p->p_vaddr, p->p_memsz, &end) || end > USER_END - PAGE_SIZE ||
	    (!e->is_relative && p->p_vaddr < SPACE_START)) {
		return -ENOEXEC;
	}
	*s = (struct elf_segment){
		.address = ALIGN_DOWN(p->p_vaddr, PAGE_SIZE),
		.offset = ALIGN_DOWN(p->p_offset, PAGE_SIZE),
		.data_end = p->p_vaddr + p->p_filesz,
		.memory_end = end,
		.prot = prot_of(p->p_flags),
	};
	if ((s->prot & SPACE_WRITE) != 0 && (s->prot & SPACE_EXEC) != 0) {
		return -ENOEXEC;
	}
	if (p->p_filesz != 0) {
		s->map_len = ALIGN_UP(s->data_end, PAGE_SIZE) - s->address;
	}
	/* In order, and no two on one page. */
	if (e->segment_count != 0 && s->address < e->end) {
		return -ENOEXEC;
	}
	if (e->segment_count == 0) {
		e->start = s->address;
	}
	e->end = ALIGN_UP(end, PAGE_SIZE);
	e->segment_count++;
	return 0;
}

int elf_check(const uint8_t *head, size_t len, uint64_t size, struct elf *out)
{
	struct elf64_hdr h;
	uint64_t headers_at = 0;

	*out = (struct elf){0};
	if (len < sizeof(h)) {
		return -ENOEXEC;
	}
	memcpy(&h, head, sizeof(h));
	if (!header_is_good(&h, len)) {
		return -ENOEXEC;
	}
	out->is_relative = h.e_type == ET_DYN;
	out->entry = h.e_entry;
	out->header_count = h.e_phnum;
	for (unsigned i = 0; i < h.e_phnum; i++) {
		struct elf64_phdr p;
		int error = 0;

		memcpy(&p, head + h.e_phoff + i * sizeof(p), sizeof(p));
		if (p.p_type == PT_INTERP) {
			return -ENOEXEC; /* there is no dynamic linker */
		}
		if (p.p_type == PT_LOAD) {
			error = add_segment(out, &p, size);
			if (h.e_phoff >= p.p_offset && h.e_phoff - p.p_offset < p.p_filesz) {
				headers_at = p.p_vaddr + (h.e_phoff - p.p_offset);
			}
		}
		if (error != 0) {
			return error;
		}
	}
	out->headers = headers_at;
	return out->segment_count != 0 && out->entry >= out->start && out->entry < out->end
		       ? 0
		       : -ENOEXEC;
}
