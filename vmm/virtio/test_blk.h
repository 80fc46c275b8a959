/*
 * For tests of the disk: a device with its driver, without a PCI bus between them, on a host whose
 * disk can be full, broken or slow.
 */
#pragma once

#include <linux/virtio_blk.h>
#include <stdatomic.h>

#include "tests/unit.h"
#include "tests/virtio_driver.h"
#include "vmm/virtio/blk.h"

#define DISK	 MIB
#define SECTORS	 (DISK / 512)
#define HEADER	 DRIVER_BUFFERS
#define STATUS	 (DRIVER_BUFFERS + 0x100)
#define DATA	 (DRIVER_BUFFERS + 0x1000)
#define FEATURES (~UINT64_C(0))

/* The host's disk, as the device sees it: it can be full, broken or slow. */
struct test_host {
	atomic_int write_error;
	atomic_bool write_stuck;
	atomic_uint writes;
	atomic_uint syncs;
};

extern struct test_host host;

struct rig {
	struct guest_memory mem;
	char path[64];
	struct disk_config config;
	struct virtio_device *dev;
	struct virtio_transport transport;
	struct driver_queue q[4];
	unsigned nqueues;
	bool packed, indirect;
	atomic_uint interrupts;
	atomic_uint config_interrupts;
	atomic_uint pauses;
	char reason[256];
};

/** nap() - waits 200 us. */
void nap(void);

/**
 * rig_init() - a disk of DISK bytes, activated with those of @features that are offered.
 * @r: has nqueues, packed, indirect and config set.
 */
void rig_init(struct rig *r, uint64_t features);

/** rig_fini() - destroys the device and deletes the disk. */
void rig_fini(struct rig *r);

/** rig_device() - one more device with the rig's configuration and RAM, not activated. */
struct virtio_device *rig_device(struct rig *r);

/** rig_activate() - what a transport does when the driver sets DRIVER_OK. */
void rig_activate(struct rig *r, uint64_t features);

/** rig_reset() - what a transport does when the driver resets the device. */
void rig_reset(struct rig *r);

/** config_of() - the configuration as the driver reads it. */
struct virtio_blk_config *config_of(struct rig *r);

/** ram() - guest RAM at @addr. */
void *ram(struct rig *r, uint64_t addr);

/** set_header() - writes a request's header to RAM. */
void set_header(struct rig *r, uint64_t at, uint32_t type, uint64_t sector);

/** add() - makes a request available. Return: its id. */
uint16_t add(struct rig *r, unsigned queue, const struct driver_buf *buf, unsigned n);

/** ring() - rings a queue's doorbell. */
void ring(struct rig *r, unsigned queue);

/** wait_used() - waits for the next request that comes back. Return: its used length. */
uint32_t wait_used(struct rig *r, unsigned queue, uint16_t *id);

/** assert_nothing_used() - no request came back on queue 0. */
void assert_nothing_used(struct rig *r);

/** request() - one request of three buffers, start to end. Return: its status. */
uint8_t request(struct rig *r, uint32_t type, uint64_t sector, uint32_t len, bool to_guest);

/** read_file() - what the host has in the disk's file. */
void read_file(struct rig *r, void *buf, size_t len, off_t offset);

/** assert_file() - @n sectors of the file hold nothing but @want. */
void assert_file(struct rig *r, uint64_t sector, uint64_t n, uint8_t want);

/** pattern() - fills @p with bytes that tell their places. */
void pattern(void *p, size_t len, unsigned seed);
