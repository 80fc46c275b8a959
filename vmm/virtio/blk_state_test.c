/*
 * The disk when it cannot go on: a host that is full or broken, resets and drains meanwhile, and
 * states that are saved and loaded.
 */
#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "vmm/virtio/test_blk.h"

/* Adds a write of one sector of @byte without waiting for it. */
static void begin_write(struct rig *r, unsigned i, uint8_t byte)
{
	uint64_t at = DATA + i * 1024;

	set_header(r, at, VIRTIO_BLK_T_OUT, i);
	memset(ram(r, at + 32), byte, 512);
	*(uint8_t *)ram(r, at + 16) = 0xff;
	add(r, 0, (struct driver_buf[]){{at, 16, false}, {at + 32, 512, false}, {at + 16, 1, true}},
	    3);
	ring(r, 0);
}

static uint8_t write_status(struct rig *r, unsigned i)
{
	return *(uint8_t *)ram(r, DATA + i * 1024 + 16);
}

static void wait_pause(struct rig *r)
{
	for (unsigned i = 0; i < 50000 && atomic_load(&r->pauses) == 0; i++) {
		nap();
	}
	assert_int_equal(atomic_load(&r->pauses), 1);
}

static void host_full(int error, bool is_packed)
{
	struct rig r = {.packed = is_packed};
	uint16_t id;

	rig_init(&r, FEATURES);
	atomic_store(&host.write_error, error);
	begin_write(&r, 0, 1);
	begin_write(&r, 1, 2);
	wait_pause(&r);
	assert_non_null(strstr(r.reason, r.path));
	assert_non_null(strstr(r.reason, "no space left"));
	blk_drain(r.dev);
	assert_nothing_used(&r);
	assert_int_equal(atomic_load(&r.pauses), 1); /* said once, for both */

	/* Still full: paused again, and nothing is lost. */
	atomic_store(&r.pauses, 0);
	blk_resume(r.dev);
	wait_pause(&r);
	assert_nothing_used(&r);

	/* What does not write goes on. */
	blk_drain(r.dev);
	atomic_store(&host.write_error, 0);
	blk_resume(r.dev);
	wait_used(&r, 0, &id);
	wait_used(&r, 0, &id);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(write_status(&r, i), 0);
		assert_file(&r, i, 1, (uint8_t)(i + 1));
	}
	assert_int_equal(request(&r, VIRTIO_BLK_T_FLUSH, 0, 0, false), 0);
	rig_fini(&r);
}

static void no_space(void **unused)
{
	(void)unused;
	host_full(ENOSPC, false);
	host_full(ENOSPC, true);
	host_full(EDQUOT, false);
}

static void other_errors(void **unused)
{
	struct rig r = {0};

	(void)unused;
	rig_init(&r, FEATURES);
	atomic_store(&host.write_error, EIO);
	assert_int_equal(request(&r, VIRTIO_BLK_T_OUT, 0, 512, false), VIRTIO_BLK_S_IOERR);
	atomic_store(&host.write_error, ENOMEM);
	assert_int_equal(request(&r, VIRTIO_BLK_T_OUT, 0, 512, false), VIRTIO_BLK_S_IOERR);
	assert_int_equal(atomic_load(&r.pauses), 0);
	/* The file was cut: what is missing cannot be read. */
	assert_int_equal(truncate(r.path, 512), 0);
	assert_int_equal(request(&r, VIRTIO_BLK_T_IN, 1, 512, true), VIRTIO_BLK_S_IOERR);
	rig_fini(&r);

	/* Nobody to pause the VM. */
	r = (struct rig){0};
	rig_init(&r, FEATURES);
	r.dev->ops->destroy(r.dev);
	assert_int_equal(blk_create(&r.dev, &r.config, NULL, NULL), 0);
	r.dev->mem = &r.mem;
	r.dev->transport = &r.transport;
	rig_activate(&r, FEATURES);
	atomic_store(&host.write_error, ENOSPC);
	assert_int_equal(request(&r, VIRTIO_BLK_T_OUT, 0, 512, false), VIRTIO_BLK_S_IOERR);
	rig_fini(&r);
}

