#include "vmm/virtio/queue.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/state_rig.h"
#include "tests/unit.h"
#include "tests/virtio_driver.h"

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

static struct fixture *fixture_create(const struct mode *m)
{
	struct fixture *f = test_calloc(1, sizeof(*f));

	driver_ram_init(&f->mem);
	driver_queue_init(&f->drv, &f->mem, m->packed, m->event_idx, m->size);
	driver_setup(&f->drv, &f->vq, m->indirect);
	f->chain = (struct vq_chain){.iov = f->iov, .max = ARRAY_SIZE(f->iov)};
	f->indirect = m->indirect;
	return f;
}

static void fixture_destroy(struct fixture *f)
{
	driver_ram_fini(&f->mem);
	test_free(f);
}

static const struct mode split_mode = {false, false, true, 16};
static const struct mode packed_mode = {true, false, true, 16};

/* A request with @len bytes in and out, somewhere in RAM that depends on @n. */
static uint16_t add_request(struct fixture *f, unsigned n, uint32_t len)
{
	uint64_t at = DRIVER_BUFFERS + (uint64_t)(n % 32) * 1024;
	struct driver_buf buf[] = {
		{at, len, false}, {DRIVER_HIGH_BASE + n % 64, 3, false}, {at + 512, len, true}};

	return driver_add(&f->drv, buf, ARRAY_SIZE(buf), f->indirect);
}

/* Requests travel both ways, whatever the mode, for many laps of the ring. */
static void laps(void **unused)
{
	(void)unused;
	for (unsigned m = 0; m < ARRAY_SIZE(modes); m++) {
		struct fixture *f = fixture_create(&modes[m]);

		for (unsigned n = 0; n < 70000; n++) {
			uint16_t id, used_id = 0;
			uint32_t written = 0;
			uint32_t len = 1 + n % 500;

			id = add_request(f, n, len);
			assert_int_equal(vq_pop(&f->vq, &f->chain), 1);
			assert_int_equal(f->chain.id, id);
			assert_int_equal(f->chain.nout, 2);
			assert_int_equal(f->chain.nin, 1);
			assert_int_equal(f->chain.out_len, len + 3);
			assert_int_equal(f->chain.in_len, len);
			assert_ptr_equal(f->iov[0].iov_base,
					 driver_ptr(&f->drv, DRIVER_BUFFERS + n % 32 * 1024));
			assert_int_equal(f->iov[0].iov_len, len);
			assert_ptr_equal(f->iov[1].iov_base,
					 driver_ptr(&f->drv, DRIVER_HIGH_BASE + n % 64));
			assert_ptr_equal(vq_in(&f->chain)->iov_base,
					 driver_ptr(&f->drv, DRIVER_BUFFERS + n % 32 * 1024 + 512));
			assert_false(driver_take(&f->drv, &used_id, &written));
			vq_push(&f->vq, &f->chain, n);
			assert_int_equal(vq_pop(&f->vq, &f->chain), 0);
			assert_true(driver_take(&f->drv, &used_id, &written));
			assert_int_equal(used_id, id);
			assert_int_equal(written, n);
			assert_false(driver_take(&f->drv, &used_id, &written));
		}
		fixture_destroy(f);
	}
}

/* The smallest ring there can be: every entry is the last of its lap. */
static void size_one(void **unused)
{
	static const struct driver_buf buf = {DRIVER_BUFFERS, 5, true};

	(void)unused;
	for (unsigned packed = 0; packed < 2; packed++) {
		struct mode m = {packed != 0, true, false, 1};
		struct fixture *f = fixture_create(&m);

		for (unsigned n = 0; n < 20; n++) {
			uint16_t id, used_id;
			uint32_t written;

			assert_int_equal(vq_pop(&f->vq, &f->chain), 0);
			id = driver_add(&f->drv, &buf, 1, false);
			assert_true(driver_must_ring(&f->drv));
			driver_interrupt_after(&f->drv, 1);
			assert_int_equal(vq_pop(&f->vq, &f->chain), 1);
			vq_unpop(&f->vq, &f->chain);
			assert_int_equal(vq_pop(&f->vq, &f->chain), 1);
			assert_int_equal(f->chain.id, id);
			vq_push(&f->vq, &f->chain, 5);
			assert_true(vq_wants_interrupt(&f->vq));
			assert_true(driver_take(&f->drv, &used_id, &written));
			assert_int_equal(used_id, id);
		}
		fixture_destroy(f);
	}
}

