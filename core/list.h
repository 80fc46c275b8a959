/*
 * Doubly linked lists whose links lie in what is listed. A list is a ring with its head in it.
 */
#pragma once

#include "lib/base/types.h"

struct list {
	struct list *next, *prev;
};

static inline void list_init(struct list *l)
{
	l->next = l;
	l->prev = l;
}

/** list_is_empty() - of a head: has it members? Of a member: is it in no list? */
static inline bool list_is_empty(const struct list *l)
{
	return l->next == l;
}

/** list_add_before() - puts @l in front of @place; in front of the head: at the end. */
static inline void list_add_before(struct list *place, struct list *l)
{
	l->next = place;
	l->prev = place->prev;
	place->prev->next = l;
	place->prev = l;
}

static inline void list_add_last(struct list *head, struct list *l)
{
	list_add_before(head, l);
}

static inline void list_add_first(struct list *head, struct list *l)
{
	list_add_before(head->next, l);
}

/** list_remove() - from whatever list it is in; afterwards it is in none. */
static inline void list_remove(struct list *l)
{
	l->prev->next = l->next;
	l->next->prev = l->prev;
	list_init(l);
}

/** list_each() - @l goes through the members; none is removed meanwhile. */
#define list_each(head, l) for (struct list *l = (head)->next; l != (head); l = l->next)

/** list_each_safe() - as list_each(); the member itself may be removed. */
#define list_each_safe(head, l)                                                         \
	for (struct list *l = (head)->next, *l##_next = l->next; l != (head);           \
	     l = l##_next, l##_next = l->next)
