#include "vmm/net/checksum.h"

#include "lib/base/bytes.h"

static uint16_t fold(uint64_t sum)
{
	while (sum >> 16 != 0) {
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return (uint16_t)sum;
}

/* The sum of one piece, as if it began at an even place. */
static uint16_t sum_piece(const uint8_t *p, size_t len)
{
	uint64_t sum = 0;

	/* 32-bit words in 64 bits: no carry is lost in less than 2^32 of them. */
	for (; len >= 8; p += 8, len -= 8) {
		uint64_t v = load_le64(p);

		sum += (v & 0xffffffff) + (v >> 32);
	}
	sum += load_le(p, (unsigned)(len & 4)) + load_le(p + (len & 4), (unsigned)(len & 3));
	return fold(sum);
}

uint16_t checksum_iov(const struct iovec *iov, unsigned n, size_t offset, size_t len)
{
	uint64_t sum = 0;
	bool odd = false;

	for (unsigned i = 0; i < n && len > 0; i++) {
		size_t piece = iov[i].iov_len;
		uint16_t part;

		if (offset >= piece) {
			offset -= piece;
			continue;
		}
		piece = MIN(piece - offset, len);
		part = sum_piece((const uint8_t *)iov[i].iov_base + offset, piece);
		/* A piece that begins at an odd place has its bytes in the other halves. */
		sum += odd ? __builtin_bswap16(part) : part;
		odd ^= (piece & 1) != 0;
		len -= piece;
		offset = 0;
	}

	uint16_t result = (uint16_t)~fold(sum);

	return result != 0 ? result : 0xffff;
}
