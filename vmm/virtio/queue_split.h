/*
 * Split virtqueues. queue.c calls these for a queue that is enabled and not broken; the functions
 * mean what their vq_ namesakes mean.
 *
 *	desc: the table               driver: the available ring      device: the used ring
 *	+------+-----+-------+------+  +-------+-----+--------+        +-------+-----+-------------+
 *	| addr | len | flags | next |  | flags | idx | ring[] |        | flags | idx | {id, len}[] |
 *	+------+-----+-------+------+  +-------+-----+--------+        +-------+-----+-------------+
 *	   16 bytes each, size times     ... then used_event             ... then avail_event
 *
 * Spec: VIRTIO 1.2, 2.7 "Split Virtqueues"
 */
#pragma once

#include "vmm/virtio/queue.h"

/** split_area_sizes() - bytes of the three areas of a queue of @size, with the event fields. */
void split_area_sizes(uint16_t size, uint64_t *desc, uint64_t *driver, uint64_t *device);

/** split_in_flight() - requests that were popped and not yet pushed. */
unsigned split_in_flight(const struct virtqueue *vq);

must_use int split_pop(struct virtqueue *vq, struct vq_chain *chain);
void split_unpop(struct virtqueue *vq, const struct vq_chain *chain);
void split_push(struct virtqueue *vq, const struct vq_chain *chain, uint32_t written);
void split_push_merged(struct virtqueue *vq, const struct vq_chain *chain, const uint32_t *written,
		       unsigned n);
bool split_doorbell(struct virtqueue *vq, bool on);

/** split_wants_interrupt() - for the @used entries (not 0) that were pushed last. */
bool split_wants_interrupt(const struct virtqueue *vq, uint32_t used);
