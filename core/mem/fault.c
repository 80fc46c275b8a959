/*
 * How pages come into a space: space_fault() and all that looks behind its addresses.
 */
#include <errno.h>
#include <string.h>

#include "core/hw/asm.h"
#include "core/hw/regs.h"
#include "core/mem/mapping.h"

/* What a mapping says about one address, as long as the space does not change. */
struct target {
	uint64_t seq;
	unsigned prot;
	bool may_be_huge;
	/* Where to look first, and where then; NULL: nowhere. Each held. */
	struct object *anon, *object;
	uint64_t anon_offset, offset;
};

/* A page, held. */
struct found {
	hpa_t page;
	uint64_t bytes;
	uint64_t offset;  /* of the address in it */
	bool is_writable; /* it is the mapping's own, or shared */
};

/* Is the 2 MiB around the address in the mapping, and at a like place in the object? */
static bool huge_fits(const struct mapping *m, uint64_t va, uint64_t offset)
{
	uint64_t base = ALIGN_DOWN(va, HUGE_SIZE);

	return (m->flags & SPACE_NOHUGE) == 0 && base >= m->start && base + HUGE_SIZE <= m->end &&
	       ((va ^ offset) & (HUGE_SIZE - 1)) == 0;
}

static must_use int aim(struct space *s, uint64_t va, unsigned access, struct target *t)
{
	int r = -EFAULT;

	spin_take(&s->lock);
	const struct mapping *m = space_find(s, va);
	if (m != NULL && (m->prot & access) != 0) {
		*t = (struct target){
			.seq = space_seq(s),
			.prot = m->prot,
			.anon = m->anon,
			.anon_offset = m->anon_offset + (va - m->start),
			.object = m->object,
			.offset = m->offset + (va - m->start),
		};
		t->may_be_huge = huge_fits(m, va, m->object != NULL ? t->offset : t->anon_offset);
		if (t->anon != NULL) {
			object_get(t->anon);
		}
		if (t->object != NULL) {
			object_get(t->object);
		}
		r = 0;
	}
	spin_give(&s->lock);
	return r;
}

static void drop(struct target *t)
{
	if (t->anon != NULL) {
		object_put(t->anon);
	}
	if (t->object != NULL) {
		object_put(t->object);
	}
}

/* Puts a copy of @from into the private object. */
static must_use int copy_page(const struct target *t, const struct found *from)
{
	hpa_t pa = page_alloc(0, PAGE_USE_USER);

	if (page_is_none(pa)) {
		return -ENOMEM;
	}
	memcpy(phys_ptr(pa), (char *)phys_ptr(from->page) + ALIGN_DOWN(from->offset, PAGE_SIZE),
	       PAGE_SIZE);
	int r = object_add_page(t->anon, ALIGN_DOWN(t->anon_offset, PAGE_SIZE), pa);
	if (r != 0) {
		page_put(pa);
	}
	/* Another thread was faster: fine. */
	return r == -EEXIST ? 0 : r;
}

static int shown(int r, uint64_t offset, bool is_writable, struct found *f)
{
	f->offset = offset & (f->bytes - 1);
	f->is_writable = is_writable;
	return r;
}

/* Finds or makes the page. Return: 0 and it is held; -ENOMEM; -ENXIO; what a filler says; -EAGAIN:
 * look once more. */
static must_use int fetch(struct space *s, uint64_t va, const struct target *t, unsigned access,
			  struct found *f)
{
	int r;

	f->bytes = PAGE_SIZE;
	if (t->object == NULL) {
		r = object_page(t->anon, t->anon_offset, t->may_be_huge, &f->page, &f->bytes);
		return shown(r, t->anon_offset, true, f);
	}
	if (t->anon != NULL && object_find(t->anon, t->anon_offset, &f->page, &f->bytes) == 0) {
		return shown(0, t->anon_offset, true, f);
	}
	r = object_page(t->object, t->offset, t->may_be_huge, &f->page, &f->bytes);
	if (r != 0) {
		return r == -EFBIG ? -ENXIO : r;
	}
	shown(0, t->offset, t->anon == NULL, f);
	if (t->anon == NULL || access != SPACE_WRITE) {
		return 0;
	}
	r = copy_page(t, f);
	page_put(f->page);
	if (r == 0) {
		/* Whoever sees the object's page there is to see the copy from now on. */
		spin_take(&s->lock);
		space_zap(s, ALIGN_DOWN(va, PAGE_SIZE), ALIGN_DOWN(va, PAGE_SIZE) + PAGE_SIZE);
		spin_give(&s->lock);
		r = -EAGAIN;
	}
	return r;
}

/*
 * Finds the page behind an address. On success the lock is held, and the page: until the lock is
 * given it is what the space shows there. Page tables do not hold pages; the object does.
 */
