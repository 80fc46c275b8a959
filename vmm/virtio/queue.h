/*
 * Virtqueues, split and packed, with indirect descriptors and event index. Every descriptor is
 * read once and checked; a chain is handed out as iovecs over guest RAM.
 *
 * Spec: VIRTIO 1.2, 2.6 "Virtqueues" to 2.8 "Packed Virtqueues"
 */
#pragma once

#include <sys/uio.h>

#include "lib/base/state.h"
#include "lib/base/types.h"
#include "vmm/memory.h"

#define VQ_SIZE_MAX 1024

struct virtqueue {
	/* Set by the transport; constant between enable and reset. */
	const struct guest_memory *mem;
	uint16_t size_max;
	uint16_t size;
	bool enabled;
	bool packed, event_idx, indirect;
	gpa_t desc, driver, device; /* the three areas; for split: table, available, used ring */

	/* Guarded by the device's lock. */
	uint16_t next_avail;  /* split: free-running index; packed: ring position */
	uint16_t next_used;   /* the same */
	bool avail_wrap;      /* packed: the driver's wrap counter, as we expect it */
	bool used_wrap;	      /* packed: ours */
	uint32_t unsignalled; /* ring entries used since the last interrupt decision */
	bool doorbell_off;    /* the driver was asked not to ring */
	bool broken;	      /* until reset */
	uint32_t taken;	      /* requests popped and not put back, since power-on */
	/* and the host's views of the three areas, made at enable */
	void *desc_host, *driver_host, *device_host;
};

/** One request of the driver: first @nout buffers the device reads, then @nin it writes. */
struct vq_chain {
	struct iovec *iov; /* the caller's storage */
	unsigned max;	   /* how many it holds */
	unsigned nout, nin;
	uint64_t out_len, in_len; /* bytes */
	uint16_t id;		  /* head index (split) or buffer id (packed) */
	uint16_t ndesc;		  /* ring entries it takes (packed) */
};

static inline struct iovec *vq_in(const struct vq_chain *c)
{
	return c->iov + c->nout;
}

/**
 * vq_pop() - takes the next request off the ring.
 * @chain: @iov and @max set by the caller; the rest is filled in. A buffer is never empty, lies in
 * one piece of guest RAM, and the guest may change its bytes at any time.
 * Return: 1 for a request; 0 if there is none, or the queue is not enabled or broken already;
 * -EBADMSG if the ring or chain breaks the rules or -ENOBUFS if it has more than @max buffers: then
 * the queue is broken, and the caller tells by virtio_broken().
 * At most @size requests are out at any time, whatever the driver does. After 0 the driver rings
 * for the next request, unless vq_doorbell() turned that off: no further look is needed.
 * Context: device lock held.
 */
must_use int vq_pop(struct virtqueue *vq, struct vq_chain *chain);

/**
 * vq_unpop() - puts the last popped request back, as if never taken; further ones that were popped
 * before it may follow, the latest first. Context: the same.
 */
void vq_unpop(struct virtqueue *vq, const struct vq_chain *chain);

/** vq_tell() - vq_wrote(), where somebody wants to know. */
void vq_tell(const struct virtqueue *vq, const struct vq_chain *chain, uint64_t len);

/**
 * vq_wrote() - the first @len bytes of @chain's writable buffers were written to: guest_wrote() of
 * them. For what vq_push() does not tell of: buffers beyond @written, and those of
 * vq_push_merged().
 */
static inline void vq_wrote(const struct virtqueue *vq, const struct vq_chain *chain, uint64_t len)
{
	if (vq->mem->wrote != NULL) {
		vq_tell(vq, chain, len);
	}
}

/**
 * vq_push() - gives a request back, with @written bytes put into its writable buffers; the chain's
 * iovecs are still as they were. Requests may be given back in any order. Interrupts are
 * virtio_notify()'s. Context: device lock held.
 */
void vq_push(struct virtqueue *vq, const struct vq_chain *chain, uint32_t written);

/**
 * vq_in_flight() - what was popped and not yet pushed: requests (split) or ring entries (packed).
 * Context: device lock held.
 */
unsigned vq_in_flight(const struct virtqueue *vq);

/**
 * vq_push_merged() - gives back @n requests, at least one, that the driver is to see all at once:
 * a received packet that is spread over them. What is in them, vq_wrote() has told of: the chains'
 * iovecs need not be there any more. Otherwise as vq_push().
 */
void vq_push_merged(struct virtqueue *vq, const struct vq_chain *chain, const uint32_t *written,
		    unsigned n);

/**
 * vq_doorbell() - asks the driver to ring, or not to, when it adds requests; on after vq_enable().
 * After turning it on the ring must be looked at once more. A device that waits for more than it
 * has put back by vq_unpop() turns it on again, and is rung for each request that is added.
 * Context: device lock held.
 * Return: with @on, true if there are requests already.
 */
bool vq_doorbell(struct virtqueue *vq, bool on);

/** vq_wants_interrupt() - should the driver hear of what was pushed since the last call? */
bool vq_wants_interrupt(struct virtqueue *vq);

/**
 * vq_enable() - checks and maps the areas the driver set, and starts at their beginning.
 * Return: 0, or -EINVAL for areas outside of RAM or misaligned, or a size that cannot be.
 */
must_use int vq_enable(struct virtqueue *vq);

/** vq_reset() - back to the state after power-on; @size is size_max again. */
void vq_reset(struct virtqueue *vq);

/**
 * vq_state() - all but what is constant after the transport's set-up (@mem, @size_max).
 * Requests in flight must have been given back before. Context: device lock held.
 */
void vq_state(struct virtqueue *vq, struct state *s);

/** iov_to_buf() / iov_from_buf() - copy between iovecs, from byte @offset, and a buffer.
 * Return: bytes copied, less than @len where the iovecs end. */
size_t iov_to_buf(const struct iovec *iov, unsigned n, size_t offset, void *buf, size_t len);
size_t iov_from_buf(const struct iovec *iov, unsigned n, size_t offset, const void *buf,
		    size_t len);
