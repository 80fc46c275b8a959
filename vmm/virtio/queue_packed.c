#include "vmm/virtio/queue_packed.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "vmm/virtio/queue_chain.h"

#define F_AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define F_USED	(1u << VRING_PACKED_DESC_F_USED)

void packed_area_sizes(uint16_t size, uint64_t *desc, uint64_t *driver, uint64_t *device)
{
	*desc = sizeof(struct vring_packed_desc) * (uint64_t)size;
	*driver = sizeof(struct vring_packed_desc_event);
	*device = sizeof(struct vring_packed_desc_event);
}

static struct vring_packed_desc *ring(const struct virtqueue *vq)
{
	return vq->desc_host;
}

unsigned packed_in_flight(const struct virtqueue *vq)
{
	unsigned lap = vq->avail_wrap != vq->used_wrap ? vq->size : 0;

	return vq->next_avail + lap - vq->next_used;
}

/* Moves a ring position by @n entries, 0 to size; its wrap counter flips at the ring's end. */
static void advance(const struct virtqueue *vq, uint16_t *pos, bool *wrap, unsigned n)
{
	unsigned next = *pos + n;

	if (next >= vq->size) {
		next -= vq->size;
		*wrap = !*wrap;
	}
	*pos = (uint16_t)next;
}

static bool available(const struct virtqueue *vq)
{
	/* Pairs with the driver's barrier between writing the chain and its first flags. */
	unsigned flags = ring_load16(&ring(vq)[vq->next_avail].flags, memory_order_acquire);

	return ((flags & F_AVAIL) != 0) == vq->avail_wrap &&
	       ((flags & F_USED) != 0) != vq->avail_wrap;
}

/* Tells the driver when to ring, in one store: it may read both fields at any time. */
static void publish_event(const struct virtqueue *vq, uint16_t flags)
{
	uint32_t off_wrap =
		vq->next_avail | (vq->avail_wrap ? 1u << VRING_PACKED_EVENT_F_WRAP_CTR : 0);

	ring_store32(vq->device_host, off_wrap | (uint32_t)flags << 16, memory_order_relaxed);
	/* Pairs with the driver's full barrier between its flags and reading the event fields. */
	atomic_thread_fence(memory_order_seq_cst);
}

/* One copy of descriptor @index; nothing the guest does afterwards changes what was checked. */
static struct chain_desc read_desc(const uint8_t *table, unsigned index)
{
	struct vring_packed_desc d;

	memcpy(&d, table + index * sizeof(d), sizeof(d));
	atomic_signal_fence(memory_order_seq_cst); /* the compiler shall not read it again */
	return (struct chain_desc){d.addr, d.len, d.id, d.flags};
}

/* All descriptors of an indirect table belong to the request, in their order. */
static int walk_table(const struct virtqueue *vq, struct vq_chain *chain,
		      const struct chain_desc *ref, const struct guest_region **near)
{
	unsigned count = 0;
	const uint8_t *table = chain_table(vq, ref, &count);

	if (table == NULL) {
		return -EBADMSG;
	}
	for (unsigned i = 0; i < count; i++) {
		struct chain_desc d = read_desc(table, i);
		int r;

		if ((d.flags & VRING_DESC_F_INDIRECT) != 0) {
			return -EBADMSG;
		}
		r = chain_add(vq, chain, &d, near);
		if (r != 0) {
			return r;
		}
	}
	return 0;
}

/* Follows the chain that starts at the next available descriptor. */
static int walk(const struct virtqueue *vq, struct vq_chain *chain)
{
	const struct guest_region *near = NULL;
	unsigned limit = vq->size - packed_in_flight(vq);
	unsigned index = vq->next_avail;

	for (unsigned n = 1; n <= limit; n++) {
		struct chain_desc d = read_desc(vq->desc_host, index);
		int r = (d.flags & VRING_DESC_F_INDIRECT) != 0 ? walk_table(vq, chain, &d, &near)
							       : chain_add(vq, chain, &d, &near);

		if (r != 0) {
			return r;
		}
		if ((d.flags & VRING_DESC_F_NEXT) == 0) {
			chain->id = d.id_or_next;
			chain->ndesc = (uint16_t)n;
			return 0;
		}
		index = index + 1 < vq->size ? index + 1 : 0;
	}
	return -EBADMSG; /* longer than the ring, or into entries that are ours */
}

