#include "vmm/virtio/queue_chain.h"

#include <linux/virtio_ring.h>

void chain_begin(struct vq_chain *chain)
{
	chain->nout = 0;
	chain->nin = 0;
	chain->out_len = 0;
	chain->in_len = 0;
	chain->id = 0;
	chain->ndesc = 0;
}

const struct guest_region *chain_region(const struct guest_memory *mem, uint64_t addr)
{
	for (unsigned i = 0; i < mem->nregions; i++) {
		if (addr - mem->region[i].base.v < mem->region[i].len) {
			return &mem->region[i];
		}
	}
	return NULL;
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