/* Several requests are out, and come back in another order. */
static void out_of_order(void **unused)
{
	static const struct mode deep[] = {{false, true, true, 8}, {true, true, true, 5}};

	(void)unused;
	for (unsigned m = 0; m < ARRAY_SIZE(deep); m++) {
		struct fixture *f = fixture_create(&deep[m]);

		for (unsigned lap = 0; lap < 50; lap++) {
			struct iovec iov[4][4];
			struct vq_chain chain[4];
			uint16_t id[4];
			static const unsigned order[] = {2, 0, 3, 1};

			for (unsigned i = 0; i < 4; i++) {
				id[i] = add_request(f, i, 10);
			}
			for (unsigned i = 0; i < 4; i++) {
				chain[i] = (struct vq_chain){.iov = iov[i], .max = 4};
				assert_int_equal(vq_pop(&f->vq, &chain[i]), 1);
				assert_int_equal(chain[i].id, id[i]);
			}
			for (unsigned i = 0; i < 4; i++) {
				vq_push(&f->vq, &chain[order[i]], i);
			}
			for (unsigned i = 0; i < 4; i++) {
				uint16_t used_id;
				uint32_t written;

				assert_true(driver_take(&f->drv, &used_id, &written));
				assert_int_equal(used_id, id[order[i]]);
				assert_int_equal(written, i);
			}
		}
		fixture_destroy(f);
	}
}

/* What is put back comes again, with its neighbours in order, across the ring's end too. */
static void unpop(void **unused)
{
	(void)unused;
	for (unsigned m = 0; m < ARRAY_SIZE(modes); m++) {
		struct fixture *f = fixture_create(&modes[m]);
		bool two = modes[m].size >= 6 || (f->indirect && modes[m].size >= 2);

		for (unsigned n = 0; n < 100; n++) {
			struct vq_chain first;
			uint16_t id0, id1 = 0, used_id;
			uint32_t written;

			id0 = add_request(f, n, 7);
			if (two) {
				id1 = add_request(f, n + 1, 8);
			}
			assert_int_equal(vq_pop(&f->vq, &f->chain), 1);
			first = f->chain;
			if (two) {
				assert_int_equal(vq_pop(&f->vq, &f->chain), 1);
				assert_int_equal(f->chain.id, id1);
				vq_unpop(&f->vq, &f->chain);
			}
			vq_unpop(&f->vq, &first);

			assert_int_equal(vq_pop(&f->vq, &f->chain), 1);
			assert_int_equal(f->chain.id, id0);
			assert_int_equal(f->chain.in_len, 7);
			vq_push(&f->vq, &f->chain, 0);
			assert_true(driver_take(&f->drv, &used_id, &written));
			assert_int_equal(used_id, id0);
			if (two) {
				assert_int_equal(vq_pop(&f->vq, &f->chain), 1);
				assert_int_equal(f->chain.id, id1);
				vq_push(&f->vq, &f->chain, 0);
				assert_true(driver_take(&f->drv, &used_id, &written));
				assert_int_equal(used_id, id1);
			}
		}
		fixture_destroy(f);
	}
}

/* Pops and pushes @n requests that the driver made. */
static void serve(struct fixture *f, unsigned n)
{
	uint16_t id;
	uint32_t written;

	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(vq_pop(&f->vq, &f->chain), 1);
		vq_push(&f->vq, &f->chain, 0);
		assert_true(driver_take(&f->drv, &id, &written));
	}
}

static void doorbells(void **unused)
{
	(void)unused;
	for (unsigned m = 0; m < ARRAY_SIZE(modes); m++) {
		struct fixture *f = fixture_create(&modes[m]);

		if (modes[m].size < 7) {
			fixture_destroy(f);
			continue;
		}
		for (unsigned n = 0; n < 60; n++) {
			/* An empty pop asks for the next ring. */
			assert_int_equal(vq_pop(&f->vq, &f->chain), 0);
			add_request(f, n, 4);
			assert_true(driver_must_ring(&f->drv));
			if (f->vq.event_idx) {
				/* Rung once, the device looks until it sees nothing. */
				add_request(f, n, 4);
				assert_false(driver_must_ring(&f->drv));
				serve(f, 1);
			}
			serve(f, 1);
			assert_int_equal(vq_pop(&f->vq, &f->chain), 0);

			/* Off: nothing rings, and turning it on tells of what came meanwhile. */
			assert_false(vq_doorbell(&f->vq, false));
			add_request(f, n, 4);
			if (f->vq.event_idx && !f->vq.packed) {
				driver_must_ring(&f->drv); /* may ring once for the old event */
			} else {
				assert_false(driver_must_ring(&f->drv));
			}
			serve(f, 1);
			assert_int_equal(vq_pop(&f->vq, &f->chain), 0);
			add_request(f, n, 4);
			assert_false(driver_must_ring(&f->drv));
			assert_true(vq_doorbell(&f->vq, true));
			serve(f, 1);
			assert_false(vq_doorbell(&f->vq, true));
			add_request(f, n, 4);
			assert_true(driver_must_ring(&f->drv));
			serve(f, 1);
		}
		fixture_destroy(f);
	}
}

