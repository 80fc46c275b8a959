#include "core/mem/heap.h"

#include <string.h>

#include "core/mem/page.h"
#include "lib/base/check.h"

#define HEADER_BYTES 64

/* At the beginning of each page; free objects are a list through their first words. */
struct heap_slab {
	struct heap *heap;
	struct heap_slab *next, *prev; /* among those with free objects */
	void *free;
	uint32_t used;
};

_Static_assert(sizeof(struct heap_slab) <= HEADER_BYTES, "");
_Static_assert(HEADER_BYTES + 2 * HEAP_OBJECT_MAX <= PAGE_SIZE, "");

static struct {
	struct spinlock lock;
	struct heap *first; /* guarded by lock */
} heaps = {.lock = SPINLOCK_INIT(LOCK_HEAP)};

static uint32_t align_of(const struct heap *h)
{
	bool power = (h->bytes & (h->bytes - 1)) == 0;

	return power && h->bytes <= 512 ? h->bytes : 16;
}

void heap_init(struct heap *h, const char *name, size_t bytes)
{
	check(bytes > 0 && bytes <= HEAP_OBJECT_MAX);
	*h = (struct heap){.name = name, .bytes = (uint32_t)ALIGN_UP(bytes, 16)};
	h->per_slab = (uint32_t)(PAGE_SIZE - ALIGN_UP(HEADER_BYTES, align_of(h))) / h->bytes;
	spin_init(&h->lock, LOCK_HEAP);
	uint64_t flags = spin_take_irq(&heaps.lock);
	h->next_heap = heaps.first;
	heaps.first = h;
	spin_give_irq(&heaps.lock, flags);
}

static void link_slab(struct heap *h, struct heap_slab *s)
{
	s->prev = NULL;
	s->next = h->partial;
	if (s->next != NULL) {
		s->next->prev = s;
	}
	h->partial = s;
}

static void unlink_slab(struct heap *h, struct heap_slab *s)
{
	if (s->prev != NULL) {
		s->prev->next = s->next;
	} else {
		h->partial = s->next;
	}
	if (s->next != NULL) {
		s->next->prev = s->prev;
	}
}

static must_use struct heap_slab *add_slab(struct heap *h)
{
	hpa_t pa = page_alloc(0, PAGE_USE_HEAP);

	if (page_is_none(pa)) {
		return NULL;
	}
	struct heap_slab *s = phys_ptr(pa);
	*s = (struct heap_slab){.heap = h};
	char *p = (char *)s + ALIGN_UP(HEADER_BYTES, align_of(h));
	for (uint32_t i = h->per_slab; i > 0; i--) {
		void **object = (void **)(p + (uint64_t)(i - 1) * h->bytes);
		*object = s->free;
		s->free = object;
	}
	link_slab(h, s);
	return s;
}

void *heap_alloc(struct heap *h)
{
	uint64_t flags = spin_take_irq(&h->lock);
	struct heap_slab *s = h->partial != NULL ? h->partial : add_slab(h);
	void **object = NULL;

	if (s != NULL) {
		object = s->free;
		s->free = *object;
		s->used++;
		h->used++;
		if (s->free == NULL) {
			unlink_slab(h, s);
		}
	}
	spin_give_irq(&h->lock, flags);
	return object != NULL ? memset(object, 0, h->bytes) : NULL;
}

void heap_free(struct heap *h, void *object)
{
	if (object == NULL) {
		return;
	}
	struct heap_slab *s = (struct heap_slab *)ALIGN_DOWN((uint64_t)object, PAGE_SIZE);
	check(s->heap == h && s->used > 0); /* it stays as long as it has objects */
	uint64_t flags = spin_take_irq(&h->lock);
	if (s->free == NULL) {
		link_slab(h, s);
	}
	*(void **)object = s->free;
	s->free = object;
	s->used--;
	h->used--;
	bool is_empty = s->used == 0;
	if (is_empty) {
		unlink_slab(h, s);
		s->heap = NULL;
	}
	spin_give_irq(&h->lock, flags);
	if (is_empty) {
		page_free(phys_of(s), 0);
	}
}

void heap_each(void (*fn)(void *ctx, const char *name, size_t bytes, uint64_t used), void *ctx)
{
	/* Heaps never go; their list only grows, at its beginning. */
	uint64_t flags = spin_take_irq(&heaps.lock);
	struct heap *h = heaps.first;
	spin_give_irq(&heaps.lock, flags);

	for (; h != NULL; h = h->next_heap) {
		flags = spin_take_irq(&h->lock);
		uint64_t used = h->used;
		spin_give_irq(&h->lock, flags);
		fn(ctx, h->name, h->bytes, used);
	}
}

/* For mem_alloc(). Initialised by heap_start(). */
static const struct {
	const char *name;
	uint32_t bytes;
} any_sizes[] = {
	{"any-32", 32},	  {"any-64", 64},     {"any-128", 128},	  {"any-256", 256},
	{"any-512", 512}, {"any-1008", 1008}, {"any-2016", 2016},
};

static struct heap any[ARRAY_SIZE(any_sizes)];

void heap_start(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(any); i++) {
		heap_init(&any[i], any_sizes[i].name, any_sizes[i].bytes);
	}
}

void heap_stop(void)
{
	heaps.first = NULL;
}

static struct heap *any_for(size_t bytes)
{
	for (size_t i = 0; i < ARRAY_SIZE(any); i++) {
		if (bytes <= any[i].bytes) {
			return &any[i];
		}
	}
	return NULL;
}

static unsigned order_for(size_t bytes)
{
	unsigned order = 0;

	while (order <= PAGE_ORDER_MAX && PAGE_SIZE << order < bytes) {
		order++;
	}
	return order;
}

void *mem_alloc(size_t bytes)
{
	struct heap *h = any_for(bytes);

	if (h != NULL) {
		return heap_alloc(h);
	}
	unsigned order = order_for(bytes);
	if (order > PAGE_ORDER_MAX) {
		return NULL;
	}
	hpa_t pa = page_alloc_zero(order, PAGE_USE_HEAP);
	return page_is_none(pa) ? NULL : phys_ptr(pa);
}

void mem_free(void *p, size_t bytes)
{
	struct heap *h = any_for(bytes);

	if (h != NULL) {
		heap_free(h, p);
	} else if (p != NULL) {
		page_free(phys_of(p), order_for(bytes));
	}
}
