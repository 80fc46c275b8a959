/*
 * PCI Express root bus 0: configuration space through ports 0xcf8/0xcfc and through ECAM, BARs,
 * capabilities, MSI-X, and INTx wires.
 *
 * A function's configuration space is kept as bytes with a mask of what the guest may write. Most
 * functions need no code for it; those that do get told after a write.
 */
#pragma once

#include "lib/base/state.h"
#include "lib/base/types.h"
#include "vmm/board/bus.h"
#include "vmm/board/irq.h"
#include "vmm/lock.h"

#define PCI_CONFIG_SIZE 256 /* bytes with a meaning; the rest of a 4 KiB ECAM page reads as 0 */
#define PCI_DEVFNS	256
#define PCI_BARS	6
#define PCI_MSIX_MAX	80 /* vectors a function can have */
#define PCI_INTX_WIRES	8

#define PCI_DEVFN(slot, fn) ((uint8_t)((slot) << 3 | (fn)))

struct pci_device;

/* Context of all three: the bus's lock is held, the function's is not. */
struct pci_ops {
	/* After the guest wrote @len bytes at @offset of the configuration space; may be NULL. */
	void (*config_written)(struct pci_device *dev, uint8_t offset, unsigned len);
	/* Before the guest reads there, to refresh the bytes; may be NULL. */
	void (*config_read)(struct pci_device *dev, uint8_t offset, unsigned len);
	/* A memory BAR was mapped at @addr, or unmapped from it (@mapped false); may be NULL. */
	void (*bar_moved)(struct pci_device *dev, unsigned bar, bool mapped, gpa_t addr);
};

struct pci_bar {
	/* constant after pci_add() */
	uint64_t size; /* 0: not there; a power of two, at least 4 KiB; memory BARs only */
	bool is64;
	const struct bus_ops *ops; /* accesses to it; called without a lock */
	void *dev;

	/* guarded by the bus's lock */
	bool mapped;
	bool refused;  /* the guest placed it over something else */
	uint64_t addr; /* where it is mapped or refused */
};

struct pci_msix_entry {
	uint64_t addr;
	uint32_t data;
	uint32_t control; /* bit 0: masked */
	bool pending;
	bool routed; /* the message below is what @msi delivers */
	uint64_t routed_addr;
	uint32_t routed_data;
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
	struct irq_line intx; /* driven by pci_intx() only: functions share it */
	uint8_t msix_cap;     /* offset of the MSI-X capability, 0 without */
	uint8_t cap_last;     /* offset of the last capability, 0 without */
	uint16_t cap_end;     /* where the next capability goes */
	struct pci_bar bar[PCI_BARS];

	/*
	 * Guards the rest. Configuration bytes that the guest may write change under the bus's lock
	 * too, so that either lock is enough to read them.
	 */
	struct lock lock;
	uint8_t config[PCI_CONFIG_SIZE];
	struct pci_msix_entry *msix; /* nvectors of them */
	bool intx_level;	     /* what the device asks for */
	bool intx_driven;	     /* what the wire gets from it */
};

struct pci_bus {
	struct bus *pio; /* constant after init, as the next two */
	struct bus *mmio;
	struct irq *irq;
	gpa_t ecam;
	const struct bus_ops *cf9; /* constant once the guest runs, as the next */
	void *cf9_dev;

	/*
	 * Guards the next two. Order of locks: this one, a device's own (virtio_lock()), a
	 * function's, @wire_lock.
	 */
	struct lock lock;
	uint32_t config_address;
	struct pci_device *device[PCI_DEVFNS]; /* constant once the guest runs */

	struct lock wire_lock;		     /* guards the next */
	unsigned wire_users[PCI_INTX_WIRES]; /* functions that hold the wire up */
};

/**
 * pci_bus_init() - an empty bus, reachable through ports 0xcf8/0xcfc and the ECAM window at
 * @ecam (256 MiB). Return: 0 or what bus_map() gives.
 * Spec: PCI Local Bus 3.0, 3.2.2.3.2 "Software Generation of Configuration Transactions";
 * PCI Express Base 4.0, 7.2.2 "PCI Express Enhanced Configuration Access Mechanism"
 */
must_use int pci_bus_init(struct pci_bus *pci, struct bus *pio, struct bus *mmio, struct irq *irq,
			  gpa_t ecam);

/** pci_bus_fini() - when all functions are gone. */
void pci_bus_fini(struct pci_bus *pci);

/**
 * pci_bus_cf9() - hands byte accesses to port 0xcf9 to @dev, at offset 0. The chipset's reset
 * control register lies under the configuration address, which takes accesses of 4 bytes only.
 */
void pci_bus_cf9(struct pci_bus *pci, const struct bus_ops *ops, void *dev);

/** pci_bus_state() - the bus itself, without its functions. */
void pci_bus_state(struct pci_bus *pci, struct state *s);

/** The identity of a function. */
struct pci_id {
	uint16_t vendor, device, subsystem_vendor, subsystem;
	uint32_t class_code; /* 24 bits: class, subclass, interface */
	uint8_t revision;
	bool multifunction;
};

/**
 * pci_device_init() - clears @dev and fills in its header; then add BARs and capabilities.
 * @name: for messages; kept. @ops: may be NULL.
 */
void pci_device_init(struct pci_device *dev, const char *name, const struct pci_id *id,
		     const struct pci_ops *ops);

/**
 * pci_device_fini() - takes the function off its bus, if it is on one, and frees what it holds.
 * Its BARs are unmapped, and bar_moved is told. Context: no lock, the vCPUs have stopped.
 */
void pci_device_fini(struct pci_device *dev);

/** pci_device_intx() - gives the function interrupt pin INTA. */
void pci_device_intx(struct pci_device *dev);

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
 * firmware would, for guests that are started without one. Return: 0 or -ENOSPC, logged.
 */
must_use int pci_assign(struct pci_bus *pci, uint64_t base, uint64_t len);

/**
 * pci_notify() - raises vector @vector by MSI-X, honouring masks; does nothing for a vector the
 * function does not have, or while the guest does not use MSI-X. Context: any thread.
 */
void pci_notify(struct pci_device *dev, unsigned vector);

/** pci_msix_enabled() - does the guest use MSI-X now? Otherwise a device uses pci_intx(). */
bool pci_msix_enabled(struct pci_device *dev);

/**
 * pci_intx() - the level that the function wants its interrupt pin to have; it reaches the wire
 * unless the guest turned INTx off or uses MSI-X. Context: any thread.
 */
void pci_intx(struct pci_device *dev, bool level);

/**
 * pci_device_state() - configuration space, BAR places and MSI-X of one function that is on a bus.
 * Loading refuses read-only bits that differ from this function's, maps the BARs anew (bar_moved is
 * told of each) and sets the messages' routes anew. Context: no lock, the vCPUs do not run.
 */
void pci_device_state(struct pci_device *dev, struct state *s);
