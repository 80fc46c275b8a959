#include "vmm/virtio/iov.h"

unsigned iov_slice(struct iovec *out, const struct iovec *iov, unsigned n, size_t offset,
		   size_t len)
{
	unsigned nout = 0;

	for (unsigned i = 0; i < n && len > 0; i++) {
		size_t piece = iov[i].iov_len;

		if (offset >= piece) {
			offset -= piece;
			continue;
		}
		piece = MIN(piece - offset, len);
		out[nout++] = (struct iovec){(uint8_t *)iov[i].iov_base + offset, piece};
		offset = 0;
		len -= piece;
	}
	return nout;
}
