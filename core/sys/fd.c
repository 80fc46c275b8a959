#include "core/sys/fd.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "core/lock.h"
#include "core/mem/heap.h"
#include "core/sys/file.h"
#include "core/task/process.h"

#define SLOTS_FIRST 32

struct fd_slot {
	struct file *file; /* NULL: free, or reserved */
	bool reserved;
	bool close_on_exec;
};

struct fd_table {
	struct spinlock lock;
	/* Guarded by lock. */
	struct fd_slot *slots;
	unsigned count;
	unsigned least_free; /* nothing is free below */
};

struct fd_table *fd_table_create(void)
{
	struct fd_table *t = mem_alloc(sizeof(*t));

	if (t == NULL) {
		return NULL;
	}
	spin_init(&t->lock, LOCK_FILE);
	return t;
}

void fd_table_put(struct fd_table *t)
{
	if (t == NULL) {
		return;
	}
	for (unsigned i = 0; i < t->count; i++) {
		if (t->slots[i].file != NULL) {
			file_put(t->slots[i].file);
		}
	}
	mem_free(t->slots, t->count * sizeof(*t->slots));
	mem_free(t, sizeof(*t));
}

struct fd_table *fd_table_copy(struct fd_table *from)
{
	struct fd_table *t = fd_table_create();
	struct fd_slot *slots;
	unsigned count;

	for (;;) {
		count = __atomic_load_n(&from->count, __ATOMIC_RELAXED);
		slots = count == 0 ? NULL : mem_alloc(count * sizeof(*slots));
		if (t == NULL || (count != 0 && slots == NULL)) {
			mem_free(slots, count * sizeof(*slots));
			fd_table_put(t);
			return NULL;
		}
		spin_take(&from->lock);
		if (from->count == count) {
			break;
		}
		spin_give(&from->lock);
		mem_free(slots, count * sizeof(*slots));
	}
	for (unsigned i = 0; i < count; i++) {
		if (from->slots[i].file != NULL) {
			slots[i] = from->slots[i];
			slots[i].reserved = false;
			file_get(slots[i].file);
		}
	}
	spin_give(&from->lock);
	t->slots = slots;
	t->count = count;
	return t;
}

struct file *fd_table_file(struct fd_table *t, int fd)
{
	struct file *f = NULL;

	spin_take(&t->lock);
	if (fd >= 0 && (unsigned)fd < t->count) {
		f = t->slots[fd].file;
		if (f != NULL) {
			file_get(f);
		}
	}
	spin_give(&t->lock);
	return f;
}

struct file *fd_get(int fd)
{
	return fd_table_file(process_current()->files, fd);
}

struct fd_loan fd_borrow(int fd)
{
	const struct process *p = process_current();
	const struct fd_table *t = p->files;

	/* Nobody but this thread could change either. */
	if (__atomic_load_n(&p->thread_count, __ATOMIC_RELAXED) != 1) {
		return (struct fd_loan){fd_get(fd), true};
	}
	return (struct fd_loan){(unsigned)fd < t->count ? t->slots[(unsigned)fd].file : NULL,
				false};
}

static unsigned limit(void)
{
	return (unsigned)MIN(process_current()->limits.files, (uint64_t)FD_MAX);
}

/* Makes room for number @fd. Called and returns with the lock held. Return: 0 or -ENOMEM. */
static int grow(struct fd_table *t, unsigned fd)
{
	while (fd >= t->count) {
		unsigned before = t->count, count = MAX(before, SLOTS_FIRST / 2) * 2;
		struct fd_slot *old, *slots;

		while (count <= fd) {
			count *= 2;
		}
		spin_give(&t->lock);
		slots = mem_alloc(count * sizeof(*slots));
		spin_take(&t->lock);
		if (slots == NULL) {
			return -ENOMEM;
		}
		if (t->count != before) {
			mem_free(slots, count * sizeof(*slots)); /* somebody else was faster */
			continue;
		}
		old = t->slots;
		if (before != 0) {
			memcpy(slots, old, before * sizeof(*slots));
		}
		t->slots = slots;
		__atomic_store_n(&t->count, count, __ATOMIC_RELAXED);
		mem_free(old, before * sizeof(*slots));
	}
	return 0;
}

static bool is_free(const struct fd_table *t, unsigned fd)
{
	return fd >= t->count || (t->slots[fd].file == NULL && !t->slots[fd].reserved);
}

