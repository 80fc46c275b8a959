#include "vmm/virtio/virtio_pci.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/base/bytes.h"
#include "lib/base/check.h"
#include "vmm/log.h"
#include "vmm/virtio/virtio_pci_regs.h"

#define VENDOR_REDHAT	 0x1af4
#define DEVICE_MODERN	 0x1040 /* and the device type */
#define SUBSYSTEM_QEMU	 0x1100
#define REVISION_MODERN	 1
#define DATA_OFFSET	 offsetof(struct virtio_pci_cfg_cap, pci_cfg_data)
#define CFG_ACCESS_BYTES 4

static struct virtio_pci *from_pci(struct pci_device *pci)
{
	return container_of(pci, struct virtio_pci, pci);
}

/* ---- interrupts ---- */

/* Context: device lock held. */
static void interrupt(struct virtio_pci *vp, uint16_t vector, uint8_t isr)
{
	if (pci_msix_enabled(&vp->pci)) {
		pci_notify(&vp->pci, vector);
	} else {
		vp->isr |= isr;
		pci_intx(&vp->pci, true);
	}
}

static void notify_queue(struct virtio_transport *t, unsigned queue)
{
	struct virtio_pci *vp = container_of(t, struct virtio_pci, transport);

	interrupt(vp, vp->queue[queue].vector, VP_ISR_QUEUE);
}

static void notify_config(struct virtio_transport *t)
{
	struct virtio_pci *vp = container_of(t, struct virtio_pci, transport);

	interrupt(vp, vp->config_vector, VP_ISR_CONFIG);
}

/* ---- doorbells ---- */

/*
 * The eventfd is never read: it is watched for edges (open_doorbells()), and each ring is one, also
 * when those before it were not read. Context: the loop's thread.
 */
static void on_doorbell(void *arg, uint32_t events)
{
	struct vp_queue *q = arg;
	struct virtio_device *dev = q->vp->dev;

	(void)events;
	virtio_lock(dev);
	if (dev->active && dev->queue[q->index].enabled &&
	    (dev->status & VIRTIO_CONFIG_S_NEEDS_RESET) == 0) {
		dev->ops->notify(dev, q->index);
	}
	uint32_t requests = dev->queue[q->index].taken - q->taken;
	q->taken += requests;
	virtio_unlock(dev);
	loop_served(dev->loop, requests);
}

static gpa_t doorbell_address(gpa_t bar, unsigned queue)
{
	return gpa_add(bar, VP_NOTIFY + queue * VP_NOTIFY_MULTIPLIER);
}

void vp_doorbells_add(struct virtio_pci *vp)
{
	for (unsigned i = 0; vp->mapped && i < vp->dev->nqueues; i++) {
		struct vp_queue *q = &vp->queue[i];

		if (!q->doorbell &&
		    irq_doorbell_add(vp->pci.bus->irq, doorbell_address(vp->bar_at, i), 0, NULL,
				     q->source.fd) != 0) {
			return; /* logged; the rest would fare no better, and writes work without */
		}
		q->doorbell = true;
	}
}

static void remove_doorbells(struct virtio_pci *vp)
{
	for (unsigned i = 0; i < vp->dev->nqueues; i++) {
		struct vp_queue *q = &vp->queue[i];

		if (q->doorbell) {
			irq_doorbell_del(vp->pci.bus->irq, doorbell_address(vp->bar_at, i), 0, NULL,
					 q->source.fd);
			q->doorbell = false;
		}
	}
}

/*
 * The provider's doorbells go where the BAR goes. A device that no driver runs has none: a guest
 * that looks for devices switches each BAR off and on many times, and each doorbell would be two
 * system calls a time. Context: the PCI bus's lock held.
 */
