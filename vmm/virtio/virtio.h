/*
 * A virtio device, seen from both sides: the transport (virtio_pci.c) drives it through
 * struct virtio_ops; the device reaches the guest through its queues (queue.h) and
 * virtio_notify().
 *
 * One lock a device: the transport holds it around every call of virtio_ops; the device's own
 * threads and loop callbacks take it themselves before they touch queues or device state.
 *
 * Spec: Virtual I/O Device (VIRTIO) Version 1.2, chapters 2 to 4
 */
#pragma once

#include "lib/base/state.h"
#include "lib/base/types.h"
#include "vmm/lock.h"
#include "vmm/loop.h"
#include "vmm/memory.h"
#include "vmm/virtio/queue.h"

#define VIRTIO_QUEUES_MAX 64

struct virtio_device;

struct virtio_ops {
	/*
	 * The driver set DRIVER_OK: features are final, queues are set up. An error (-errno) sets
	 * DEVICE_NEEDS_RESET. Also called when a state is loaded in which the driver had done so,
	 * before @state loads over what this sets up. May be NULL.
	 */
	int (*activate)(struct virtio_device *dev);
	/*
	 * Back to the state after power-on; after it the device touches no queue until activate.
	 * A device with requests in flight on other threads waits for them here; it may drop and
	 * take again the device's lock; @active is false already, so that it is not notified
	 * meanwhile. The transport resets the queues afterwards. Only called for a device that was
	 * activated, on the thread of the vCPU that asked for it. May be NULL.
	 */
	void (*reset)(struct virtio_device *dev);
	/* The driver rang queue @queue's doorbell. Context: loop thread, device active. */
	void (*notify)(struct virtio_device *dev, unsigned queue);
	/* Before the driver reads its configuration, to refresh @config; may be NULL. */
	void (*config_read)(struct virtio_device *dev);
	/* The driver wrote @len bytes at @offset, already stored where writable; may be NULL. */
	void (*config_written)(struct virtio_device *dev, uint32_t offset, uint32_t len);
	/*
	 * The device's own state, in a section of its own, beside what the transport and the queues
	 * hold (features, status, the bits of @config that the driver may write). May be NULL.
	 */
	void (*state)(struct virtio_device *dev, struct state *s);
	/*
	 * Releases what the device holds, itself and virtio_fini() included; the vCPUs and the loop
	 * have stopped, threads of its own may be at work still. Context: no lock.
	 */
	void (*destroy)(struct virtio_device *dev);
};

/** What a transport offers to its device. Context: any thread, device lock held. */
struct virtio_transport {
	void (*notify_queue)(struct virtio_transport *t, unsigned queue);
	void (*notify_config)(struct virtio_transport *t);
};

struct virtio_device {
	/* constant after virtio_init() */
	const char *name; /* "block", "net", ...: also the state section's name */
	uint16_t type;	  /* device ID of the specification */
	const struct virtio_ops *ops;
	uint64_t features; /* offered */
	unsigned nqueues;
	struct virtqueue *queue; /* nqueues of them, the device's storage */
	uint8_t *config;	 /* the device configuration space */
	uint32_t config_len;
	const uint8_t *config_wmask;	    /* 1: the driver may write the bit; NULL: read-only */
	const struct guest_memory *mem;	    /* set by the transport before the guest runs */
	struct loop *loop;		    /* the same */
	struct virtio_transport *transport; /* the same; NULL when it goes, under @lock */

	struct lock lock; /* guards the rest, and the device's own state */
	uint64_t driver_features;
	uint8_t status;
	uint32_t config_generation;
	bool active; /* between activate and reset */
};

/**
 * virtio_init() - the common part of a device. @features are the device's own; the transport's
 * and ring features (VERSION_1, RING_PACKED, INDIRECT_DESC, EVENT_IDX) are added.
 * Each queue's maximum size is @queue_size, a power of two up to VQ_SIZE_MAX. @config_wmask is the
 * caller's to set afterwards.
 */
void virtio_init(struct virtio_device *dev, const char *name, uint16_t type,
		 const struct virtio_ops *ops, uint64_t features, struct virtqueue *queue,
		 unsigned nqueues, uint16_t queue_size, void *config, uint32_t config_len);
void virtio_fini(struct virtio_device *dev);

/** virtio_has() - was feature bit @bit negotiated? */
static inline bool virtio_has(const struct virtio_device *dev, unsigned bit)
{
	return (dev->driver_features >> bit & 1) != 0;
}

static inline void virtio_lock(struct virtio_device *dev)
{
	lock_take(&dev->lock);
}

static inline void virtio_unlock(struct virtio_device *dev)
{
	lock_give(&dev->lock);
}

/**
 * virtio_notify() - interrupts the driver for used buffers of @queue, if the driver wants that.
 * Context: any thread, device lock held.
 */
void virtio_notify(struct virtio_device *dev, unsigned queue);

/** virtio_notify_config() - tells the driver that @config was changed. Same context. */
void virtio_notify_config(struct virtio_device *dev);

/**
 * virtio_broken() - the driver broke the rules of its ring or requests, as @why says: sets
 * DEVICE_NEEDS_RESET, tells the driver, and the device does nothing more until a reset.
 * Context: device lock held.
 */
void virtio_broken(struct virtio_device *dev, const char *why);

#define VIRTIO_TYPE_NET	    1
#define VIRTIO_TYPE_BLOCK   2
#define VIRTIO_TYPE_CONSOLE 3
#define VIRTIO_TYPE_ENTROPY 4
#define VIRTIO_TYPE_BALLOON 5
#define VIRTIO_TYPE_VSOCK   19
