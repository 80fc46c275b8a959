/*
 * ELF kernels (vmlinux and others) with a PVH entry, which a note names.
 * Spec: Xen docs/misc/pvh.pandoc, "x86/HVM direct boot ABI"; System V ABI, chapter 5
 */
#pragma once

#include "vmm/boot/entry.h"
#include "vmm/boot/file.h"
#include "vmm/boot/place.h"

#define ELF_SEGMENTS_MAX 64

struct elf_segment {
	uint32_t type; /* PT_LOAD, PT_NOTE, ... */
	uint64_t offset, file_len;
	uint64_t paddr, mem_len;
	uint64_t align;
};

struct elf_pvh {
	unsigned nsegments;
	struct elf_segment segment[ELF_SEGMENTS_MAX];
	gpa_t entry;
	struct boot_needs needs;
};

/** elf_pvh_is() - does a file that starts with @len bytes at @head call itself ELF? */
bool elf_pvh_is(const uint8_t *head, size_t len);

/** elf_pvh_parse() - checks headers and notes of @f; see bzimage_parse(). */
must_use int elf_pvh_parse(const struct boot_file *f, const uint8_t *head, size_t len,
			   struct elf_pvh *k);

/**
 * elf_pvh_load() - loads the segments into fresh memory (what the file does not fill stays zero)
 * and writes the start info. The initrd is loaded by the caller. Return: 0 or -errno, logged.
 */
must_use int elf_pvh_load(const struct elf_pvh *k, const struct boot_file *f,
			  const struct boot_place *place, struct guest_memory *mem,
			  struct boot_entry *entry);
