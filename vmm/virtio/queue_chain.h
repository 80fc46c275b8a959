/*
 * What split and packed rings have in common: reading memory that the guest may change meanwhile,
 * and collecting the buffers of one request.
 */
#pragma once

#include <errno.h>
#include <linux/virtio_ring.h>
#include <stdatomic.h>

#include "vmm/virtio/queue.h"

/*
 * Accesses to ring fields. The driver is another CPU that runs at the same time, so they are
 * atomic; their order is said at each use.
 */
static inline uint16_t ring_load16(const void *p, memory_order order)
{
	return atomic_load_explicit((const _Atomic uint16_t *)p, order);
}

static inline uint32_t ring_load32(const void *p, memory_order order)
{
	return atomic_load_explicit((const _Atomic uint32_t *)p, order);
}

static inline void ring_store16(void *p, uint16_t v, memory_order order)
{
	atomic_store_explicit((_Atomic uint16_t *)p, v, order);
}

static inline void ring_store32(void *p, uint32_t v, memory_order order)
{
	atomic_store_explicit((_Atomic uint32_t *)p, v, order);
}

/** A descriptor of either ring, read once; the 16 bits are the id of a packed, the next of a split
 * one. */
struct chain_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t id_or_next;
	uint16_t flags;
};

/** chain_begin() - an empty request in @chain; the caller's @iov and @max are kept. */
void chain_begin(struct vq_chain *chain);

/** chain_region() - the region of RAM that @addr is in, or NULL. */
const struct guest_region *chain_region(const struct guest_memory *mem, uint64_t addr);

#define CHAIN_BYTES_MAX (UINT64_C(1) << 32)

/**
 * chain_add() - appends the buffer of @d. Inline: it is called for each of a request's descriptors.
 * @near: NULL before the first; the region that the last one was in, where the next one most likely
 * is, too.
 * Return: 0; -EBADMSG for one that is empty, not in one region of RAM, readable after a writable
 * one, or that makes the request longer than 2^32 bytes; -ENOBUFS.
 * Spec: VIRTIO 1.2, 2.6.4.2 "Message Framing", 2.7.5.2 "The Virtqueue Descriptor Table"
 */
static inline must_use int chain_add(const struct virtqueue *vq, struct vq_chain *chain,
				     const struct chain_desc *d, const struct guest_region **near)
{
	const struct guest_region *r = *near;
	bool writable = (d->flags & VRING_DESC_F_WRITE) != 0;
	unsigned n = chain->nout + chain->nin;

	if (d->len == 0 || (!writable && chain->nin > 0) ||
	    chain->out_len + chain->in_len + d->len > CHAIN_BYTES_MAX) {
		return -EBADMSG;
	}
	if (r == NULL || d->addr - r->base.v >= r->len) {
		r = chain_region(vq->mem, d->addr);
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

/**
 * chain_table() - the indirect table that @d refers to.
 * @count: set to how many descriptors it has.
 * Return: NULL if there cannot be one: the feature is off, @d goes on with NEXT, the length is
 * none, no multiple of a descriptor's, or beyond the queue size, or it is not in RAM.
 * Spec: VIRTIO 1.2, 2.7.5.3 "Indirect Descriptors"
 */
const uint8_t *chain_table(const struct virtqueue *vq, const struct chain_desc *d, unsigned *count);
