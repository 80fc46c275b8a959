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

static const struct guest_region *region_of(const struct guest_memory *mem, uint64_t addr)
{
	for (unsigned i = 0; i < mem->nregions; i++) {
		if (addr - mem->region[i].base.v < mem->region[i].len) {
			return &mem->region[i];
		}
	}
	return NULL;
}

int chain_add(const struct virtqueue *vq, struct vq_chain *chain, const struct chain_desc *d,
	      const struct guest_region **near)
{
	const struct guest_region *r = *near;
	bool writable = (d->flags & VRING_DESC_F_WRITE) != 0;
	unsigned n = chain->nout + chain->nin;

	if (d->len == 0 || (!writable && chain->nin > 0) ||
	    chain->out_len + chain->in_len + d->len > REQUEST_BYTES_MAX) {
		return -EBADMSG;
	}
	if (r == NULL || d->addr - r->base.v >= r->len) {
		r = region_of(vq->mem, d->addr);
		if (r == NULL) {
			return -EBADMSG;
		}
		*near = r;
	}
	uint64_t at = d->addr - r->base.v;

	if (d->len > r->len - at) {
		return -EBADMSG;
	}
	if (n >= chain->max) {
		return -ENOBUFS;
	}
	chain->iov[n] = (struct iovec){.iov_base = r->host + at, .iov_len = d->len};
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
