/*
 * virtio-balloon: memory that the guest gives back to the host, because it is asked to (the
 * balloon) or because it does not use it now (free page reporting).
 *
 * RAM that lies in reserved huge pages stays with the VM: a page given back to the pool could be
 * gone when the guest touches it again, and that would end the VM.
 *
 * Spec: VIRTIO 1.2, 5.5 "Traditional Memory Balloon Device"
 */
#pragma once

#include "vmm/virtio/virtio.h"

/** What the guest says of its memory: the tags of the specification, 5.5.6.4. */
enum balloon_stat {
	BALLOON_SWAP_IN, /* bytes, as all below but the counts */
	BALLOON_SWAP_OUT,
	BALLOON_MAJOR_FAULTS, /* count */
	BALLOON_MINOR_FAULTS, /* count */
	BALLOON_FREE,
	BALLOON_TOTAL,
	BALLOON_AVAILABLE,
	BALLOON_CACHES,
	BALLOON_HUGETLB_ALLOCATED, /* count */
	BALLOON_HUGETLB_FAILED,	   /* count */
	BALLOON_STATS,
};

struct balloon_stats {
	uint64_t when_ns; /* monotonic; 0: the guest has told nothing yet */
	uint32_t known;	  /* bit n: value[n] was told */
	uint64_t value[BALLOON_STATS];
};

/**
 * balloon_create() - a balloon that at first takes @target_bytes from the guest.
 * Return: 0 or -errno, logged.
 */
must_use int balloon_create(struct virtio_device **out, uint64_t target_bytes);

/**
 * balloon_set_target() - asks the guest to give up @bytes in all, rounded down to 4 KiB. The guest
 * may be slow, or never do it: see balloon_actual(). Context: any thread, no lock.
 */
void balloon_set_target(struct virtio_device *dev, uint64_t bytes);

/** balloon_actual() - bytes the guest says it has given up. Context: any thread, no lock. */
uint64_t balloon_actual(struct virtio_device *dev);

/** balloon_stats() - what the guest last told of its memory. Context: any thread, no lock. */
void balloon_stats(struct virtio_device *dev, struct balloon_stats *stats);

/**
 * balloon_ask_stats() - asks the guest for newer statistics; they come later.
 * Return: 0, or -EAGAIN if the guest has no statistics to give, or was asked and has not answered.
 * Context: any thread, no lock.
 */
must_use int balloon_ask_stats(struct virtio_device *dev);