/* A device that has put a request back, to wait for more of them, hears of the next one. */
static void doorbell_after_unpop(void **unused)
{
	(void)unused;
	for (unsigned m = 0; m < ARRAY_SIZE(modes); m++) {
		struct fixture *f = fixture_create(&modes[m]);

		if (modes[m].size < 7) {
			fixture_destroy(f);
			continue;
		}
		for (unsigned n = 0; n < 60; n++) {
			assert_int_equal(vq_pop(&f->vq, &f->chain), 0);
			add_request(f, n, 4);
			assert_true(driver_must_ring(&f->drv));
			assert_int_equal(vq_pop(&f->vq, &f->chain), 1);
			vq_unpop(&f->vq, &f->chain);
			assert_true(vq_doorbell(&f->vq, true));
			add_request(f, n + 1, 4);
			assert_true(driver_must_ring(&f->drv));
			serve(f, 2);
		}
		fixture_destroy(f);
	}
}

static void interrupts(void **unused)
{
	(void)unused;
	for (unsigned m = 0; m < ARRAY_SIZE(modes); m++) {
		struct fixture *f = fixture_create(&modes[m]);

		assert_false(vq_wants_interrupt(&f->vq));
		if (f->vq.event_idx && modes[m].size < 7) {
			fixture_destroy(f);
			continue;
		}
		for (unsigned n = 0; n < 60; n++) {
			if (f->vq.event_idx) {
				/* In entries: a direct request of three takes three of a packed
				 * ring. */
				unsigned step = f->vq.packed && !f->indirect ? 3 : 1;

				driver_interrupt_after(&f->drv, (uint16_t)(2 * step));
				add_request(f, n, 4);
				serve(f, 1);
				assert_false(vq_wants_interrupt(&f->vq));
				add_request(f, n, 4);
				serve(f, 1);
				assert_true(vq_wants_interrupt(&f->vq));
				assert_false(vq_wants_interrupt(&f->vq));
				/* The event is behind. */
				add_request(f, n, 4);
				serve(f, 1);
				assert_false(vq_wants_interrupt(&f->vq));
				/* And hit in the middle of a batch. */
				driver_interrupt_after(&f->drv, (uint16_t)(2 * step));
				for (unsigned i = 0; i < 3; i++) {
					add_request(f, n, 4);
					serve(f, 1);
				}
				assert_true(vq_wants_interrupt(&f->vq));
			} else {
				driver_interrupts(&f->drv, false);
				add_request(f, n, 4);
				serve(f, 1);
				assert_false(vq_wants_interrupt(&f->vq));
				driver_interrupts(&f->drv, true);
				assert_false(vq_wants_interrupt(&f->vq));
				add_request(f, n, 4);
				serve(f, 1);
				assert_true(vq_wants_interrupt(&f->vq));
			}
		}
		fixture_destroy(f);
	}
}

/* So much was used since the last decision that the event may be anywhere: interrupt. */
static void interrupt_after_overflow(void **unused)
{
	static const struct mode m[] = {{false, true, true, 8}, {true, true, true, 8}};

	(void)unused;
	for (unsigned k = 0; k < ARRAY_SIZE(m); k++) {
		struct fixture *f = fixture_create(&m[k]);

		driver_interrupt_after(&f->drv, 4);
		for (unsigned n = 0; n < 65536 + 2; n++) {
			add_request(f, n, 4);
			serve(f, 1);
		}
		assert_true(vq_wants_interrupt(&f->vq));
		fixture_destroy(f);
	}
}

/* Pops a hostile chain and expects @error, and a queue that stays shut. */
static void expect_broken(struct fixture *f, int error)
{
	assert_int_equal(vq_pop(&f->vq, &f->chain), error);
	assert_true(f->vq.broken);
	assert_int_equal(vq_pop(&f->vq, &f->chain), 0);
	assert_false(vq_doorbell(&f->vq, true));
	assert_false(vq_wants_interrupt(&f->vq));
}

struct bad_buffers {
	const char *what;
	int error;
	unsigned n;
	struct driver_buf buf[5];
};

#define HUGE_LEN 0x80000000u

