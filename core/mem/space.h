/*
 * Address spaces of processes: what is mapped where, and the page tables that show it to the CPU.
 *
 * A mapping shows a range of a memory object (object.h). Page tables are filled by faults. A
 * space belongs to one process, or for a while to a vfork child, too.
 *
 * A shared mapping shows the object itself. A private one shows the object's pages read-only until
 * they are written to; then the space has copies of its own. A private mapping without an object is
 * anonymous memory.
 */
#pragma once

#include <stdatomic.h>

#include "core/hw/user.h"
#include "core/lock.h"
#include "core/mem/object.h"
#include "lib/base/types.h"

struct space;

/* As PROT_* of Linux's <asm-generic/mman-common.h>. Writable and executable at once is refused. */
#define SPACE_READ  0x1
#define SPACE_WRITE 0x2
#define SPACE_EXEC  0x4

/* Of space_map(). */
#define SPACE_SHARED	BIT(0) /* shows the object; without it: private */
#define SPACE_FIXED	BIT(1) /* at @hint exactly; what is there goes */
#define SPACE_NOREPLACE BIT(2) /* with SPACE_FIXED: -EEXIST if something is there */
#define SPACE_NOHUGE	BIT(3) /* pages of 4 KiB only: stacks */
#define SPACE_POPULATE	BIT(4) /* makes all pages at once, as far as there is memory */
#define SPACE_NOWRITE	BIT(5) /* shared: may never be made writable (a file opened for reading) */

#define SPACE_START	   UINT64_C(0x10000) /* the lowest address that can be mapped */
#define SPACE_MAPPINGS_MAX 4096		     /* of one space; more are -ENOMEM */

/** space_create() - empty. One holder. Return: it, or NULL without memory. */
must_use struct space *space_create(void);

/** space_get() / space_put() - with the last holder all is unmapped and freed. Context: no spinlock
 * held, interrupts on; no CPU has it loaded any more (space_switch()). */
void space_get(struct space *s);
void space_put(struct space *s);

/**
 * space_switch() - loads @s on this CPU, or with NULL the kernel's own tables.
 * Context: interrupts off.
 */
void space_switch(struct space *s);

/** space_current() - what this CPU has loaded; NULL: none of ring 3. */
struct space *space_current(void);

/**
 * space_map() - maps @len bytes of @o from @offset on.
 * @hint: with SPACE_FIXED the address; else where to look first, 0: anywhere.
 * @o: NULL: anonymous. Else the mapping holds it (object_get()).
 * @offset: page-aligned.
 * @address: where it is.
 * Return: 0; -EINVAL (alignment, length 0, both write and exec, flags); -ENOMEM (memory, room,
 * SPACE_MAPPINGS_MAX); -EEXIST; -EPERM (a writable shared mapping of a sealed object).
 * Context: thread, no spinlock held, interrupts on. The same for all below.
 */
must_use int space_map(struct space *s, uint64_t hint, uint64_t len, unsigned prot, unsigned flags,
		       struct object *o, uint64_t offset, uint64_t *address);

/** space_unmap() - whatever is mapped in the range. Return: 0, -EINVAL, -ENOMEM (a mapping had to
 * be cut in two). */
must_use int space_unmap(struct space *s, uint64_t va, uint64_t len);

/** space_protect() - Return: 0; -EINVAL; -ENOMEM if the range has holes, or as space_unmap();
 * -EACCES (a SPACE_NOWRITE mapping). */
must_use int space_protect(struct space *s, uint64_t va, uint64_t len, unsigned prot);

enum space_advice {
	SPACE_DONTNEED, /* private memory: as freshly mapped. Shared: page tables are emptied */
	SPACE_REMOVE,	/* shared: the object's pages are freed, too (object_punch()) */
	SPACE_HUGE,	/* pages of 2 MiB where they fit */
	SPACE_NOT_HUGE,
	SPACE_WILLNEED, /* fault all in */
};

/** space_advise() - Return: 0; -EINVAL; -ENOMEM if the range has holes. */
must_use int space_advise(struct space *s, uint64_t va, uint64_t len, enum space_advice advice);

/**
 * space_remap() - mremap(): grows or shrinks a mapping of @old_len at @va to @new_len, moving it if
 * it must and @may_move. Contents go with it.
 * Return: 0 and the address; -ENOMEM; -EFAULT if it is not one mapping; -EINVAL.
 */
