/*
 * Mappings are in an array, sorted by address. Faults find theirs, have its object make the page
 * with no lock held, since that may take long, and look again: if the space has changed meanwhile
 * (`seq`), they start over. So page tables never show a page that an object has given up.
 */
#include "core/mem/space.h"

#include <errno.h>
#include <string.h>

#include "core/hw/asm.h"
#include "core/hw/cpu.h"
#include "core/hw/regs.h"
#include "core/mem/heap.h"
#include "core/mem/mapping.h"
#include "core/mem/paging.h"
#include "core/mem/tlb.h"
#include "core/mem/view.h"
#include "lib/base/check.h"

#define FLAGS_KNOWN                                                                     \
	(SPACE_SHARED | SPACE_FIXED | SPACE_NOREPLACE | SPACE_NOHUGE | SPACE_POPULATE | \
	 SPACE_NOWRITE)
#define PROT_KNOWN (SPACE_READ | SPACE_WRITE | SPACE_EXEC)

static struct heap spaces, mappings;

static _Atomic uint64_t last_id;

void space_start(void)
{
	heap_init(&spaces, "space", sizeof(struct space));
	heap_init(&mappings, "mapping", sizeof(struct mapping));
}

struct space *space_create(void)
{
	struct space *s = heap_alloc(&spaces);

	if (s == NULL) {
		return NULL;
	}
	s->root = page_alloc_zero(0, PAGE_USE_TABLE);
	if (page_is_none(s->root)) {
		heap_free(&spaces, s);
		return NULL;
	}
	paging_share(phys_ptr(s->root));
	atomic_init(&s->refs, 1);
	spin_init(&s->lock, LOCK_SPACE);
	s->id = atomic_fetch_add_explicit(&last_id, 1, memory_order_relaxed) + 1;
	return s;
}

void space_get(struct space *s)
{
	atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
}

void space_put(struct space *s)
{
	if (atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1) {
		return;
	}
	check(atomic_load(&s->cpus) == 0 && s->notifiers == NULL);
	space_clear(s);
	page_free(s->root, 0);
	mem_free(s->map, s->room * sizeof(struct mapping *));
	heap_free(&spaces, s);
}

void space_switch(struct space *s)
{
	struct cpu *cpu = cpu_this();
	struct space *old = cpu->space;

	if (old == s) {
		return;
	}
	if (s != NULL) {
		/* Before the load: whoever changes the tables either sees this CPU in the set, or
		 * this CPU sees the change, and its number. Pairs with flush(). */
		atomic_fetch_or_explicit(&s->cpus, BIT(cpu->index), memory_order_seq_cst);
	}
	cpu->space = s;
	if (s != NULL) {
		tlb_load(s->root, s->id, atomic_load_explicit(&s->seq, memory_order_seq_cst));
	} else {
		tlb_load(paging_root(), 0, 0);
	}
	if (old != NULL) {
		atomic_fetch_and_explicit(&old->cpus, ~BIT(cpu->index), memory_order_release);
	}
}

struct space *space_current(void)
{
	return cpu_this()->space;
}

uint64_t space_seq(struct space *s)
{
	return atomic_load_explicit(&s->seq, memory_order_acquire);
}

void space_add_notifier(struct space *s, struct space_notifier *n)
{
	spin_take(&s->lock);
	n->next = s->notifiers;
	s->notifiers = n;
	spin_give(&s->lock);
}

void space_remove_notifier(struct space *s, struct space_notifier *n)
{
	spin_take(&s->lock);
	struct space_notifier **p = &s->notifiers;
	while (*p != n) {
		check(*p != NULL);
		p = &(*p)->next;
	}
	*p = n->next;
	spin_give(&s->lock);
}

struct mapping *space_new_mapping(void)
{
	return heap_alloc(&mappings);
}

void space_free_mapping(struct mapping *m)
{
	heap_free(&mappings, m);
}

/* Taking pages out of sight. The lock is held. */

static void flush(struct space *s, uint64_t start, uint64_t end)
{
	/* The tables are changed: a CPU that has loaded them before, and has others loaded by now,
	 * keeps what it knows under an older number. Pairs with space_switch(). */
	atomic_fetch_add_explicit(&s->seq, 1, memory_order_seq_cst);
	tlb_flush(atomic_load_explicit(&s->cpus, memory_order_seq_cst), start, end);
}

