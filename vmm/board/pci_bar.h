/*
 * Base address registers: what pci.c needs of them. What devices need is in pci.h.
 *
 * The guest may place a BAR anywhere, over other devices too. It is then not mapped, and tried
 * again whenever another one moves away.
 *
 * Spec: PCI Local Bus 3.0, 6.2.5.1 "Address Maps"
 */
#pragma once

#include "vmm/board/pci.h"

/** pci_bars_refresh() - maps and unmaps after the registers changed. Context: bus lock held. */
void pci_bars_refresh(struct pci_device *dev);

/** pci_bars_unmap() - all of them, without a look at the registers. Context: bus lock held. */
void pci_bars_unmap(struct pci_device *dev);
