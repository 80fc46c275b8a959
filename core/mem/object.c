/*
 * An object's pages are in a tree of nodes with 512 entries each, as tall as the highest offset
 * wants. An entry of height 0 is a page; of height 1 a page of 2 MiB, or a node of pages; above, a
 * node. The root is an entry, too: an object of one page has no nodes at all.
 */
#include "core/mem/object.h"

#include <errno.h>
#include <string.h>

#include "core/mem/heap.h"
#include "core/mem/view.h"
#include "lib/base/check.h"

#define NODE_SHIFT   9
#define NODE_ENTRIES (1U << NODE_SHIFT)
#define ENTRY_PAGE   BIT(0)
#define ENTRY_HUGE   BIT(1)
#define ENTRY_NODE   BIT(2)
#define ENTRY_ADDR   (~UINT64_C(0xfff))
#define HEIGHT_MAX   4
#define BATCH	     64

_Static_assert(OBJECT_SIZE_MAX <= PAGE_SIZE << (NODE_SHIFT * HEIGHT_MAX), "the tallest tree");

struct object {
	_Atomic uint64_t refs; /* mappings are many: those of spaces that only VMs hold, too */

	/* Constant after creation. */
	object_fill_fn *fill;
	void *ctx;

	struct spinlock lock;
	/* Guarded by lock. */
	uint64_t size;
	uint32_t seals;
	uint32_t writers; /* shared mappings that are writable */
	uint64_t root;	  /* an entry */
	unsigned height;  /* of the root */
	uint64_t pages;
	struct view *views;
};

static struct heap objects;

void object_start(void)
{
	heap_init(&objects, "object", sizeof(struct object));
}

struct object *object_create_filled(uint64_t size, object_fill_fn *fill, void *ctx)
{
	struct object *o = size <= OBJECT_SIZE_MAX ? heap_alloc(&objects) : NULL;

	if (o != NULL) {
		atomic_init(&o->refs, 1);
		spin_init(&o->lock, LOCK_OBJECT);
		o->size = size;
		o->fill = fill;
		o->ctx = ctx;
	}
	return o;
}

struct object *object_create(uint64_t size)
{
	return object_create_filled(size, NULL, NULL);
}

void object_get(struct object *o)
{
	atomic_fetch_add_explicit(&o->refs, 1, memory_order_relaxed);
}

bool object_is_shared(struct object *o)
{
	return atomic_load_explicit(&o->refs, memory_order_acquire) > 1;
}

/* The tree. */

static uint64_t *node_of(uint64_t entry)
{
	return phys_ptr(hpa(entry & ENTRY_ADDR));
}

static uint64_t span(unsigned height)
{
	return PAGE_SIZE << (NODE_SHIFT * height);
}

static void free_tree(uint64_t entry, unsigned height)
{
	if ((entry & ENTRY_PAGE) != 0) {
		page_put(hpa(entry & ENTRY_ADDR));
	} else if ((entry & ENTRY_NODE) != 0) {
		uint64_t *node = node_of(entry);
		for (unsigned i = 0; i < NODE_ENTRIES; i++) {
			if (node[i] != 0) {
				free_tree(node[i], height - 1);
			}
		}
		page_free(hpa(entry & ENTRY_ADDR), 0);
	}
}

void object_put(struct object *o)
{
	if (atomic_fetch_sub_explicit(&o->refs, 1, memory_order_acq_rel) == 1) {
		check(o->views == NULL);
		free_tree(o->root, o->height);
		heap_free(&objects, o);
	}
}

static must_use bool grow_tree(struct object *o, uint64_t offset)
{
	while (offset >= span(o->height)) {
		if (o->root != 0) {
			hpa_t pa = page_alloc_zero(0, PAGE_USE_NODE);
			if (page_is_none(pa)) {
				return false;
			}
			*(uint64_t *)phys_ptr(pa) = o->root;
			o->root = pa.v | ENTRY_NODE;
		}
		o->height++;
	}
	return true;
}

