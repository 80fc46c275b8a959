#include "vmm/virtio/virtio_pci_regs.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <sys/eventfd.h>

#include "lib/base/bytes.h"
#include "lib/base/check.h"
#include "vmm/log.h"

#define STATUS_DRIVER                                                                       \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_DRIVER_OK | \
	 VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_FAILED)
#define STATUS_ALL (STATUS_DRIVER | VIRTIO_CONFIG_S_NEEDS_RESET)

_Static_assert(VIRTIO_PCI_COMMON_Q_USEDHI + 4 == VP_COMMON_LEN, "common configuration");
_Static_assert(VIRTIO_QUEUES_MAX *VP_NOTIFY_MULTIPLIER <= VP_BAR_SIZE - VP_NOTIFY, "doorbells");
_Static_assert(VIRTIO_QUEUES_MAX + 1 <= PCI_MSIX_MAX, "a vector for each queue and one");

/* ---- status ---- */

int vp_activate(struct virtio_pci *vp)
{
	struct virtio_device *dev = vp->dev;
	int r = 0;

	/* Before: what the device starts may look at it. */
	dev->active = true;
	if (dev->ops->activate != NULL) {
		r = dev->ops->activate(dev);
	}
	if (r != 0) {
		dev->active = false;
		return r;
	}
	vp_doorbells_add(vp);
	return 0;
}

void vp_regs_reset(struct virtio_pci *vp)
{
	struct virtio_device *dev = vp->dev;

	if (vp->resetting) {
		return; /* another vCPU is at it, and both read a status other than 0 until then */
	}
	if (dev->active) {
		dev->active = false;
		if (dev->ops->reset != NULL) {
			vp->resetting = true;
			dev->ops->reset(dev);
			vp->resetting = false;
		}
	}
	for (unsigned i = 0; i < dev->nqueues; i++) {
		vq_reset(&dev->queue[i]);
		vp->queue[i].vector = VIRTIO_MSI_NO_VECTOR;
	}
	vp->config_vector = VIRTIO_MSI_NO_VECTOR;
	vp->device_feature_select = 0;
	vp->driver_feature_select = 0;
	vp->queue_select = 0;
	vp->isr = 0;
	pci_intx(&vp->pci, false);
	dev->driver_features = 0;
	dev->status = 0;
}

static bool features_acceptable(const struct virtio_device *dev, uint64_t features)
{
	return (features & ~dev->features) == 0 && (features >> VIRTIO_F_VERSION_1 & 1) != 0;
}

/*
 * The driver adds bits one after the other; only a reset takes them back.
 * Spec: VIRTIO 1.2, 2.1 "Device Status Field", 3.1.1 "Driver Requirements: Device Initialization"
 */
static void write_status(struct virtio_pci *vp, uint8_t value)
{
	struct virtio_device *dev = vp->dev;
	uint8_t added = (uint8_t)(value & STATUS_DRIVER & ~dev->status);

	if (value == 0) {
		vp_regs_reset(vp);
		return;
	}
	if ((added & VIRTIO_CONFIG_S_FEATURES_OK) != 0 &&
	    !features_acceptable(dev, dev->driver_features)) {
		log_guest("virtio %s: the driver wants features 0x%llx, which it cannot have",
			  dev->name, (unsigned long long)dev->driver_features);
		added &= (uint8_t)~VIRTIO_CONFIG_S_FEATURES_OK;
	}
	dev->status |= (uint8_t)(added & ~VIRTIO_CONFIG_S_DRIVER_OK);
	if ((added & VIRTIO_CONFIG_S_DRIVER_OK) == 0) {
		return;
	}
	if ((dev->status & VIRTIO_CONFIG_S_FEATURES_OK) == 0 ||
	    (dev->status & (VIRTIO_CONFIG_S_FAILED | VIRTIO_CONFIG_S_NEEDS_RESET)) != 0) {
		log_guest("virtio %s: the driver is not ready to start the device", dev->name);
		return;
	}
	dev->status |= VIRTIO_CONFIG_S_DRIVER_OK;
	if (vp_activate(vp) != 0) {
		virtio_broken(dev, "it cannot be started");
	}
}

/* ---- queues ---- */

