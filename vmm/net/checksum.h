/*
 * The Internet checksum over packets that lie in several pieces.
 * Spec: RFC 1071
 */
#pragma once

#include <sys/uio.h>

#include "lib/base/types.h"

/**
 * checksum_iov() - the checksum of bytes [@offset, @offset+@len) of the buffers.
 * Bytes past the end of the buffers count as zero.
 * Return: as it stands in a packet after store_le16() (the sum is done in memory order). Zero is
 * given as 0xffff, its other spelling, as a UDP packet with 0 would have no checksum.
 */
uint16_t checksum_iov(const struct iovec *iov, unsigned n, size_t offset, size_t len);
