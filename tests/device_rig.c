#include "tests/device_rig.h"

#include <linux/virtio_config.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/base/check.h"

static void on_queue(struct virtio_transport *t, unsigned queue)
{
	container_of(t, struct device_rig, transport)->interrupts[queue]++;
}

static void on_config(struct virtio_transport *t)
{
	container_of(t, struct device_rig, transport)->config_interrupts++;
}

/* Always ready while rig_turns() watches it, so that it is called once each time around. */
static void on_tick(void *arg, uint32_t events)
{
	struct device_rig *r = arg;

	(void)events;
	if (--r->ticks_left == 0) {
		loop_stop(&r->loop);
	}
}

void rig_init(struct device_rig *r)
{
	struct guest_region *data;

	memset(r, 0, sizeof(*r));
	driver_ram_init(&r->mem);
	data = &r->mem.region[2];
	r->mem_huge = data->host;
	data->len = RIG_DATA_BYTES;
	data->host = aligned_alloc(4096, RIG_DATA_BYTES);
	check(data->host != NULL);
	memset(data->host, 0, RIG_DATA_BYTES);
	check(loop_init(&r->loop) == 0);
	r->tick = (struct loop_source){
		.fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK), .fn = on_tick, .arg = r};
	check(r->tick.fd >= 0);
	r->transport = (struct virtio_transport){on_queue, on_config};
}

void rig_attach(struct device_rig *r, struct virtio_device *dev)
{
	check(dev->nqueues <= RIG_QUEUES_MAX);
	r->dev = dev;
	dev->mem = &r->mem;
	dev->loop = &r->loop;
	dev->transport = &r->transport;
	for (unsigned i = 0; i < dev->nqueues; i++) {
		dev->queue[i].mem = &r->mem;
	}
}

void rig_activate(struct device_rig *r, uint64_t features, bool packed, uint16_t size)
{
	struct virtio_device *dev = r->dev;

	check(size <= 64);
	virtio_lock(dev);
	dev->driver_features = dev->features & features;
	dev->status = VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK;
	for (unsigned i = 0; i < dev->nqueues; i++) {
		driver_queue_init(&r->q[i], &r->mem, packed, false, size);
	}
	for (unsigned i = 0; i < dev->nqueues; i++) {
		/* 2.5 KiB each: 64 descriptors of 16 bytes, and two rings. */
		r->q[i].desc = DRIVER_DESC + i * 0xa00;
		r->q[i].driver = r->q[i].desc + 0x400;
		r->q[i].device = r->q[i].desc + 0x600;
		driver_setup(&r->q[i], &dev->queue[i], true);
	}
	dev->active = true;
	check(dev->ops->activate(dev) == 0);
	virtio_unlock(dev);
}

void rig_reset(struct device_rig *r)
{
	struct virtio_device *dev = r->dev;

	virtio_lock(dev);
	if (dev->active) {
		dev->active = false;
		dev->ops->reset(dev);
	}
	for (unsigned i = 0; i < dev->nqueues; i++) {
		vq_reset(&dev->queue[i]);
	}
	dev->status = 0;
	dev->driver_features = 0;
	virtio_unlock(dev);
}

void rig_destroy(struct device_rig *r)
{
	if (r->dev != NULL) {
		r->dev->ops->destroy(r->dev);
		r->dev = NULL;
	}
}

void rig_fini(struct device_rig *r)
{
	rig_destroy(r);
	close(r->tick.fd);
	loop_fini(&r->loop);
	free(r->mem.region[2].host);
	r->mem.region[2].host = r->mem_huge;
	driver_ram_fini(&r->mem);
}

void rig_turns(struct device_rig *r, unsigned n)
{
	check(n > 0);
	r->ticks_left = n;
	check(loop_add(&r->loop, &r->tick, EPOLLIN) == 0);
	check(loop_run(&r->loop) == 0);
	loop_del(&r->loop, &r->tick);
}

void rig_notify(struct device_rig *r, unsigned queue)
{
	virtio_lock(r->dev);
	if (r->dev->active) {
		r->dev->ops->notify(r->dev, queue);
	}
	virtio_unlock(r->dev);
}

bool rig_ring(struct device_rig *r, unsigned queue)
{
	if (!driver_must_ring(&r->q[queue])) {
		return false;
	}
	rig_notify(r, queue);
	return true;
}

uint8_t *rig_data(struct device_rig *r, uint64_t offset)
{
	check(offset < RIG_DATA_BYTES);
	return r->mem.region[2].host + offset;
}

size_t rig_save(struct device_rig *r, void *buf, size_t size)
{
	struct state s;

	state_save_init(&s, buf, size);
	virtio_lock(r->dev);
	r->dev->ops->state(r->dev, &s);
	virtio_unlock(r->dev);
	check(s.error == 0);
	return s.pos;
}

int rig_load(struct device_rig *r, const void *buf, size_t size)
{
	struct state s;

	state_load_init(&s, buf, size);
	virtio_lock(r->dev);
	r->dev->ops->state(r->dev, &s);
	virtio_unlock(r->dev);
	return s.error;
}
