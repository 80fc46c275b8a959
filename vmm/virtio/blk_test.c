#include "vmm/virtio/blk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit.h"
#include "tests/virtio_driver.h"

#define DISK	 MIB
#define SECTORS	 (DISK / 512)
#define HEADER	 DRIVER_BUFFERS
#define STATUS	 (DRIVER_BUFFERS + 0x100)
#define DATA	 (DRIVER_BUFFERS + 0x1000)
#define FEATURES (~UINT64_C(0))

/* The host's disk, as the device sees it: it can be full, broken or slow. */
static struct {
	atomic_int write_error;
	atomic_bool write_stuck;
	atomic_uint writes;
	atomic_uint syncs;
} host;

static void nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
}

ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t offset)
{
	atomic_fetch_add(&host.writes, 1);
	while (atomic_load(&host.write_stuck)) {
		nap();
	}
	if (atomic_load(&host.write_error) != 0) {
		errno = atomic_load(&host.write_error);
		return -1;
	}
	return syscall(SYS_pwritev, fd, iov, (long)n, (long)offset, 0L);
}

int fdatasync(int fd)
{
	atomic_fetch_add(&host.syncs, 1);
	return (int)syscall(SYS_fdatasync, fd);
}

/* A device with its driver, without a PCI bus between them. */
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

static void on_queue(struct virtio_transport *t, unsigned queue)
{
	(void)queue;
	atomic_fetch_add(&container_of(t, struct rig, transport)->interrupts, 1);
}

static void on_config(struct virtio_transport *t)
{
	atomic_fetch_add(&container_of(t, struct rig, transport)->config_interrupts, 1);
}

static void on_pause(void *ctx, const char *reason)
{
	struct rig *r = ctx;

	snprintf(r->reason, sizeof(r->reason), "%s", reason);
	atomic_fetch_add(&r->pauses, 1);
}

static struct virtio_blk_config *config_of(struct rig *r)
{
	return (struct virtio_blk_config *)r->dev->config;
}

/* What a transport does when the driver sets DRIVER_OK. */
static void rig_activate(struct rig *r, uint64_t features)
{
	virtio_lock(r->dev);
	r->dev->driver_features = r->dev->features & features;
	r->dev->status = VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK;
	for (unsigned i = 0; i < r->nqueues; i++) {
		driver_queue_init(&r->q[i], &r->mem, r->packed, false, i == 0 ? 256 : 16);
		if (i > 0) { /* the areas of queue 0 take up to DRIVER_INDIRECT */
			r->q[i].desc = 0x8000 + i * 0x1000;
			r->q[i].driver = 0x8400 + i * 0x1000;
			r->q[i].device = 0x8800 + i * 0x1000;
		}
		driver_setup(&r->q[i], &r->dev->queue[i], r->indirect);
	}
	r->dev->active = true;
	assert_int_equal(r->dev->ops->activate(r->dev), 0);
	virtio_unlock(r->dev);
}

static void rig_reset(struct rig *r)
{
	virtio_lock(r->dev);
	r->dev->active = false;
	r->dev->ops->reset(r->dev);
	for (unsigned i = 0; i < r->nqueues; i++) {
		vq_reset(&r->dev->queue[i]);
	}
	r->dev->status = 0;
	virtio_unlock(r->dev);
}

static struct virtio_device *rig_device(struct rig *r)
{
	struct virtio_device *dev;

	assert_int_equal(blk_create(&dev, &r->config, on_pause, r), 0);
	dev->mem = &r->mem;
	dev->transport = &r->transport;
	for (unsigned i = 0; i < dev->nqueues; i++) {
		dev->queue[i].mem = &r->mem;
	}
	return dev;
}

