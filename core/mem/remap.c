/*
 * mremap() and what fork() copies: mappings that are taken to another place, or another space.
 */
#include <errno.h>

#include "core/mem/mapping.h"
#include "lib/base/check.h"

/* One mremap(). Guarded by the space's lock. */
struct remap {
	struct space *s;
	uint64_t va, old_end, new_len;
	bool may_move;
	bool is_fixed;
	uint64_t address;      /* wanted, if it is fixed; then: where it is */
	struct mapping *spare; /* for the new mapping; NULL once it is used */
	struct mapping *old;   /* what goes, to be released */
};

static void drop(struct remap *r, struct mapping *list)
{
	while (list != NULL) {
		struct mapping *m = list;
		list = m->next;
		m->next = r->old;
		r->old = m;
	}
}

/* Grows the one anonymous or shared mapping where it is. */
static must_use int grow(struct space *s, struct mapping *m, uint64_t new_end)
{
	uint64_t more = new_end - m->end;

	if (!space_is_free(s, m->end, new_end)) {
		return -EEXIST;
	}
	if (m->anon != NULL) {
		/* The offsets behind its own may be those of another piece. */
		if (object_is_shared(m->anon)) {
			return -EEXIST;
		}
		int r = object_resize(m->anon, object_size(m->anon) + more);
		if (r != 0) {
			return -ENOMEM;
		}
	}
	m->end = new_end;
	return 0;
}

/*
 * The private pages of a mapping that moves: the object goes along if it is the mapping's alone. If
 * not (another piece has it, or somebody looks into it at this moment), the pages are copied.
 * Return: the object, with one holder for the new mapping; NULL without memory.
 */
static struct object *move_private(struct space *s, const struct mapping *m, uint64_t new_len)
{
	uint64_t len = m->end - m->start;
	uint64_t more = new_len > len ? new_len - len : 0;

	if (!object_is_shared(m->anon)) {
		return object_resize(m->anon, object_size(m->anon) + more) == 0 ? m->anon : NULL;
	}
	/* Nobody writes to them any longer; and faults wait for the lock. */
	space_zap(s, m->start, m->end);
	return object_copy(m->anon, m->anon_offset, len, m->anon_offset + new_len + HUGE_SIZE);
}

/* @m, which is as long as what is to be moved, goes to @at, where nothing is. */
static must_use int move(struct remap *r, struct mapping *m, uint64_t at)
{
	struct mapping *to = r->spare;
	struct object *anon = NULL;

	if (space_reserve(r->s, 1) != 0) {
		return -ENOMEM;
	}
	if (m->anon != NULL) {
		anon = move_private(r->s, m, r->new_len);
		if (anon == NULL) {
			return -ENOMEM;
		}
	}
	*to = *m;
	to->start = at;
	to->end = at + r->new_len;
	to->anon = anon;
	/* What the old one holds goes over. A writer it is already, if it is one: no seal is
	 * between. */
	check(space_attach(r->s, to) == 0);
	struct mapping *old = space_take_out(r->s, m->start, m->end);
	old->object = NULL;
	if (old->anon == anon) {
		old->anon = NULL;
	}
	drop(r, old);
	space_insert(r->s, to);
	r->spare = NULL;
	r->address = at;
	return 0;
}

static must_use int shrink(struct remap *r)
{
	uint64_t end = r->va + r->new_len;

	if (end == r->old_end) {
		return 0;
	}
	int error = space_cut(r->s, end, r->old_end);
	if (error == 0) {
		drop(r, space_take_out(r->s, end, r->old_end));
		r->old_end = end;
	}
	return error;
}

/* The one mapping that is exactly [va, old_end). */
static must_use int find(struct remap *r, struct mapping **m)
{
	const struct mapping *around = space_find(r->s, r->va);

	if (around == NULL || around->end < r->old_end) {
		return -EFAULT;
	}
	int error = space_cut(r->s, r->va, r->old_end);
	*m = space_find(r->s, r->va);
	return error;
}

static must_use int move_to(struct remap *r)
{
	uint64_t at = r->address;
	uint64_t end = at + r->new_len;
	struct mapping *m;
	int error = find(r, &m);

	if (error == 0 && r->va + r->new_len < r->old_end) {
		error = shrink(r);
	}
	if (error == 0) {
		error = space_cut(r->s, at, end);
	}
	if (error == 0) {
		drop(r, space_take_out(r->s, at, end));
		error = move(r, space_find(r->s, r->va), at);
	}
	return error;
}