static struct virtqueue *selected(const struct virtio_pci *vp)
{
	return vp->queue_select < vp->dev->nqueues ? &vp->dev->queue[vp->queue_select] : NULL;
}

static void enable_queue(struct virtio_pci *vp, struct virtqueue *vq)
{
	struct virtio_device *dev = vp->dev;

	if (vq->enabled || (dev->status & VIRTIO_CONFIG_S_NEEDS_RESET) != 0) {
		return;
	}
	if ((dev->status & VIRTIO_CONFIG_S_FEATURES_OK) == 0) {
		log_guest("virtio %s: the driver enables a queue before it chose features",
			  dev->name);
		return;
	}
	vq->packed = virtio_has(dev, VIRTIO_F_RING_PACKED);
	vq->event_idx = virtio_has(dev, VIRTIO_RING_F_EVENT_IDX);
	vq->indirect = virtio_has(dev, VIRTIO_RING_F_INDIRECT_DESC);
	if (vq_enable(vq) != 0) {
		virtio_broken(dev, "a queue lies outside of RAM or is misaligned");
	}
}

static void set_half(gpa_t *addr, bool high, uint32_t value)
{
	addr->v = high ? (uint32_t)addr->v | (uint64_t)value << 32
		       : (addr->v & ~UINT64_C(0xffffffff)) | value;
}

static uint32_t half(gpa_t addr, bool high)
{
	return (uint32_t)(high ? addr.v >> 32 : addr.v);
}

/* What one asks for and does not exist reads back as no vector. */
static uint16_t valid_vector(const struct virtio_pci *vp, uint64_t value)
{
	return value < vp->pci.nvectors ? (uint16_t)value : VIRTIO_MSI_NO_VECTOR;
}

static void write_queue(struct virtio_pci *vp, uint64_t offset, uint32_t value)
{
	struct virtqueue *vq = selected(vp);

	if (vq == NULL) {
		return;
	}
	if (offset == VIRTIO_PCI_COMMON_Q_MSIX) {
		vp->queue[vp->queue_select].vector = valid_vector(vp, (uint16_t)value);
		return;
	}
	if (vq->enabled) {
		return; /* the rest is fixed until a reset */
	}
	switch (offset) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		vq->size = (uint16_t)value; /* vq_enable() looks at it */
		break;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		if ((uint16_t)value == 1) {
			enable_queue(vp, vq);
		}
		break;
	case VIRTIO_PCI_COMMON_Q_DESCLO:
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		set_half(&vq->desc, offset == VIRTIO_PCI_COMMON_Q_DESCHI, value);
		break;
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		set_half(&vq->driver, offset == VIRTIO_PCI_COMMON_Q_AVAILHI, value);
		break;
	case VIRTIO_PCI_COMMON_Q_USEDLO:
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		set_half(&vq->device, offset == VIRTIO_PCI_COMMON_Q_USEDHI, value);
		break;
	default:
		break;
	}
}

static uint32_t read_queue(const struct virtio_pci *vp, uint64_t offset)
{
	const struct virtqueue *vq = selected(vp);

	if (vq == NULL) {
		/* Spec: VIRTIO 1.2, 4.1.4.3.1: a queue that is not there has size 0 */
		return offset == VIRTIO_PCI_COMMON_Q_MSIX ? VIRTIO_MSI_NO_VECTOR : 0;
	}
	switch (offset) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		return vq->size;
	case VIRTIO_PCI_COMMON_Q_MSIX:
		return vp->queue[vp->queue_select].vector;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		return vq->enabled;
	case VIRTIO_PCI_COMMON_Q_NOFF:
		return vp->queue_select;
	case VIRTIO_PCI_COMMON_Q_DESCLO:
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		return half(vq->desc, offset == VIRTIO_PCI_COMMON_Q_DESCHI);
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		return half(vq->driver, offset == VIRTIO_PCI_COMMON_Q_AVAILHI);
	case VIRTIO_PCI_COMMON_Q_USEDLO:
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		return half(vq->device, offset == VIRTIO_PCI_COMMON_Q_USEDHI);
	default:
		return 0;
	}
}

/* ---- common configuration, by whole fields as the driver must access them ---- */

static uint32_t feature_half(uint64_t features, uint32_t select)
{
	return select < 2 ? (uint32_t)(features >> (32 * select)) : 0;
}

