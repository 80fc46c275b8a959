/*
 * Memory objects: bytes that can be mapped. Anonymous memory is one, a memfd is one, a file of the
 * initramfs becomes one when it is mapped. An object is sparse: a page exists from the first touch
 * on, filled with zeros, or with what the object's filler writes. Where a whole aligned 2 MiB is
 * wanted, the page is one of 2 MiB.
 *
 * Whoever holds a page beyond a lock has it counted (page_get()). An object's pages disappear from
 * all mappings before they are freed.
 */
#pragma once

#include <stdatomic.h>

#include "core/lock.h"
#include "core/mem/page.h"
#include "lib/base/types.h"

struct mapping;
struct object;

/* As F_SEAL_* of Linux's <linux/fcntl.h>. */
#define OBJECT_SEAL_SEAL   0x1
#define OBJECT_SEAL_SHRINK 0x2
#define OBJECT_SEAL_GROW   0x4
#define OBJECT_SEAL_WRITE  0x8

/**
 * A filler writes what a new page begins with, instead of zeros.
 * @offset: page-aligned, in the object. @page: PAGE_SIZE bytes, zero.
 * Return: 0 or -errno: the page does not come to be.
 */
typedef int object_fill_fn(void *ctx, uint64_t offset, void *page);

/**
 * object_create() - of @size bytes, all zeros. One holder.
 * Return: it, or NULL without memory.
 */
must_use struct object *object_create(uint64_t size);

/** object_create_filled() - as object_create(), with a filler; its pages are of 4 KiB. What @ctx
 * points to lives longer than the object. */
must_use struct object *object_create_filled(uint64_t size, object_fill_fn *fill, void *ctx);

/** object_get() / object_put() - one holder more or less; with the last it ends and its pages are
 * freed. Context: object_put(): no spinlock held. */
void object_get(struct object *o);
void object_put(struct object *o);

uint64_t object_size(struct object *o);

/**
 * object_resize() - bytes behind a new, smaller size are gone from all mappings.
 * Return: 0; -EPERM if a seal is against it; -EFBIG above OBJECT_SIZE_MAX.
 * Context: interrupts on, no spinlock held.
 */
must_use int object_resize(struct object *o, uint64_t size);

#define OBJECT_SIZE_MAX (UINT64_C(1) << 46)

/** object_punch() - [offset, offset + len) reads as zeros again; whole pages in it are freed.
 * Return: 0, -EPERM if sealed against writing, -ENOMEM. Context: as object_resize(). */
must_use int object_punch(struct object *o, uint64_t offset, uint64_t len);

/** object_populate() - makes all pages of the range exist. Return: 0, -ENOMEM, -EFBIG beyond the
 * end. Context: no spinlock held. */
must_use int object_populate(struct object *o, uint64_t offset, uint64_t len);

/** object_seals() / object_add_seals() - Return: 0; -EPERM once OBJECT_SEAL_SEAL is set; -EBUSY
 * for OBJECT_SEAL_WRITE while a writable shared mapping exists. */
uint32_t object_seals(struct object *o);
must_use int object_add_seals(struct object *o, uint32_t seals);

/**
 * object_page() - the page that holds the byte at @offset, made if it does not exist yet.
 * @may_be_huge: a new page may be one of 2 MiB, if the object has room for it.
 * @page: the page's first address; @bytes: PAGE_SIZE or HUGE_SIZE. Held for the caller:
 * page_put().
 * Return: 0; -ENOMEM; -EFBIG beyond the object's last page; what the filler returned.
 * Context: no spinlock held.
 */
must_use int object_page(struct object *o, uint64_t offset, bool may_be_huge, hpa_t *page,
			 uint64_t *bytes);

/** object_find() - as object_page(), but makes none: -ENOENT. Context: any without LOCK_OBJECT. */
must_use int object_find(struct object *o, uint64_t offset, hpa_t *page, uint64_t *bytes);

/** object_read() / object_write() - the kernel's own access; absent pages read as zeros and are
 * made on writing. The range is within the size. Return: 0, -EFBIG, -ENOMEM, -EPERM if sealed.
 * Context: no spinlock held. */
must_use int object_read(struct object *o, uint64_t offset, void *to, size_t len);
must_use int object_write(struct object *o, uint64_t offset, const void *from, size_t len);

/**
 * object_copy() - a new object of @size bytes, with copies of the pages of [offset, offset + len)
 * at the same offsets. @offset and @len are page-aligned. One holder.
 * Return: it, or NULL without memory.
 * Context: LOCK_SPACE may be held.
 */
must_use struct object *object_copy(struct object *from, uint64_t offset, uint64_t len,
				    uint64_t size);

/** object_has() - does the page at @offset exist? Context: as object_find(). */
bool object_has(struct object *o, uint64_t offset);

/** object_pages() - how many pages of 4 KiB it has at this moment. */
uint64_t object_pages(struct object *o);
