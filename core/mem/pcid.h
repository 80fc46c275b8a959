/*
 * Which process-context identifier (PCID) a CPU uses for which space, so that a change of space
 * leaves in the TLB what is still right. A CPU keeps that of PCID_SLOTS spaces; 0 is the kernel's
 * own tables, in whose lower half is nothing.
 *
 * Spec: Intel SDM vol. 3A, "Process-Context Identifiers (PCIDs)"; AMD APM vol. 2, 5.5.1
 */
#pragma once

#include "lib/base/types.h"

#define PCID_SLOTS 7
#define PCID_KEEP  BIT(63) /* in what is written to CR3: nothing is forgotten */

struct pcids {
	struct {
		uint64_t id, seq;
	} slot[PCID_SLOTS]; /* PCIDs 1, 2, ... */
	unsigned next;	    /* which one gives way */
};

/**
 * pcid_choose() - a space is about to be loaded.
 * @id: the space's; not 0, and never used again.
 * @seq: a number that changes whenever something of the space is flushed.
 * Return: what CR3 gets beside the root.
 */
static inline uint64_t pcid_choose(struct pcids *p, uint64_t id, uint64_t seq)
{
	unsigned i = 0;

	while (i < PCID_SLOTS && p->slot[i].id != id) {
		i++;
	}
	if (i == PCID_SLOTS) {
		i = p->next;
		p->next = (i + 1) % PCID_SLOTS;
		p->slot[i].id = id;
		p->slot[i].seq = ~seq;
	}
	bool keep = p->slot[i].seq == seq;
	p->slot[i].seq = seq;
	return (i + 1) | (keep ? PCID_KEEP : 0);
}
