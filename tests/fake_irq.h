/*
 * The machine's interrupts for tests of devices: vmm/board/irq.h without a provider, which
 * remembers what was asked of it. Link tests/fake_irq.c into the test.
 */
#pragma once

#include "vmm/board/irq.h"

#define FAKE_WIRES     24
#define FAKE_MSIS      256
#define FAKE_DOORBELLS 256

struct irq {
	bool wire[FAKE_WIRES];		   /* levels */
	unsigned wire_changes[FAKE_WIRES]; /* calls of the line */
	struct {
		bool exists;
		uint64_t addr;
		uint32_t data;
		unsigned sets; /* calls of irq_msi_set() */
	} msi[FAKE_MSIS];      /* by gsi */
	unsigned nmsis;	       /* that exist */
	unsigned msi_limit;    /* further ones are refused; 0: no limit */
	struct {
		uint64_t addr;
		unsigned len;
		int fd;
	} doorbell[FAKE_DOORBELLS];
	unsigned ndoorbells;
	bool refuse_doorbells;
};

/** fake_irq_fired() - how often @msi was triggered since the last call. */
uint64_t fake_irq_fired(const struct irq_msi *msi);

/** fake_irq_ring() - a guest's write to @addr. Return: false if no doorbell is there. */
bool fake_irq_ring(struct irq *irq, uint64_t addr);
