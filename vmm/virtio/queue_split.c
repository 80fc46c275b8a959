#include "vmm/virtio/queue_split.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "vmm/virtio/queue_chain.h"

void split_area_sizes(uint16_t size, uint64_t *desc, uint64_t *driver, uint64_t *device)
{
	*desc = sizeof(struct vring_desc) * (uint64_t)size;
	*driver = sizeof(struct vring_avail) + sizeof(uint16_t) * ((uint64_t)size + 1);
	*device = sizeof(struct vring_used) + sizeof(struct vring_used_elem) * (uint64_t)size +
		  sizeof(uint16_t);
}

static struct vring_avail *avail_ring(const struct virtqueue *vq)
{
	return vq->driver_host;
}

static struct vring_used *used_ring(const struct virtqueue *vq)
{
	return vq->device_host;
}

unsigned split_in_flight(const struct virtqueue *vq)
{
	return (uint16_t)(vq->next_avail - vq->next_used);
}

/* How far the driver is ahead of us; more than the ring holds is its mistake. */
static uint16_t available(const struct virtqueue *vq)
{
	/* Pairs with the driver's barrier between filling the ring and moving idx. */
	uint16_t idx = ring_load16(&avail_ring(vq)->idx, memory_order_acquire);

	return (uint16_t)(idx - vq->next_avail);
}

/* The doorbell shall ring when the driver adds what comes after @idx - 1. */
static void publish_avail_event(const struct virtqueue *vq, uint16_t idx)
{
	ring_store16(&used_ring(vq)->ring[vq->size], idx, memory_order_relaxed);
	/* Pairs with the driver's full barrier between moving idx and reading avail_event. */
	atomic_thread_fence(memory_order_seq_cst);
}

/* One copy of descriptor @index; nothing the guest does afterwards changes what was checked. */
static struct chain_desc read_desc(const uint8_t *table, unsigned index)
{
	struct vring_desc d;

	memcpy(&d, table + index * sizeof(d), sizeof(d));
	atomic_signal_fence(memory_order_seq_cst); /* the compiler shall not read it again */
	return (struct chain_desc){d.addr, d.len, d.next, d.flags};
}

/* Follows the chain that starts at @index of the table; each table is read at most once over. */
static int walk(const struct virtqueue *vq, struct vq_chain *chain, unsigned index)
{
	const struct guest_region *near = NULL;
	const uint8_t *table = vq->desc_host;
	unsigned count = vq->size;
	bool nested = false;
	unsigned seen = 0;

	for (;;) {
		struct chain_desc d;
		int r;

		if (index >= count || seen++ == count) {
			return -EBADMSG;
		}
		d = read_desc(table, index);
		if ((d.flags & VRING_DESC_F_INDIRECT) != 0) {
			table = nested ? NULL : chain_table(vq, &d, &count);
			if (table == NULL) {
				return -EBADMSG;
			}
			nested = true;
			seen = 0;
			index = 0;
			continue;
		}
		r = chain_add(vq, chain, &d, &near);
		if (r != 0) {
			return r;
		}
		if ((d.flags & VRING_DESC_F_NEXT) == 0) {
			return 0;
		}
		index = d.id_or_next;
	}
}

int split_pop(struct virtqueue *vq, struct vq_chain *chain)
{
	uint16_t n = available(vq);
	uint16_t head;
	int r;

	if (n == 0 && vq->event_idx && !vq->doorbell_off) {
		publish_avail_event(vq, vq->next_avail);
		n = available(vq);
	}
	if (n == 0) {
		return 0;
	}
	if (n > vq->size || split_in_flight(vq) >= vq->size) {
		return -EBADMSG;
	}
	head = ring_load16(&avail_ring(vq)->ring[vq->next_avail & (vq->size - 1)],
			   memory_order_relaxed);
	chain_begin(chain);
	r = walk(vq, chain, head);
	if (r != 0) {
		return r;
	}
	chain->id = head;
	chain->ndesc = 1;
	vq->next_avail++;
	return 1;
}

void split_unpop(struct virtqueue *vq, const struct vq_chain *chain)
{
	(void)chain;
	vq->next_avail--;
}

void split_push_merged(struct virtqueue *vq, const struct vq_chain *chain, const uint32_t *written,
		       unsigned n)
{
	struct vring_used *used = used_ring(vq);

	for (unsigned i = 0; i < n; i++) {
		struct vring_used_elem *e = &used->ring[vq->next_used & (vq->size - 1)];

		ring_store32(&e->id, chain[i].id, memory_order_relaxed);
		ring_store32(&e->len, written[i], memory_order_relaxed);
		vq->next_used++;
	}
	/* Pairs with the driver's barrier between reading idx and the entries and their buffers. */
	ring_store16(&used->idx, vq->next_used, memory_order_release);
}

void split_push(struct virtqueue *vq, const struct vq_chain *chain, uint32_t written)
{
	split_push_merged(vq, chain, &written, 1);
}

bool split_doorbell(struct virtqueue *vq, bool on)
{
	if (!vq->event_idx) {
		ring_store16(&used_ring(vq)->flags, on ? 0 : VRING_USED_F_NO_NOTIFY,
			     memory_order_relaxed);
		/* Pairs with the driver's full barrier between moving idx and reading flags. */
		atomic_thread_fence(memory_order_seq_cst);
	} else if (on) {
		/* From where the driver is now: each request that it adds rings. */
		publish_avail_event(vq, (uint16_t)(vq->next_avail + available(vq)));
	}
	/* Off with event index: an event that is left behind hardly ever rings. */
	return on && available(vq) != 0;
}

bool split_wants_interrupt(const struct virtqueue *vq, uint32_t used)
{
	const struct vring_avail *avail = avail_ring(vq);

	/* Pairs with the driver's full barrier between writing used_event or flags and reading idx.
	 */
	atomic_thread_fence(memory_order_seq_cst);
	if (!vq->event_idx) {
		return (ring_load16(&avail->flags, memory_order_relaxed) &
			VRING_AVAIL_F_NO_INTERRUPT) == 0;
	}
	if (used > UINT16_MAX) {
		return true;
	}
	return vring_need_event(ring_load16(&avail->ring[vq->size], memory_order_relaxed),
				vq->next_used, (uint16_t)(vq->next_used - used)) != 0;
}