/*
 * The entry for @offset, of @height or, where a page of 2 MiB is met, above it. NULL: there is
 * none, and with @make: no memory.
 */
static uint64_t *find_entry(struct object *o, uint64_t offset, unsigned height, bool make)
{
	if (offset >= span(o->height) || height > o->height) {
		/* Tall enough for the entry itself, even if it is the first one. */
		uint64_t least = MAX(offset, height > 0 ? span(height) - 1 : 0);
		if (!make || !grow_tree(o, least)) {
			return NULL;
		}
	}
	uint64_t *entry = &o->root;
	for (unsigned h = o->height; h > height && (*entry & ENTRY_PAGE) == 0; h--) {
		if (*entry == 0) {
			hpa_t pa = make ? page_alloc_zero(0, PAGE_USE_NODE) : hpa(PAGE_NONE);
			if (page_is_none(pa)) {
				return NULL;
			}
			*entry = pa.v | ENTRY_NODE;
		}
		entry = &node_of(*entry)[offset / span(h - 1) % NODE_ENTRIES];
	}
	return entry;
}

static void give_page(uint64_t entry, hpa_t *page, uint64_t *bytes)
{
	*page = hpa(entry & ENTRY_ADDR);
	*bytes = (entry & ENTRY_HUGE) != 0 ? HUGE_SIZE : PAGE_SIZE;
	page_get(*page);
}

int object_find(struct object *o, uint64_t offset, hpa_t *page, uint64_t *bytes)
{
	int r = -ENOENT;

	spin_take(&o->lock);
	const uint64_t *entry = find_entry(o, offset, 0, false);
	if (entry != NULL && (*entry & ENTRY_PAGE) != 0) {
		give_page(*entry, page, bytes);
		r = 0;
	}
	spin_give(&o->lock);
	return r;
}

bool object_has(struct object *o, uint64_t offset)
{
	spin_take(&o->lock);
	const uint64_t *entry = find_entry(o, offset, 0, false);
	bool has = entry != NULL && (*entry & ENTRY_PAGE) != 0;
	spin_give(&o->lock);
	return has;
}

/* Puts a page of @height where none is. Return: 0; -EEXIST: one is there, or pages below it. */
static must_use int insert(struct object *o, uint64_t offset, unsigned height, hpa_t pa)
{
	if (offset >= ALIGN_UP(o->size, PAGE_SIZE)) {
		return -EFBIG;
	}
	uint64_t *entry = find_entry(o, offset, height, true);
	if (entry == NULL) {
		return -ENOMEM;
	}
	if (*entry != 0) {
		return -EEXIST;
	}
	*entry = pa.v | ENTRY_PAGE | (height > 0 ? ENTRY_HUGE : 0);
	o->pages += span(height) / PAGE_SIZE;
	return 0;
}

int object_add_page(struct object *o, uint64_t offset, hpa_t pa)
{
	spin_take(&o->lock);
	int r = insert(o, offset, 0, pa);
	spin_give(&o->lock);
	return r;
}

/* Makes a page of @height. Return: as insert(). */
static must_use int make_page(struct object *o, uint64_t offset, unsigned height)
{
	hpa_t pa = page_alloc_zero(height * PAGE_ORDER_BLOCK, PAGE_USE_USER);
	int r = 0;

	if (page_is_none(pa)) {
		return -ENOMEM;
	}
	if (o->fill != NULL) {
		r = o->fill(o->ctx, ALIGN_DOWN(offset, PAGE_SIZE), phys_ptr(pa));
	}
	if (r == 0) {
		spin_take(&o->lock);
		r = insert(o, offset, height, pa);
		spin_give(&o->lock);
	}
	if (r != 0) {
		page_put(pa);
	}
	return r;
}

static bool has_room_for_huge(struct object *o, uint64_t offset)
{
	return o->fill == NULL &&
	       ALIGN_DOWN(offset, HUGE_SIZE) + HUGE_SIZE <= ALIGN_UP(object_size(o), PAGE_SIZE);
}

