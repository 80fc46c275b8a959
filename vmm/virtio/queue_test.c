#include "vmm/virtio/queue.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/state_rig.h"
#include "vmm/virtio/test_queue.h"

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

struct told {
	struct fixture *f;
	unsigned times;
	const void *at;
	uint64_t len;
};

static void on_write(void *ctx, const void *at, uint64_t len)
{
	struct told *told = ctx;
	uint32_t written;
	uint16_t id;

	assert_false(driver_take(&told->f->drv, &id, &written));
	told->times++;
	told->at = at;
	told->len = len;
}

/* Who wants to know what was written learns it before the driver can. */
static void push_tells_of_writes_before(void **unused)
{
	(void)unused;
	for (unsigned m = 0; m < ARRAY_SIZE(modes); m++) {
		struct fixture *f = fixture_create(&modes[m]);
		const struct driver_buf buf[] = {{DRIVER_BUFFERS, 10, false},
						 {DRIVER_BUFFERS + 100, 20, true},
						 {DRIVER_HIGH_BASE, 30, true}};
		struct told told = {.f = f};
		uint32_t written;
		uint16_t id;

		f->mem.wrote = on_write;
		f->mem.wrote_ctx = &told;
		for (uint32_t len = 0; len <= 50; len += 25) {
			told.times = 0;
			driver_add(&f->drv, buf, ARRAY_SIZE(buf), f->indirect);
			assert_int_equal(vq_pop(&f->vq, &f->chain), 1);
			vq_push(&f->vq, &f->chain, len);
			assert_true(driver_take(&f->drv, &id, &written));
			assert_int_equal(told.times, len == 0 ? 0 : 2);
			if (len != 0) {
				assert_ptr_equal(told.at, driver_ptr(&f->drv, DRIVER_HIGH_BASE));
				assert_int_equal(told.len, len - 20);
			}
		}
		fixture_destroy(f);
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
		cmocka_unit_test(enable),
		cmocka_unit_test(state),
		cmocka_unit_test(state_refuses),
		cmocka_unit_test(iovecs),
		cmocka_unit_test(push_tells_of_writes_before),
		cmocka_unit_test(no_lost_wakeup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
