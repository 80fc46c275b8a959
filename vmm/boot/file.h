/*
 * A file that a guest is started from. It may be anything that a user can name, and may change
 * while it is read; every read is checked.
 */
#pragma once

#include "lib/base/types.h"
#include "vmm/memory.h"

struct boot_file {
	const char *what; /* "kernel" or "initrd", for messages */
	const char *path;
	int fd;
	uint64_t size;
};

/**
 * boot_file_open() - opens the regular, non-empty file @path, to be read only.
 * Return: 0 or -errno, logged.
 */
must_use int boot_file_open(struct boot_file *f, const char *what, const char *path);
void boot_file_close(struct boot_file *f);

/**
 * boot_file_read() - exactly @len bytes at @offset.
 * Return: 0 or -errno, logged; -EINVAL if the file has fewer.
 */
must_use int boot_file_read(const struct boot_file *f, uint64_t offset, void *dst, uint64_t len);

/** boot_file_load() - the same, straight into guest RAM; -EFAULT (logged) if it is not RAM. */
must_use int boot_file_load(const struct boot_file *f, uint64_t offset, struct guest_memory *mem,
			    gpa_t addr, uint64_t len);
