/*
 * PCI Express root bus 0: configuration space through ports 0xcf8/0xcfc and through ECAM, BARs,
 * capabilities, MSI-X, and INTx wires.
 *
 * A function's configuration space is kept as bytes with a mask of what the guest may write. Most
 * functions need no code for it; those that do get told after a write.
 */
#pragma once

#include <pthread.h>

#include "lib/base/state.h"
#include "lib/base/types.h"
#include "vmm/board/bus.h"
#include "vmm/board/irq.h"

#define PCI_CONFIG_SIZE 256 /* bytes with a meaning; the rest of a 4 KiB ECAM page reads as 0 */
#define PCI_DEVFNS	256
#define PCI_BARS	6
#define PCI_MSIX_MAX	80 /* vectors a function can have */

#define PCI_DEVFN(slot, fn) ((uint8_t)((slot) << 3 | (fn)))

struct pci_device;

struct pci_ops {
	/* After the guest wrote @len bytes at @offset of the configuration space; may be NULL. */
	void (*config_written)(struct pci_device *dev, uint8_t offset, unsigned len);
	/* Before the guest reads there, to refresh the bytes; may be NULL. */
	void (*config_read)(struct pci_device *dev, uint8_t offset, unsigned len);
	/* A memory BAR was mapped at @addr, or unmapped (@mapped false); may be NULL. */
	void (*bar_moved)(struct pci_device *dev, unsigned bar, bool mapped, gpa_t addr);
};

struct pci_bar {
	uint64_t size; /* 0: not there; a power of two, at least 4 KiB; memory BARs only */
	bool is64;
	const struct bus_ops *ops; /* accesses to it; called without the function's lock */
	void *dev;
	bool mapped;
	uint64_t addr;
};

struct pci_msix_entry {
	uint64_t addr;
	uint32_t data;
	uint32_t control; /* bit 0: masked */
	bool pending;
	struct irq_msi msi;
};

struct pci_device {
	/* constant after pci_add() */
	const char *name;
	const struct pci_ops *ops;
	uint8_t devfn;
	struct pci_bus *bus;
	uint8_t wmask[PCI_CONFIG_SIZE];	  /* 1: the guest may write the bit */
	uint8_t w1cmask[PCI_CONFIG_SIZE]; /* 1: the guest clears the bit by writing 1 */
	unsigned nvectors;
	struct irq_line intx;
	uint8_t msix_cap; /* offset of the MSI-X capability, 0 without */

	pthread_mutex_t lock; /* guards the rest */
	uint8_t config[PCI_CONFIG_SIZE];
	struct pci_bar bar[PCI_BARS];
	struct pci_msix_entry *msix; /* nvectors of them */
	uint8_t cap_end;	     /* where the next capability goes */
};

struct pci_bus {
	struct bus *pio; /* constant after init, as the next two */
	struct bus *mmio;
	struct irq *irq;
	pthread_mutex_t lock; /* guards the rest; taken before a function's lock */
	uint32_t config_address;
	struct pci_device *device[PCI_DEVFNS]; /* constant once the guest runs */
	uint64_t bar_next;		       /* where pci_assign() puts the next BAR */
};

/**
 * pci_bus_init() - an empty bus, reachable through ports 0xcf8/0xcfc and the ECAM window at
 * @ecam (256 MiB).
 */
must_use int pci_bus_init(struct pci_bus *pci, struct bus *pio, struct bus *mmio, struct irq *irq,
			  gpa_t ecam);
void pci_bus_fini(struct pci_bus *pci);

/** The identity of a function. */
struct pci_id {
	uint16_t vendor, device, subsystem_vendor, subsystem;
	uint32_t class_code; /* 24 bits: class, subclass, interface */
	uint8_t revision;
	bool multifunction;
};

/** pci_device_init() - clears @dev and fills in its header; then add BARs and capabilities. */
void pci_device_init(struct pci_device *dev, const char *name, const struct pci_id *id,
		     const struct pci_ops *ops);
void pci_device_fini(struct pci_device *dev);

/** pci_device_bar() - declares memory BAR @bar. A 64-bit one takes the next index too. */
void pci_device_bar(struct pci_device *dev, unsigned bar, uint64_t size, bool is64,
		    const struct bus_ops *ops, void *bar_dev);

/**
 * pci_device_cap() - appends a capability of @len bytes (id and next pointer included).
 * @body: what follows the two header bytes; @wmask: which of its bits the guest may write, or NULL.
 * Return: its offset in the configuration space.
 */
uint8_t pci_device_cap(struct pci_device *dev, uint8_t id, const void *body, const void *wmask,
		       uint8_t len);

/**
 * pci_device_msix() - gives the function @nvectors MSI-X vectors, with table and pending bits in
 * BAR @bar, a BAR of their own. Call pci_add() after it. Return: 0 or -errno.
 */
must_use int pci_device_msix(struct pci_device *dev, unsigned nvectors, unsigned bar);

/**
 * pci_add() - puts the function at @devfn of the bus and creates its message interrupts.
 * Return: 0, -EEXIST, or what irq_msi_create() gives.
 */
must_use int pci_add(struct pci_bus *pci, struct pci_device *dev, uint8_t devfn);

/**
 * pci_assign() - gives every BAR an address in [@base, @base+@len) and enables decoding, as
 * firmware would, for guests that are started without one. Return: 0 or -ENOSPC.
 */
must_use int pci_assign(struct pci_bus *pci, uint64_t base, uint64_t len);

/**
 * pci_notify() - raises vector @vector by MSI-X, honouring masks; does nothing for a vector the
 * function does not have. Context: any thread.
 */
void pci_notify(struct pci_device *dev, unsigned vector);

/** pci_msix_enabled() - does the guest use MSI-X now? Otherwise a device drives @dev->intx. */
bool pci_msix_enabled(struct pci_device *dev);

/** pci_device_state() - configuration space, BAR places and MSI-X of one function. */
void pci_device_state(struct pci_device *dev, struct state *s);