int packed_pop(struct virtqueue *vq, struct vq_chain *chain)
{
	bool any = available(vq);
	int r;

	if (!any && vq->event_idx && !vq->doorbell_off) {
		publish_event(vq, VRING_PACKED_EVENT_FLAG_DESC);
		any = available(vq);
	}
	if (!any) {
		return 0;
	}
	chain_begin(chain);
	r = walk(vq, chain);
	if (r != 0) {
		return r;
	}
	advance(vq, &vq->next_avail, &vq->avail_wrap, chain->ndesc);
	return 1;
}

void packed_unpop(struct virtqueue *vq, const struct vq_chain *chain)
{
	if (chain->ndesc > vq->next_avail) {
		vq->avail_wrap = !vq->avail_wrap;
		vq->next_avail = (uint16_t)(vq->next_avail + vq->size - chain->ndesc);
	} else {
		vq->next_avail = (uint16_t)(vq->next_avail - chain->ndesc);
	}
}

/* Writes the used descriptor of @chain at position @pos of the lap that @wrap says. */
static void write_used(const struct virtqueue *vq, uint16_t pos, bool wrap,
		       const struct vq_chain *chain, uint32_t written)
{
	struct vring_packed_desc *d = &ring(vq)[pos];
	unsigned flags = wrap ? F_AVAIL | F_USED : 0;

	if (written > 0) {
		flags |= VRING_DESC_F_WRITE;
	}
	ring_store16(&d->id, chain->id, memory_order_relaxed);
	ring_store32(&d->len, written, memory_order_relaxed);
	/* Pairs with the driver's barrier between reading flags and the rest and its buffers. */
	ring_store16(&d->flags, (uint16_t)flags, memory_order_release);
}

void packed_push_merged(struct virtqueue *vq, const struct vq_chain *chain, const uint32_t *written,
			unsigned n)
{
	uint16_t first = vq->next_used;
	bool first_wrap = vq->used_wrap;

	/* The driver looks at the first one, and finds none of the others before it is there. */
	advance(vq, &vq->next_used, &vq->used_wrap, chain[0].ndesc);
	for (unsigned i = 1; i < n; i++) {
		write_used(vq, vq->next_used, vq->used_wrap, &chain[i], written[i]);
		advance(vq, &vq->next_used, &vq->used_wrap, chain[i].ndesc);
	}
	write_used(vq, first, first_wrap, &chain[0], written[0]);
}

void packed_push(struct virtqueue *vq, const struct vq_chain *chain, uint32_t written)
{
	packed_push_merged(vq, chain, &written, 1);
}

bool packed_doorbell(struct virtqueue *vq, bool on)
{
	bool any;

	if (!on) {
		publish_event(vq, VRING_PACKED_EVENT_FLAG_DISABLE);
		return false;
	}
	publish_event(vq, vq->event_idx ? VRING_PACKED_EVENT_FLAG_DESC
					: VRING_PACKED_EVENT_FLAG_ENABLE);
	any = available(vq);
	if (any && vq->event_idx) {
		/*
		 * The driver is past the event, and how far cannot be seen without reading the
		 * ring: let it ring for each request that it adds.
		 */
		publish_event(vq, VRING_PACKED_EVENT_FLAG_ENABLE);
	}
	return any;
}

bool packed_wants_interrupt(const struct virtqueue *vq, uint32_t used)
{
	uint32_t event;
	uint16_t offset;
	bool wrap;

	/* Pairs with the driver's full barrier between its event fields and reading flags. */
	atomic_thread_fence(memory_order_seq_cst);
	event = ring_load32(vq->driver_host, memory_order_relaxed);
	switch (event >> 16 & 3) {
	case VRING_PACKED_EVENT_FLAG_DISABLE:
		return false;
	case VRING_PACKED_EVENT_FLAG_DESC:
		break;
	default:
		return true;
	}
	if (!vq->event_idx || used > vq->size) {
		return true;
	}
	offset = (uint16_t)(event & 0x7fff);
	wrap = (event >> 15 & 1) != 0;
	if (wrap != vq->used_wrap) {
		offset = (uint16_t)(offset - vq->size); /* an entry of the lap before */
	}
	return vring_need_event(offset, vq->next_used, (uint16_t)(vq->next_used - used)) != 0;
}
