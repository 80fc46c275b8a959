#include "vmm/virtio/balloon.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_balloon.h>
#include <linux/virtio_config.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/base/bytes.h"
#include "tests/state_rig.h"
#include "tests/test_run.h"
#include "tests/virtio_driver.h"
#include "vmm/clock.h"

#define LOW   (4 * MIB)
#define HIGH  (2 * MIB)
#define BASE4 (UINT64_C(4) * GIB)
#define DATA  DRIVER_BUFFERS
#define PAGE  4096

enum {
	INFLATE,
	DEFLATE,
	STATS,
	REPORT_COMPACT,
	REPORT,
	QUEUES
};

/* What the host is asked to take back, and whether it can. */
static struct {
	unsigned calls;
	int error;
} host;

int fallocate(int fd, int mode, off_t offset, off_t len)
{
	host.calls++;
	if (host.error != 0) {
		errno = host.error;
		return -1;
	}
	return (int)syscall(SYS_fallocate, fd, (long)mode, (long)offset, (long)len);
}

struct rig {
	struct guest_memory mem;
	uint8_t *map;
	struct loop loop;
	struct virtio_device *dev;
	struct virtio_transport transport;
	struct driver_queue q[QUEUES];
	unsigned interrupts[QUEUES];
	unsigned config_interrupts;
};

static void on_queue(struct virtio_transport *t, unsigned queue)
{
	container_of(t, struct rig, transport)->interrupts[queue]++;
}

static void on_config(struct virtio_transport *t)
{
	container_of(t, struct rig, transport)->config_interrupts++;
}

/* RAM as the real one: a memfd seen in two regions, every page in use. */
static void ram_init(struct rig *r)
{
	int fd = memfd_create("ram", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, LOW + HIGH), 0);
	r->map = mmap(NULL, LOW + HIGH, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(r->map != MAP_FAILED);
	memset(r->map, 0, DATA);
	memset(r->map + DATA, 0x5a, LOW + HIGH - DATA);
	r->mem = (struct guest_memory){
		.fd = fd,
		.nregions = 2,
		.region = {{gpa(0), LOW, r->map, 0}, {gpa(BASE4), HIGH, r->map + LOW, LOW}},
	};
}

static void rig_activate(struct rig *r)
{
	virtio_lock(r->dev);
	r->dev->driver_features = r->dev->features;
	r->dev->status = VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK;
	driver_queue_init(&r->q[0], &r->mem, false, true, 128);
	for (unsigned i = 0; i < QUEUES; i++) {
		r->q[i] = r->q[0];
		r->q[i].desc = 0x10000 + i * 0x4000;
		r->q[i].driver = 0x11000 + i * 0x4000;
		r->q[i].device = 0x12000 + i * 0x4000;
		memset(driver_ptr(&r->q[i], r->q[i].desc), 0, 0x3000);
		driver_setup(&r->q[i], &r->dev->queue[i], false);
	}
	r->dev->active = true;
	assert_int_equal(r->dev->ops->activate(r->dev), 0);
	virtio_unlock(r->dev);
}

static void rig_init(struct rig *r)
{
	*r = (struct rig){.transport = {on_queue, on_config}};
	memset(&host, 0, sizeof(host));
	ram_init(r);
	assert_int_equal(loop_init(&r->loop), 0);
	assert_int_equal(balloon_create(&r->dev, 64 * MIB + 1000), 0);
	assert_int_equal(r->dev->type, 5);
	r->dev->mem = &r->mem;
	r->dev->loop = &r->loop;
	r->dev->transport = &r->transport;
	rig_activate(r);
}

static void rig_fini(struct rig *r)
{
	r->dev->ops->destroy(r->dev);
	loop_fini(&r->loop);
	munmap(r->map, LOW + HIGH);
	close(r->mem.fd);
}

static void ring(struct rig *r, unsigned queue)
{
	virtio_lock(r->dev);
	r->dev->ops->notify(r->dev, queue);
	virtio_unlock(r->dev);
}

static unsigned take_all(struct rig *r, unsigned queue)
{
	unsigned n = 0;
	uint16_t id;
	uint32_t written;

	while (driver_take(&r->q[queue], &id, &written)) {
		assert_int_equal(written, 0);
		n++;
	}
	driver_interrupt_after(&r->q[queue], 1);
	return n;
}

/* Is the page at @offset of the memfd given back? Tells without touching it. */
static bool is_hole(struct rig *r, uint64_t offset)
{
	off_t data = lseek(r->mem.fd, (off_t)offset, SEEK_DATA);

	return data < 0 || data >= (off_t)offset + PAGE;
}

