/*
 * The two PCI functions that make a machine a q35: the host bridge (MCH) and the LPC bridge (ICH9).
 * Guests and firmware look here for what the machine is and where its chips are. The places are
 * fixed, and registers that would move something are read-only or only kept.
 */
#pragma once

#include "vmm/board/pci.h"

#define ICH9_MCH_DEVFN PCI_DEVFN(0, 0)
#define ICH9_LPC_DEVFN PCI_DEVFN(31, 0)

struct ich9 {
	struct pci_device mch; /* 00:00.0 */
	struct pci_device lpc; /* 00:1f.0 */
};

/**
 * ich9_init() - puts both functions on the bus.
 * Return: 0 or -errno from pci_add().
 * Spec: Intel 3 Series Express Chipset data sheet, "DRAM Controller Registers (D0:F0)"; ICH9 data
 * sheet, "LPC Interface Bridge Registers (D31:F0)"
 */
must_use int ich9_init(struct ich9 *ich9, struct pci_bus *pci);
void ich9_fini(struct ich9 *ich9);

/** ich9_state() - the configuration space of both. */
void ich9_state(struct ich9 *ich9, struct state *s);