void space_zap(struct space *s, uint64_t start, uint64_t end)
{
	struct table_gather g;

	/* First: whoever looks up a page from here on sees that it may be of before. */
	atomic_fetch_add_explicit(&s->seq, 1, memory_order_seq_cst);
	table_gather_init(&g);
	for (uint64_t at = start; at < end;) {
		at = table_zap(s->root, at, end, &g);
		if (g.start < g.end) {
			flush(s, g.start, g.end);
		}
		table_free_gathered(&g);
	}
	for (struct space_notifier *n = s->notifiers; n != NULL; n = n->next) {
		n->invalidate(n, start, end);
	}
}

struct space *view_get_space(const struct view *v)
{
	uint32_t refs = atomic_load_explicit(&v->space->refs, memory_order_relaxed);

	/* From 0 there is no way back: the space is being taken down, and loaded nowhere. */
	while (refs != 0) {
		if (atomic_compare_exchange_weak_explicit(&v->space->refs, &refs, refs + 1,
							  memory_order_acquire,
							  memory_order_relaxed)) {
			return v->space;
		}
	}
	return NULL;
}

void view_put_space(struct space *s)
{
	space_put(s);
}

/* Takes what of [offset, end) a mapping shows, which begins at @first of the object, out of sight.
 */
static void zap_shown(struct space *s, const struct mapping *m, uint64_t first, uint64_t offset,
		      uint64_t end)
{
	uint64_t low = MAX(offset, first);
	uint64_t high = MIN(end, first + (m->end - m->start));

	if (low < high) {
		space_zap(s, m->start + (low - first), m->start + (high - first));
	}
}

void view_zap(struct space *s, struct object *o, uint64_t offset, uint64_t end)
{
	spin_take(&s->lock);
	for (uint32_t i = 0; i < s->n; i++) {
		const struct mapping *m = s->map[i];
		if (m->object == o) {
			zap_shown(s, m, m->offset, offset, end);
		}
		if (m->anon == o) {
			zap_shown(s, m, m->anon_offset, offset, end);
		}
	}
	spin_give(&s->lock);
}

/* The array of mappings. The lock is held. */

/* The first mapping that ends behind @va: its index, or s->n. */
uint32_t space_index(const struct space *s, uint64_t va)
{
	uint32_t low = 0;
	uint32_t high = s->n;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (s->map[middle]->end > va) {
			high = middle;
		} else {
			low = middle + 1;
		}
	}
	return low;
}

struct mapping *space_find(const struct space *s, uint64_t va)
{
	uint32_t i = space_index(s, va);

	return i < s->n && s->map[i]->start <= va ? s->map[i] : NULL;
}

int space_reserve(struct space *s, uint32_t more)
{
	if (s->n + more > SPACE_MAPPINGS_MAX) {
		return -ENOMEM;
	}
	if (s->n + more <= s->room) {
		return 0;
	}
	uint32_t room = MAX(8, 2 * (s->n + more));
	struct mapping **map = mem_alloc(room * sizeof(struct mapping *));
	if (map == NULL) {
		return -ENOMEM;
	}
	if (s->n > 0) {
		memcpy(map, s->map, s->n * sizeof(struct mapping *));
	}
	mem_free(s->map, s->room * sizeof(struct mapping *));
	s->map = map;
	s->room = room;
	return 0;
}

void space_insert(struct space *s, struct mapping *m)
{
	uint32_t i = space_index(s, m->start);

	memmove(&s->map[i + 1], &s->map[i], (s->n - i) * sizeof(struct mapping *));
	s->map[i] = m;
	s->n++;
}

static void forget(struct space *s, uint32_t i)
{
	s->n--;
	memmove(&s->map[i], &s->map[i + 1], (s->n - i) * sizeof(struct mapping *));
}

static bool is_writer(const struct mapping *m)
{
	return (m->flags & SPACE_SHARED) != 0 && (m->prot & SPACE_WRITE) != 0;
}