/* @nqueues, @packed, @indirect and @config are set before. */
static void rig_init(struct rig *r, uint64_t features)
{
	memset(&host, 0, sizeof(host));
	snprintf(r->path, sizeof(r->path), "/tmp/yado-blk-XXXXXX");
	int fd = mkstemp(r->path);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, DISK), 0);
	close(fd);
	r->nqueues = MAX(r->nqueues, 1);
	r->config.path = r->path;
	r->config.queues = r->nqueues;
	r->transport = (struct virtio_transport){on_queue, on_config};
	driver_ram_init(&r->mem);
	r->dev = rig_device(r);
	rig_activate(r, features);
}

static void rig_fini(struct rig *r)
{
	r->dev->ops->destroy(r->dev);
	driver_ram_fini(&r->mem);
	unlink(r->path);
}

static void *ram(struct rig *r, uint64_t addr)
{
	return driver_ptr(&r->q[0], addr);
}

static void set_header(struct rig *r, uint64_t at, uint32_t type, uint64_t sector)
{
	struct virtio_blk_outhdr h = {.type = type, .sector = sector};

	memcpy(ram(r, at), &h, sizeof(h));
}

static uint16_t add(struct rig *r, unsigned queue, const struct driver_buf *buf, unsigned n)
{
	return driver_add(&r->q[queue], buf, n, r->indirect);
}

static void ring(struct rig *r, unsigned queue)
{
	virtio_lock(r->dev);
	r->dev->ops->notify(r->dev, queue);
	virtio_unlock(r->dev);
}

/* Waits for the next request that comes back. Return: its used length. */
static uint32_t wait_used(struct rig *r, unsigned queue, uint16_t *id)
{
	uint32_t written;

	for (unsigned i = 0; i < 50000; i++) {
		if (driver_take(&r->q[queue], id, &written)) {
			return written;
		}
		nap();
	}
	fail_msg("a request does not come back");
	return 0;
}

static void assert_nothing_used(struct rig *r)
{
	uint16_t id;
	uint32_t written;

	assert_false(driver_take(&r->q[0], &id, &written));
}

/* One request of three buffers, start to end. Return: its status. */
static uint8_t request(struct rig *r, uint32_t type, uint64_t sector, uint32_t len, bool to_guest)
{
	struct driver_buf buf[3] = {{HEADER, 16, false}};
	unsigned n = 1;
	uint16_t id;

	set_header(r, HEADER, type, sector);
	*(uint8_t *)ram(r, STATUS) = 0xff;
	if (len > 0) {
		buf[n++] = (struct driver_buf){DATA, len, to_guest};
	}
	buf[n++] = (struct driver_buf){STATUS, 1, true};
	uint16_t added = add(r, 0, buf, n);
	ring(r, 0);
	uint32_t written = wait_used(r, 0, &id);
	uint8_t status = *(uint8_t *)ram(r, STATUS);

	assert_int_equal(id, added);
	if (!to_guest) {
		assert_int_equal(written, 1);
	} else if (status == VIRTIO_BLK_S_OK && type == VIRTIO_BLK_T_IN) {
		assert_int_equal(written, len + 1);
	} else if (status != VIRTIO_BLK_S_OK) {
		assert_int_equal(written, 0);
	}
	return status;
}

static void read_file(struct rig *r, void *buf, size_t len, off_t offset)
{
	int fd = open(r->path, O_RDONLY | O_CLOEXEC);

	assert_int_equal(pread(fd, buf, len, offset), len);
	close(fd);
}

static void pattern(void *p, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++) {
		((uint8_t *)p)[i] = (uint8_t)(i * 13 + i / 255 + seed);
	}
}

static void read_and_write(bool packed, bool indirect)
{
	struct rig r = {.packed = packed, .indirect = indirect};
	uint8_t want[4096];
	uint8_t file[4096];

	rig_init(&r, FEATURES);
	for (unsigned i = 0; i < 300; i++) { /* more than once around the ring */
		uint64_t sector = i * 6;
		uint32_t len = 512 * (1 + i % 8);

		pattern(want, len, i);
		memcpy(ram(&r, DATA), want, len);
		assert_int_equal(request(&r, VIRTIO_BLK_T_OUT, sector, len, false), 0);
		read_file(&r, file, len, (off_t)sector * 512);
		assert_memory_equal(file, want, len);
		memset(ram(&r, DATA), 0, len);
		assert_int_equal(request(&r, VIRTIO_BLK_T_IN, sector, len, true), 0);
		assert_memory_equal(ram(&r, DATA), want, len);
	}
	assert_int_equal(atomic_load(&r.interrupts), 600);
	assert_int_equal(atomic_load(&host.syncs), 0);
	rig_fini(&r);
}

