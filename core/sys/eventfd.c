#include "core/sys/eventfd.h"

#include <errno.h>
#include <linux/fcntl.h>

#include "core/mem/heap.h"
#include "core/sys/syscall.h"
#include "core/task/sched.h"
#include "core/task/signal.h"

#define EFD_SEMAPHORE 1
#define EFD_CLOEXEC   O_CLOEXEC
#define EFD_NONBLOCK  O_NONBLOCK
#define COUNT_MAX     (UINT64_MAX - 1)
#define COUNT_SOME    (UINT64_MAX / 2) /* below it nobody waits for room, who writes less */

struct eventfd {
	struct wait_queue changed;
	uint64_t count; /* guarded by the queue's lock; may be read without, by who looks again */
	bool is_semaphore;
};

/* Return: what a read gives, or 0. */
static uint64_t take(struct eventfd *e)
{
	uint64_t flags = spin_take_irq(&e->changed.lock);
	uint64_t value = e->is_semaphore ? e->count != 0 : e->count;

	e->count -= value;
	if (value != 0) {
		wait_wake_locked(&e->changed, READY_OUT);
	}
	spin_give_irq(&e->changed.lock, flags);
	return value;
}

/* Who signals where nobody waits saves no registers for this. */
static __attribute__((noinline)) void wake_and_give(struct eventfd *e, uint64_t flags)
{
	wait_wake_locked(&e->changed, READY_IN);
	spin_give_irq(&e->changed.lock, flags);
}

/* @alone: nobody is expected to wait. */
static inline bool add(struct eventfd *e, uint64_t value, bool alone)
{
	uint64_t flags = spin_take_irq(&e->changed.lock);

	if (COUNT_MAX - e->count < value) {
		spin_give_irq(&e->changed.lock, flags);
		return false;
	}
	e->count += value;
	if (alone && !wait_is_empty(&e->changed)) {
		wake_and_give(e, flags);
		return true;
	}
	if (!alone) {
		wait_wake_locked(&e->changed, READY_IN);
	}
	spin_give_irq(&e->changed.lock, flags);
	return true;
}

static int64_t eventfd_read(struct file *f, struct uio *u, uint64_t *offset)
{
	struct eventfd *e = f->data;
	uint64_t value;
	int error;

	(void)offset;
	if (u->left < sizeof(value)) {
		return -EINVAL;
	}
	value = take(e);
	if (value == 0) {
		if (file_is_nonblocking(f)) {
			return -EAGAIN;
		}
		wait_until(&e->changed, (value = take(e)) != 0, CLOCK_NEVER, true, error);
		if (error != 0) {
			return -ERESTARTSYS;
		}
	}
	return uio_put(u, &value, sizeof(value));
}

static rare int64_t wait_to_add(struct file *f, uint64_t value)
{
	struct eventfd *e = f->data;
	int error;

	if (value == UINT64_MAX || file_is_nonblocking(f)) {
		return value == UINT64_MAX ? -EINVAL : -EAGAIN;
	}
	wait_until(&e->changed, add(e, value, false), CLOCK_NEVER, true, error);
	return error != 0 ? -ERESTARTSYS : (int64_t)sizeof(value);
}

static int64_t eventfd_write_word(struct file *f, uint64_t value)
{
	/* UINT64_MAX, which cannot be written, never fits. */
	return add(f->data, value, false) ? (int64_t)sizeof(value) : wait_to_add(f, value);
}

static int64_t eventfd_write(struct file *f, struct uio *u, uint64_t *offset)
{
	uint64_t value;

	(void)offset;
	if (u->left < sizeof(value)) {
		return -EINVAL;
	}
	if (uio_get(u, &value, sizeof(value)) != (int64_t)sizeof(value)) {
		return -EFAULT;
	}
	return eventfd_write_word(f, value);
}

static uint32_t eventfd_poll(struct file *f, struct poll_table *t)
{
	struct eventfd *e = f->data;
	uint64_t count;

	poll_wait(t, &e->changed);
	count = __atomic_load_n(&e->count, __ATOMIC_SEQ_CST);
	return (count != 0 ? READY_IN : 0) | (count < COUNT_MAX ? READY_OUT : 0);
}

static void eventfd_release(struct file *f)
{
	struct eventfd *e = f->data;

	wait_wake(&e->changed, READY_HUP);
	mem_free(e, sizeof(*e));
}

static const struct file_ops eventfd_ops = {.read = eventfd_read,
					    .write = eventfd_write,
					    .write_word = eventfd_write_word,
					    .poll = eventfd_poll,
					    .release = eventfd_release,
					    .name = "anon_inode:[eventfd]"};

bool eventfd_is(const struct file *f)
{
	return f->ops == &eventfd_ops;
}

void eventfd_signal(struct file *f, uint64_t count)
{
	struct eventfd *e = f->data;

	if (!add(e, count, true)) {
		wait_wake(&e->changed, READY_IN);
	}
}

void eventfd_watch(struct file *f, struct waiter *w, waiter_fn *fn)
{
	wait_add(&((struct eventfd *)f->data)->changed, w, fn);
}

bool eventfd_take_some(struct file *f)
{
	struct eventfd *e = f->data;
	bool some = e->count != 0 && e->count < COUNT_SOME;

	if (some) {
		e->count = 0;
	}
	return some;
}

void eventfd_take(struct file *f, struct waiter *w)
{
	struct eventfd *e = f->data;
	uint64_t flags = spin_take_irq(&e->changed.lock);

	if (e->count != 0) {
		/* What is less than that the watch takes itself, if a writer was not faster. */
		if (e->count >= COUNT_SOME) {
			e->count = 1;
			wait_wake_locked(&e->changed, READY_OUT);
		}
		w->fn(w, READY_IN);
	}
	spin_give_irq(&e->changed.lock, flags);
}

static int64_t create(uint64_t initial, uint64_t flags)
{
	struct eventfd *e;
	int fd;

	if ((flags & ~(uint64_t)(EFD_SEMAPHORE | EFD_CLOEXEC | EFD_NONBLOCK)) != 0) {
		return -EINVAL;
	}
	e = mem_alloc(sizeof(*e));
	if (e == NULL) {
		return -ENOMEM;
	}
	wait_queue_init_rank(&e->changed, LOCK_EVENTFD);
	e->count = (uint32_t)initial;
	e->is_semaphore = (flags & EFD_SEMAPHORE) != 0;
	fd = anon_fd(&eventfd_ops, e, FILE_READWRITE | (uint32_t)(flags & EFD_NONBLOCK),
		     (flags & EFD_CLOEXEC) != 0);
	if (fd < 0) {
		mem_free(e, sizeof(*e));
	}
	return fd;
}

SYSCALL(eventfd2)
{
	return create(a[0], a[1]);
}

SYSCALL(eventfd)
{
	return create(a[0], 0);
}
