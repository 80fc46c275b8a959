/*
 * The registers of a virtio PCI function: what the memory BAR holds. virtio_pci.c is the rest of
 * it: capabilities, doorbells, interrupts.
 *
 *	BAR 4, 16 KiB      0x0000          0x1000   0x2000          0x3000
 *	                   | common config | ISR    | device config | notify, 4 bytes a queue |
 *
 * Spec: VIRTIO 1.2, 4.1.4 "Virtio Structure PCI Capabilities"
 */
#pragma once

#include "vmm/virtio/virtio_pci.h"

#define VP_BAR		     4
#define VP_MSIX_BAR	     1
#define VP_BAR_SIZE	     0x4000
#define VP_COMMON	     0x0000
#define VP_COMMON_LEN	     56 /* up to and with queue_device */
#define VP_ISR		     0x1000
#define VP_DEVICE	     0x2000
#define VP_NOTIFY	     0x3000
#define VP_NOTIFY_MULTIPLIER 4
#define VP_ISR_QUEUE	     1
#define VP_ISR_CONFIG	     2

struct vp_queue {
	/* constant after creation */
	struct virtio_pci *vp;
	unsigned index;
	struct loop_source source; /* its fd is the doorbell */

	/* guarded by the device's lock */
	uint32_t taken; /* of the virtqueue's, what the loop was told of */
	bool doorbell;	/* the guest's writes reach it without an exit */
	uint16_t vector;
};

struct virtio_pci {
	struct pci_device pci; /* first: the hooks of PCI find the rest by it */

	/* constant after creation */
	struct virtio_transport transport;
	struct virtio_device *dev;
	struct vp_queue *queue; /* as many as the device has */
	uint8_t cfg_cap;	/* offset of the PCI configuration access capability */

	/* guarded by the device's lock */
	uint32_t device_feature_select;
	uint32_t driver_feature_select;
	uint16_t queue_select;
	uint16_t config_vector;
	uint8_t isr;
	bool mapped; /* the memory BAR is, at @bar_at */
	gpa_t bar_at;
	bool resetting; /* a vCPU waits for the device to let go of its requests */
};

/** vp_bar_ops - accesses to the memory BAR; the device is a struct virtio_pci. */
extern const struct bus_ops vp_bar_ops;

/**
 * vp_doorbells_add() - has the provider take writes to the doorbells, where it does not yet.
 * Context: device lock held.
 */
void vp_doorbells_add(struct virtio_pci *vp);

/** vp_regs_reset() - back to the state after power-on. Context: device lock held. */
void vp_regs_reset(struct virtio_pci *vp);

/**
 * vp_regs_state() - all that the registers show, without the queues' and the device's own state.
 * @active: is, or was, the device active? Context: device lock held.
 */
void vp_regs_state(struct virtio_pci *vp, struct state *s, bool *active);

/** vp_activate() - starts the device. Return: 0 or -errno. Context: device lock held. */
must_use int vp_activate(struct virtio_pci *vp);