static void split(void **unused)
{
	(void)unused;
	read_and_write(false, false);
	read_and_write(false, true);
}

static void packed(void **unused)
{
	(void)unused;
	read_and_write(true, false);
	read_and_write(true, true);
}

/* A driver may cut a request anywhere. */
static void framing(void **unused)
{
	struct rig r = {.indirect = true};
	uint8_t want[1024];
	uint16_t id;

	(void)unused;
	rig_init(&r, FEATURES);
	/* Header and data in one buffer. */
	set_header(&r, DATA, VIRTIO_BLK_T_OUT, 3);
	pattern(want, 1024, 1);
	memcpy((uint8_t *)ram(&r, DATA) + 16, want, 1024);
	add(&r, 0, (struct driver_buf[]){{DATA, 16 + 1024, false}, {STATUS, 1, true}}, 2);
	ring(&r, 0);
	assert_int_equal(wait_used(&r, 0, &id), 1);
	assert_int_equal(*(uint8_t *)ram(&r, STATUS), 0);

	/* The header in three parts, the last with data; data and status in one buffer. */
	set_header(&r, HEADER, VIRTIO_BLK_T_OUT, 4);
	memcpy(ram(&r, DATA), ram(&r, HEADER), 16);
	pattern((uint8_t *)ram(&r, DATA) + 16, 512, 2);
	memcpy(want + 512, (uint8_t *)ram(&r, DATA) + 16, 512);
	add(&r, 0,
	    (struct driver_buf[]){{DATA, 1, false},
				  {DATA + 1, 8, false},
				  {DATA + 9, 100, false},
				  {DATA + 109, 419, false},
				  {STATUS, 1, true}},
	    5);
	ring(&r, 0);
	wait_used(&r, 0, &id);
	assert_int_equal(*(uint8_t *)ram(&r, STATUS), 0);

	set_header(&r, HEADER, VIRTIO_BLK_T_IN, 3);
	memset(ram(&r, DATA), 0xcc, 2048);
	add(&r, 0,
	    (struct driver_buf[]){{HEADER, 7, false},
				  {HEADER + 7, 9, false},
				  {DATA, 3, true},
				  {DATA + 3, 1022, true}},
	    4);
	ring(&r, 0);
	assert_int_equal(wait_used(&r, 0, &id), 1025);
	assert_memory_equal(ram(&r, DATA), want, 1024);
	assert_int_equal(((uint8_t *)ram(&r, DATA))[1024], 0); /* the status */
	assert_int_equal(((uint8_t *)ram(&r, DATA))[1025], 0xcc);
	rig_fini(&r);
}

static void bounds(void **unused)
{
	static const uint64_t bad[] = {
		SECTORS,	SECTORS - 1, UINT64_MAX,	 UINT64_MAX / 512,
		UINT64_MAX - 1, 1ull << 55,  (1ull << 55) - 1ul, INT64_MAX / 512 + 1};
	struct rig r = {0};

	(void)unused;
	rig_init(&r, FEATURES);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(request(&r, VIRTIO_BLK_T_IN, bad[i], 1024, true), 1);
		assert_int_equal(request(&r, VIRTIO_BLK_T_OUT, bad[i], 1024, false), 1);
	}
	assert_int_equal(request(&r, VIRTIO_BLK_T_IN, 0, 511, true), 1);
	assert_int_equal(request(&r, VIRTIO_BLK_T_OUT, 0, 513, false), 1);
	assert_int_equal(atomic_load(&host.writes), 0);
	assert_int_equal(request(&r, VIRTIO_BLK_T_IN, SECTORS - 2, 1024, true), 0);
	assert_int_equal(request(&r, VIRTIO_BLK_T_OUT, SECTORS - 2, 1024, false), 0);
	assert_int_equal(request(&r, VIRTIO_BLK_T_IN, SECTORS, 0, true), 0);
	rig_fini(&r);
}

