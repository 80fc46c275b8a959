/*
 * What the boot loader handed over, whichever it was: read once, checked, and kept in one form.
 *
 * Spec: Multiboot2 Specification 2.0, 3.6 "Boot information format"; Xen
 * public/arch-x86/hvm/start_info.h
 */
#pragma once

#include "core/boot/boot.h"
#include "core/boot/memmap.h"
#include "lib/base/types.h"

struct boot_info {
	const char *loader; /* how it was started, for the log */
	char cmdline[BOOT_CMDLINE_BYTES];
	bool cmdline_cut; /* it was longer */
	struct memmap ram;
	uint64_t module; /* the first module's address; the others are not looked at */
	uint64_t module_len;
	uint64_t rsdp; /* physical; 0: not told */
	/* Multiboot2 copies the RSDP into its tags. */
	uint8_t rsdp_copy[36];
	size_t rsdp_copy_len;
};

/**
 * boot_mem_fn - reads the loader's structures.
 * Return: a pointer to [pa, pa + len), or NULL if that cannot be memory of the loader.
 */
typedef const void *boot_mem_fn(void *ctx, uint64_t pa, uint64_t len);

/**
 * boot_info_multiboot2() / boot_info_pvh() - read what is at @pa.
 * Return: 0, or -EINVAL when it is no such structure or a broken one.
 */
must_use int boot_info_multiboot2(struct boot_info *info, uint64_t pa, boot_mem_fn *mem, void *ctx);
must_use int boot_info_pvh(struct boot_info *info, uint64_t pa, boot_mem_fn *mem, void *ctx);
