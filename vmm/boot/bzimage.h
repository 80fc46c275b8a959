/*
 * Linux kernels as distributions ship them (bzImage), started at their 64-bit entry.
 * Spec: Linux Documentation/x86/boot.rst
 */
#pragma once

#include <asm/bootparam.h>

#include "vmm/boot/entry.h"
#include "vmm/boot/file.h"
#include "vmm/boot/place.h"

/* The start of a file, which tells what it is; the whole setup header lies in it. */
#define BOOT_HEAD_SIZE 4096

struct bzimage {
	struct setup_header hdr;
	uint64_t offset; /* of the protected-mode code in the file */
	uint64_t len;	 /* and its bytes */
	gpa_t load;	 /* where it goes */
	struct boot_needs needs;
};

/** bzimage_is() - does a file that starts with @len bytes at @head call itself a bzImage? */
bool bzimage_is(const uint8_t *head, size_t len);

/**
 * bzimage_parse() - checks the header of @f.
 * @head: its first @len bytes, BOOT_HEAD_SIZE or the whole file.
 * Return: 0, or -EINVAL, logged.
 */
must_use int bzimage_parse(const struct boot_file *f, const uint8_t *head, size_t len,
			   struct bzimage *k);

/**
 * bzimage_load() - loads the kernel into fresh memory and writes its zero page.
 * The initrd is loaded by the caller. Return: 0 or -errno, logged.
 */
must_use int bzimage_load(const struct bzimage *k, const struct boot_file *f,
			  const struct boot_place *place, struct guest_memory *mem,
			  struct boot_entry *entry);
