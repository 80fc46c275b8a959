/*
 * For tests of queues: a queue between a device and its driver, in each way a driver can use it.
 */
#pragma once

#include "tests/unit.h"
#include "tests/virtio_driver.h"
#include "vmm/virtio/queue.h"

/* Each way a driver can use a queue. */
struct mode {
	bool packed, event_idx, indirect;
	uint16_t size;
};

static const struct mode modes[] = {
	{false, false, false, 16}, {false, true, false, 16}, {false, true, true, 8},
	{false, false, true, 4},   {true, false, false, 16}, {true, true, false, 13},
	{true, true, true, 7},	   {true, false, true, 3},
};

struct fixture {
	struct guest_memory mem;
	struct driver_queue drv;
	struct virtqueue vq;
	struct iovec iov[64];
	struct vq_chain chain;
	bool indirect;
};

static inline struct fixture *fixture_create(const struct mode *m)
{
	struct fixture *f = test_calloc(1, sizeof(*f));

	driver_ram_init(&f->mem);
	driver_queue_init(&f->drv, &f->mem, m->packed, m->event_idx, m->size);
	driver_setup(&f->drv, &f->vq, m->indirect);
	f->chain = (struct vq_chain){.iov = f->iov, .max = ARRAY_SIZE(f->iov)};
	f->indirect = m->indirect;
	return f;
}

static inline void fixture_destroy(struct fixture *f)
{
	driver_ram_fini(&f->mem);
	test_free(f);
}

static const struct mode split_mode = {false, false, true, 16};
static const struct mode packed_mode = {true, false, true, 16};

/* A request with @len bytes in and out, somewhere in RAM that depends on @n. */
static inline uint16_t add_request(struct fixture *f, unsigned n, uint32_t len)
{
	uint64_t at = DRIVER_BUFFERS + (uint64_t)(n % 32) * 1024;
	struct driver_buf buf[] = {
		{at, len, false}, {DRIVER_HIGH_BASE + n % 64, 3, false}, {at + 512, len, true}};

	return driver_add(&f->drv, buf, ARRAY_SIZE(buf), f->indirect);
}

/* Pops and pushes @n requests that the driver made. */
static inline void serve(struct fixture *f, unsigned n)
{
	uint16_t id;
	uint32_t written;

	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(vq_pop(&f->vq, &f->chain), 1);
		vq_push(&f->vq, &f->chain, 0);
		assert_true(driver_take(&f->drv, &id, &written));
	}
}
