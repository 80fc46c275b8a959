/*
 * What a queue must not take from a driver: rings and requests that break the rules, and the
 * largest ones that do not.
 */
#include <errno.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "vmm/virtio/test_queue.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_buffers),	cmocka_unit_test(accepts_limits),
		cmocka_unit_test(chain_length),		cmocka_unit_test(split_refuses),
		cmocka_unit_test(split_refuses_tables), cmocka_unit_test(packed_refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
