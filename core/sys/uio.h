/*
 * Where a read goes and where a write comes from: pieces of user memory, or of the kernel's.
 */
#pragma once

#include "lib/base/types.h"

#define UIO_MAX	      1024	  /* pieces: IOV_MAX */
#define UIO_BYTES_MAX 0x7ffff000u /* of one call, as in Linux; more is cut */
#define UIO_INLINE    8

/* As struct iovec. */
struct uio_piece {
	uint64_t base, len;
};

struct uio {
	struct uio_piece *piece; /* `own`, or allocated */
	unsigned count, at;	 /* pieces, and which one comes next */
	uint64_t done_in_piece;
	uint64_t left; /* bytes */
	bool kernel;
	struct uio_piece own[UIO_INLINE];
};

/** uio_init() - one piece of user memory. Return: 0, -EFAULT. */
must_use int uio_init(struct uio *u, uint64_t va, uint64_t len);

/** uio_init_list() - an array of struct iovec in user memory. Return: 0, -EINVAL, -EFAULT,
 * -ENOMEM. uio_fini() afterwards. */
must_use int uio_init_list(struct uio *u, uint64_t va, uint64_t count);

/** uio_init_kernel() - a buffer of the kernel. */
void uio_init_kernel(struct uio *u, void *buf, size_t len);

void uio_fini(struct uio *u);

/** uio_put() - gives bytes to the reader. Return: how many went, less than asked at the end of the
 * pieces or at a bad address; -EFAULT if none could. */
int64_t uio_put(struct uio *u, const void *from, size_t len);

/** uio_get() - takes bytes from the writer, the same way. */
int64_t uio_get(struct uio *u, void *to, size_t len);
