/*
 * Reads cpio archives of the "newc" format, as Linux takes for an initramfs: entries one behind the
 * other, several archives perhaps, zeros between them. The archive is hostile: every size is
 * checked, and reading it always ends.
 *
 * Spec: Linux Documentation/driver-api/early-userspace/buffer-format.rst
 */
#pragma once

#include "lib/base/types.h"

#define CPIO_NAME_MAX 4096 /* with its zero */

struct cpio {
	const uint8_t *data;
	size_t len;
	size_t position;
};

struct cpio_entry {
	const char *name; /* in the archive, ends with a zero */
	size_t name_len;  /* without it */
	uint32_t mode;	  /* as st_mode */
	uint32_t inode, links;
	uint32_t mtime; /* seconds since 1970 */
	uint32_t device_major, device_minor;
	const uint8_t *data; /* in the archive, not aligned */
	size_t len;
};

void cpio_init(struct cpio *c, const void *data, size_t len);

/**
 * cpio_next() - the next entry; end marks and padding are passed over.
 * Return: 1; 0 at the end; -EINVAL when the archive is broken here (@c->position says where).
 */
must_use int cpio_next(struct cpio *c, struct cpio_entry *entry);
