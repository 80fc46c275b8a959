/*
 * Timerfds. A periodic one fires once and then waits for its reader, who learns how often it would
 * have fired: nobody is interrupted for what nobody reads.
 */
#include <errno.h>
#include <linux/time.h>
#include <linux/timerfd.h>

#include "core/hw/clock.h"
#include "core/hw/timer.h"
#include "core/hw/user.h"
#include "core/mem/heap.h"
#include "core/sys/fd.h"
#include "core/sys/file.h"
#include "core/sys/syscall.h"
#include "core/task/sched.h"
#include "core/task/signal.h"
#include "core/task/time.h"

struct timerfd {
	int clock; /* constant */
	struct mutex lock;
	struct timer timer;
	uint64_t next_ns;     /* guarded by lock; CLOCK_NEVER: disarmed */
	uint64_t interval_ns; /* guarded by lock; 0: once */
	struct wait_queue changed;
};

static void on_timer(struct timer *timer)
{
	struct timerfd *t = container_of(timer, struct timerfd, timer);

	wait_wake(&t->changed, READY_IN);
}

static uint64_t next_of(struct timerfd *t)
{
	return __atomic_load_n(&t->next_ns, __ATOMIC_SEQ_CST);
}

/* Caller holds the lock. */
static void set_next(struct timerfd *t, uint64_t next_ns)
{
	timer_stop_wait(&t->timer);
	__atomic_store_n(&t->next_ns, next_ns, __ATOMIC_SEQ_CST);
	if (next_ns != CLOCK_NEVER) {
		timer_start(&t->timer, next_ns);
	}
}

/* Return: how often it has fired since last time. */
static uint64_t take(struct timerfd *t)
{
	uint64_t now, count = 0;

	if (next_of(t) > clock_now_ns()) {
		return 0;
	}
	mutex_take(&t->lock);
	now = clock_now_ns();
	if (t->next_ns <= now) {
		count = 1;
		if (t->interval_ns != 0) {
			count += (now - t->next_ns) / t->interval_ns;
			set_next(t, t->next_ns + count * t->interval_ns);
		} else {
			set_next(t, CLOCK_NEVER);
		}
	}
	mutex_give(&t->lock);
	return count;
}

static int64_t timerfd_read(struct file *f, struct uio *u, uint64_t *offset)
{
	struct timerfd *t = f->data;
	uint64_t count;
	int error;

	(void)offset;
	if (u->left < sizeof(count)) {
		return -EINVAL;
	}
	for (;;) {
		count = take(t);
		if (count != 0) {
			return uio_put(u, &count, sizeof(count));
		}
		if (file_is_nonblocking(f)) {
			return -EAGAIN;
		}
		wait_until(&t->changed, next_of(t) <= clock_now_ns(), CLOCK_NEVER, true, error);
		if (error != 0) {
			return -ERESTARTSYS;
		}
	}
}

static uint32_t timerfd_poll(struct file *f, struct poll_table *table)
{
	struct timerfd *t = f->data;

	poll_wait(table, &t->changed);
	return next_of(t) <= clock_now_ns() ? READY_IN : 0;
}

static void timerfd_release(struct file *f)
{
	struct timerfd *t = f->data;

	timer_stop_wait(&t->timer);
	mem_free(t, sizeof(*t));
}

static const struct file_ops timerfd_ops = {.read = timerfd_read,
					    .poll = timerfd_poll,
					    .release = timerfd_release,
					    .name = "anon_inode:[timerfd]"};

SYSCALL(timerfd_create)
{
	int clock = (int)a[0], fd;
	struct timerfd *t;

	if ((clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC && clock != CLOCK_BOOTTIME) ||
	    (a[1] & ~(uint64_t)(TFD_CLOEXEC | TFD_NONBLOCK)) != 0) {
		return -EINVAL;
	}
	t = mem_alloc(sizeof(*t));
	if (t == NULL) {
		return -ENOMEM;
	}
	t->clock = clock;
	t->next_ns = CLOCK_NEVER;
	mutex_init(&t->lock);
	wait_queue_init(&t->changed);
	timer_init(&t->timer, on_timer);
	fd = anon_fd(&timerfd_ops, t, FILE_READWRITE | (uint32_t)(a[1] & TFD_NONBLOCK),
		     (a[1] & TFD_CLOEXEC) != 0);
	if (fd < 0) {
		mem_free(t, sizeof(*t));
	}
	return fd;
}

/* Caller holds the lock. */
static int write_setting(struct timerfd *t, uint64_t va)
{
	uint64_t now = clock_now_ns(), next = t->next_ns;
	uint64_t left = next == CLOCK_NEVER ? 0 : next > now ? next - now : 1;

	if (next != CLOCK_NEVER && next <= now && t->interval_ns != 0) {
		left = t->interval_ns - (now - next) % t->interval_ns;
	}
	return time_write(va, t->interval_ns) != 0 || time_write(va + 16, left) != 0 ? -EFAULT : 0;
}

static struct file *get(uint64_t fd, int64_t *error)
{
	struct file *f = fd_get((int)fd);

	*error = f == NULL ? -EBADF : 0;
	if (f != NULL && f->ops != &timerfd_ops) {
		file_put(f);
		f = NULL;
		*error = -EINVAL;
	}
	return f;
}

static int64_t set_time(struct timerfd *t, uint64_t flags, uint64_t new_va, uint64_t old_va)
{
	uint64_t interval_ns, value_ns = 0, next_ns = CLOCK_NEVER;
	int64_t error = time_read(new_va, &interval_ns);

	if (error == 0) {
		error = time_read(new_va + 16, &value_ns);
	}
	if (error == 0 && (flags & ~(uint64_t)(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET)) != 0) {
		error = -EINVAL;
	}
	if (error == 0 && value_ns != 0) {
		if ((flags & TFD_TIMER_ABSTIME) != 0) {
			error = time_to_deadline(t->clock, value_ns, &next_ns);
		} else {
			next_ns = time_after(value_ns);
		}
	}
	if (error != 0) {
		return error;
	}
	mutex_take(&t->lock);
	if (old_va != 0) {
		error = write_setting(t, old_va);
	}
	t->interval_ns = interval_ns;
	set_next(t, next_ns);
	mutex_give(&t->lock);
	return error;
}

SYSCALL(timerfd_settime)
{
	int64_t error;
	struct file *f = get(a[0], &error);

	if (f != NULL) {
		error = set_time(f->data, a[1], a[2], a[3]);
		file_put(f);
	}
	return error;
}

SYSCALL(timerfd_gettime)
{
	int64_t error;
	struct file *f = get(a[0], &error);

	if (f != NULL) {
		struct timerfd *t = f->data;

		mutex_take(&t->lock);
		error = write_setting(t, a[1]);
		mutex_give(&t->lock);
		file_put(f);
	}
	return error;
}