static uint32_t common_read(struct virtio_pci *vp, uint64_t offset)
{
	const struct virtio_device *dev = vp->dev;

	switch (offset) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		return vp->device_feature_select;
	case VIRTIO_PCI_COMMON_DF:
		return feature_half(dev->features, vp->device_feature_select);
	case VIRTIO_PCI_COMMON_GFSELECT:
		return vp->driver_feature_select;
	case VIRTIO_PCI_COMMON_GF:
		return feature_half(dev->driver_features, vp->driver_feature_select);
	case VIRTIO_PCI_COMMON_MSIX:
		return vp->config_vector;
	case VIRTIO_PCI_COMMON_NUMQ:
		return dev->nqueues;
	case VIRTIO_PCI_COMMON_STATUS:
		return dev->status;
	case VIRTIO_PCI_COMMON_CFGGENERATION:
		return dev->config_generation & 0xff;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		return vp->queue_select;
	default:
		return read_queue(vp, offset);
	}
}

static void write_driver_features(struct virtio_pci *vp, uint32_t value)
{
	struct virtio_device *dev = vp->dev;
	unsigned shift = 32 * vp->driver_feature_select;

	if (vp->driver_feature_select >= 2 || (dev->status & VIRTIO_CONFIG_S_FEATURES_OK) != 0) {
		return;
	}
	dev->driver_features &= ~(UINT64_C(0xffffffff) << shift);
	dev->driver_features |= (uint64_t)value << shift;
}

static void common_write(struct virtio_pci *vp, uint64_t offset, uint32_t value)
{
	if (vp->resetting) {
		return;
	}
	switch (offset) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		vp->device_feature_select = value;
		break;
	case VIRTIO_PCI_COMMON_GFSELECT:
		vp->driver_feature_select = value;
		break;
	case VIRTIO_PCI_COMMON_GF:
		write_driver_features(vp, value);
		break;
	case VIRTIO_PCI_COMMON_MSIX:
		vp->config_vector = valid_vector(vp, (uint16_t)value);
		break;
	case VIRTIO_PCI_COMMON_STATUS:
		write_status(vp, (uint8_t)value);
		break;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		vp->queue_select = (uint16_t)value;
		break;
	default:
		write_queue(vp, offset, value);
		break;
	}
}

/* ---- device configuration ---- */

static uint64_t device_read(struct virtio_pci *vp, uint64_t offset, unsigned len)
{
	struct virtio_device *dev = vp->dev;

	if (!range_inside(offset, len, 0, dev->config_len)) {
		return 0;
	}
	if (dev->ops->config_read != NULL) {
		dev->ops->config_read(dev);
	}
	return load_le(dev->config + offset, len);
}

static void device_write(struct virtio_pci *vp, uint64_t offset, unsigned len, uint64_t value)
{
	struct virtio_device *dev = vp->dev;

	if (!range_inside(offset, len, 0, dev->config_len) || vp->resetting) {
		return;
	}
	for (unsigned i = 0; i < len && dev->config_wmask != NULL; i++) {
		uint8_t wmask = dev->config_wmask[offset + i];
		uint8_t *byte = &dev->config[offset + i];

		*byte = (uint8_t)((*byte & ~wmask) | ((uint8_t)(value >> (8 * i)) & wmask));
	}
	if (dev->ops->config_written != NULL) {
		dev->ops->config_written(dev, (uint32_t)offset, len);
	}
}

/* ---- the BAR ---- */

/* Reading shows what happened since the last read, and lets go of the wire. */
static uint64_t isr_read(struct virtio_pci *vp)
{
	uint8_t isr = vp->isr;

	vp->isr = 0;
	pci_intx(&vp->pci, false);
	return isr;
}

static uint64_t bar_read(void *arg, uint64_t offset, unsigned len)
{
	struct virtio_pci *vp = arg;
	uint64_t value = 0;

	virtio_lock(vp->dev);
	switch (ALIGN_DOWN(offset, 0x1000)) {
	case VP_COMMON:
		value = common_read(vp, offset);
		if (len == 8) {
			value |= (uint64_t)common_read(vp, offset + 4) << 32;
		}
		break;
	case VP_ISR:
		value = offset == VP_ISR ? isr_read(vp) : 0;
		break;
	case VP_DEVICE:
		value = device_read(vp, offset - VP_DEVICE, len);
		break;
	default:
		break;
	}
	virtio_unlock(vp->dev);
	return value;
}

