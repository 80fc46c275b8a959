/*
 * Programs: static ELF files for x86-64, at fixed addresses or position-independent. The file is
 * hostile; what passes elf_check() can be mapped without further questions.
 *
 * Spec: System V ABI, "Object Files", "Program Loading"
 */
#pragma once

#include "lib/base/types.h"

#define ELF_SEGMENTS_MAX 16
#define ELF_HEADER_BYTES 4096 /* header and program headers have to be in them */

struct elf_segment {
	uint64_t address; /* page-aligned; of a position-independent program: from its base on */
	uint64_t map_len; /* bytes of whole pages from the file, 0: none */
	uint64_t offset;  /* page-aligned, in the file */
	uint64_t data_end;   /* first address behind the file's bytes */
	uint64_t memory_end; /* first address behind the segment, zeros until there */
	unsigned prot;	     /* SPACE_* */
};

struct elf {
	bool is_relative;
	uint64_t entry;
	uint64_t headers; /* where the program headers are in memory */
	unsigned header_count;
	struct elf_segment segment[ELF_SEGMENTS_MAX];
	unsigned segment_count;
	uint64_t start, end; /* of all of it, page-aligned */
};

/**
 * elf_check() - is it a program that can run here, and where does what go?
 * @head: the file's first @len bytes (up to ELF_HEADER_BYTES). @size: the file's.
 * Return: 0; -ENOEXEC.
 */
must_use int elf_check(const uint8_t *head, size_t len, uint64_t size, struct elf *out);