must_use int space_remap(struct space *s, uint64_t va, uint64_t old_len, uint64_t new_len,
			 bool may_move, uint64_t *address);

/**
 * space_move() - mremap() with MREMAP_FIXED: as space_remap(), to @to, whatever is mapped there.
 * Return: 0; -ENOMEM; -EFAULT if it is not one mapping; -EINVAL, also if the ranges meet.
 */
must_use int space_move(struct space *s, uint64_t va, uint64_t old_len, uint64_t new_len,
			uint64_t to);

/**
 * space_copy() - for fork(): a space with the same mappings. Shared ones show the same objects,
 * private ones have copies of the pages, made at once. Of what other threads write meanwhile some
 * is in it and some is not.
 * Return: it, or NULL without memory.
 */
must_use struct space *space_copy(struct space *s);

/**
 * space_residency() - mincore(): for each of the @n pages from @va on, is there memory behind it?
 * @va: page-aligned.
 * @resident: n bytes, 0 or 1.
 * Return: 0; -ENOMEM if not all of it is mapped.
 */
must_use int space_residency(struct space *s, uint64_t va, size_t n, uint8_t *resident);

/** space_clear() - unmaps all, for execve(). */
void space_clear(struct space *s);

/* Bits of @access: SPACE_READ, SPACE_WRITE or SPACE_EXEC, one of them. */

/**
 * space_fault() - makes an access possible: called for page faults of ring 3, and of user.h.
 * Return: 0: try again; -EFAULT: nothing is mapped there, or not for this (SIGSEGV); -ENOMEM: no
 * memory; -ENXIO: behind the object's end (SIGBUS).
 */
must_use int space_fault(struct space *s, uint64_t va, unsigned access);

/**
 * space_page() - the page behind a user address of any space, faulted in if need be.
 * @writable: it may be written to through the mapping. If not asked for (SPACE_READ), it says
 * whether page tables may show it so without another fault.
 * @page: first address of the page; @bytes: PAGE_SIZE or HUGE_SIZE: as large as the page is and
 * the mapping shows it, aligned at @va's offset alike. Held: page_put().
 * Return: as space_fault().
 */
must_use int space_page(struct space *s, uint64_t va, unsigned access, hpa_t *page, uint64_t *bytes,
			bool *writable);

/** A page as a space shows it. */
struct space_shown {
	hpa_t page; /* its first address */
	uint64_t bytes;
	bool writable;
};

/**
 * space_shown() - as space_page(), if page tables show it already, and without holding it: until
 * space_shown_end() nothing is taken out of the space, for its lock is held.
 * Return: do they?
 */
must_use bool space_shown(struct space *s, uint64_t va, unsigned access, struct space_shown *shown);
void space_shown_end(struct space *s);

/** space_read() / space_write() - bytes of any space, also of one that is not loaded. Return: 0 or
 * -EFAULT, as user_read(). */
must_use int space_read(struct space *s, void *to, uint64_t va, size_t len);
must_use int space_write(struct space *s, uint64_t va, const void *from, size_t len);

/*
 * For those who keep page tables of their own over a space: nested page tables. They hold no pages;
 * instead they are told before pages go away or become read-only, as by Linux's MMU notifiers.
 *
 *	seq = space_seq(s);
 *	space_page(s, va, ...);
 *	take the lock of the nested tables;
 *	if (space_seq(s) == seq) { enter the page }	else start again;
 *	give the lock;
 *	page_put();
 */
struct space_notifier {
	/**
	 * invalidate() - forget all of [start, end): when it returns, no CPU uses any of it.
	 * Context: LOCK_SPACE held, interrupts on.
	 */
	void (*invalidate)(struct space_notifier *n, uint64_t start, uint64_t end);
	struct space_notifier *next; /* guarded by the space's lock */
};

void space_add_notifier(struct space *s, struct space_notifier *n);
/** space_remove_notifier() - when it returns, invalidate() does not run and will not. */
void space_remove_notifier(struct space *s, struct space_notifier *n);

/** space_seq() - changes with each invalidation, before invalidate() is called. Context: any. */
uint64_t space_seq(struct space *s);

/** space_each() - calls fn for each mapping, by rising addresses, under the space's lock: for
 * /proc/self/maps and crash reports. */
void space_each(struct space *s,
		void (*fn)(void *ctx, uint64_t va, uint64_t len, unsigned prot, unsigned flags,
			   uint64_t offset),
		void *ctx);