int space_attach(struct space *s, struct mapping *m)
{
	m->view = (struct view){.space = s, .space_id = s->id};
	m->anon_view = m->view;
	if (m->object != NULL) {
		int r = view_add(m->object, &m->view, is_writer(m));
		if (r != 0) {
			return r;
		}
	}
	if (m->anon != NULL) {
		/* Never sealed, and no writer by that name. */
		check(view_add(m->anon, &m->anon_view, false) == 0);
	}
	return 0;
}

static void detach(struct mapping *m)
{
	if (m->object != NULL) {
		view_remove(m->object, &m->view);
	}
	if (m->anon != NULL) {
		view_remove(m->anon, &m->anon_view);
	}
}

/* Cuts the mapping that goes over @va there. space_reserve() has been called. */
static must_use int cut_at(struct space *s, uint64_t va)
{
	struct mapping *m = space_find(s, va);

	if (m == NULL || m->start == va) {
		return 0;
	}
	struct mapping *rest = heap_alloc(&mappings);
	if (rest == NULL) {
		return -ENOMEM;
	}
	*rest = *m;
	rest->start = va;
	rest->offset += va - m->start;
	rest->anon_offset += va - m->start;
	if (space_attach(s, rest) != 0) {
		heap_free(&mappings, rest); /* not while a writer exists, which @m is then */
		return -ENOMEM;
	}
	if (m->object != NULL) {
		object_get(m->object);
	}
	if (m->anon != NULL) {
		object_get(m->anon);
	}
	m->end = va;
	space_insert(s, rest);
	return 0;
}

int space_cut(struct space *s, uint64_t start, uint64_t end)
{
	int r = space_reserve(s, 2);

	if (r == 0) {
		r = cut_at(s, start);
	}
	return r == 0 ? cut_at(s, end) : r;
}

void space_release(struct mapping *list)
{
	while (list != NULL) {
		struct mapping *m = list;
		list = m->next;
		if (m->object != NULL) {
			object_put(m->object);
		}
		if (m->anon != NULL) {
			if (object_is_shared(m->anon)) {
				/* Another piece of the mapping is left, or being made: it has its
				 * own pages. Without seals and end, this does not fail. */
				check(object_punch(m->anon, m->anon_offset, m->end - m->start) ==
				      0);
			}
			object_put(m->anon);
		}
		heap_free(&mappings, m);
	}
}

/* After [start, end) was unmapped, nothing is in [low, high) any more: gives back the tables that
 * are for nothing else, as high up as that goes. */
static void free_tables(struct space *s, uint64_t start, uint64_t end, uint64_t low, uint64_t high)
{
	struct table_gather g;

	table_gather_init(&g);
	for (unsigned shift = 39; shift >= HUGE_SHIFT; shift -= 9) {
		uint64_t from = ALIGN_DOWN(start, UINT64_C(1) << shift);
		uint64_t to = ALIGN_UP(end, UINT64_C(1) << shift);
		if (shift > HUGE_SHIFT && (from < low || to > high)) {
			continue;
		}
		to = MIN(to, high);
		for (uint64_t at = MAX(from, low); at < to;) {
			at = table_zap(s->root, at, to, &g);
			if (g.start < g.end) {
				flush(s, g.start, g.end);
			}
			table_free_gathered(&g);
		}
		return;
	}
}

struct mapping *space_take_out(struct space *s, uint64_t start, uint64_t end)
{
	struct mapping *list = NULL;
	uint32_t i = space_index(s, start);

	while (i < s->n && s->map[i]->start < end) {
		struct mapping *m = s->map[i];
		forget(s, i);
		m->next = list;
		list = m;
	}
	if (list != NULL) {
		uint64_t low = i > 0 ? s->map[i - 1]->end : 0;
		uint64_t high = i < s->n ? s->map[i]->start : USER_END + PAGE_SIZE;
		space_zap(s, start, end);
		free_tables(s, start, end, low, high);
	}
	/* Only now: until here an object that gives up pages waits for the lock before they go. */
	for (struct mapping *m = list; m != NULL; m = m->next) {
		detach(m);
	}
	return list;
}

bool space_is_range(uint64_t va, uint64_t len, uint64_t *end)
{
	if ((va & (PAGE_SIZE - 1)) != 0 || len == 0 || len > USER_END) {
		return false;
	}
	len = ALIGN_UP(len, PAGE_SIZE);
	*end = va + len;
	return va <= USER_END - len;
}

