#include "vmm/virtio/queue.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "lib/base/check.h"
#include "vmm/virtio/queue_packed.h"
#include "vmm/virtio/queue_split.h"

static bool usable(const struct virtqueue *vq)
{
	return vq->enabled && !vq->broken;
}

int vq_pop(struct virtqueue *vq, struct vq_chain *chain)
{
	int r;

	if (!usable(vq)) {
		return 0;
	}
	r = vq->packed ? packed_pop(vq, chain) : split_pop(vq, chain);
	if (r < 0) {
		vq->broken = true;
	} else if (r > 0) {
		vq->taken++;
	}
	return r;
}

void vq_unpop(struct virtqueue *vq, const struct vq_chain *chain)
{
	if (!usable(vq)) {
		return;
	}
	if (vq->packed) {
		check(packed_in_flight(vq) >= chain->ndesc);
		packed_unpop(vq, chain);
	} else {
		check(split_in_flight(vq) > 0);
		split_unpop(vq, chain);
	}
	vq->taken--;
}

void vq_tell(const struct virtqueue *vq, const struct vq_chain *chain, uint64_t len)
{
	const struct iovec *in = vq_in(chain);

	for (unsigned i = 0; i < chain->nin && len > 0; i++) {
		uint64_t n = MIN(len, in[i].iov_len);

		guest_wrote(vq->mem, in[i].iov_base, n);
		len -= n;
	}
}

void vq_push(struct virtqueue *vq, const struct vq_chain *chain, uint32_t written)
{
	uint32_t entries = vq->packed ? chain->ndesc : 1;

	/* Before the driver can see it, also if it polls the ring. */
	vq_wrote(vq, chain, written);
	if (!usable(vq)) {
		return;
	}
	if (vq->packed) {
		check(packed_in_flight(vq) >= chain->ndesc);
		packed_push(vq, chain, written);
	} else {
		check(split_in_flight(vq) > 0);
		split_push(vq, chain, written);
	}
	/* Saturates: beyond the width of an index the comparison with an event says nothing. */
	vq->unsignalled = MIN(vq->unsignalled + entries, (uint32_t)UINT16_MAX + 1);
}

unsigned vq_in_flight(const struct virtqueue *vq)
{
	if (!usable(vq)) {
		return 0;
	}
	return vq->packed ? packed_in_flight(vq) : split_in_flight(vq);
}

void vq_push_merged(struct virtqueue *vq, const struct vq_chain *chain, const uint32_t *written,
		    unsigned n)
{
	uint32_t entries = 0;

	for (unsigned i = 0; i < n; i++) {
		entries += vq->packed ? chain[i].ndesc : 1;
	}
	if (!usable(vq)) {
		return;
	}
	if (vq->packed) {
		check(packed_in_flight(vq) >= entries);
		packed_push_merged(vq, chain, written, n);
	} else {
		check(split_in_flight(vq) >= entries);
		split_push_merged(vq, chain, written, n);
	}
	vq->unsignalled = MIN(vq->unsignalled + entries, (uint32_t)UINT16_MAX + 1);
}

bool vq_doorbell(struct virtqueue *vq, bool on)
{
	vq->doorbell_off = !on;
	if (!usable(vq)) {
		return false;
	}
	return vq->packed ? packed_doorbell(vq, on) : split_doorbell(vq, on);
}

bool vq_wants_interrupt(struct virtqueue *vq)
{
	uint32_t used = vq->unsignalled;

	if (!usable(vq) || used == 0) {
		return false;
	}
	vq->unsignalled = 0;
	return vq->packed ? packed_wants_interrupt(vq, used) : split_wants_interrupt(vq, used);
}

/* The host's view of one area, or NULL. The regions of guest RAM are page-aligned on both sides. */
static void *map_area(const struct virtqueue *vq, gpa_t addr, uint64_t len, uint64_t align)
{
	return addr.v % align == 0 ? guest_ptr(vq->mem, addr, len) : NULL;
}

/*
 * Spec: VIRTIO 1.2, 2.7 and 2.8: the areas' alignments; 2.7: a split ring's size is a power of two
 */
