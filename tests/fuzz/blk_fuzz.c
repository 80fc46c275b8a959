/*
 * A hostile driver of the disk, for libFuzzer: the input is a program of small steps that write to
 * guest RAM, add requests, ring, reset, and load states that were tampered with. The host is full
 * or broken at times. Nothing but the sanitizers and check() judges, and two promises: a read-only
 * disk is never written, and no disk changes its size.
 */
#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "tests/fuzz/input.h"
#include "tests/virtio_driver.h"
#include "vmm/virtio/blk.h"

#define DISK   (256 * KIB)
#define QUEUES 2

static atomic_int write_error;

ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t offset)
{
	int error = atomic_load(&write_error);

	if (error != 0) {
		errno = error;
		return -1;
	}
	return syscall(SYS_pwritev, fd, iov, (long)n, (long)offset, 0L);
}

ssize_t pwrite(int fd, const void *buf, size_t len, off_t offset)
{
	return pwritev(fd, &(struct iovec){(void *)buf, len}, 1, offset);
}

struct disk {
	struct virtio_device *dev;
	struct virtqueue *vq;
	int fd;
	char path[32];
};

static struct guest_memory mem;
static struct disk disks[2]; /* the second is read-only */
static struct driver_queue queue[QUEUES];

static void no_interrupt(struct virtio_transport *t, unsigned vq)
{
	(void)t;
	(void)vq;
}

static void no_config_interrupt(struct virtio_transport *t)
{
	(void)t;
}

static void no_pause(void *ctx, const char *reason)
{
	(void)ctx;
	(void)reason;
}

static void set_up(void)
{
	static struct virtio_transport transport = {no_interrupt, no_config_interrupt};

	driver_ram_init(&mem);
	mem.nregions = 2; /* the third cannot be touched */
	for (unsigned i = 0; i < 2; i++) {
		struct disk *d = &disks[i];
		struct disk_config config = {.path = d->path, .queues = QUEUES, .readonly = i == 1};

		d->fd = memfd_create("disk", MFD_CLOEXEC);
		check(d->fd >= 0 && ftruncate(d->fd, DISK) == 0);
		snprintf(d->path, sizeof(d->path), "/proc/self/fd/%d", d->fd);
		check(blk_create(&d->dev, &config, no_pause, NULL) == 0);
		d->dev->mem = &mem;
		d->dev->transport = &transport;
	}
}

static void reset(struct virtio_device *dev)
{
	virtio_lock(dev);
	dev->active = false;
	dev->ops->reset(dev);
	for (unsigned i = 0; i < QUEUES; i++) {
		vq_reset(&dev->queue[i]);
	}
	dev->status = 0;
	virtio_unlock(dev);
}

static void activate(struct virtio_device *dev, struct input *in)
{
	uint32_t flags = input_take(in, 1);
	uint16_t sizes[QUEUES] = {256, 16};

	virtio_lock(dev);
	dev->driver_features = dev->features & (flags & 1 ? input_take(in, 4) : UINT32_MAX);
	dev->status = VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK;
	for (unsigned i = 0; i < QUEUES; i++) {
		driver_queue_init(&queue[i], &mem, (flags & 2) != 0, (flags & 4) != 0, sizes[i]);
		queue[i].desc += i * 0x8000;
		queue[i].driver += i * 0x8000;
		queue[i].device += i * 0x8000;
	}
	for (unsigned i = 0; i < QUEUES; i++) {
		driver_setup(&queue[i], &dev->queue[i], (flags & 8) != 0);
	}
	dev->active = true;
	dev->ops->config_read(dev);
	check(dev->ops->activate(dev) == 0);
	virtio_unlock(dev);
}

static void ring(struct virtio_device *dev, unsigned vq)
{
	virtio_lock(dev);
	if (dev->active) {
		dev->ops->notify(dev, vq);
	}
	virtio_unlock(dev);
}

static uint64_t some_address(struct input *in)
{
	uint32_t v = input_take(in, 3);

	switch (v % 4) {
	case 0:
		return DRIVER_HIGH_BASE + (v >> 2) % DRIVER_HIGH_BYTES;
	case 1:
		return (uint64_t)input_take(in, 4) << (v >> 2) % 32;
	default:
		return DRIVER_BUFFERS + (v >> 2) % 0x8000;
	}
}

