/*
 * The PCI transport of virtio: modern devices only (PCI device IDs 0x1040 + type).
 * Spec: VIRTIO 1.2, 4.1 "Virtio Over PCI Bus"
 */
#pragma once

#include "vmm/board/pci.h"
#include "vmm/virtio/virtio.h"

struct virtio_pci;

/**
 * virtio_pci_create() - puts @dev on the bus at @devfn. Doorbells are eventfds on @loop.
 * Takes @dev over: if it fails, @dev was destroyed.
 * Return: 0 or -errno, logged.
 */
must_use int virtio_pci_create(struct virtio_pci **out, struct virtio_device *dev,
			       struct pci_bus *pci, uint8_t devfn, struct loop *loop,
			       const struct guest_memory *mem);

/** virtio_pci_destroy() - after the vCPUs and the loop have stopped; destroys the device too. */
void virtio_pci_destroy(struct virtio_pci *vp);

/**
 * virtio_pci_state() - PCI function, transport, queues and device. Loading activates the device if
 * it was active, before its own state is loaded, and rings all its doorbells. After an error the
 * device is as after a reset.
 * Context: no lock; vCPUs and loop do not run.
 */
void virtio_pci_state(struct virtio_pci *vp, struct state *s);
