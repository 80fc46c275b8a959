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

/** space_is_free() - is nothing of the range mapped? */
bool space_is_free(const struct space *s, uint64_t start, uint64_t end);

/** space_is_range() - can it be mapped at all: aligned, not empty, of ring 3? Context: any.
 * @end: behind its last page. */
must_use bool space_is_range(uint64_t va, uint64_t len, uint64_t *end);

/** space_find_gap() - the highest gap of @len bytes whose address is @remainder beyond a multiple
 * of @align. Return: its address, 0 if there is none. */
uint64_t space_find_gap(const struct space *s, uint64_t len, uint64_t align, uint64_t remainder);

/** space_reserve() - room for @more mappings, so that inserting cannot fail. Return: 0, -ENOMEM. */
must_use int space_reserve(struct space *s, uint32_t more);

/** space_insert() - after space_reserve(). */
void space_insert(struct space *s, struct mapping *m);

/** space_attach() - enters the mapping with its objects, which hold for it. Return: 0; -EPERM: a
 * seal is against it. */
must_use int space_attach(struct space *s, struct mapping *m);

/** space_cut() - so that each mapping is in the range or not. Return: 0, -ENOMEM. */
must_use int space_cut(struct space *s, uint64_t start, uint64_t end);

/** space_take_out() - all mappings of a range for which space_cut() was called. Return: a list. */
struct mapping *space_take_out(struct space *s, uint64_t start, uint64_t end);

/** space_release() - lets go of what was taken out. Context: no spinlock held. */
void space_release(struct mapping *list);

/** space_new_mapping() / space_free_mapping() - its storage, zeroed. Context: any. */
must_use struct mapping *space_new_mapping(void);
void space_free_mapping(struct mapping *m);

/** space_zap() - takes a range out of page tables and TLBs, and tells the notifiers. */
void space_zap(struct space *s, uint64_t start, uint64_t end);

/** space_populate() - faults all in, as far as that goes. Context: no lock. */
void space_populate(struct space *s, uint64_t start, uint64_t end);