/* A request that is mostly well-formed, so that the input need not find out what one is. */
static void add_request(struct input *in, struct driver_queue *q)
{
	static const uint32_t types[] = {0, 1, 1, 4, 8, 11, 13, 14};
	uint32_t shape = input_take(in, 2);
	struct driver_buf buf[10];
	unsigned n = 0;
	uint64_t at = DRIVER_BUFFERS + 0x8000 + (shape & 0xff) * 32;
	struct virtio_blk_outhdr h = {
		.type = types[shape >> 8 & 7],
		.sector = input_take(in, 2) % 600,
	};

	memcpy(driver_ptr(q, at), &h, sizeof(h));
	buf[n++] = (struct driver_buf){at, shape & 0x800 ? 16 : input_take(in, 1), false};
	for (unsigned i = shape >> 12 & 7; i > 0; i--) {
		uint32_t len = input_take(in, 2);

		buf[n++] = (struct driver_buf){some_address(in), len & 1 ? len : (len & 7) * 512,
					       h.type == 0 || h.type == 8 || (len & 0xc000) == 0};
	}
	if ((shape & 0x8000) == 0) {
		buf[n++] = (struct driver_buf){at + 16, 1, true};
	}
	driver_add(q, buf, n, (shape & 0x80) != 0);
}

static void poke(struct input *in)
{
	uint64_t at = input_take(in, 3) % (DRIVER_LOW_BYTES - 64);
	unsigned len = input_take(in, 1) % 64;

	input_copy(in, driver_ptr(&queue[0], at), len);
}

/* Saves, changes a few bytes, and loads. */
static void tamper(struct virtio_device *dev, struct input *in)
{
	static uint8_t buf[64 * KIB];
	struct state s;

	blk_drain(dev);
	virtio_lock(dev);
	state_save_init(&s, buf, sizeof(buf));
	for (unsigned i = 0; i < QUEUES; i++) {
		vq_state(&dev->queue[i], &s);
	}
	dev->ops->state(dev, &s);
	size_t len = s.pos;
	for (unsigned n = input_take(in, 1) % 8; n > 0 && s.error == 0 && len > 0; n--) {
		buf[input_take(in, 2) % len] = (uint8_t)input_take(in, 1);
	}
	state_load_init(&s, buf, len);
	for (unsigned i = 0; i < QUEUES; i++) {
		vq_state(&dev->queue[i], &s);
	}
	dev->ops->state(dev, &s);
	virtio_unlock(dev);
	if (s.error != 0) {
		/* What a transport does with a device that was half loaded. */
		reset(dev);
		activate(dev, in);
	}
	blk_resume(dev);
}

static void step(struct virtio_device *dev, struct input *in)
{
	static const int errors[] = {0, ENOSPC, EIO, EDQUOT};
	uint32_t op = input_take(in, 1);
	unsigned vq = op >> 7;
	uint16_t id;
	uint32_t written;

	switch (op % 12) {
	case 0:
	case 1:
		poke(in);
		break;
	case 2:
	case 3:
	case 4:
		add_request(in, &queue[vq]);
		break;
	case 5:
		ring(dev, vq);
		break;
	case 6:
		(void)driver_must_ring(&queue[vq]);
		ring(dev, vq);
		blk_drain(dev);
		blk_resume(dev);
		break;
	case 7:
		atomic_store(&write_error, errors[op / 12 % ARRAY_SIZE(errors)]);
		break;
	case 8:
		if (!queue[vq].packed) { /* a broken packed ring says nothing sensible */
			(void)driver_take(&queue[vq], &id, &written);
		}
		break;
	case 9:
		dev->config[offsetof(struct virtio_blk_config, wce)] = op >> 7;
		break;
	case 10:
		tamper(dev, in);
		break;
	default:
		if (op < 32) {
			reset(dev);
			activate(dev, in);
		}
		break;
	}
}

/* The read-only disk is still all zeroes, and both have their size. */
static void check_disks(void)
{
	static uint8_t content[DISK];
	struct stat st;

	for (unsigned i = 0; i < 2; i++) {
		check(fstat(disks[i].fd, &st) == 0 && st.st_size == DISK);
	}
	check(pread(disks[1].fd, content, DISK, 0) == DISK);
	for (unsigned i = 0; i < DISK; i++) {
		check(content[i] == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static unsigned runs;
	struct input in = {data, size};

	if (mem.nregions == 0) {
		set_up();
	}
	struct virtio_device *dev = disks[input_take(&in, 1) & 1].dev;
	memset(mem.region[0].host, 0, DRIVER_LOW_BYTES);
	activate(dev, &in);
	while (in.size > 0) {
		step(dev, &in);
	}
	atomic_store(&write_error, 0);
	blk_resume(dev);
	reset(dev);
	if (runs++ % 256 == 0) {
		check_disks();
	}
	return 0;
}
