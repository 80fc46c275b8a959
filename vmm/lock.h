/*
 * Locks with a rank. A thread takes them in the order of their ranks, the lowest first, and never
 * two of one rank; so no two threads can wait for each other. Builds with -Ddebug_locks=true, and
 * all builds with sanitizers, check that.
 *
 * Which lock guards what: docs/locking.md
 */
#pragma once

#include <pthread.h>

#include "lib/base/types.h"

enum lock_rank {
	LOCK_PCI_BUS,	   /* struct pci_bus */
	LOCK_DEVICE,	   /* a virtio device, or a device of the board */
	LOCK_PCI_FUNCTION, /* struct pci_device */
	LOCK_PCI_WIRES,	   /* struct pci_bus, its INTx wires */
	LOCK_IRQ_CHIPS,	   /* struct irq, PIC and IOAPIC */
	LOCK_IRQ_ROUTES,   /* struct irq, the provider's routes */
	LOCK_LEAF,	   /* nothing is taken under it */
};

struct lock {
	pthread_mutex_t mutex;
	enum lock_rank rank; /* constant after init */
};

void lock_init(struct lock *l, enum lock_rank rank);
void lock_fini(struct lock *l);

void lock_take(struct lock *l);
void lock_give(struct lock *l);

/** lock_wait() - gives the lock up until @cond is signalled, and takes it again. */
void lock_wait(struct lock *l, pthread_cond_t *cond);
