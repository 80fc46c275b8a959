/*
 * Packed virtqueues. queue.c calls these for a queue that is enabled and not broken; the functions
 * mean what their vq_ namesakes mean.
 *
 *	desc: one ring for both sides                  driver, device: event suppression
 *	+------+-----+----+-------+                    +----------------------+-------+
 *	| addr | len | id | flags | 16 bytes each      | offset 0-14, wrap 15 | flags |
 *	+------+-----+----+-------+                    +----------------------+-------+
 *
 * A descriptor is available when its AVAIL flag equals the driver's wrap counter and its USED flag
 * does not; the device gives one back by writing both flags as its own wrap counter.
 *
 * Spec: VIRTIO 1.2, 2.8 "Packed Virtqueues"
 */
#pragma once

#include "vmm/virtio/queue.h"

/** packed_area_sizes() - bytes of the three areas of a queue of @size. */
void packed_area_sizes(uint16_t size, uint64_t *desc, uint64_t *driver, uint64_t *device);

/** packed_in_flight() - ring entries that were popped and not yet pushed. */
unsigned packed_in_flight(const struct virtqueue *vq);

must_use int packed_pop(struct virtqueue *vq, struct vq_chain *chain);
void packed_unpop(struct virtqueue *vq, const struct vq_chain *chain);
void packed_push(struct virtqueue *vq, const struct vq_chain *chain, uint32_t written);
void packed_push_merged(struct virtqueue *vq, const struct vq_chain *chain, const uint32_t *written,
			unsigned n);
bool packed_doorbell(struct virtqueue *vq, bool on);

/** packed_wants_interrupt() - for the @used ring entries (not 0) that were pushed last. */
bool packed_wants_interrupt(const struct virtqueue *vq, uint32_t used);