/* A doorbell that the provider did not take: this is the slow way to the same place. */
static void ring(struct virtio_pci *vp, uint64_t offset)
{
	uint64_t queue = offset / VP_NOTIFY_MULTIPLIER;

	if (queue < vp->dev->nqueues && offset % VP_NOTIFY_MULTIPLIER == 0) {
		/* It fails only if 2^64 - 2 writes were not seen: one more is not missed. */
		eventfd_write(vp->queue[queue].source.fd, 1);
	}
}

static void bar_write(void *arg, uint64_t offset, unsigned len, uint64_t value)
{
	struct virtio_pci *vp = arg;

	if (offset >= VP_NOTIFY) {
		ring(vp, offset - VP_NOTIFY);
		return;
	}
	virtio_lock(vp->dev);
	switch (ALIGN_DOWN(offset, 0x1000)) {
	case VP_COMMON:
		common_write(vp, offset, (uint32_t)value);
		if (len == 8) {
			common_write(vp, offset + 4, (uint32_t)(value >> 32));
		}
		break;
	case VP_DEVICE:
		device_write(vp, offset - VP_DEVICE, len, value);
		break;
	default:
		break;
	}
	virtio_unlock(vp->dev);
}

const struct bus_ops vp_bar_ops = {bar_read, bar_write};

/* ---- state ---- */

static bool valid(const struct virtio_pci *vp, bool active)
{
	const struct virtio_device *dev = vp->dev;
	bool features_ok = (dev->status & VIRTIO_CONFIG_S_FEATURES_OK) != 0;
	bool driver_ok = (dev->status & VIRTIO_CONFIG_S_DRIVER_OK) != 0;

	for (unsigned i = 0; i < dev->nqueues; i++) {
		if (vp->queue[i].vector != valid_vector(vp, vp->queue[i].vector)) {
			return false;
		}
	}
	return (dev->status & ~STATUS_ALL) == 0 && (!driver_ok || features_ok) &&
	       (!active || driver_ok) &&
	       (!features_ok || features_acceptable(dev, dev->driver_features)) &&
	       vp->config_vector == valid_vector(vp, vp->config_vector) &&
	       (vp->isr & ~(VP_ISR_QUEUE | VP_ISR_CONFIG)) == 0;
}

/* What the driver wrote into the device's configuration; the rest of it is the device's. */
static void config_state(struct virtio_device *dev, struct state *s)
{
	uint32_t len = dev->config_wmask != NULL ? dev->config_len : 0;
	uint32_t found = len;

	state_u32(s, &found);
	if (found != len) {
		state_fail(s, -EINVAL);
	}
	for (uint32_t i = 0; i < len; i++) {
		uint8_t wmask = dev->config_wmask[i];
		uint8_t byte = dev->config[i] & wmask;

		state_u8(s, &byte);
		if (s->loading && s->error == 0) {
			dev->config[i] = (uint8_t)((dev->config[i] & ~wmask) | (byte & wmask));
		}
	}
}

void vp_regs_state(struct virtio_pci *vp, struct state *s, bool *active)
{
	struct virtio_device *dev = vp->dev;
	uint32_t nqueues = dev->nqueues;

	state_u32(s, &vp->device_feature_select);
	state_u32(s, &vp->driver_feature_select);
	state_u64(s, &dev->driver_features);
	state_u8(s, &dev->status);
	state_bool(s, active);
	state_u32(s, &dev->config_generation);
	state_u16(s, &vp->config_vector);
	state_u16(s, &vp->queue_select);
	state_u8(s, &vp->isr);
	config_state(dev, s);
	state_u32(s, &nqueues);
	if (nqueues != dev->nqueues) {
		state_fail(s, -EINVAL);
	}
	for (unsigned i = 0; i < dev->nqueues; i++) {
		state_u16(s, &vp->queue[i].vector);
	}
	if (s->loading && s->error == 0 && !valid(vp, *active)) {
		state_fail(s, -EINVAL);
	}
}
