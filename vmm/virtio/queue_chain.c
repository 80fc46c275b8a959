#include "vmm/virtio/queue_chain.h"

#include <errno.h>
#include <linux/virtio_ring.h>

#define REQUEST_BYTES_MAX (UINT64_C(1) << 32)

void chain_begin(struct vq_chain *chain)
{
	chain->nout = 0;
	chain->nin = 0;
	chain->out_len = 0;
	chain->in_len = 0;
	chain->id = 0;
	chain->ndesc = 0;
}

int chain_add(const struct virtqueue *vq, struct vq_chain *chain, const struct chain_desc *d)
{
	bool writable = (d->flags & VRING_DESC_F_WRITE) != 0;
	unsigned n = chain->nout + chain->nin;
	void *host;

	if (d->len == 0 || (!writable && chain->nin > 0) ||
	    chain->out_len + chain->in_len + d->len > REQUEST_BYTES_MAX) {
		return -EBADMSG;
	}
	host = guest_ptr(vq->mem, gpa(d->addr), d->len);
	if (host == NULL) {
		return -EBADMSG;
	}
	if (n >= chain->max) {
		return -ENOBUFS;
	}
	chain->iov[n] = (struct iovec){.iov_base = host, .iov_len = d->len};
	if (writable) {
		chain->nin++;
		chain->in_len += d->len;
	} else {
		chain->nout++;
		chain->out_len += d->len;
	}
	return 0;
}

const uint8_t *chain_table(const struct virtqueue *vq, const struct chain_desc *d, unsigned *count)
{
	if (!vq->indirect || (d->flags & VRING_DESC_F_NEXT) != 0 || d->len == 0 ||
	    d->len % sizeof(struct vring_desc) != 0 ||
	    d->len / sizeof(struct vring_desc) > vq->size) {
		return NULL;
	}
	*count = (unsigned)(d->len / sizeof(struct vring_desc));
	return guest_ptr(vq->mem, gpa(d->addr), d->len);
}