static unsigned count_holes(struct rig *r)
{
	unsigned n = 0;

	for (uint64_t at = 0; at < LOW + HIGH; at += PAGE) {
		n += is_hole(r, at);
	}
	return n;
}

static void add_pfns(struct rig *r, unsigned queue, const uint32_t *pfn, unsigned n)
{
	memcpy(driver_ptr(&r->q[0], DATA), pfn, n * sizeof(*pfn));
	driver_add(&r->q[queue], (struct driver_buf[]){{DATA, n * 4, false}}, 1, false);
}

static void inflates(void **unused)
{
	static const uint32_t up[] = {256, 257, 258};
	static const uint32_t down[] = {303, 302, 301, 300};
	static const uint32_t apart[] = {500, 0x100000, 510};
	struct rig r;

	(void)unused;
	rig_init(&r);
	add_pfns(&r, INFLATE, up, ARRAY_SIZE(up));
	ring(&r, INFLATE);
	assert_int_equal(take_all(&r, INFLATE), 1);
	assert_int_equal(r.interrupts[INFLATE], 1);
	assert_int_equal(host.calls, 1); /* neighbours at once */
	assert_int_equal(count_holes(&r), 3);
	assert_true(is_hole(&r, 256 * PAGE) && is_hole(&r, 258 * PAGE));

	add_pfns(&r, INFLATE, down, ARRAY_SIZE(down));
	ring(&r, INFLATE);
	assert_int_equal(host.calls, 2);
	assert_int_equal(count_holes(&r), 7);
	assert_true(is_hole(&r, 300 * PAGE) && is_hole(&r, 303 * PAGE));

	add_pfns(&r, INFLATE, apart, ARRAY_SIZE(apart));
	ring(&r, INFLATE);
	assert_int_equal(host.calls, 5);
	assert_int_equal(count_holes(&r), 10);
	/* 4 GiB is page 0x100000: the high region, behind the low one in the memfd. */
	assert_true(is_hole(&r, LOW));

	/* What was taken reads as zero, and is the guest's again when it writes there. */
	assert_int_equal(r.map[256 * PAGE], 0);
	assert_int_equal(r.map[255 * PAGE], 0x5a);
	add_pfns(&r, DEFLATE, up, ARRAY_SIZE(up));
	ring(&r, DEFLATE);
	assert_int_equal(take_all(&r, DEFLATE), 1);
	assert_int_equal(host.calls, 5);
	r.map[256 * PAGE] = 1;
	assert_false(is_hole(&r, 256 * PAGE));
	rig_fini(&r);
}

static void hostile_pages(void **unused)
{
	static const uint32_t outside[] = {LOW / PAGE, 0xfffff,
					   0x80000000, 0x100000 + HIGH / PAGE,
					   UINT32_MAX, UINT32_MAX - 1};
	struct rig r;
	uint32_t same[1024];

	(void)unused;
	rig_init(&r);
	add_pfns(&r, INFLATE, outside, ARRAY_SIZE(outside));
	ring(&r, INFLATE);
	assert_int_equal(take_all(&r, INFLATE), 1);
	assert_int_equal(host.calls, 0);

	/* Half a page number is none. */
	store_le32(driver_ptr(&r.q[0], DATA), 256);
	driver_add(&r.q[INFLATE], (struct driver_buf[]){{DATA, 3, false}}, 1, false);
	driver_add(&r.q[INFLATE], (struct driver_buf[]){{DATA, 3, true}}, 1, false);
	ring(&r, INFLATE);
	assert_int_equal(take_all(&r, INFLATE), 2);
	assert_int_equal(host.calls, 0);

	/* The same page again and again: bounded work, and only that page. */
	for (unsigned i = 0; i < ARRAY_SIZE(same); i++) {
		same[i] = 700;
	}
	add_pfns(&r, INFLATE, same, ARRAY_SIZE(same));
	ring(&r, INFLATE);
	assert_int_equal(count_holes(&r), 1);
	assert_true(is_hole(&r, 700 * PAGE));
	rig_fini(&r);
}

/* A long request or many: one turn of the loop does only so much. */
static void takes_turns(void **unused)
{
	struct rig r;

	(void)unused;
	rig_init(&r);
	/* 64 requests of 256 KiB of page numbers each. */
	for (unsigned i = 0; i < 64; i++) {
		driver_add(&r.q[INFLATE], (struct driver_buf[]){{1 * MIB, 256 * KIB, false}}, 1,
			   false);
	}
	uint32_t *pfn = guest_ptr(&r.mem, gpa(1 * MIB), 256 * KIB);
	for (unsigned i = 0; i < 64 * KIB; i++) {
		pfn[i] = 512 + i % 256 * 2; /* no two are neighbours */
	}
	ring(&r, INFLATE);
	assert_int_equal(take_all(&r, INFLATE), 1);
	assert_int_equal(host.calls, 1024);
	(void)test_run(&r.loop, NULL, NULL, 300);
	assert_int_equal(take_all(&r, INFLATE), 63);
	assert_int_equal(host.calls, 64 * 1024);
	assert_int_equal(count_holes(&r), 256);
	rig_fini(&r);
}