static must_use int resize(struct remap *r)
{
	struct mapping *m;
	int error = find(r, &m);

	r->address = r->va;
	if (error != 0) {
		return error;
	}
	if (r->new_len <= r->old_end - r->va) {
		return shrink(r);
	}
	if (r->new_len <= USER_END - r->va) {
		error = grow(r->s, m, r->va + r->new_len);
		if (error != -EEXIST) {
			return error;
		}
	}
	if (!r->may_move) {
		return -ENOMEM;
	}
	uint64_t low = m->object != NULL ? m->offset : m->anon_offset;
	uint64_t at = space_find_gap(r->s, r->new_len, HUGE_SIZE, low & (HUGE_SIZE - 1));
	return at != 0 ? move(r, m, at) : -ENOMEM;
}

static must_use int run(struct remap *r)
{
	r->spare = space_new_mapping();
	if (r->spare == NULL) {
		return -ENOMEM;
	}
	spin_take(&r->s->lock);
	int error = r->is_fixed ? move_to(r) : resize(r);
	spin_give(&r->s->lock);
	space_free_mapping(r->spare);
	space_release(r->old);
	return error;
}

int space_remap(struct space *s, uint64_t va, uint64_t old_len, uint64_t new_len, bool may_move,
		uint64_t *address)
{
	struct remap r = {.s = s, .va = va, .may_move = may_move};
	uint64_t end;

	if (!space_is_range(va, old_len, &r.old_end) || !space_is_range(0, new_len, &end)) {
		return -EINVAL;
	}
	r.new_len = ALIGN_UP(new_len, PAGE_SIZE);
	int error = run(&r);
	*address = r.address;
	return error;
}

int space_move(struct space *s, uint64_t va, uint64_t old_len, uint64_t new_len, uint64_t to)
{
	struct remap r = {.s = s, .va = va, .is_fixed = true, .address = to};
	uint64_t end;

	if (!space_is_range(va, old_len, &r.old_end) || !space_is_range(to, new_len, &end) ||
	    to < SPACE_START || (va < end && to < r.old_end)) {
		return -EINVAL;
	}
	r.new_len = ALIGN_UP(new_len, PAGE_SIZE);
	return run(&r);
}

/* fork() */

/* Copies of all mappings, which show the same objects; private ones have the parent's own pages
 * still, held. Return: a list by falling addresses, or NULL with *error. */
static struct mapping *list_mappings(struct space *s, struct space *child, int *error)
{
	struct mapping *list = NULL;

	*error = 0;
	spin_take(&s->lock);
	for (uint32_t i = 0; i < s->n && *error == 0; i++) {
		struct mapping *m = space_new_mapping();
		if (m == NULL) {
			*error = -ENOMEM;
			break;
		}
		*m = *s->map[i];
		m->next = list;
		list = m;
		m->view = (struct view){.space = child, .space_id = child->id};
		if (m->object != NULL) {
			object_get(m->object);
			/* If it is a writer, so is the one it is a copy of: no seal is between. */
			check(view_add(m->object, &m->view, s->map[i]->view.is_writer) == 0);
		}
		if (m->anon != NULL) {
			object_get(m->anon);
		}
	}
	spin_give(&s->lock);
	return list;
}

/* Gives each private mapping pages of its own. Return: 0, -ENOMEM; what has none then is NULL. */
static must_use int copy_private(struct mapping *list)
{
	int error = 0;

	for (struct mapping *m = list; m != NULL; m = m->next) {
		struct object *from = m->anon;
		if (from == NULL) {
			continue;
		}
		uint64_t len = m->end - m->start;
		m->anon = error == 0 ? object_copy(from, m->anon_offset, len,
						   m->anon_offset + len + HUGE_SIZE)
				     : NULL;
		object_put(from);
		if (m->anon == NULL) {
			error = -ENOMEM;
		}
	}
	return error;
}

static void enter(struct space *child, struct mapping *list)
{
	spin_take(&child->lock);
	while (list != NULL) {
		struct mapping *m = list;
		list = m->next;
		m->anon_view = (struct view){.space = child, .space_id = child->id};
		if (m->anon != NULL) {
			check(view_add(m->anon, &m->anon_view, false) == 0);
		}
		space_insert(child, m);
	}
	spin_give(&child->lock);
}

struct space *space_copy(struct space *s)
{
	struct space *child = space_create();
	int error;

	if (child == NULL) {
		return NULL;
	}
	struct mapping *list = list_mappings(s, child, &error);
	uint32_t n = 0;
	for (const struct mapping *m = list; m != NULL; m = m->next) {
		n++;
	}
	int copied = copy_private(list);
	if (error == 0) {
		error = copied;
	}
	if (error == 0) {
		spin_take(&child->lock);
		error = space_reserve(child, n);
		spin_give(&child->lock);
	}
	if (error != 0) {
		for (struct mapping *m = list; m != NULL; m = m->next) {
			if (m->object != NULL) {
				view_remove(m->object, &m->view);
			}
		}
		space_release(list);
		space_put(child);
		return NULL;
	}
	enter(child, list);
	return child;
}
