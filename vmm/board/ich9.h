/*
 * The PCI functions of the chipset itself, as a q35 shows them: the host bridge at 00:00.0 and the
 * ICH9 LPC bridge at 00:1f.0. What they would configure is fixed here, so their registers only say
 * where things are.
 */
#pragma once

#include "vmm/board/pci.h"

struct ich9 {
	struct pci_device host; /* 82G33/G31/P35/P31 memory controller hub */
	struct pci_device lpc;	/* ICH9 LPC interface bridge */
};

/** ich9_init() - both functions on the bus. Return: 0 or -errno. */
must_use int ich9_init(struct ich9 *ich9, struct pci_bus *pci);
void ich9_fini(struct ich9 *ich9);

/** ich9_state() - saves or loads their configuration spaces. */
void ich9_state(struct ich9 *ich9, struct state *s);