static void report(struct rig *r, unsigned queue)
{
	unsigned holes = count_holes(r);

	driver_add(&r->q[queue],
		   (struct driver_buf[]){{MIB, 512 * KIB, true},
					 {MIB + 512 * KIB, 512 * KIB, true},
					 {BASE4 + 100, 3 * PAGE, true}, /* two whole pages */
					 {3 * MIB + 1, PAGE, true}},	/* none */
		   4, false);
	host.calls = 0;
	ring(r, queue);
	assert_int_equal(take_all(r, queue), 1);
	assert_int_equal(host.calls, 2);
	assert_int_equal(count_holes(r), holes + 258);
	assert_true(is_hole(r, MIB) && is_hole(r, 2 * MIB - PAGE));
	assert_false(is_hole(r, MIB - PAGE) || is_hole(r, 2 * MIB));
	assert_true(is_hole(r, LOW + PAGE) && is_hole(r, LOW + 2 * PAGE));
	assert_false(is_hole(r, LOW) || is_hole(r, LOW + 3 * PAGE));
	memset(r->map + MIB, 0x5a, MIB);
	memset(r->map + LOW, 0x5a, HIGH);
}

/* On the queue of the specification, and on that of Linux before 6.10. */
static void reports(void **unused)
{
	struct rig r;

	(void)unused;
	rig_init(&r);
	report(&r, REPORT_COMPACT);
	report(&r, REPORT);
	/* Read-only buffers are no report. */
	driver_add(&r.q[REPORT], (struct driver_buf[]){{MIB, MIB, false}}, 1, false);
	ring(&r, REPORT);
	assert_int_equal(take_all(&r, REPORT), 1);
	assert_int_equal(count_holes(&r), 0);
	rig_fini(&r);
}

static void host_cannot(void **unused)
{
	static const uint32_t pfn[] = {300, 400, 500};
	struct rig r;

	(void)unused;
	rig_init(&r);
	host.error = EOPNOTSUPP;
	add_pfns(&r, INFLATE, pfn, ARRAY_SIZE(pfn));
	ring(&r, INFLATE);
	assert_int_equal(take_all(&r, INFLATE), 1);
	assert_int_equal(host.calls, 1); /* asked once, said once */
	rig_fini(&r);

	/* Reserved huge pages stay. */
	rig_init(&r);
	r.dev->ops->destroy(r.dev);
	r.mem.huge = true;
	assert_int_equal(balloon_create(&r.dev, 0), 0);
	r.dev->mem = &r.mem;
	r.dev->loop = &r.loop;
	r.dev->transport = &r.transport;
	rig_activate(&r);
	add_pfns(&r, INFLATE, pfn, ARRAY_SIZE(pfn));
	ring(&r, INFLATE);
	assert_int_equal(take_all(&r, INFLATE), 1);
	assert_int_equal(host.calls, 0);
	rig_fini(&r);
}

static void target_and_actual(void **unused)
{
	struct rig r;

	(void)unused;
	rig_init(&r);
	struct virtio_balloon_config *config = (struct virtio_balloon_config *)r.dev->config;
	assert_int_equal(config->num_pages, 64 * MIB / PAGE);
	balloon_set_target(r.dev, 128 * MIB);
	assert_int_equal(config->num_pages, 128 * MIB / PAGE);
	assert_int_equal(r.config_interrupts, 1);
	balloon_set_target(r.dev, UINT64_MAX);
	assert_int_equal(config->num_pages, UINT32_MAX);
	assert_int_equal(balloon_actual(r.dev), 0);
	config->actual = UINT32_MAX;
	assert_int_equal(balloon_actual(r.dev), (uint64_t)UINT32_MAX * PAGE);
	/* The driver may write "actual", and nothing else. */
	for (unsigned i = 0; i < r.dev->config_len; i++) {
		assert_int_equal(r.dev->config_wmask[i], i >= 4 && i < 8 ? 0xff : 0);
	}
	assert_true(virtio_has(r.dev, VIRTIO_BALLOON_F_DEFLATE_ON_OOM));
	assert_true(virtio_has(r.dev, VIRTIO_BALLOON_F_REPORTING));
	assert_false(virtio_has(r.dev, VIRTIO_BALLOON_F_MUST_TELL_HOST));
	assert_false(virtio_has(r.dev, VIRTIO_BALLOON_F_FREE_PAGE_HINT));
	rig_fini(&r);
}