static const struct bad_buffers bad_buffers[] = {
	{"empty", -EBADMSG, 1, {{0x1000, 0, false}}},
	{"empty at the end", -EBADMSG, 2, {{0x1000, 1, false}, {0x1000, 0, true}}},
	{"nowhere", -EBADMSG, 1, {{DRIVER_LOW_BYTES, 1, true}}},
	{"over the end", -EBADMSG, 1, {{DRIVER_LOW_BYTES - 1, 2, true}}},
	{"into the hole", -EBADMSG, 1, {{DRIVER_LOW_BYTES - 4, 4096, false}}},
	{"from the hole", -EBADMSG, 1, {{DRIVER_HIGH_BASE - 1, 2, false}}},
	{"wrapping", -EBADMSG, 1, {{UINT64_MAX, 2, false}}},
	{"wrapping to zero", -EBADMSG, 1, {{UINT64_MAX - 7, 8, false}}},
	{"order", -EBADMSG, 2, {{0x1000, 4, true}, {0x1000, 4, false}}},
	{"order, later", -EBADMSG, 3, {{0x1000, 4, false}, {0x1000, 4, true}, {0x1000, 4, false}}},
	{"beyond 4 GiB",
	 -EBADMSG,
	 3,
	 {{DRIVER_HUGE_BASE, HUGE_LEN, false},
	  {DRIVER_HUGE_BASE, HUGE_LEN, false},
	  {0x1000, 1, true}}},
	{"too many", -ENOBUFS, 5, {{1, 1, 0}, {1, 1, 0}, {1, 1, 0}, {1, 1, 1}, {1, 1, 1}}},
};

static void refuses_buffers(void **unused)
{
	(void)unused;
	for (unsigned m = 0; m < ARRAY_SIZE(modes); m++) {
		for (unsigned i = 0; i < ARRAY_SIZE(bad_buffers); i++) {
			struct fixture *f = fixture_create(&modes[m]);

			if (modes[m].size >= bad_buffers[i].n) {
				f->chain.max = 4;
				driver_add(&f->drv, bad_buffers[i].buf, bad_buffers[i].n,
					   f->indirect);
				expect_broken(f, bad_buffers[i].error);
			}
			fixture_destroy(f);
		}
	}
}

/* What is just inside the limits passes. */
static void accepts_limits(void **unused)
{
	static const struct driver_buf buf[] = {
		{DRIVER_LOW_BYTES - 4, 4, false},
		{DRIVER_HIGH_BASE, DRIVER_HIGH_BYTES, true},
		{DRIVER_HUGE_BASE, HUGE_LEN, true},
		{DRIVER_HUGE_BASE + DRIVER_HIGH_BYTES + 4, HUGE_LEN - DRIVER_HIGH_BYTES - 4, true},
	};

	(void)unused;
	for (unsigned m = 0; m < ARRAY_SIZE(modes); m++) {
		struct fixture *f = fixture_create(&modes[m]);

		if (modes[m].size >= 4) {
			f->chain.max = 4;
			driver_add(&f->drv, buf, 4, f->indirect);
			assert_int_equal(vq_pop(&f->vq, &f->chain), 1);
			assert_int_equal(f->chain.out_len + f->chain.in_len, UINT64_C(1) << 32);
			assert_int_equal(f->chain.nin, 3);
		}
		fixture_destroy(f);
	}
}

/* Lets the last of 16 descriptors, of either ring, go on at the first. */
static void close_loop(struct fixture *f)
{
	uint8_t *last = driver_ptr(&f->drv, DRIVER_DESC + 15 * 16);

	if (f->vq.packed) {
		((struct vring_packed_desc *)last)->flags |= VRING_DESC_F_NEXT;
	} else {
		((struct vring_desc *)last)->flags |= VRING_DESC_F_NEXT;
		((struct vring_desc *)last)->next = 0;
	}
}

/* A chain as long as the ring passes; one longer, or a loop, does not. */
static void chain_length(void **unused)
{
	struct driver_buf buf[17];

	(void)unused;
	for (unsigned i = 0; i < ARRAY_SIZE(buf); i++) {
		buf[i] = (struct driver_buf){DRIVER_BUFFERS, 16, false};
	}
	for (unsigned packed = 0; packed < 2; packed++) {
		for (unsigned indirect = 0; indirect < 2; indirect++) {
			struct mode m = {packed != 0, false, indirect != 0, 16};
			struct fixture *f = fixture_create(&m);

			driver_add(&f->drv, buf, 16, m.indirect);
			serve(f, 1);
			assert_int_equal(f->chain.nout, 16);
			if (m.indirect) {
				driver_add(&f->drv, buf, 17, true);
			} else {
				/* Both rings: the last descriptor goes on at the first. */
				driver_add(&f->drv, buf, 16, false);
				close_loop(f);
			}
			expect_broken(f, -EBADMSG);
			fixture_destroy(f);
		}
	}
}

static struct vring_desc *split_table(struct fixture *f)
{
	return driver_ptr(&f->drv, DRIVER_DESC);
}

static struct vring_avail *split_avail(struct fixture *f)
{
	return driver_ptr(&f->drv, DRIVER_AVAIL);
}