int object_page(struct object *o, uint64_t offset, bool may_be_huge, hpa_t *page, uint64_t *bytes)
{
	for (;;) {
		int r = object_find(o, offset, page, bytes);
		if (r == 0) {
			return 0;
		}
		if (offset >= ALIGN_UP(object_size(o), PAGE_SIZE)) {
			return -EFBIG;
		}
		if (may_be_huge && has_room_for_huge(o, offset)) {
			/* If not: there are small pages in its place, or no memory of that size. */
			may_be_huge = make_page(o, offset, 1) == 0;
			continue;
		}
		r = make_page(o, offset, 0);
		if (r != 0 && r != -EEXIST) {
			return r;
		}
	}
}

/* The first page at or behind @offset and before @end, as its entry. Return: NULL if there is none;
 * *at: where it begins. */
static uint64_t *next_page(struct object *o, uint64_t offset, uint64_t end, uint64_t *at,
			   unsigned *height)
{
	while (offset < end && offset < span(o->height)) {
		uint64_t *entry = &o->root;
		unsigned h = o->height;
		while (*entry != 0 && (*entry & ENTRY_PAGE) == 0) {
			h--;
			entry = &node_of(*entry)[offset / span(h) % NODE_ENTRIES];
		}
		if (*entry != 0) {
			*at = ALIGN_DOWN(offset, span(h));
			*height = h;
			return entry;
		}
		offset = ALIGN_DOWN(offset, span(h)) + span(h);
	}
	return NULL;
}

/* Copies. */

/* Puts a copy of [from, from + bytes) at @offset of a new object: as one page, if it is of 2 MiB
 * and there is memory for it, else page by page. */
static must_use int copy_in(struct object *o, uint64_t offset, const char *from, uint64_t bytes)
{
	uint64_t step = bytes;

	for (uint64_t done = 0; done < bytes;) {
		hpa_t pa = page_alloc(step == HUGE_SIZE ? PAGE_ORDER_BLOCK : 0, PAGE_USE_USER);
		if (page_is_none(pa)) {
			if (step == PAGE_SIZE) {
				return -ENOMEM;
			}
			step = PAGE_SIZE;
			continue;
		}
		memcpy(phys_ptr(pa), from + done, step);
		spin_take(&o->lock);
		int r = insert(o, offset + done, step == HUGE_SIZE ? 1 : 0, pa);
		spin_give(&o->lock);
		if (r != 0) {
			page_put(pa);
			return r;
		}
		done += step;
	}
	return 0;
}

struct object *object_copy(struct object *from, uint64_t offset, uint64_t len, uint64_t size)
{
	struct object *o = object_create(size);
	uint64_t end = offset + len;
	uint64_t at, bytes;
	unsigned height;
	hpa_t page;
	int r = 0;

	while (o != NULL && r == 0 && offset < end) {
		spin_take(&from->lock);
		const uint64_t *entry = next_page(from, offset, end, &at, &height);
		if (entry != NULL) {
			give_page(*entry, &page, &bytes);
		}
		spin_give(&from->lock);
		if (entry == NULL) {
			break;
		}
		uint64_t low = MAX(at, offset);
		uint64_t high = MIN(at + bytes, end);
		if (high - low == HUGE_SIZE) {
			r = copy_in(o, low, phys_ptr(page), HUGE_SIZE);
		}
		for (uint64_t i = low; high - low != HUGE_SIZE && r == 0 && i < high;
		     i += PAGE_SIZE) {
			r = copy_in(o, i, (char *)phys_ptr(page) + (i - at), PAGE_SIZE);
		}
		page_put(page);
		offset = high;
	}
	if (r != 0) {
		object_put(o);
		return NULL;
	}
	return o;
}

/* Size, seals. */

