/*
 * The inside of a space, for space.c and fault.c.
 */
#pragma once

#include "core/mem/space.h"
#include "core/mem/table.h"
#include "core/mem/view.h"
#include "lib/base/types.h"

/* Guarded by the space's lock. */
struct mapping {
	uint64_t start, end;
	unsigned prot, flags;
	struct object *object; /* what it shows; NULL: anonymous */
	uint64_t offset;
	struct object *anon; /* private: pages of its own; pieces of a mapping share it */
	uint64_t anon_offset;
	struct view view;      /* in the list of object */
	struct view anon_view; /* in the list of anon */
	struct mapping *next;  /* while it is taken out */
};

struct space {
	_Atomic uint32_t refs;
	_Atomic uint64_t cpus; /* that have it loaded */
	_Atomic uint64_t seq;  /* grows under lock, is read without */

	/* Constant. */
	hpa_t root;
	uint64_t id;

	struct spinlock lock;
	/* Guarded by lock. */
	struct mapping **map; /* sorted */
	uint32_t n, room;
	struct space_notifier *notifiers;
};

/** space_index() - the first mapping that ends behind @va: its index, or s->n. Context: the lock
 * held; the same for those below, unless they say otherwise. */
uint32_t space_index(const struct space *s, uint64_t va);

/** space_find() - the mapping at @va, or NULL. */
struct mapping *space_find(const struct space *s, uint64_t va);

/** space_is_whole() - is all of the range mapped? */
bool space_is_whole(const struct space *s, uint64_t start, uint64_t end);

/** space_zap() - takes a range out of page tables and TLBs, and tells the notifiers. */
void space_zap(struct space *s, uint64_t start, uint64_t end);

/** space_populate() - faults all in, as far as that goes. Context: no lock. */
void space_populate(struct space *s, uint64_t start, uint64_t end);