/* Makes descriptor 0 of a split ring the head of the only request. */
static struct fixture *split_with(struct vring_desc d)
{
	struct fixture *f = fixture_create(&split_mode);

	split_table(f)[0] = d;
	split_avail(f)->idx = 1;
	return f;
}

static void split_refuses(void **unused)
{
	const struct vring_desc ok = {DRIVER_BUFFERS, 8, 0, 0};
	struct fixture *f;

	(void)unused;
	/* The index jumps ahead of all the ring can hold, forwards or back. */
	f = split_with(ok);
	split_avail(f)->idx = 17;
	expect_broken(f, -EBADMSG);
	fixture_destroy(f);
	f = split_with(ok);
	split_avail(f)->idx = 0xffff;
	expect_broken(f, -EBADMSG);
	fixture_destroy(f);
	/* 16 is a full ring. */
	f = split_with(ok);
	split_avail(f)->idx = 16;
	assert_int_equal(vq_pop(&f->vq, &f->chain), 1);
	fixture_destroy(f);

	/* A head and a next outside of the table. */
	f = split_with(ok);
	split_avail(f)->ring[0] = 16;
	expect_broken(f, -EBADMSG);
	fixture_destroy(f);
	f = split_with((struct vring_desc){DRIVER_BUFFERS, 8, VRING_DESC_F_NEXT, 16});
	expect_broken(f, -EBADMSG);
	fixture_destroy(f);

	/* More requests than the ring has entries, taken one by one. */
	f = split_with(ok);
	for (unsigned i = 0; i < 16; i++) {
		split_avail(f)->idx = (uint16_t)(i + 1);
		assert_int_equal(vq_pop(&f->vq, &f->chain), 1);
	}
	split_avail(f)->idx = 17;
	expect_broken(f, -EBADMSG);
	fixture_destroy(f);
}

struct bad_table {
	struct vring_desc d; /* refers to the table */
	struct vring_desc in_table[2];
};

#define INDIRECT(len)                                             \
	{                                                         \
		{DRIVER_INDIRECT, len, VRING_DESC_F_INDIRECT, 0}, \
		{                                                 \
			{                                         \
				0                                 \
			}                                         \
		}                                                 \
	}

static void split_refuses_tables(void **unused)
{
	static const struct bad_table bad[] = {
		INDIRECT(0),
		INDIRECT(8),
		INDIRECT(24),
		INDIRECT(17 * 16),
		INDIRECT(0xfffffff0),
		{{DRIVER_INDIRECT, 16, VRING_DESC_F_INDIRECT | VRING_DESC_F_NEXT, 1}, {{0}}},
		{{DRIVER_LOW_BYTES - 16, 32, VRING_DESC_F_INDIRECT, 0}, {{0}}},
		{{UINT64_MAX - 15, 16, VRING_DESC_F_INDIRECT, 0}, {{0}}},
		/* nested; a next outside of the table; a loop */
		{{DRIVER_INDIRECT, 16, VRING_DESC_F_INDIRECT, 0},
		 {{DRIVER_INDIRECT, 16, VRING_DESC_F_INDIRECT, 0}}},
		{{DRIVER_INDIRECT, 16, VRING_DESC_F_INDIRECT, 0},
		 {{DRIVER_BUFFERS, 16, VRING_DESC_F_NEXT, 1}}},
		{{DRIVER_INDIRECT, 32, VRING_DESC_F_INDIRECT, 0},
		 {{DRIVER_BUFFERS, 16, VRING_DESC_F_NEXT, 1},
		  {DRIVER_BUFFERS, 16, VRING_DESC_F_NEXT, 0}}},
	};
	const struct vring_desc good = {DRIVER_INDIRECT, 16, VRING_DESC_F_INDIRECT, 0};
	const struct vring_desc buffer = {DRIVER_BUFFERS, 16, 0, 0};
	struct fixture *f;

	(void)unused;
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		f = split_with(bad[i].d);
		memcpy(driver_ptr(&f->drv, DRIVER_INDIRECT), bad[i].in_table,
		       sizeof(bad[i].in_table));
		expect_broken(f, -EBADMSG);
		fixture_destroy(f);
	}

	/* A good one; the same where the feature was not negotiated. */
	f = split_with(good);
	memcpy(driver_ptr(&f->drv, DRIVER_INDIRECT), &buffer, sizeof(buffer));
	assert_int_equal(vq_pop(&f->vq, &f->chain), 1);
	vq_unpop(&f->vq, &f->chain);
	f->vq.indirect = false;
	expect_broken(f, -EBADMSG);
	fixture_destroy(f);

	/* A direct buffer in front of a table. */
	f = split_with((struct vring_desc){DRIVER_BUFFERS, 8, VRING_DESC_F_NEXT, 5});
	split_table(f)[5] = good;
	memcpy(driver_ptr(&f->drv, DRIVER_INDIRECT), &buffer, sizeof(buffer));
	assert_int_equal(vq_pop(&f->vq, &f->chain), 1);
	assert_int_equal(f->chain.nout, 2);
	assert_int_equal(f->chain.out_len, 24);
	fixture_destroy(f);
}