/* A reset while requests are kept: they are gone, and their places are free again. */
static void reset_when_full(void **unused)
{
	struct rig r = {0};

	(void)unused;
	rig_init(&r, FEATURES);
	for (unsigned round = 0; round < 3; round++) {
		atomic_store(&r.pauses, 0);
		atomic_store(&host.write_error, ENOSPC);
		for (unsigned i = 0; i < 40; i++) {
			begin_write(&r, i, 9);
		}
		wait_pause(&r);
		rig_reset(&r);
		atomic_store(&host.write_error, 0);
		rig_activate(&r, FEATURES);
		blk_resume(r.dev);
		assert_int_equal(request(&r, VIRTIO_BLK_T_FLUSH, 0, 0, false), 0);
		assert_nothing_used(&r);
		assert_file(&r, 0, 40, 0);
	}
	rig_fini(&r);
}

static void *reset_thread(void *arg)
{
	rig_reset(arg);
	return NULL;
}

static void reset_waits(void **unused)
{
	struct rig r = {0};
	pthread_t thread;

	(void)unused;
	rig_init(&r, FEATURES);
	atomic_store(&host.write_stuck, true);
	begin_write(&r, 0, 7);
	while (atomic_load(&host.writes) == 0) {
		nap();
	}
	assert_int_equal(pthread_create(&thread, NULL, reset_thread, &r), 0);
	for (unsigned i = 0; i < 100; i++) {
		nap();
	}
	virtio_lock(r.dev);
	assert_true(r.dev->status != 0); /* waiting, with the lock given up */
	virtio_unlock(r.dev);
	atomic_store(&host.write_stuck, false);
	pthread_join(thread, NULL);
	assert_int_equal(r.dev->status, 0);
	assert_file(&r, 0, 1, 7);
	rig_activate(&r, FEATURES);
	assert_int_equal(request(&r, VIRTIO_BLK_T_FLUSH, 0, 0, false), 0);
	rig_fini(&r);
}

static void drain(void **unused)
{
	struct rig r = {0};
	uint16_t id;

	(void)unused;
	rig_init(&r, FEATURES);
	begin_write(&r, 0, 7);
	blk_drain(r.dev);
	wait_used(&r, 0, &id);
	begin_write(&r, 1, 8);
	for (unsigned i = 0; i < 20; i++) {
		nap();
	}
	assert_nothing_used(&r);
	assert_int_equal(atomic_load(&host.writes), 1);
	blk_resume(r.dev);
	wait_used(&r, 0, &id);
	assert_int_equal(write_status(&r, 1), 0);
	rig_fini(&r);
}

/* As a transport: the queues, then the device. */
static void whole_state(struct virtio_device *dev, struct state *s)
{
	virtio_lock(dev);
	for (unsigned i = 0; i < dev->nqueues; i++) {
		vq_state(&dev->queue[i], s);
	}
	dev->ops->state(dev, s);
	virtio_unlock(dev);
}

static size_t save(struct rig *r, uint8_t *buf, size_t size)
{
	struct state s;

	state_save_init(&s, buf, size);
	whole_state(r->dev, &s);
	assert_int_equal(s.error, 0);
	return s.pos;
}

/* Gives the rig a new device, as another process would have, and loads it. Return: the error. */
static int load(struct rig *r, const uint8_t *buf, size_t len)
{
	uint64_t features = r->dev->driver_features;
	struct state s;

	r->dev->ops->destroy(r->dev);
	r->dev = rig_device(r);
	r->dev->driver_features = features;
	r->dev->status = VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK;
	r->dev->active = true;
	assert_int_equal(r->dev->ops->activate(r->dev), 0);
	state_load_init(&s, buf, len);
	whole_state(r->dev, &s);
	return s.error;
}

