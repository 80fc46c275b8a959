/*
 * Cutting iovecs to pieces. Copying is iov_to_buf() and iov_from_buf() of queue.h.
 */
#pragma once

#include <sys/uio.h>

#include "lib/base/types.h"

/**
 * iov_slice() - bytes [@offset, @offset+@len) of the buffers, as far as they reach.
 * @out: has room for @n; may not overlap @iov.
 * Return: how many iovecs it took.
 */
unsigned iov_slice(struct iovec *out, const struct iovec *iov, unsigned n, size_t offset,
		   size_t len);