uint64_t space_find_gap(const struct space *s, uint64_t len, uint64_t align, uint64_t remainder)
{
	uint64_t high = USER_END;

	for (uint32_t i = s->n + 1; i-- > 0;) {
		uint64_t low = i > 0 ? s->map[i - 1]->end : SPACE_START;
		if (high >= len) {
			uint64_t va = ALIGN_DOWN(high - len, align) + remainder;
			while (va > high - len && va >= align) {
				va -= align;
			}
			if (va >= MAX(low, SPACE_START) && va <= high - len) {
				return va;
			}
		}
		if (i > 0) {
			high = s->map[i - 1]->start;
		}
	}
	return 0;
}

bool space_is_free(const struct space *s, uint64_t va, uint64_t end)
{
	uint32_t i = space_index(s, va);

	return i == s->n || s->map[i]->start >= end;
}

/* Where a new mapping goes. @m: its start is the hint, its end as far behind as it is long. */
static must_use int place(struct space *s, struct mapping *m, unsigned flags)
{
	uint64_t len = m->end - m->start;
	bool is_huge = len >= HUGE_SIZE && (flags & SPACE_NOHUGE) == 0;

	if ((flags & SPACE_FIXED) != 0) {
		return (flags & SPACE_NOREPLACE) == 0 || space_is_free(s, m->start, m->end)
			       ? 0
			       : -EEXIST;
	}
	if (m->start < SPACE_START || m->start > USER_END - len ||
	    !space_is_free(s, m->start, m->end)) {
		/* Pages of 2 MiB fit if addresses and offsets are alike below that. */
		m->start = space_find_gap(s, len, is_huge ? HUGE_SIZE : PAGE_SIZE,
					  is_huge ? m->offset & (HUGE_SIZE - 1) : 0);
		if (m->start == 0) {
			return -ENOMEM;
		}
		m->end = m->start + len;
	}
	return 0;
}

static must_use int check_map(uint64_t hint, uint64_t len, unsigned prot, unsigned flags,
			      const struct object *o, uint64_t offset)
{
	uint64_t end;
	bool is_fixed = (flags & SPACE_FIXED) != 0;

	if ((prot & ~PROT_KNOWN) != 0 || (flags & ~FLAGS_KNOWN) != 0 ||
	    (prot & (SPACE_WRITE | SPACE_EXEC)) == (SPACE_WRITE | SPACE_EXEC) ||
	    (offset & (PAGE_SIZE - 1)) != 0 || len == 0) {
		return -EINVAL;
	}
	if (o == NULL && (flags & SPACE_SHARED) != 0) {
		return -EINVAL;
	}
	if (!space_is_range(is_fixed ? hint : 0, len, &end)) {
		return is_fixed && (hint & (PAGE_SIZE - 1)) != 0 ? -EINVAL : -ENOMEM;
	}
	if (is_fixed && hint < SPACE_START) {
		return -ENOMEM;
	}
	if (!range_end(offset, ALIGN_UP(len, PAGE_SIZE), &end) || end > OBJECT_SIZE_MAX) {
		return -EINVAL;
	}
	if (o != NULL && (flags & SPACE_NOWRITE) != 0 && (flags & SPACE_SHARED) != 0 &&
	    (prot & SPACE_WRITE) != 0) {
		return -EACCES;
	}
	return 0;
}

/* The new mapping, at its place, in the stead of what was there. The lock is held. */
static must_use int put_mapping(struct space *s, struct mapping *m, unsigned flags,
				struct mapping **old)
{
	int r = space_reserve(s, 3); /* a cut in two, and the new one */

	if (r == 0) {
		r = place(s, m, flags);
	}
	if (r == 0) {
		r = space_cut(s, m->start, m->end);
	}
	if (r == 0) {
		r = space_attach(s, m);
	}
	if (r != 0) {
		return r;
	}
	*old = space_take_out(s, m->start, m->end);
	if (m->object == NULL) {
		/* An anonymous object's offsets are alike its addresses, below 2 MiB. */
		m->anon_offset = m->start & (HUGE_SIZE - 1);
	}
	space_insert(s, m);
	return 0;
}