static void bar_moved(struct pci_device *pci, unsigned bar, bool mapped, gpa_t addr)
{
	struct virtio_pci *vp = from_pci(pci);

	if (bar != VP_BAR) {
		return;
	}
	virtio_lock(vp->dev);
	remove_doorbells(vp);
	vp->mapped = mapped;
	vp->bar_at = addr;
	if (vp->dev->active) {
		vp_doorbells_add(vp);
	}
	virtio_unlock(vp->dev);
}

/* ---- access to the BAR through configuration space ---- */

/*
 * What the capability asks for. Return: false unless it is an access that the BAR has.
 * Spec: VIRTIO 1.2, 4.1.4.9 "PCI configuration access capability"
 */
static bool cfg_access(struct virtio_pci *vp, uint32_t *offset, uint32_t *len)
{
	uint8_t *cap = vp->pci.config + vp->cfg_cap;

	lock_take(&vp->pci.lock);
	bool bar = cap[VIRTIO_PCI_CAP_BAR] == VP_BAR;

	*offset = load_le32(cap + VIRTIO_PCI_CAP_OFFSET);
	*len = load_le32(cap + VIRTIO_PCI_CAP_LENGTH);
	lock_give(&vp->pci.lock);
	return bar && (*len == 1 || *len == 2 || *len == 4) && *offset % *len == 0 &&
	       range_inside(*offset, *len, 0, VP_BAR_SIZE);
}

static bool meets_data(const struct virtio_pci *vp, uint8_t offset, unsigned len)
{
	unsigned data = vp->cfg_cap + DATA_OFFSET;

	return offset < data + CFG_ACCESS_BYTES && data < offset + len;
}

static void config_read(struct pci_device *pci, uint8_t offset, unsigned len)
{
	struct virtio_pci *vp = from_pci(pci);
	uint32_t at, n;

	if (meets_data(vp, offset, len) && cfg_access(vp, &at, &n)) {
		uint64_t value = vp_bar_ops.read(vp, at, n);

		lock_take(&pci->lock);
		store_le(pci->config + vp->cfg_cap + DATA_OFFSET, value, n);
		lock_give(&pci->lock);
	}
}

static void config_written(struct pci_device *pci, uint8_t offset, unsigned len)
{
	struct virtio_pci *vp = from_pci(pci);
	uint32_t at, n;

	if (meets_data(vp, offset, len) && cfg_access(vp, &at, &n)) {
		uint64_t value;

		lock_take(&pci->lock);
		value = load_le(pci->config + vp->cfg_cap + DATA_OFFSET, n);
		lock_give(&pci->lock);
		vp_bar_ops.write(vp, at, n, value);
	}
}

static const struct pci_ops pci_ops = {
	.config_written = config_written,
	.config_read = config_read,
	.bar_moved = bar_moved,
};

/* ---- creation ---- */

/* As QEMU has them, which is what drivers and their set-up files know. */
static uint32_t class_code(uint16_t type)
{
	switch (type) {
	case VIRTIO_TYPE_NET:
		return 0x020000; /* Ethernet controller */
	case VIRTIO_TYPE_BLOCK:
		return 0x010000; /* SCSI storage controller */
	case VIRTIO_TYPE_CONSOLE:
	case VIRTIO_TYPE_VSOCK:
		return 0x078000; /* other communication controller */
	default:
		return 0x00ff00; /* unclassified */
	}
}

/* One structure in the BAR: the driver finds it by its capability. */
static void add_cap(struct virtio_pci *vp, uint8_t type, uint32_t offset, uint32_t length)
{
	struct virtio_pci_notify_cap cap = {
		.cap = {.cfg_type = type, .bar = VP_BAR, .offset = offset, .length = length},
		.notify_off_multiplier = VP_NOTIFY_MULTIPLIER,
	};
	uint8_t len = type == VIRTIO_PCI_CAP_NOTIFY_CFG ? sizeof(cap) : sizeof(cap.cap);

	cap.cap.cap_len = len;
	pci_device_cap(&vp->pci, PCI_CAP_ID_VNDR, &cap.cap.cap_len, NULL, len);
}

