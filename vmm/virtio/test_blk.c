#include "vmm/virtio/test_blk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct test_host host;

void nap(void)
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

ssize_t pwrite(int fd, const void *buf, size_t len, off_t offset)
{
	return pwritev(fd, &(struct iovec){(void *)buf, len}, 1, offset);
}

int fdatasync(int fd)
{
	atomic_fetch_add(&host.syncs, 1);
	return (int)syscall(SYS_fdatasync, fd);
}

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

struct virtio_blk_config *config_of(struct rig *r)
{
	return (struct virtio_blk_config *)r->dev->config;
}

void rig_activate(struct rig *r, uint64_t features)
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

void rig_reset(struct rig *r)
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

struct virtio_device *rig_device(struct rig *r)
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

void rig_init(struct rig *r, uint64_t features)
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

void rig_fini(struct rig *r)
{
	r->dev->ops->destroy(r->dev);
	driver_ram_fini(&r->mem);
	unlink(r->path);
}

void *ram(struct rig *r, uint64_t addr)
{
	return driver_ptr(&r->q[0], addr);
}

void set_header(struct rig *r, uint64_t at, uint32_t type, uint64_t sector)
{
	struct virtio_blk_outhdr h = {.type = type, .sector = sector};

	memcpy(ram(r, at), &h, sizeof(h));
}

uint16_t add(struct rig *r, unsigned queue, const struct driver_buf *buf, unsigned n)
{
	return driver_add(&r->q[queue], buf, n, r->indirect);
}

void ring(struct rig *r, unsigned queue)
{
	virtio_lock(r->dev);
	r->dev->ops->notify(r->dev, queue);
	virtio_unlock(r->dev);
}

uint32_t wait_used(struct rig *r, unsigned queue, uint16_t *id)
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

void assert_nothing_used(struct rig *r)
{
	uint16_t id;
	uint32_t written;

	assert_false(driver_take(&r->q[0], &id, &written));
}

uint8_t request(struct rig *r, uint32_t type, uint64_t sector, uint32_t len, bool to_guest)
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

void read_file(struct rig *r, void *buf, size_t len, off_t offset)
{
	int fd = open(r->path, O_RDONLY | O_CLOEXEC);

	assert_int_equal(pread(fd, buf, len, offset), len);
	close(fd);
}

void pattern(void *p, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++) {
		((uint8_t *)p)[i] = (uint8_t)(i * 13 + i / 255 + seed);
	}
}

void assert_file(struct rig *r, uint64_t sector, uint64_t n, uint8_t want)
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