#define PACKED_AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)

static void packed_refuses(void **unused)
{
	static const struct vring_packed_desc bad[] = {
		{DRIVER_INDIRECT, 0, 0, PACKED_AVAIL | VRING_DESC_F_INDIRECT},
		{DRIVER_INDIRECT, 20, 0, PACKED_AVAIL | VRING_DESC_F_INDIRECT},
		{DRIVER_INDIRECT, 17 * 16, 0, PACKED_AVAIL | VRING_DESC_F_INDIRECT},
		{DRIVER_INDIRECT, 16, 0, PACKED_AVAIL | VRING_DESC_F_INDIRECT | VRING_DESC_F_NEXT},
		{DRIVER_LOW_BYTES, 16, 0, PACKED_AVAIL | VRING_DESC_F_INDIRECT},
		/* nested: the table is the ring */
		{DRIVER_DESC, 16, 0, PACKED_AVAIL | VRING_DESC_F_INDIRECT},
	};
	struct fixture *f;

	(void)unused;
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		f = fixture_create(&packed_mode);
		memcpy(driver_ptr(&f->drv, DRIVER_DESC), &bad[i], sizeof(bad[i]));
		expect_broken(f, -EBADMSG);
		fixture_destroy(f);
	}

	/* A driver that makes entries available which it has not got back. */
	f = fixture_create(&packed_mode);
	for (unsigned i = 0; i < 16; i++) {
		add_request(f, i, 4);
		assert_int_equal(vq_pop(&f->vq, &f->chain), 1);
	}
	add_request(f, 0, 4);
	expect_broken(f, -EBADMSG);
	fixture_destroy(f);

	/* A chain that runs into them. */
	f = fixture_create(&packed_mode);
	for (unsigned i = 0; i < 15; i++) {
		add_request(f, i, 4);
		assert_int_equal(vq_pop(&f->vq, &f->chain), 1);
	}
	f->indirect = false;
	add_request(f, 0, 4);
	expect_broken(f, -EBADMSG);
	fixture_destroy(f);
}

static void enable(void **unused)
{
	static const struct {
		bool packed;
		uint16_t size;
		uint64_t desc, driver, device;
		int result;
	} cases[] = {
		{false, 16, 0x1000, 0x2002, 0x3004, 0},
		{false, 256, 0x1000, 0x2000, 0x3000, 0},
		{false, 0, 0x1000, 0x2000, 0x3000, -EINVAL},
		{false, 512, 0x1000, 0x2000, 0x3000, -EINVAL},
		{false, 13, 0x1000, 0x2000, 0x3000, -EINVAL},
		{false, 16, 0x1008, 0x2000, 0x3000, -EINVAL},
		{false, 16, 0x1000, 0x2001, 0x3000, -EINVAL},
		{false, 16, 0x1000, 0x2000, 0x3002, -EINVAL},
		/* 16: 256 bytes, 38 and 134 */
		{false, 16, DRIVER_LOW_BYTES - 256, 0x2000, 0x3000, 0},
		{false, 16, DRIVER_LOW_BYTES - 240, 0x2000, 0x3000, -EINVAL},
		{false, 16, 0x1000, DRIVER_LOW_BYTES - 38, 0x3000, 0},
		{false, 16, 0x1000, DRIVER_LOW_BYTES - 36, 0x3000, -EINVAL},
		{false, 16, 0x1000, 0x2000, DRIVER_LOW_BYTES - 136, 0},
		{false, 16, 0x1000, 0x2000, DRIVER_LOW_BYTES - 132, -EINVAL},
		{false, 16, UINT64_MAX - 15, 0x2000, 0x3000, -EINVAL},
		{true, 13, 0x1010, 0x2004, 0x3004, 0},
		{true, 0, 0x1000, 0x2000, 0x3000, -EINVAL},
		{true, 257, 0x1000, 0x2000, 0x3000, -EINVAL},
		{true, 16, 0x1004, 0x2000, 0x3000, -EINVAL},
		{true, 16, 0x1000, 0x2002, 0x3000, -EINVAL},
		{true, 16, 0x1000, 0x2000, 0x3002, -EINVAL},
		{true, 16, DRIVER_HIGH_BASE - 16, 0x2000, 0x3000, -EINVAL},
		{true, 16, 0x1000, DRIVER_LOW_BYTES, 0x3000, -EINVAL},
	};
	struct guest_memory mem;

	(void)unused;
	driver_ram_init(&mem);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct virtqueue vq = {.mem = &mem, .size_max = 256, .size = cases[i].size};
		struct iovec iov;
		struct vq_chain chain = {.iov = &iov, .max = 1};

		vq.packed = cases[i].packed;
		vq.desc = gpa(cases[i].desc);
		vq.driver = gpa(cases[i].driver);
		vq.device = gpa(cases[i].device);
		assert_int_equal(vq_pop(&vq, &chain), 0);
		assert_int_equal(vq_enable(&vq), cases[i].result);
		assert_int_equal(vq.enabled, cases[i].result == 0);
		vq_reset(&vq);
		assert_int_equal(vq.size, 256);
		assert_false(vq.enabled || vq.packed);
		assert_ptr_equal(vq.mem, &mem);
	}
	driver_ram_fini(&mem);
}

