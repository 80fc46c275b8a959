/*
 * A virtio device with a driver and an event loop, without a bus between them, for tests and
 * fuzzers of devices with several queues.
 */
#pragma once

#include "tests/virtio_driver.h"
#include "vmm/virtio/virtio.h"

#define RIG_QUEUES_MAX 20
#define RIG_DATA       DRIVER_HUGE_BASE /* where buffers can be */
#define RIG_DATA_BYTES (512 * KIB)

struct device_rig {
	struct guest_memory mem;
	void *mem_huge; /* what driver_ram_init() had put at RIG_DATA */
	struct loop loop;
	struct loop_source tick;
	unsigned ticks_left;
	struct virtio_device *dev;
	struct virtio_transport transport;
	struct driver_queue q[RIG_QUEUES_MAX];
	unsigned interrupts[RIG_QUEUES_MAX];
	unsigned config_interrupts;
};

/** rig_init() - RAM and a loop, with no device yet. */
void rig_init(struct device_rig *r);

/** rig_attach() - does what a transport does when it gets its device. */
void rig_attach(struct device_rig *r, struct virtio_device *dev);

/**
 * rig_activate() - the driver sets DRIVER_OK, with those of @features that are offered.
 * @size: of each queue, up to 64.
 */
void rig_activate(struct device_rig *r, uint64_t features, bool packed, uint16_t size);

/** rig_reset() - the driver resets the device, which may be inactive. */
void rig_reset(struct device_rig *r);

/** rig_fini() - destroys the device, if there is one, and the rest. */
void rig_fini(struct device_rig *r);

/** rig_destroy() - destroys the device only. */
void rig_destroy(struct device_rig *r);

/** rig_turns() - runs the event loop @n times around. It does not wait. */
void rig_turns(struct device_rig *r, unsigned n);

/** rig_notify() - rings @queue's doorbell; nothing happens while the device is not active. */
void rig_notify(struct device_rig *r, unsigned queue);

/** rig_ring() - rings @queue's doorbell, if the device wants that. Return: did it? */
bool rig_ring(struct device_rig *r, unsigned queue);

/** rig_data() - guest RAM at RIG_DATA + @offset. */
uint8_t *rig_data(struct device_rig *r, uint64_t offset);

/** rig_save() / rig_load() - the device's own state. Return: bytes, or 0 or -errno. */
size_t rig_save(struct device_rig *r, void *buf, size_t size);
must_use int rig_load(struct device_rig *r, const void *buf, size_t size);