static void add_cfg_cap(struct virtio_pci *vp)
{
	const struct virtio_pci_cfg_cap cap = {
		.cap = {.cap_len = sizeof(cap), .cfg_type = VIRTIO_PCI_CAP_PCI_CFG},
	};
	const struct virtio_pci_cfg_cap wmask = {
		.cap = {.bar = 0xff, .offset = UINT32_MAX, .length = UINT32_MAX},
		.pci_cfg_data = {0xff, 0xff, 0xff, 0xff},
	};

	vp->cfg_cap = pci_device_cap(&vp->pci, PCI_CAP_ID_VNDR, &cap.cap.cap_len,
				     &wmask.cap.cap_len, sizeof(cap));
}

/* The function as the guest will find it. Return: 0 or -errno. */
static int build_function(struct virtio_pci *vp)
{
	struct virtio_device *dev = vp->dev;
	const struct pci_id id = {
		.vendor = VENDOR_REDHAT,
		.device = (uint16_t)(DEVICE_MODERN + dev->type),
		.subsystem_vendor = VENDOR_REDHAT,
		.subsystem = SUBSYSTEM_QEMU,
		.class_code = class_code(dev->type),
		.revision = REVISION_MODERN,
	};

	pci_device_init(&vp->pci, dev->name, &id, &pci_ops);
	pci_device_intx(&vp->pci);
	pci_device_bar(&vp->pci, VP_BAR, VP_BAR_SIZE, true, &vp_bar_ops, vp);
	add_cap(vp, VIRTIO_PCI_CAP_COMMON_CFG, VP_COMMON, VP_COMMON_LEN);
	add_cap(vp, VIRTIO_PCI_CAP_ISR_CFG, VP_ISR, 1);
	if (dev->config_len > 0) {
		add_cap(vp, VIRTIO_PCI_CAP_DEVICE_CFG, VP_DEVICE, dev->config_len);
	}
	add_cap(vp, VIRTIO_PCI_CAP_NOTIFY_CFG, VP_NOTIFY, dev->nqueues * VP_NOTIFY_MULTIPLIER);
	add_cfg_cap(vp);
	return pci_device_msix(&vp->pci, dev->nqueues + 1, VP_MSIX_BAR);
}

static void close_doorbells(struct virtio_pci *vp, struct loop *loop)
{
	for (unsigned i = 0; i < vp->dev->nqueues; i++) {
		if (vp->queue[i].source.fd >= 0) {
			loop_del(loop, &vp->queue[i].source);
			close(vp->queue[i].source.fd);
		}
	}
}

static int open_doorbells(struct virtio_pci *vp, struct loop *loop)
{
	for (unsigned i = 0; i < vp->dev->nqueues; i++) {
		struct loop_source *source = &vp->queue[i].source;
		int r;

		source->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (source->fd < 0) {
			return -errno;
		}
		r = loop_add(loop, source, EPOLLIN | EPOLLET);
		if (r != 0) {
			close(source->fd);
			source->fd = -1;
			return r;
		}
	}
	return 0;
}

/* What the device needs of us from now on. */
static void attach(struct virtio_pci *vp, struct loop *loop, const struct guest_memory *mem)
{
	struct virtio_device *dev = vp->dev;

	vp->transport.notify_queue = notify_queue;
	vp->transport.notify_config = notify_config;
	dev->transport = &vp->transport;
	dev->loop = loop;
	dev->mem = mem;
	for (unsigned i = 0; i < dev->nqueues; i++) {
		struct vp_queue *q = &vp->queue[i];

		dev->queue[i].mem = mem;
		q->vp = vp;
		q->index = i;
		q->vector = VIRTIO_MSI_NO_VECTOR;
		q->source = (struct loop_source){.fd = -1, .fn = on_doorbell, .arg = q};
	}
	vp->config_vector = VIRTIO_MSI_NO_VECTOR;
}