static must_use int resolve(struct space *s, uint64_t va, unsigned access, struct target *t,
			    struct found *f)
{
	for (;;) {
		int r = aim(s, va, access, t);
		if (r != 0) {
			return r;
		}
		r = fetch(s, va, t, access, f);
		drop(t); /* the objects may end by that, the held page does not */
		if (r != 0 && r != -EAGAIN) {
			return r;
		}
		if (r == 0) {
			spin_take(&s->lock);
			if (space_seq(s) == t->seq) {
				return 0;
			}
			spin_give(&s->lock);
			page_put(f->page);
		}
		asm_pause();
	}
}

static uint64_t flags_of(const struct target *t, const struct found *f)
{
	uint64_t flags = PTE_US | PTE_A;

	if ((t->prot & SPACE_WRITE) != 0 && f->is_writable) {
		flags |= PTE_RW | PTE_D;
	}
	if ((t->prot & SPACE_EXEC) == 0) {
		flags |= PTE_NX;
	}
	return flags;
}

/* The page as the mapping shows it: a whole one of 2 MiB, or the 4 KiB of it around the address. */
static void cut_to_fit(const struct target *t, struct found *f)
{
	if (f->bytes == HUGE_SIZE && !t->may_be_huge) {
		f->page.v += ALIGN_DOWN(f->offset, PAGE_SIZE);
		f->offset &= PAGE_SIZE - 1;
		f->bytes = PAGE_SIZE;
	}
}

/* Shows the page. The lock is held. */
static must_use int install(struct space *s, uint64_t va, const struct target *t, struct found f)
{
	uint64_t flags = flags_of(t, &f);
	uint64_t before = table_get(s->root, va);

	if (before != 0 && (before & PTE_PS) != 0 && f.bytes == PAGE_SIZE) {
		/* The mapping has been cut since: only pieces of that page are in it. */
		space_zap(s, ALIGN_DOWN(va, HUGE_SIZE), ALIGN_DOWN(va, HUGE_SIZE) + HUGE_SIZE);
	}
	int r = table_set(s->root, ALIGN_DOWN(va, f.bytes), f.page, f.bytes, flags);
	if (r == -EEXIST) {
		/* Small pages are there already: one more of them. */
		f.page.v += ALIGN_DOWN(f.offset, PAGE_SIZE);
		r = table_set(s->root, ALIGN_DOWN(va, PAGE_SIZE), f.page, PAGE_SIZE, flags);
	}
	return r;
}

int space_fault(struct space *s, uint64_t va, unsigned access)
{
	struct target t;
	struct found f;

	if (s == NULL || va >= USER_END) {
		return -EFAULT;
	}
	int r = resolve(s, va, access, &t, &f);
	if (r != 0) {
		return r;
	}
	hpa_t held = f.page;
	cut_to_fit(&t, &f);
	r = install(s, va, &t, f);
	spin_give(&s->lock);
	page_put(held);
	return r;
}

bool space_shown(struct space *s, uint64_t va, unsigned access, struct space_shown *shown)
{
	uint64_t entry;

	if (access == SPACE_EXEC || va >= USER_END) {
		return false;
	}
	spin_take(&s->lock);
	entry = table_get(s->root, va);
	if ((entry & PTE_P) == 0 || (access == SPACE_WRITE && (entry & PTE_RW) == 0)) {
		spin_give(&s->lock);
		return false;
	}
	shown->bytes = (entry & PTE_PS) != 0 ? HUGE_SIZE : PAGE_SIZE;
	shown->page = hpa(entry & PTE_ADDR & ~(shown->bytes - 1));
	shown->writable = (entry & PTE_RW) != 0;
	return true;
}

void space_shown_end(struct space *s)
{
	spin_give(&s->lock);
}

int space_page(struct space *s, uint64_t va, unsigned access, hpa_t *page, uint64_t *bytes,
	       bool *writable)
{
	struct space_shown shown;
	struct target t;
	struct found f;

	if (va >= USER_END) {
		return -EFAULT;
	}
	if (space_shown(s, va, access, &shown)) {
		page_get(shown.page);
		space_shown_end(s);
		*page = shown.page;
		*bytes = shown.bytes;
		*writable = shown.writable;
		return 0;
	}
	int r = resolve(s, va, access, &t, &f);
	if (r != 0) {
		return r;
	}
	spin_give(&s->lock);
	cut_to_fit(&t, &f);
	*page = f.page;
	*bytes = f.bytes;
	*writable = (t.prot & SPACE_WRITE) != 0 && f.is_writable;
	return 0;
}

static must_use int transfer(struct space *s, uint64_t va, char *to, const char *from, size_t len)
{
	if (!user_range_ok(va, len)) {
		return -EFAULT;
	}
	while (len > 0) {
		hpa_t page;
		uint64_t bytes;
		bool writable;
		if (space_page(s, va, to != NULL ? SPACE_READ : SPACE_WRITE, &page, &bytes,
			       &writable) != 0) {
			return -EFAULT;
		}
		uint64_t offset = va & (bytes - 1);
		size_t n = MIN(len, bytes - offset);
		char *p = (char *)phys_ptr(page) + offset;
		if (to != NULL) {
			memcpy(to, p, n);
			to += n;
		} else {
			memcpy(p, from, n);
			from += n;
		}
		page_put(page);
		va += n;
		len -= n;
	}
	return 0;
}