static void saved_and_loaded(bool is_packed)
{
	struct rig r = {.packed = is_packed};
	static uint8_t buf[8192];
	uint16_t id;

	rig_init(&r, FEATURES);
	assert_int_equal(request(&r, VIRTIO_BLK_T_FLUSH, 0, 0, false), 0);
	atomic_store(&host.write_error, ENOSPC);
	begin_write(&r, 3, 0x33);
	begin_write(&r, 4, 0x44);
	wait_pause(&r);
	blk_drain(r.dev);
	begin_write(&r, 5, 0x55); /* in the ring, not taken yet */
	size_t len = save(&r, buf, sizeof(buf));

	atomic_store(&host.write_error, 0);
	assert_int_equal(load(&r, buf, len), 0);
	/* What is saved again is the same. */
	static uint8_t again[8192];
	assert_int_equal(save(&r, again, sizeof(again)), len);
	assert_memory_equal(again, buf, len);
	assert_nothing_used(&r);
	blk_resume(r.dev);
	for (unsigned i = 3; i <= 5; i++) {
		assert_int_equal(wait_used(&r, 0, &id), 1);
	}
	for (unsigned i = 3; i <= 5; i++) {
		assert_int_equal(write_status(&r, i), 0);
		assert_file(&r, i, 1, (uint8_t)(i * 0x11));
	}
	assert_int_equal(request(&r, VIRTIO_BLK_T_FLUSH, 0, 0, false), 0);
	rig_fini(&r);
}

static void save_and_load(void **unused)
{
	(void)unused;
	saved_and_loaded(false);
	saved_and_loaded(true);
}

static void refused_states(void **unused)
{
	struct rig r = {0};
	static uint8_t good[4096];
	static uint8_t bad[4096];

	(void)unused;
	rig_init(&r, FEATURES);
	atomic_store(&host.write_error, ENOSPC);
	begin_write(&r, 0, 1);
	wait_pause(&r);
	blk_drain(r.dev);
	size_t len = save(&r, good, sizeof(good));

	/* The device's section ends the stream: header 24, capacity 8, readonly 1, count 4, and
	 * one request: queue, id, ndesc, nout, nin, and three times address and length. */
	const size_t kept = len - 10 - 3 * 16;
	const size_t count = kept - 4;
	const struct {
		size_t at;
		uint8_t value;
	} change[] = {
		{count - 9, 1},		 /* another capacity */
		{count - 1, 1},		 /* not writable */
		{count, 2},		 /* more requests than there are */
		{count, 0},		 /* fewer */
		{kept + 1, 1},		 /* a queue that is not there */
		{kept + 4, 0},		 /* a request without ring entries */
		{kept + 7, 2},		 /* more buffers than a request can have */
		{kept + 9, 2},		 /* the same, to be written */
		{kept + 10 + 6, 1},	 /* a buffer outside of RAM */
		{kept + 10 + 8 + 3, 64}, /* one longer than RAM */
		{kept + 10 + 8, 0},	 /* an empty one */
	};
	for (unsigned i = 0; i < ARRAY_SIZE(change); i++) {
		memcpy(bad, good, len);
		assert_true(bad[change[i].at] != change[i].value);
		bad[change[i].at] = change[i].value;
		if (load(&r, bad, len) == 0) {
			fail_msg("change %u is accepted", i);
		}
		blk_resume(r.dev); /* nothing half-loaded is begun */
		blk_drain(r.dev);
	}
	for (size_t n = 0; n < len; n += 7) {
		assert_true(load(&r, good, n) != 0);
	}
	/* A request that the ring knows nothing of. */
	memcpy(bad, good, len);
	assert_int_equal(load(&r, good, len), 0);
	virtio_lock(r.dev);
	struct state s;
	state_load_init(&s, good + len - (24 + 8 + 1 + 4 + 10 + 48), 24 + 8 + 1 + 4 + 10 + 48);
	vq_reset(&r.dev->queue[0]);
	r.dev->ops->state(r.dev, &s);
	assert_int_equal(s.error, -EINVAL);
	virtio_unlock(r.dev);
	assert_int_equal(load(&r, good, len), 0);
	atomic_store(&host.write_error, 0);
	rig_fini(&r);
}

static void state_wants_drain(void **unused)
{
	struct rig r = {0};
	static uint8_t buf[4096];
	struct state s;

	(void)unused;
	rig_init(&r, FEATURES);
	atomic_store(&host.write_stuck, true);
	begin_write(&r, 0, 1);
	state_save_init(&s, buf, sizeof(buf));
	whole_state(r.dev, &s);
	assert_int_equal(s.error, -EBUSY);
	atomic_store(&host.write_stuck, false);
	rig_fini(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_space),	   cmocka_unit_test(other_errors),
		cmocka_unit_test(reset_when_full), cmocka_unit_test(reset_waits),
		cmocka_unit_test(drain),	   cmocka_unit_test(save_and_load),
		cmocka_unit_test(refused_states),  cmocka_unit_test(state_wants_drain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