uint64_t object_size(struct object *o)
{
	spin_take(&o->lock);
	uint64_t size = o->size;
	spin_give(&o->lock);
	return size;
}

uint64_t object_pages(struct object *o)
{
	spin_take(&o->lock);
	uint64_t pages = o->pages;
	spin_give(&o->lock);
	return pages;
}

uint32_t object_seals(struct object *o)
{
	spin_take(&o->lock);
	uint32_t seals = o->seals;
	spin_give(&o->lock);
	return seals;
}

int object_add_seals(struct object *o, uint32_t seals)
{
	int r = 0;

	spin_take(&o->lock);
	if ((o->seals & OBJECT_SEAL_SEAL) != 0) {
		r = -EPERM;
	} else if ((seals & OBJECT_SEAL_WRITE) != 0 && o->writers > 0) {
		r = -EBUSY;
	} else {
		o->seals |= seals;
	}
	spin_give(&o->lock);
	return r;
}

/* Takes up to BATCH pages that lie in the range as a whole out of the tree; what lies in it partly
 * is zeroed. Return: how many; *offset: where to go on. */
static unsigned take_pages(struct object *o, uint64_t *offset, uint64_t end, hpa_t page[BATCH])
{
	unsigned n = 0;
	uint64_t at;
	unsigned h;

	spin_take(&o->lock);
	while (n < BATCH) {
		uint64_t *entry = next_page(o, *offset, end, &at, &h);
		if (entry == NULL) {
			*offset = end;
			break;
		}
		uint64_t low = MAX(at, *offset);
		uint64_t high = MIN(at + span(h), end);
		hpa_t pa = hpa(*entry & ENTRY_ADDR);
		if (high - low == span(h)) {
			page[n++] = pa;
			*entry = 0;
			o->pages -= span(h) / PAGE_SIZE;
		} else {
			memset((char *)phys_ptr(pa) + (low - at), 0, high - low);
		}
		*offset = high;
	}
	spin_give(&o->lock);
	return n;
}

/* Takes [offset, end) out of all mappings. One space after the other, in the order of their
 * numbers: those that come later have no page of before. */
static void zap(struct object *o, uint64_t offset, uint64_t end)
{
	uint64_t last = 0;

	for (;;) {
		const struct view *next = NULL;
		struct space *s = NULL;
		spin_take(&o->lock);
		for (const struct view *v = o->views; v != NULL; v = v->next) {
			if (v->space_id > last && (next == NULL || v->space_id < next->space_id)) {
				next = v;
			}
		}
		if (next != NULL) {
			last = next->space_id;
			s = view_get_space(next);
		}
		spin_give(&o->lock);
		if (next == NULL) {
			return;
		}
		if (s != NULL) {
			view_zap(s, o, offset, end);
			view_put_space(s);
		}
	}
}

static void drop_range(struct object *o, uint64_t offset, uint64_t end)
{
	hpa_t page[BATCH];

	while (offset < end) {
		uint64_t begin = offset;
		unsigned n = take_pages(o, &offset, end, page);
		if (n > 0) {
			/* Pages of 2 MiB begin at or behind where the batch does. */
			zap(o, begin, offset);
		}
		for (unsigned i = 0; i < n; i++) {
			page_put(page[i]);
		}
	}
}

int object_resize(struct object *o, uint64_t size)
{
	int r = 0;

	if (size > OBJECT_SIZE_MAX) {
		return -EFBIG;
	}
	spin_take(&o->lock);
	uint64_t old = o->size;
	if ((size < old && (o->seals & OBJECT_SEAL_SHRINK) != 0) ||
	    (size > old && (o->seals & OBJECT_SEAL_GROW) != 0)) {
		r = -EPERM;
	} else {
		o->size = size;
	}
	spin_give(&o->lock);
	if (r == 0 && size < old) {
		drop_range(o, size, ALIGN_UP(old, HUGE_SIZE));
	}
	return r;
}

