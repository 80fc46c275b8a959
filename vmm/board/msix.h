/*
 * MSI-X of a PCI function: what pci.c needs of it. What devices need is in pci.h.
 *
 *	BAR of 4 KiB       0                          0x800
 *	                   | table: 16 bytes a vector | pending bits, 1 a vector |
 *
 * Spec: PCI Local Bus 3.0, 6.8.2 "MSI-X Capability and Table Structure"
 */
#pragma once

#include "vmm/board/pci.h"

/** msix_create_irqs() - a message interrupt for every vector. Return: 0 or -errno, logged. */
must_use int msix_create_irqs(struct pci_device *dev);
void msix_destroy_irqs(struct pci_device *dev);

/**
 * msix_refresh() - after the message control word or any entry changed: sets the routes of what is
 * not masked, and delivers what was pending. Context: the function's lock held.
 */
void msix_refresh(struct pci_device *dev);

/** msix_enabled() - pci_msix_enabled() with the function's lock held. */
bool msix_enabled(const struct pci_device *dev);

/** msix_state() - the table; loading sets nothing but the entries. Context: as msix_refresh(). */
void msix_state(struct pci_device *dev, struct state *s);
