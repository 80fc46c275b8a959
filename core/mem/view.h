/*
 * What object.c and space.c know of each other: which spaces show an object.
 */
#pragma once

#include "core/mem/object.h"
#include "core/mem/space.h"
#include "lib/base/types.h"

/* Part of a mapping, in a list of its object. */
struct view {
	/* Constant while it is in the list. */
	struct space *space;
	uint64_t space_id; /* each space has its own, from 1 on */

	/* Guarded by the object's lock. */
	struct view *next, *previous;
	bool is_writer; /* shared and writable */
};

/** object_start() / space_start() - once, after heap_start(). */
void object_start(void);
void space_start(void);

/** view_add() - Return: 0; -EPERM: a writer, and the object is sealed. The same for
 * view_set_writer(). Context: LOCK_SPACE may be held. */
must_use int view_add(struct object *o, struct view *v, bool is_writer);
void view_remove(struct object *o, struct view *v);
must_use int view_set_writer(struct object *o, struct view *v, bool is_writer);

/** view_get_space() - Context: the object's lock held. Return: held, or NULL if it is about to end.
 */
struct space *view_get_space(const struct view *v);
void view_put_space(struct space *s);

/** view_zap() - takes [offset, end) of the object out of the space's page tables. Context: no
 * spinlock held. */
void view_zap(struct space *s, struct object *o, uint64_t offset, uint64_t end);

/** object_add_page() - puts a page of 4 KiB, which the object holds from then on, where none is.
 * Return: 0; -EEXIST; -ENOMEM; -EFBIG. Context: no LOCK_OBJECT held. */
must_use int object_add_page(struct object *o, uint64_t offset, hpa_t pa);

/** object_is_shared() - has it more than one holder? */
bool object_is_shared(struct object *o);