static int load(struct virtqueue *vq, const struct guest_memory *mem, const uint8_t *buf,
		size_t len)
{
	*vq = (struct virtqueue){.mem = mem, .size_max = 256, .size = 256};
	return state_loaded(vq_state, vq, buf, len);
}

/* A queue that is saved and loaded between any two steps goes on where it was. */
static void state(void **unused)
{
	uint8_t buf[256];
	size_t len;

	(void)unused;
	for (unsigned m = 0; m < ARRAY_SIZE(modes); m++) {
		struct fixture *f = fixture_create(&modes[m]);

		for (unsigned n = 0; n < 50; n++) {
			uint16_t id, used_id;
			uint32_t written;
			bool wanted;

			id = add_request(f, n, 9);
			len = state_saved(vq_state, &f->vq, buf, sizeof(buf));
			assert_int_equal(load(&f->vq, &f->mem, buf, len), 0);
			assert_int_equal(vq_pop(&f->vq, &f->chain), 1);
			assert_int_equal(f->chain.id, id);
			vq_push(&f->vq, &f->chain, 9);
			len = state_saved(vq_state, &f->vq, buf, sizeof(buf));
			wanted = vq_wants_interrupt(&f->vq);
			assert_int_equal(load(&f->vq, &f->mem, buf, len), 0);
			assert_int_equal(vq_wants_interrupt(&f->vq), wanted);
			assert_true(driver_take(&f->drv, &used_id, &written));
			assert_int_equal(used_id, id);
		}
		for (size_t n = 0; n < len; n++) {
			struct virtqueue vq;

			assert_int_equal(load(&vq, &f->mem, buf, n), -EINVAL);
			assert_false(vq.enabled);
		}
		fixture_destroy(f);
	}
}

static void state_refuses(void **unused)
{
	static const struct {
		bool packed;
		uint16_t size, next_avail, next_used;
		bool avail_wrap, used_wrap;
		uint64_t desc;
		int result;
	} cases[] = {
		{false, 16, 5, 5, false, false, DRIVER_DESC, 0},
		{false, 16, 3, 0xfff3, false, false, DRIVER_DESC, 0},
		{false, 16, 3, 0xfff2, false, false, DRIVER_DESC, -EINVAL},
		{false, 16, 5, 6, false, false, DRIVER_DESC, -EINVAL},
		{false, 15, 5, 5, false, false, DRIVER_DESC, -EINVAL},
		{false, 512, 5, 5, false, false, DRIVER_DESC, -EINVAL},
		{false, 16, 5, 5, false, false, DRIVER_DESC + 1, -EINVAL},
		{false, 16, 5, 5, false, false, DRIVER_LOW_BYTES, -EINVAL},
		{true, 13, 5, 5, true, true, DRIVER_DESC, 0},
		{true, 13, 2, 9, true, false, DRIVER_DESC, 0},
		{true, 13, 9, 9, true, false, DRIVER_DESC, 0},
		{true, 13, 13, 5, true, true, DRIVER_DESC, -EINVAL},
		{true, 13, 2, 13, true, false, DRIVER_DESC, -EINVAL},
		{true, 13, 5, 6, true, true, DRIVER_DESC, -EINVAL},
		{true, 13, 6, 5, false, true, DRIVER_DESC, -EINVAL},
	};
	struct guest_memory mem;

	(void)unused;
	driver_ram_init(&mem);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		uint8_t buf[256];
		size_t len;
		struct virtqueue vq = {.mem = &mem, .size_max = 512, .size = cases[i].size};

		vq.enabled = true;
		vq.packed = cases[i].packed;
		vq.desc = gpa(cases[i].desc);
		vq.driver = gpa(DRIVER_AVAIL);
		vq.device = gpa(DRIVER_USED);
		vq.next_avail = cases[i].next_avail;
		vq.next_used = cases[i].next_used;
		vq.avail_wrap = cases[i].avail_wrap;
		vq.used_wrap = cases[i].used_wrap;
		len = state_saved(vq_state, &vq, buf, sizeof(buf));
		assert_int_equal(load(&vq, &mem, buf, len), cases[i].result);
		assert_int_equal(vq.enabled, cases[i].result == 0);
	}
	driver_ram_fini(&mem);
}