int space_map(struct space *s, uint64_t hint, uint64_t len, unsigned prot, unsigned flags,
	      struct object *o, uint64_t offset, uint64_t *address)
{
	struct mapping *old = NULL;
	int r = check_map(hint, len, prot, flags, o, offset);

	if (r != 0) {
		return r;
	}
	struct mapping *m = heap_alloc(&mappings);
	if (m == NULL) {
		return -ENOMEM;
	}
	len = ALIGN_UP(len, PAGE_SIZE);
	m->start = ALIGN_DOWN(hint, PAGE_SIZE);
	m->end = m->start + len;
	m->prot = prot;
	m->flags = flags & (SPACE_SHARED | SPACE_NOHUGE | SPACE_NOWRITE);
	m->object = o;
	m->offset = offset;
	if ((flags & SPACE_SHARED) == 0) {
		/* Room for any place in 2 MiB. */
		m->anon = object_create(len + HUGE_SIZE);
		if (m->anon == NULL) {
			heap_free(&mappings, m);
			return -ENOMEM;
		}
	}
	spin_take(&s->lock);
	r = put_mapping(s, m, flags, &old);
	if (r == 0) {
		*address = m->start;
		if (o != NULL) {
			object_get(o);
		}
	}
	spin_give(&s->lock);
	space_release(old);
	if (r != 0) {
		m->object = NULL; /* the caller's */
		m->next = NULL;
		space_release(m);
	} else if ((flags & SPACE_POPULATE) != 0) {
		space_populate(s, *address, *address + len);
	}
	return r;
}

int space_unmap(struct space *s, uint64_t va, uint64_t len)
{
	struct mapping *old = NULL;
	uint64_t end;

	if (!space_is_range(va, len, &end)) {
		return -EINVAL;
	}
	spin_take(&s->lock);
	int r = space_cut(s, va, end);
	if (r == 0) {
		old = space_take_out(s, va, end);
	}
	spin_give(&s->lock);
	space_release(old);
	return r;
}

void space_clear(struct space *s)
{
	spin_take(&s->lock);
	struct mapping *old = space_take_out(s, 0, USER_END);
	spin_give(&s->lock);
	space_release(old);
}

/* Is all of the range mapped? */
bool space_is_whole(const struct space *s, uint64_t start, uint64_t end)
{
	for (uint32_t i = space_index(s, start); start < end; i++) {
		if (i == s->n || s->map[i]->start > start) {
			return false;
		}
		start = s->map[i]->end;
	}
	return true;
}

static must_use int set_prot(struct mapping *m, unsigned prot)
{
	bool writes = (m->flags & SPACE_SHARED) != 0 && (prot & SPACE_WRITE) != 0;

	if (writes && (m->flags & SPACE_NOWRITE) != 0) {
		return -EACCES;
	}
	if (m->object != NULL) {
		int r = view_set_writer(m->object, &m->view, writes);
		if (r != 0) {
			return -EACCES;
		}
	}
	m->prot = prot;
	return 0;
}

int space_protect(struct space *s, uint64_t va, uint64_t len, unsigned prot)
{
	uint64_t end;

	if ((prot & ~PROT_KNOWN) != 0 ||
	    (prot & (SPACE_WRITE | SPACE_EXEC)) == (SPACE_WRITE | SPACE_EXEC) ||
	    !space_is_range(va, len, &end)) {
		return -EINVAL;
	}
	spin_take(&s->lock);
	int r = space_is_whole(s, va, end) ? space_cut(s, va, end) : -ENOMEM;
	for (uint32_t i = space_index(s, va); r == 0 && i < s->n && s->map[i]->start < end; i++) {
		r = set_prot(s->map[i], prot);
	}
	/* Even after an error: a part may have changed. */
	space_zap(s, va, end);
	spin_give(&s->lock);
	return r;
}

void space_each(struct space *s,
		void (*fn)(void *ctx, uint64_t va, uint64_t len, unsigned prot, unsigned flags,
			   uint64_t offset),
		void *ctx)
{
	spin_take(&s->lock);
	for (uint32_t i = 0; i < s->n; i++) {
		const struct mapping *m = s->map[i];
		fn(ctx, m->start, m->end - m->start, m->prot, m->flags, m->offset);
	}
	spin_give(&s->lock);
}