static void unknown_types(void **unused)
{
	static const uint32_t types[] = {2, 3, 5, VIRTIO_BLK_T_SECURE_ERASE, 99, UINT32_MAX};
	struct rig r = {0};

	(void)unused;
	rig_init(&r, FEATURES);
	for (unsigned i = 0; i < ARRAY_SIZE(types); i++) {
		assert_int_equal(request(&r, types[i], 0, 512, true), VIRTIO_BLK_S_UNSUPP);
	}
	rig_fini(&r);
}

static void read_only(void **unused)
{
	struct rig r = {.config.readonly = true};
	uint8_t file[512];
	uint8_t zero[512] = {0};

	(void)unused;
	rig_init(&r, FEATURES);
	assert_true(virtio_has(r.dev, VIRTIO_BLK_F_RO));
	assert_false(virtio_has(r.dev, VIRTIO_BLK_F_DISCARD));
	assert_false(virtio_has(r.dev, VIRTIO_BLK_F_WRITE_ZEROES));
	memset(ram(&r, DATA), 1, 512);
	assert_int_equal(request(&r, VIRTIO_BLK_T_OUT, 0, 512, false), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&r, VIRTIO_BLK_T_DISCARD, 0, 16, false), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(request(&r, VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, false), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(request(&r, VIRTIO_BLK_T_IN, 0, 512, true), 0);
	assert_int_equal(request(&r, VIRTIO_BLK_T_FLUSH, 0, 0, false), 0);
	read_file(&r, file, 512, 0);
	assert_memory_equal(file, zero, 512);
	assert_int_equal(atomic_load(&host.writes), 0);
	rig_fini(&r);
}

static void serial_number(void **unused)
{
	struct rig r = {.config.serial = "12345678901234567890"};
	uint8_t *data;

	(void)unused;
	rig_init(&r, FEATURES);
	data = ram(&r, DATA);
	memset(data, 0xaa, 64);
	assert_int_equal(request(&r, VIRTIO_BLK_T_GET_ID, 0, 64, true), 0);
	assert_memory_equal(data, "12345678901234567890", 20);
	assert_int_equal(data[20], 0xaa);
	memset(data, 0xaa, 64);
	assert_int_equal(request(&r, VIRTIO_BLK_T_GET_ID, 0, 5, true), 0);
	assert_memory_equal(data, "12345\xaa", 6);
	rig_fini(&r);

	r = (struct rig){.config.serial = "ab"};
	rig_init(&r, FEATURES);
	data = ram(&r, DATA);
	memset(data, 0xaa, 64);
	assert_int_equal(request(&r, VIRTIO_BLK_T_GET_ID, 0, 20, true), 0);
	assert_memory_equal(data, "ab\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
	rig_fini(&r);

	/* Without one in the configuration: its own, not empty. */
	r = (struct rig){0};
	rig_init(&r, FEATURES);
	data = ram(&r, DATA);
	assert_int_equal(request(&r, VIRTIO_BLK_T_GET_ID, 0, 20, true), 0);
	assert_memory_equal(data, "yado", 4);
	assert_true(data[19] != 0);
	rig_fini(&r);
}

static void configuration(void **unused)
{
	struct rig r = {.nqueues = 3};
	struct virtio_device *dev = NULL;

	(void)unused;
	rig_init(&r, FEATURES);
	assert_int_equal(config_of(&r)->capacity, SECTORS);
	assert_int_equal(config_of(&r)->blk_size, 512);
	assert_int_equal(config_of(&r)->num_queues, 3);
	assert_int_equal(config_of(&r)->seg_max, 254);
	assert_int_equal(config_of(&r)->wce, 1);
	assert_true(config_of(&r)->max_write_zeroes_sectors > 0);
	assert_true(virtio_has(r.dev, VIRTIO_BLK_F_MQ));
	assert_false(virtio_has(r.dev, VIRTIO_BLK_F_RO));
	/* Of the configuration the driver may write one bit. */
	for (unsigned i = 0; i < r.dev->config_len; i++) {
		assert_int_equal(r.dev->config_wmask[i],
				 i == offsetof(struct virtio_blk_config, wce) ? 1 : 0);
	}

	/* And what cannot be is refused. */
	struct disk_config bad = r.config;
	bad.queues = 17;
	assert_int_equal(blk_create(&dev, &bad, NULL, NULL), -EINVAL);
	bad.queues = 0;
	assert_int_equal(blk_create(&dev, &bad, NULL, NULL), -EINVAL);
	bad = r.config;
	bad.serial = "123456789012345678901";
	assert_int_equal(blk_create(&dev, &bad, NULL, NULL), -EINVAL);
	assert_int_equal(blk_create(&dev, &r.config, NULL, NULL), -EBUSY); /* locked */
	assert_null(dev);
	rig_fini(&r);
}

static void when_writes_last(void **unused)
{
	const uint64_t wce = BIT(VIRTIO_BLK_F_CONFIG_WCE);
	const uint64_t flush = BIT(VIRTIO_BLK_F_FLUSH);
	struct rig r = {0};

	(void)unused;
	rig_init(&r, FEATURES);
	assert_int_equal(request(&r, VIRTIO_BLK_T_OUT, 0, 512, false), 0);
	assert_int_equal(atomic_load(&host.syncs), 0);
	assert_int_equal(request(&r, VIRTIO_BLK_T_FLUSH, 0, 0, false), 0);
	assert_int_equal(atomic_load(&host.syncs), 1);
	config_of(&r)->wce = 0; /* the driver turns the cache off */
	assert_int_equal(request(&r, VIRTIO_BLK_T_OUT, 0, 512, false), 0);
	assert_int_equal(atomic_load(&host.syncs), 2);
	assert_int_equal(request(&r, VIRTIO_BLK_T_IN, 0, 512, true), 0);
	assert_int_equal(atomic_load(&host.syncs), 2);
	rig_reset(&r);
	assert_int_equal(config_of(&r)->wce, 1);

	/* A driver that cannot flush. */
	rig_activate(&r, FEATURES & ~(flush | wce));
	assert_int_equal(request(&r, VIRTIO_BLK_T_OUT, 0, 512, false), 0);
	assert_int_equal(atomic_load(&host.syncs), 3);
	rig_reset(&r);
	rig_activate(&r, FEATURES & ~flush);
	r.dev->ops->config_read(r.dev);
	assert_int_equal(config_of(&r)->wce, 0);
	assert_int_equal(request(&r, VIRTIO_BLK_T_OUT, 0, 512, false), 0);
	assert_int_equal(atomic_load(&host.syncs), 4);
	rig_reset(&r);

	/* One that can, but does not know of the switch. */
	rig_activate(&r, FEATURES & ~wce);
	config_of(&r)->wce = 0;
	assert_int_equal(request(&r, VIRTIO_BLK_T_OUT, 0, 512, false), 0);
	assert_int_equal(atomic_load(&host.syncs), 4);
	rig_fini(&r);
}

static uint8_t ranges(struct rig *r, uint32_t type, unsigned n,
		      const struct virtio_blk_discard_write_zeroes *range)
{
	memcpy(ram(r, DATA), range, n * sizeof(*range));
	return request(r, type, 0, (uint32_t)(n * sizeof(*range)), false);
}

static void assert_file(struct rig *r, uint64_t sector, uint64_t n, uint8_t want)
{
	uint8_t file[512];

	for (uint64_t i = 0; i < n; i++) {
		read_file(r, file, 512, (off_t)(sector + i) * 512);
		for (unsigned k = 0; k < 512; k++) {
			if (file[k] != want) {
				fail_msg("sector %llu: %#x", (unsigned long long)(sector + i),
					 file[k]);
			}
		}
	}
}

static void fill_disk(struct rig *r, uint64_t sectors)
{
	memset(ram(r, DATA), 0x5a, 512 * 64);
	for (uint64_t i = 0; i < sectors; i += 64) {
		assert_int_equal(request(r, VIRTIO_BLK_T_OUT, i, 512 * 64, false), 0);
	}
}

static void discard_and_write_zeroes(void **unused)
{
	const uint32_t zero = VIRTIO_BLK_T_WRITE_ZEROES;
	const uint32_t discard = VIRTIO_BLK_T_DISCARD;
	struct rig r = {0};
	struct virtio_blk_discard_write_zeroes many[17] = {0};

	(void)unused;
	rig_init(&r, FEATURES);
	fill_disk(&r, 256);
	many[0] = (struct virtio_blk_discard_write_zeroes){8, 8, 1};
	many[1] = (struct virtio_blk_discard_write_zeroes){33, 3, 0};
	assert_int_equal(ranges(&r, zero, 2, many), 0);
	assert_file(&r, 0, 8, 0x5a);
	assert_file(&r, 8, 8, 0);
	assert_file(&r, 16, 17, 0x5a);
	assert_file(&r, 33, 3, 0);
	assert_file(&r, 36, 28, 0x5a);
	if (virtio_has(r.dev, VIRTIO_BLK_F_DISCARD)) {
		many[0] = (struct virtio_blk_discard_write_zeroes){64, 64, 0};
		assert_int_equal(ranges(&r, discard, 1, many), 0);
		assert_file(&r, 64, 64, 0);
		assert_file(&r, 128, 128, 0x5a);
		/* A discard has no flags. */
		many[0] = (struct virtio_blk_discard_write_zeroes){128, 8, 1};
		assert_int_equal(ranges(&r, discard, 1, many), VIRTIO_BLK_S_UNSUPP);
		assert_file(&r, 128, 128, 0x5a);
	}
	many[0] = (struct virtio_blk_discard_write_zeroes){128, 8, 2};
	assert_int_equal(ranges(&r, zero, 1, many), VIRTIO_BLK_S_UNSUPP);
	many[0] = (struct virtio_blk_discard_write_zeroes){SECTORS - 1, 2, 0};
	assert_int_equal(ranges(&r, zero, 1, many), VIRTIO_BLK_S_IOERR);
	many[0] = (struct virtio_blk_discard_write_zeroes){UINT64_MAX, 2, 0};
	assert_int_equal(ranges(&r, zero, 1, many), VIRTIO_BLK_S_IOERR);
	assert_int_equal(ranges(&r, discard, 1, many), VIRTIO_BLK_S_IOERR);
	many[0] = (struct virtio_blk_discard_write_zeroes){0, UINT32_MAX, 0};
	assert_int_equal(ranges(&r, zero, 1, many), VIRTIO_BLK_S_IOERR);
	/* One bad range, and none is done. */
	many[0] = (struct virtio_blk_discard_write_zeroes){128, 8, 0};
	many[1] = (struct virtio_blk_discard_write_zeroes){SECTORS, 1, 0};
	assert_int_equal(ranges(&r, zero, 2, many), VIRTIO_BLK_S_IOERR);
	assert_file(&r, 128, 128, 0x5a);
	/* Too many ranges; half a range; none. */
	memset(many, 0, sizeof(many));
	assert_int_equal(ranges(&r, zero, 17, many), VIRTIO_BLK_S_IOERR);
	assert_int_equal(ranges(&r, zero, 16, many), 0);
	assert_int_equal(request(&r, zero, 0, 17, false), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&r, zero, 0, 0, false), 0);

	rig_reset(&r);
	rig_activate(&r, 0);
	assert_int_equal(ranges(&r, zero, 1, many), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(ranges(&r, discard, 1, many), VIRTIO_BLK_S_UNSUPP);
	rig_fini(&r);
}

/* A request that cannot even be answered breaks the device, until a reset. */
static void broken_requests(void **unused)
{
	static const struct driver_buf bad[][2] = {
		{{HEADER, 15, false}, {STATUS, 1, true}},
		{{HEADER, 16, false}, {DATA, 512, false}},
		{{DATA, 512, true}, {STATUS, 1, true}},
	};
	struct rig r = {0};

	(void)unused;
	rig_init(&r, FEATURES);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		set_header(&r, HEADER, VIRTIO_BLK_T_FLUSH, 0);
		add(&r, 0, bad[i], 2);
		ring(&r, 0);
		assert_true((r.dev->status & VIRTIO_CONFIG_S_NEEDS_RESET) != 0);
		assert_int_equal(atomic_load(&r.config_interrupts), i + 1);
		assert_nothing_used(&r);
		ring(&r, 0); /* and nothing happens */
		rig_reset(&r);
		rig_activate(&r, FEATURES);
		assert_int_equal(request(&r, VIRTIO_BLK_T_FLUSH, 0, 0, false), 0);
	}
	rig_fini(&r);
}

/* More in the ring than the device works on at a time. */
static void full_ring(void **unused)
{
	struct rig r = {0};
	uint16_t id;

	(void)unused;
	rig_init(&r, FEATURES);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 128; i++) {
			uint64_t at = DRIVER_BUFFERS + i * 32;

			set_header(&r, at, VIRTIO_BLK_T_FLUSH, 0);
			*(uint8_t *)ram(&r, at + 16) = 0xff;
			add(&r, 0, (struct driver_buf[]){{at, 16, false}, {at + 16, 1, true}}, 2);
		}
		ring(&r, 0);
		for (unsigned i = 0; i < 128; i++) {
			wait_used(&r, 0, &id);
		}
		for (unsigned i = 0; i < 128; i++) {
			assert_int_equal(*(uint8_t *)ram(&r, DRIVER_BUFFERS + i * 32 + 16), 0);
		}
		assert_nothing_used(&r);
	}
	rig_fini(&r);
}