static void add_stats(struct rig *r, uint64_t free, unsigned extra)
{
	uint8_t *p = driver_ptr(&r->q[0], DATA);

	store_le16(p, VIRTIO_BALLOON_S_MEMFREE);
	store_le64(p + 2, free);
	store_le16(p + 10, VIRTIO_BALLOON_S_MEMTOT);
	store_le64(p + 12, LOW + HIGH);
	store_le16(p + 20, 0xffff); /* a tag of a later specification */
	store_le64(p + 22, 1);
	driver_add(&r->q[STATS], (struct driver_buf[]){{DATA, 30 + extra, false}}, 1, false);
	if (driver_must_ring(&r->q[STATS])) {
		ring(r, STATS);
	}
}

static void statistics(void **unused)
{
	struct balloon_stats stats;
	struct rig r;

	(void)unused;
	rig_init(&r);
	balloon_stats(r.dev, &stats);
	assert_int_equal(stats.when_ns, 0);
	assert_int_equal(balloon_ask_stats(r.dev), -EAGAIN);
	for (unsigned i = 1; i <= 300; i++) { /* more than once around the ring */
		add_stats(&r, i * 1000, i % 10);
		assert_int_equal(take_all(&r, STATS), 0); /* kept until asked for */
		balloon_stats(r.dev, &stats);
		assert_true(stats.when_ns > 0);
		assert_int_equal(stats.known, 1u << BALLOON_FREE | 1u << BALLOON_TOTAL);
		assert_int_equal(stats.value[BALLOON_FREE], i * 1000);
		assert_int_equal(stats.value[BALLOON_TOTAL], LOW + HIGH);
		assert_int_equal(balloon_ask_stats(r.dev), 0);
		assert_int_equal(take_all(&r, STATS), 1);
		assert_int_equal(r.interrupts[STATS], i);
		assert_int_equal(balloon_ask_stats(r.dev), -EAGAIN);
	}
	rig_fini(&r);
}

static void broken_ring(void **unused)
{
	struct rig r;

	(void)unused;
	for (unsigned i = 0; i < QUEUES; i++) {
		rig_init(&r);
		driver_add(&r.q[i], (struct driver_buf[]){{3 * GIB, 32, true}}, 1, false);
		ring(&r, i);
		assert_true((r.dev->status & VIRTIO_CONFIG_S_NEEDS_RESET) != 0);
		assert_int_equal(take_all(&r, i), 0);
		assert_int_equal(balloon_ask_stats(r.dev), -EAGAIN);
		virtio_lock(r.dev);
		r.dev->active = false;
		r.dev->ops->reset(r.dev);
		virtio_unlock(r.dev);
		rig_fini(&r);
	}
}

static void save_and_load(void **unused)
{
	struct rig r;
	uint8_t buf[64];

	(void)unused;
	rig_init(&r);
	struct virtio_balloon_config *config = (struct virtio_balloon_config *)r.dev->config;
	config->num_pages = 1234;
	config->actual = 567;
	size_t len = state_saved(r.dev->ops->state, r.dev, buf, sizeof(buf));
	config->num_pages = 0;
	config->actual = 0;
	/* A request whose ring of the bell was before the save is served after the load. */
	add_pfns(&r, INFLATE, (uint32_t[]){300}, 1);
	assert_int_equal(state_loaded(r.dev->ops->state, r.dev, buf, len), 0);
	assert_int_equal(config->num_pages, 1234);
	assert_int_equal(balloon_actual(r.dev), 567 * PAGE);
	(void)test_run(&r.loop, NULL, NULL, 50);
	assert_true(is_hole(&r, 300 * PAGE));
	assert_short_refused(r.dev->ops->state, r.dev, buf, len);
	rig_fini(&r);
}

static void never_activated(void **unused)
{
	struct virtio_device *dev;

	(void)unused;
	assert_int_equal(balloon_create(&dev, 0), 0);
	balloon_set_target(dev, 5 * MIB); /* before there is a transport */
	assert_int_equal(balloon_ask_stats(dev), -EAGAIN);
	dev->ops->destroy(dev);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(inflates),	 cmocka_unit_test(hostile_pages),
		cmocka_unit_test(takes_turns),	 cmocka_unit_test(reports),
		cmocka_unit_test(host_cannot),	 cmocka_unit_test(target_and_actual),
		cmocka_unit_test(statistics),	 cmocka_unit_test(broken_ring),
		cmocka_unit_test(save_and_load), cmocka_unit_test(never_activated),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