int fd_reserve(struct fd_table *t, int least)
{
	unsigned fd, max = limit();
	int result;

	if (least < 0 || (unsigned)least >= max) {
		return least < 0 ? -EINVAL : (least == 0 ? -EMFILE : -EINVAL);
	}
	spin_take(&t->lock);
	do {
		fd = MAX((unsigned)least, t->least_free);
		while (fd < max && !is_free(t, fd)) {
			fd++;
		}
		result = fd < max ? grow(t, fd) : -EMFILE;
		/* While memory was being found, others may have taken it. */
	} while (result == 0 && !is_free(t, fd));
	if (result == 0) {
		t->slots[fd] = (struct fd_slot){.reserved = true};
		t->least_free = fd == t->least_free ? fd + 1 : t->least_free;
		result = (int)fd;
	}
	spin_give(&t->lock);
	return result;
}

/* Caller holds the lock. */
static void set_free(struct fd_table *t, unsigned fd)
{
	t->slots[fd] = (struct fd_slot){0};
	t->least_free = MIN(t->least_free, fd);
}

void fd_unreserve(struct fd_table *t, int fd)
{
	spin_take(&t->lock);
	set_free(t, (unsigned)fd);
	spin_give(&t->lock);
}

void fd_install(struct fd_table *t, int fd, struct file *f, bool close_on_exec)
{
	spin_take(&t->lock);
	t->slots[fd] = (struct fd_slot){.file = f, .close_on_exec = close_on_exec};
	spin_give(&t->lock);
}

int fd_replace(struct fd_table *t, int fd, struct file *f, bool close_on_exec)
{
	struct file *old;
	int error;

	if (fd < 0 || (unsigned)fd >= limit()) {
		return -EBADF;
	}
	spin_take(&t->lock);
	error = grow(t, (unsigned)fd);
	if (error == 0 && t->slots[fd].reserved) {
		error = -EBUSY;
	}
	if (error != 0) {
		spin_give(&t->lock);
		return error;
	}
	old = t->slots[fd].file;
	t->slots[fd] = (struct fd_slot){.file = f, .close_on_exec = close_on_exec};
	spin_give(&t->lock);
	if (old != NULL) {
		file_put(old);
	}
	return fd;
}

int fd_close(struct fd_table *t, int fd)
{
	struct file *f = NULL;

	spin_take(&t->lock);
	if (fd >= 0 && (unsigned)fd < t->count && t->slots[fd].file != NULL) {
		f = t->slots[fd].file;
		set_free(t, (unsigned)fd);
	}
	spin_give(&t->lock);
	if (f == NULL) {
		return -EBADF;
	}
	file_put(f);
	return 0;
}

void fd_close_range(struct fd_table *t, unsigned first, unsigned last, bool mark_only)
{
	for (unsigned fd = first; fd < FD_MAX && fd <= last; fd++) {
		if (!mark_only) {
			fd_close(t, (int)fd);
		} else if (fd_mark(t, (int)fd, true) != 0) {
			continue;
		}
	}
}

void fd_close_on_exec(struct fd_table *t)
{
	for (int fd = fd_next(t, 0); fd >= 0; fd = fd_next(t, fd + 1)) {
		if (fd_is_marked(t, fd) == 1) {
			fd_close(t, fd);
		}
	}
}

int fd_is_marked(struct fd_table *t, int fd)
{
	int result = -EBADF;

	spin_take(&t->lock);
	if (fd >= 0 && (unsigned)fd < t->count && t->slots[fd].file != NULL) {
		result = t->slots[fd].close_on_exec ? 1 : 0;
	}
	spin_give(&t->lock);
	return result;
}

int fd_mark(struct fd_table *t, int fd, bool close_on_exec)
{
	int result = -EBADF;

	spin_take(&t->lock);
	if (fd >= 0 && (unsigned)fd < t->count && t->slots[fd].file != NULL) {
		t->slots[fd].close_on_exec = close_on_exec;
		result = 0;
	}
	spin_give(&t->lock);
	return result;
}

int fd_next(struct fd_table *t, int fd)
{
	int result = -ENOENT;

	spin_take(&t->lock);
	for (unsigned i = (unsigned)fd; i < t->count; i++) {
		if (t->slots[i].file != NULL) {
			result = (int)i;
			break;
		}
	}
	spin_give(&t->lock);
	return result;
}

void fd_inspect(struct fd_table *t, int fd, void (*fn)(void *ctx, struct file *f), void *ctx)
{
	spin_take(&t->lock);
	if (fd >= 0 && (unsigned)fd < t->count && t->slots[fd].file != NULL) {
		fn(ctx, t->slots[fd].file);
	}
	spin_give(&t->lock);
}
