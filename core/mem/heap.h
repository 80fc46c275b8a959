/*
 * Small objects of the kernel, by type. A heap serves objects of one size; it counts them, so that
 * tests can see whether all that a process had has come back.
 */
#pragma once

#include "core/lock.h"
#include "lib/base/types.h"

struct heap_slab;

struct heap {
	/* Constant after init. */
	const char *name;
	uint32_t bytes;	   /* of one object, rounded up */
	uint32_t per_slab; /* how many fit into a page behind its header */
	struct heap *next_heap;

	/* Guarded by lock. */
	struct spinlock lock;
	struct heap_slab *partial; /* pages with free objects */
	uint64_t used;
};

/* Objects of one size come 16-aligned, or as aligned as their size if that is a power of two up to
 * 512. The largest: */
#define HEAP_OBJECT_MAX 2016

/** heap_start() - once, after page_init(). */
void heap_start(void);

/** heap_stop() - forgets all heaps: for tests that start anew. */
void heap_stop(void);

/** heap_init() - for objects of @bytes (1 to HEAP_OBJECT_MAX). @name: for statistics; not copied.
 * A heap lives as long as the kernel. Context: start-up, or no lock of LOCK_HEAP. */
void heap_init(struct heap *h, const char *name, size_t bytes);

/** heap_alloc() - one object, filled with zeros. Return: it, or NULL. Context: any. */
must_use void *heap_alloc(struct heap *h);

/** heap_free() - NULL is allowed. Context: any. */
void heap_free(struct heap *h, void *object);

/** heap_each() - calls fn with each heap's name and how many objects of it there are. */
void heap_each(void (*fn)(void *ctx, const char *name, size_t bytes, uint64_t used), void *ctx);

/**
 * mem_alloc() - @bytes of any size, zeroed, 16-aligned; above HEAP_OBJECT_MAX whole pages, which
 * are PAGE_USE_HEAP. For what has no type of its own: buffers, tables. Return: it, or NULL.
 * Context: any.
 */
must_use void *mem_alloc(size_t bytes);

/** mem_free() - with the size that was asked for. NULL is allowed. */
void mem_free(void *p, size_t bytes);