int object_punch(struct object *o, uint64_t offset, uint64_t len)
{
	uint64_t end;

	if ((object_seals(o) & OBJECT_SEAL_WRITE) != 0) {
		return -EPERM;
	}
	if (!range_end(offset, len, &end)) {
		end = UINT64_MAX;
	}
	uint64_t size = object_size(o);
	/* The last page goes as a whole, too, if all of it that counts is in the range. */
	drop_range(o, offset, end >= size ? ALIGN_UP(size, PAGE_SIZE) : end);
	return 0;
}

int object_populate(struct object *o, uint64_t offset, uint64_t len)
{
	uint64_t end;

	if (!range_end(offset, len, &end) || end > ALIGN_UP(object_size(o), PAGE_SIZE)) {
		return -EFBIG;
	}
	while (offset < end) {
		hpa_t page;
		uint64_t bytes;
		int r = object_page(o, offset, true, &page, &bytes);
		if (r != 0) {
			return r;
		}
		page_put(page);
		offset = ALIGN_DOWN(offset, bytes) + bytes;
	}
	return 0;
}

int object_read(struct object *o, uint64_t offset, void *to, size_t len)
{
	if (!range_inside(offset, len, 0, object_size(o))) {
		return -EFBIG;
	}
	for (char *p = to; len > 0;) {
		hpa_t page;
		uint64_t bytes = PAGE_SIZE;
		int r = o->fill != NULL ? object_page(o, offset, false, &page, &bytes)
					: object_find(o, offset, &page, &bytes);
		if (r != 0 && r != -ENOENT) {
			return r;
		}
		size_t n = MIN(len, bytes - offset % bytes);
		if (r == 0) {
			memcpy(p, (char *)phys_ptr(page) + offset % bytes, n);
			page_put(page);
		} else {
			memset(p, 0, n);
		}
		p += n;
		offset += n;
		len -= n;
	}
	return 0;
}

int object_write(struct object *o, uint64_t offset, const void *from, size_t len)
{
	if (!range_inside(offset, len, 0, object_size(o))) {
		return -EFBIG;
	}
	if ((object_seals(o) & OBJECT_SEAL_WRITE) != 0) {
		return -EPERM;
	}
	for (const char *p = from; len > 0;) {
		hpa_t page;
		uint64_t bytes;
		int r = object_page(o, offset, true, &page, &bytes);
		if (r != 0) {
			return r;
		}
		size_t n = MIN(len, bytes - offset % bytes);
		memcpy((char *)phys_ptr(page) + offset % bytes, p, n);
		page_put(page);
		p += n;
		offset += n;
		len -= n;
	}
	return 0;
}

/* Mappings (view.h). */

int view_add(struct object *o, struct view *v, bool is_writer)
{
	int r = 0;

	spin_take(&o->lock);
	if (is_writer && (o->seals & OBJECT_SEAL_WRITE) != 0) {
		r = -EPERM;
	} else {
		v->is_writer = is_writer;
		v->previous = NULL;
		v->next = o->views;
		if (v->next != NULL) {
			v->next->previous = v;
		}
		o->views = v;
		o->writers += is_writer;
	}
	spin_give(&o->lock);
	return r;
}

void view_remove(struct object *o, struct view *v)
{
	spin_take(&o->lock);
	if (v->previous != NULL) {
		v->previous->next = v->next;
	} else {
		o->views = v->next;
	}
	if (v->next != NULL) {
		v->next->previous = v->previous;
	}
	o->writers -= v->is_writer;
	spin_give(&o->lock);
}

int view_set_writer(struct object *o, struct view *v, bool is_writer)
{
	int r = 0;

	spin_take(&o->lock);
	if (is_writer && !v->is_writer && (o->seals & OBJECT_SEAL_WRITE) != 0) {
		r = -EPERM;
	} else {
		o->writers += is_writer;
		o->writers -= v->is_writer;
		v->is_writer = is_writer;
	}
	spin_give(&o->lock);
	return r;
}