int space_read(struct space *s, void *to, uint64_t va, size_t len)
{
	return transfer(s, va, to, NULL, len);
}

int space_write(struct space *s, uint64_t va, const void *from, size_t len)
{
	return transfer(s, va, NULL, from, len);
}

/* What a thread that touches all would ask for; 0: it may not touch this. */
static unsigned access_at(struct space *s, uint64_t va)
{
	spin_take(&s->lock);
	const struct mapping *m = space_find(s, va);
	unsigned prot = m != NULL ? m->prot : 0;
	spin_give(&s->lock);
	return (prot & SPACE_WRITE) != 0 ? SPACE_WRITE : prot & SPACE_READ;
}

void space_populate(struct space *s, uint64_t start, uint64_t end)
{
	while (start < end) {
		unsigned access = access_at(s, start);
		if (access == 0 || space_fault(s, start, access) != 0) {
			return;
		}
		spin_take(&s->lock);
		uint64_t entry = table_get(s->root, start);
		spin_give(&s->lock);
		uint64_t bytes = (entry & PTE_PS) != 0 ? HUGE_SIZE : PAGE_SIZE;
		start = ALIGN_DOWN(start, bytes) + bytes;
	}
}

int space_residency(struct space *s, uint64_t va, size_t n, uint8_t *resident)
{
	int r = 0;

	spin_take(&s->lock);
	for (size_t i = 0; i < n && r == 0; i++, va += PAGE_SIZE) {
		const struct mapping *m = va < USER_END ? space_find(s, va) : NULL;
		if (m == NULL) {
			r = -ENOMEM;
			break;
		}
		uint64_t at = va - m->start;
		resident[i] = (m->anon != NULL && object_has(m->anon, m->anon_offset + at)) ||
			      (m->object != NULL && object_has(m->object, m->offset + at));
	}
	spin_give(&s->lock);
	return r;
}

/* Which object's pages a piece of advice is about; held. */
static struct object *advised(const struct mapping *m, enum space_advice advice, uint64_t *offset)
{
	struct object *o = NULL;

	if (advice == SPACE_DONTNEED && m->anon != NULL) {
		o = m->anon;
		*offset = m->anon_offset;
	} else if (advice == SPACE_REMOVE && (m->flags & SPACE_SHARED) != 0) {
		o = m->object;
		*offset = m->offset;
	}
	if (o != NULL) {
		object_get(o);
	}
	return o;
}

/* Mapping by mapping, since objects want no lock held. */
static must_use int give_up_pages(struct space *s, uint64_t start, uint64_t end,
				  enum space_advice advice)
{
	while (start < end) {
		uint64_t offset = 0;
		struct object *o = NULL;
		int r = -ENOMEM;
		spin_take(&s->lock);
		const struct mapping *m = space_find(s, start);
		uint64_t stop = end;
		if (m != NULL) {
			stop = MIN(end, m->end);
			o = advised(m, advice, &offset);
			offset += start - m->start;
			r = o == NULL && advice == SPACE_REMOVE ? -EINVAL : 0;
			if (o == NULL && r == 0) {
				space_zap(s, start, stop); /* shared: empties page tables */
			}
		}
		spin_give(&s->lock);
		if (o != NULL) {
			r = object_punch(o, offset, stop - start);
			object_put(o);
		}
		if (r != 0) {
			return r;
		}
		start = stop;
	}
	return 0;
}

/* For whole mappings: cutting them for a hint is not worth it. */
static void set_huge(struct space *s, uint64_t start, uint64_t end, bool wanted)
{
	for (uint32_t i = space_index(s, start); i < s->n && s->map[i]->start < end; i++) {
		struct mapping *m = s->map[i];
		if (m->start >= start && m->end <= end) {
			m->flags = wanted ? m->flags & ~(unsigned)SPACE_NOHUGE
					  : m->flags | (unsigned)SPACE_NOHUGE;
		}
	}
}

int space_advise(struct space *s, uint64_t va, uint64_t len, enum space_advice advice)
{
	uint64_t end = va + ALIGN_UP(len, PAGE_SIZE);

	if ((va & (PAGE_SIZE - 1)) != 0 || !user_range_ok(va, len)) {
		return -EINVAL;
	}
	spin_take(&s->lock);
	bool is_whole = space_is_whole(s, va, end);
	if (is_whole && (advice == SPACE_HUGE || advice == SPACE_NOT_HUGE)) {
		set_huge(s, va, end, advice == SPACE_HUGE);
	}
	spin_give(&s->lock);
	if (!is_whole) {
		return -ENOMEM;
	}
	switch (advice) {
	case SPACE_DONTNEED:
	case SPACE_REMOVE:
		return give_up_pages(s, va, end, advice);
	case SPACE_WILLNEED:
		space_populate(s, va, end);
		return 0;
	case SPACE_HUGE:
	case SPACE_NOT_HUGE:
		return 0;
	}
	return -EINVAL;
}
