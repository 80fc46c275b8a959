#include "vmm/virtio/entropy.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/device_rig.h"
#include "tests/state_rig.h"
#include "tests/test_run.h"

#define DATA DRIVER_BUFFERS

/* The host's generator, which may not be seeded yet. */
static struct {
	unsigned not_ready; /* calls that fail */
	uint64_t bytes;
} host;

ssize_t getrandom(void *buf, size_t len, unsigned flags)
{
	if (host.not_ready > 0) {
		host.not_ready--;
		errno = EAGAIN;
		return -1;
	}
	host.bytes += len;
	return syscall(SYS_getrandom, buf, len, flags);
}

static void set_up(struct device_rig *r)
{
	struct virtio_device *dev;

	memset(&host, 0, sizeof(host));
	rig_init(r);
	assert_int_equal(entropy_create(&dev), 0);
	assert_int_equal(dev->type, 4);
	rig_attach(r, dev);
	rig_activate(r, 0, false, 64);
}

static unsigned take_all(struct device_rig *r, uint32_t *written)
{
	unsigned n = 0;
	uint16_t id;

	while (driver_take(&r->q[0], &id, written)) {
		n++;
	}
	return n;
}

static void gives_bytes(void **unused)
{
	struct device_rig r;
	uint8_t zero[100] = {0};
	uint32_t written;

	(void)unused;
	set_up(&r);
	uint8_t *data = driver_ptr(&r.q[0], DATA);
	driver_add(&r.q[0], (struct driver_buf[]){{DATA, 100, true}, {DATA + 1000, 7, true}}, 2,
		   false);
	rig_notify(&r, 0);
	assert_int_equal(take_all(&r, &written), 1);
	assert_int_equal(written, 107);
	assert_int_equal(r.interrupts[0], 1);
	assert_memory_not_equal(data, zero, 100);
	assert_int_equal(data[100], 0);
	assert_int_equal(data[1007], 0);
	/* Other bytes the next time. */
	uint8_t first[100];
	memcpy(first, data, 100);
	driver_add(&r.q[0], (struct driver_buf[]){{DATA, 100, true}}, 1, false);
	rig_notify(&r, 0);
	assert_int_equal(take_all(&r, &written), 1);
	assert_int_equal(written, 100);
	assert_memory_not_equal(data, first, 100);
	rig_fini(&r);
}

/* A greedy guest gets its bytes in turns, and others have theirs between them. */
static void takes_turns(void **unused)
{
	struct device_rig r;
	uint32_t written;

	(void)unused;
	set_up(&r);
	for (unsigned i = 0; i < 64; i++) {
		driver_add(&r.q[0], (struct driver_buf[]){{DATA, 60 * KIB, true}}, 1, false);
	}
	rig_notify(&r, 0);
	assert_int_equal(host.bytes, 64 * KIB);
	assert_int_equal(take_all(&r, &written), 16);
	assert_int_equal(written, 4096); /* less than was asked for, as it may be */
	(void)test_run(&r.loop, NULL, NULL, 100);
	assert_int_equal(take_all(&r, &written), 48);
	assert_int_equal(host.bytes, 256 * KIB);
	rig_fini(&r);
}

/* Requests for nothing are given back, a bounded number a turn. */
static void nothing_asked_for(void **unused)
{
	struct device_rig r;
	uint32_t written;

	(void)unused;
	set_up(&r);
	for (unsigned i = 0; i < 64; i++) {
		driver_add(&r.q[0], (struct driver_buf[]){{DATA, 16, false}}, 1, false);
	}
	rig_notify(&r, 0);
	(void)test_run(&r.loop, NULL, NULL, 50);
	assert_int_equal(take_all(&r, &written), 64);
	assert_int_equal(written, 0);
	assert_int_equal(host.bytes, 0);
	rig_fini(&r);
}

static void waits_for_the_host(void **unused)
{
	struct device_rig r;
	uint32_t written;

	(void)unused;
	set_up(&r);
	host.not_ready = 1;
	driver_add(&r.q[0], (struct driver_buf[]){{DATA, 32, true}}, 1, false);
	rig_notify(&r, 0);
	assert_int_equal(take_all(&r, &written), 0);
	(void)test_run(&r.loop, NULL, NULL, 300);
	assert_int_equal(take_all(&r, &written), 1);
	assert_int_equal(written, 32);

	/* A reset meanwhile: the turn that was planned does nothing. */
	host.not_ready = 1;
	driver_add(&r.q[0], (struct driver_buf[]){{DATA, 32, true}}, 1, false);
	rig_notify(&r, 0);
	rig_reset(&r);
	uint64_t before = host.bytes;
	(void)test_run(&r.loop, NULL, NULL, 200);
	assert_int_equal(host.bytes, before);
	rig_activate(&r, 0, false, 64);
	driver_add(&r.q[0], (struct driver_buf[]){{DATA, 32, true}}, 1, false);
	rig_notify(&r, 0);
	assert_int_equal(take_all(&r, &written), 1);
	rig_fini(&r);
}

static void broken_ring(void **unused)
{
	struct device_rig r;
	uint32_t written;

	(void)unused;
	set_up(&r);
	driver_add(&r.q[0], (struct driver_buf[]){{1ull << 40, 32, true}}, 1, false);
	rig_notify(&r, 0);
	assert_true((r.dev->status & VIRTIO_CONFIG_S_NEEDS_RESET) != 0);
	assert_int_equal(take_all(&r, &written), 0);
	rig_fini(&r);
}

static void save_and_load(void **unused)
{
	struct device_rig r;
	uint8_t buf[64];
	uint32_t written;

	(void)unused;
	set_up(&r);
	size_t len = state_saved(r.dev->ops->state, r.dev, buf, sizeof(buf));
	/* A request whose ring of the bell was before the save is served after the load. */
	driver_add(&r.q[0], (struct driver_buf[]){{DATA, 32, true}}, 1, false);
	assert_int_equal(state_loaded(r.dev->ops->state, r.dev, buf, len), 0);
	(void)test_run(&r.loop, NULL, NULL, 50);
	assert_int_equal(take_all(&r, &written), 1);
	buf[0] ^= 1;
	assert_int_equal(state_loaded(r.dev->ops->state, r.dev, buf, len), -EINVAL);
	rig_fini(&r);
}

static void never_activated(void **unused)
{
	struct virtio_device *dev;

	(void)unused;
	assert_int_equal(entropy_create(&dev), 0);
	dev->ops->destroy(dev);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gives_bytes),	     cmocka_unit_test(takes_turns),
		cmocka_unit_test(nothing_asked_for), cmocka_unit_test(waits_for_the_host),
		cmocka_unit_test(broken_ring),	     cmocka_unit_test(save_and_load),
		cmocka_unit_test(never_activated),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