static void many_queues(void **unused)
{
	struct rig r = {.nqueues = 4};
	uint16_t id;

	(void)unused;
	rig_init(&r, FEATURES);
	for (unsigned i = 0; i < 4; i++) {
		set_header(&r, HEADER + i * 32, VIRTIO_BLK_T_OUT, i);
		memset(ram(&r, DATA + i * 512), (int)i + 1, 512);
		add(&r, i,
		    (struct driver_buf[]){{HEADER + i * 32, 16, false},
					  {DATA + i * 512, 512, false},
					  {STATUS + i, 1, true}},
		    3);
		ring(&r, i);
	}
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(wait_used(&r, i, &id), 1);
		assert_int_equal(*(uint8_t *)ram(&r, STATUS + i), 0);
		assert_file(&r, i, 1, (uint8_t)(i + 1));
	}
	rig_fini(&r);
}

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
		cmocka_unit_test(split),
		cmocka_unit_test(packed),
		cmocka_unit_test(framing),
		cmocka_unit_test(bounds),
		cmocka_unit_test(unknown_types),
		cmocka_unit_test(read_only),
		cmocka_unit_test(serial_number),
		cmocka_unit_test(configuration),
		cmocka_unit_test(when_writes_last),
		cmocka_unit_test(discard_and_write_zeroes),
		cmocka_unit_test(broken_requests),
		cmocka_unit_test(full_ring),
		cmocka_unit_test(many_queues),
		cmocka_unit_test(no_space),
		cmocka_unit_test(other_errors),
		cmocka_unit_test(reset_when_full),
		cmocka_unit_test(reset_waits),
		cmocka_unit_test(drain),
		cmocka_unit_test(save_and_load),
		cmocka_unit_test(refused_states),
		cmocka_unit_test(state_wants_drain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