static void iovecs(void **unused)
{
	char a[] = "abc", b[] = "defg";
	const struct iovec iov[] = {{a, 3}, {b, 0}, {b, 4}};
	char buf[16] = {0};

	(void)unused;
	assert_int_equal(iov_to_buf(iov, 3, 0, buf, sizeof(buf)), 7);
	assert_string_equal(buf, "abcdefg");
	memset(buf, 0, sizeof(buf));
	assert_int_equal(iov_to_buf(iov, 3, 2, buf, 3), 3);
	assert_string_equal(buf, "cde");
	assert_int_equal(iov_to_buf(iov, 3, 3, buf, 1), 1);
	assert_int_equal(buf[0], 'd');
	assert_int_equal(iov_to_buf(iov, 3, 7, buf, 1), 0);
	assert_int_equal(iov_to_buf(iov, 3, SIZE_MAX, buf, 1), 0);
	assert_int_equal(iov_from_buf(iov, 3, 2, "XYZ", 3), 3);
	assert_string_equal(a, "abX");
	assert_string_equal(b, "YZfg");
	assert_int_equal(iov_from_buf(iov, 3, 6, "1234", 4), 1);
	assert_string_equal(b, "YZf1");
}

#define RACE_REQUESTS 30000

struct race {
	struct fixture *f;
	sem_t doorbell, interrupt;
};

/* A device that sleeps whenever it sees nothing, and trusts the doorbell to wake it. */
static void *race_device(void *arg)
{
	struct race *race = arg;
	struct fixture *f = race->f;

	for (unsigned done = 0; done < RACE_REQUESTS;) {
		int r = vq_pop(&f->vq, &f->chain);

		if (r < 0) {
			return (void *)1;
		}
		if (r == 0) {
			sem_wait(&race->doorbell);
			continue;
		}
		vq_push(&f->vq, &f->chain, f->chain.nin);
		done++;
		if (vq_wants_interrupt(&f->vq)) {
			sem_post(&race->interrupt);
		}
	}
	return NULL;
}

/* Neither side sleeps for ever: every needed doorbell and interrupt is given. */
static void no_lost_wakeup(void **unused)
{
	static const struct mode race_modes[] = {{false, true, false, 16}, {true, true, false, 15}};

	(void)unused;
	for (unsigned m = 0; m < ARRAY_SIZE(race_modes); m++) {
		struct race race = {.f = fixture_create(&race_modes[m])};
		struct driver_queue *drv = &race.f->drv;
		unsigned added = 0, taken = 0;
		pthread_t device;
		void *result;

		alarm(120); /* a lost one would hang */
		sem_init(&race.doorbell, 0, 0);
		sem_init(&race.interrupt, 0, 0);
		assert_int_equal(pthread_create(&device, NULL, race_device, &race), 0);
		while (taken < RACE_REQUESTS) {
			uint16_t id;
			uint32_t written;

			while (added - taken < 1 + added % 4 && added < RACE_REQUESTS) {
				add_request(race.f, added++, 4);
				if (driver_must_ring(drv)) {
					sem_post(&race.doorbell);
				}
			}
			if (driver_take(drv, &id, &written)) {
				assert_int_equal(written, 1);
				taken++;
				continue;
			}
			driver_interrupt_after(drv, 1);
			if (driver_take(drv, &id, &written)) {
				taken++;
			} else {
				sem_wait(&race.interrupt);
			}
		}
		pthread_join(device, &result);
		assert_null(result);
		alarm(0);
		sem_destroy(&race.doorbell);
		sem_destroy(&race.interrupt);
		fixture_destroy(race.f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(laps),
		cmocka_unit_test(size_one),
		cmocka_unit_test(out_of_order),
		cmocka_unit_test(unpop),
		cmocka_unit_test(doorbells),
		cmocka_unit_test(doorbell_after_unpop),
		cmocka_unit_test(interrupts),
		cmocka_unit_test(interrupt_after_overflow),
		cmocka_unit_test(refuses_buffers),
		cmocka_unit_test(accepts_limits),
		cmocka_unit_test(chain_length),
		cmocka_unit_test(split_refuses),
		cmocka_unit_test(split_refuses_tables),
		cmocka_unit_test(packed_refuses),
		cmocka_unit_test(enable),
		cmocka_unit_test(state),
		cmocka_unit_test(state_refuses),
		cmocka_unit_test(iovecs),
		cmocka_unit_test(no_lost_wakeup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