int virtio_pci_create(struct virtio_pci **out, struct virtio_device *dev, struct pci_bus *pci,
		      uint8_t devfn, struct loop *loop, const struct guest_memory *mem)
{
	struct virtio_pci *vp = calloc(1, sizeof(*vp));
	int r = -ENOMEM;

	check(dev->config_len <= VP_NOTIFY - VP_DEVICE);
	if (vp == NULL) {
		goto no_function;
	}
	vp->dev = dev;
	vp->queue = calloc(MAX(dev->nqueues, 1U), sizeof(*vp->queue));
	if (vp->queue == NULL) {
		goto no_queues;
	}
	attach(vp, loop, mem);
	r = build_function(vp);
	if (r == 0) {
		r = open_doorbells(vp, loop);
	}
	if (r == 0) {
		r = pci_add(pci, &vp->pci, devfn);
	}
	if (r == 0) {
		*out = vp;
		return 0;
	}

	close_doorbells(vp, loop);
	pci_device_fini(&vp->pci);
	free(vp->queue);
no_queues:
	free(vp);
no_function:
	log_error("virtio %s: cannot create the device: %s", dev->name, strerror(-r));
	dev->ops->destroy(dev);
	return r;
}

void virtio_pci_destroy(struct virtio_pci *vp)
{
	struct virtio_device *dev = vp->dev;
	struct loop *loop = dev->loop;

	/* A device's own threads may be at work until destroy: they find nobody to notify. */
	virtio_lock(dev);
	dev->transport = NULL;
	virtio_unlock(dev);
	pci_device_fini(&vp->pci);
	close_doorbells(vp, loop);
	dev->ops->destroy(dev);
	free(vp->queue);
	free(vp);
}

/* ---- state ---- */

/* Is the loaded queue one that the loaded features allow? */
static bool queue_fits(const struct virtio_device *dev, const struct virtqueue *vq)
{
	return !vq->enabled || ((dev->status & VIRTIO_CONFIG_S_FEATURES_OK) != 0 &&
				vq->packed == virtio_has(dev, VIRTIO_F_RING_PACKED) &&
				vq->event_idx == virtio_has(dev, VIRTIO_RING_F_EVENT_IDX) &&
				vq->indirect == virtio_has(dev, VIRTIO_RING_F_INDIRECT_DESC));
}

/* Context: device lock held. */
static void device_state(struct virtio_pci *vp, struct state *s)
{
	struct virtio_device *dev = vp->dev;
	bool active = dev->active;

	if (s->loading) {
		vp_regs_reset(vp);
		active = false;
	}
	vp_regs_state(vp, s, &active);
	for (unsigned i = 0; i < dev->nqueues; i++) {
		vq_state(&dev->queue[i], s);
		if (s->loading && s->error == 0 && !queue_fits(dev, &dev->queue[i])) {
			state_fail(s, -EINVAL);
		}
	}
	if (s->loading && s->error == 0 && active) {
		int r = vp_activate(vp);

		if (r != 0) {
			state_fail(s, r);
		}
	}
	if (dev->ops->state != NULL) {
		dev->ops->state(dev, s);
	}
}

void virtio_pci_state(struct virtio_pci *vp, struct state *s)
{
	struct virtio_device *dev = vp->dev;

	state_begin(s, "virtio-pci", 1);
	pci_device_state(&vp->pci, s);
	virtio_lock(dev);
	device_state(vp, s);
	state_end(s);
	if (s->loading && s->error != 0) {
		vp_regs_reset(vp); /* half a device must never be used */
	} else if (s->loading) {
		pci_intx(&vp->pci, vp->isr != 0);
	}
	virtio_unlock(dev);

	/* Doorbells that were rung and not yet heard stayed behind. */
	for (unsigned i = 0; s->loading && s->error == 0 && i < dev->nqueues; i++) {
		eventfd_write(vp->queue[i].source.fd, 1);
	}
}
