#include "vmm/virtio/virtio.h"

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "lib/base/check.h"
#include "vmm/log.h"

void virtio_init(struct virtio_device *dev, const char *name, uint16_t type,
		 const struct virtio_ops *ops, uint64_t features, struct virtqueue *queue,
		 unsigned nqueues, uint16_t queue_size, void *config, uint32_t config_len)
{
	check(nqueues <= VIRTIO_QUEUES_MAX);
	check(queue_size > 0 && queue_size <= VQ_SIZE_MAX && (queue_size & (queue_size - 1)) == 0);

	*dev = (struct virtio_device){
		.name = name,
		.type = type,
		.ops = ops,
		.features = features | BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_RING_PACKED) |
			    BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX),
		.nqueues = nqueues,
		.queue = queue,
		.config = config,
		.config_len = config_len,
	};
	lock_init(&dev->lock, LOCK_DEVICE);
	for (unsigned i = 0; i < nqueues; i++) {
		queue[i] = (struct virtqueue){.size_max = queue_size, .size = queue_size};
	}
}

void virtio_fini(struct virtio_device *dev)
{
	lock_fini(&dev->lock);
}

void virtio_notify(struct virtio_device *dev, unsigned queue)
{
	check(queue < dev->nqueues);
	if (dev->transport != NULL && vq_wants_interrupt(&dev->queue[queue])) {
		dev->transport->notify_queue(dev->transport, queue);
	}
}

/* Spec: VIRTIO 1.2, 2.3: no notification of changes before DRIVER_OK */
static void interrupt_config(struct virtio_device *dev)
{
	if (dev->transport != NULL && (dev->status & VIRTIO_CONFIG_S_DRIVER_OK) != 0) {
		dev->transport->notify_config(dev->transport);
	}
}

void virtio_notify_config(struct virtio_device *dev)
{
	dev->config_generation++;
	interrupt_config(dev);
}

void virtio_broken(struct virtio_device *dev, const char *why)
{
	if ((dev->status & VIRTIO_CONFIG_S_NEEDS_RESET) != 0) {
		return;
	}
	log_guest("virtio %s: %s; the device does nothing more until the driver resets it",
		  dev->name, why);
	for (unsigned i = 0; i < dev->nqueues; i++) {
		dev->queue[i].broken = true;
	}
	dev->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	interrupt_config(dev);
}