static int map_areas(struct virtqueue *vq)
{
	uint64_t desc, driver, device;

	if (vq->size == 0 || vq->size > vq->size_max) {
		return -EINVAL;
	}
	if (vq->packed) {
		packed_area_sizes(vq->size, &desc, &driver, &device);
	} else if ((vq->size & (vq->size - 1)) != 0) {
		return -EINVAL;
	} else {
		split_area_sizes(vq->size, &desc, &driver, &device);
	}
	vq->desc_host = map_area(vq, vq->desc, desc, VRING_DESC_ALIGN_SIZE);
	vq->driver_host = map_area(vq, vq->driver, driver,
				   vq->packed ? sizeof(struct vring_packed_desc_event)
					      : VRING_AVAIL_ALIGN_SIZE);
	vq->device_host = map_area(vq, vq->device, device, VRING_USED_ALIGN_SIZE);
	if (vq->desc_host == NULL || vq->driver_host == NULL || vq->device_host == NULL) {
		return -EINVAL;
	}
	return 0;
}

int vq_enable(struct virtqueue *vq)
{
	int r = map_areas(vq);

	if (r != 0) {
		return r;
	}
	vq->next_avail = 0;
	vq->next_used = 0;
	vq->avail_wrap = true;
	vq->used_wrap = true;
	vq->unsignalled = 0;
	vq->doorbell_off = false;
	vq->broken = false;
	vq->enabled = true;
	return 0;
}

void vq_reset(struct virtqueue *vq)
{
	const struct guest_memory *mem = vq->mem;
	uint16_t size_max = vq->size_max;
	uint32_t taken = vq->taken;

	*vq = (struct virtqueue){
		.mem = mem, .size_max = size_max, .size = size_max, .taken = taken};
}

/* Positions that no history of this queue could have led to. */
static bool positions_possible(const struct virtqueue *vq)
{
	if (!vq->packed) {
		return split_in_flight(vq) <= vq->size;
	}
	return vq->next_avail < vq->size && vq->next_used < vq->size &&
	       (vq->avail_wrap == vq->used_wrap ? vq->next_avail >= vq->next_used
						: vq->next_avail <= vq->next_used);
}

void vq_state(struct virtqueue *vq, struct state *s)
{
	state_begin(s, "virtqueue", 1);
	state_u16(s, &vq->size);
	state_bool(s, &vq->enabled);
	state_bool(s, &vq->packed);
	state_bool(s, &vq->event_idx);
	state_bool(s, &vq->indirect);
	state_u64(s, &vq->desc.v);
	state_u64(s, &vq->driver.v);
	state_u64(s, &vq->device.v);
	state_u16(s, &vq->next_avail);
	state_u16(s, &vq->next_used);
	state_bool(s, &vq->avail_wrap);
	state_bool(s, &vq->used_wrap);
	state_u32(s, &vq->unsignalled);
	state_bool(s, &vq->doorbell_off);
	state_bool(s, &vq->broken);
	state_end(s);
	if (!s->loading) {
		return;
	}
	if (s->error == 0 && vq->size > vq->size_max) {
		state_fail(s, -EINVAL);
	}
	if (s->error == 0 && vq->enabled &&
	    (map_areas(vq) != 0 || !positions_possible(vq) || vq->unsignalled > UINT16_MAX + 1)) {
		state_fail(s, -EINVAL);
	}
	if (s->error != 0) {
		vq_reset(vq); /* half a queue must never be used */
	}
}

static size_t copy(const struct iovec *iov, unsigned n, size_t offset, uint8_t *buf, size_t len,
		   bool to_buf)
{
	size_t done = 0;

	for (unsigned i = 0; i < n && done < len; i++) {
		uint8_t *base = iov[i].iov_base;
		size_t part;

		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		part = MIN(iov[i].iov_len - offset, len - done);
		if (to_buf) {
			memcpy(buf + done, base + offset, part);
		} else {
			memcpy(base + offset, buf + done, part);
		}
		done += part;
		offset = 0;
	}
	return done;
}

size_t iov_to_buf(const struct iovec *iov, unsigned n, size_t offset, void *buf, size_t len)
{
	return copy(iov, n, offset, buf, len, true);
}

size_t iov_from_buf(const struct iovec *iov, unsigned n, size_t offset, const void *buf, size_t len)
{
	return copy(iov, n, offset, (uint8_t *)(uintptr_t)buf, len, false);
}
