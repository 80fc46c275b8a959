/* lib/kvm's timers and eventfds. */
#include <errno.h>

#include "core/hw/timer.h"
#include "core/kvm/internal.h"
#include "core/sys/eventfd.h"
#include "core/sys/fd.h"
#include "core/sys/file.h"
#include "core/task/work.h"

/* ---- timers ---- */

/* In struct kvm_timer, opaque. */
struct timer_data {
	struct timer timer; /* fn is NULL before the first use */
};

_Static_assert(sizeof(struct timer_data) <= sizeof(((struct kvm_timer *)0)->opaque),
	       "lib/kvm/env.h");

static void timer_expired(struct timer *t)
{
	struct timer_data *data = container_of(t, struct timer_data, timer);
	struct kvm_timer *timer = container_of((void *)data, struct kvm_timer, opaque);

	timer->expired(timer);
}

void env_timer_arm(struct kvm_env *env, struct kvm_timer *timer, uint64_t deadline_ns)
{
	struct timer_data *data = (void *)timer->opaque;

	(void)env;
	if (data->timer.fn == NULL) {
		timer_init(&data->timer, timer_expired);
	}
	timer_start(&data->timer, deadline_ns);
}

void env_timer_cancel(struct kvm_env *env, struct kvm_timer *timer)
{
	struct timer_data *data = (void *)timer->opaque;

	(void)env;
	if (data->timer.fn != NULL) {
		(void)timer_stop_wait(&data->timer);
	}
}

/* ---- eventfds: struct file * ---- */

/*
 * Who signals tells at once. Only where the counter cannot be emptied under the lock of its queue,
 * which is rare, a thread of the kernel does that, and tells.
 */
struct watch_data {
	struct waiter waiter;
	struct work work;
	struct file *file;
};

_Static_assert(sizeof(struct watch_data) <= sizeof(((struct kvm_eventfd_watch *)0)->opaque),
	       "lib/kvm/env.h");

static void tell(struct work *w)
{
	struct watch_data *data = container_of(w, struct watch_data, work);

	eventfd_take(data->file, &data->waiter);
}

/* Under the lock of the eventfd's queue: no two at once. */
static void signalled(struct waiter *w, uint32_t events)
{
	struct watch_data *data = container_of(w, struct watch_data, waiter);
	struct kvm_eventfd_watch *watch =
		container_of((void *)data, struct kvm_eventfd_watch, opaque);

	if ((events & READY_IN) == 0) {
		return;
	}
	if (eventfd_take_some(data->file)) {
		watch->signalled(watch);
	} else {
		work_add(&data->work);
	}
}

int env_eventfd_get(struct kvm_env *env, int fd, void **eventfd)
{
	struct file *f = fd_get(fd);

	(void)env;
	if (f == NULL) {
		return -EBADF;
	}
	if (!eventfd_is(f)) {
		file_put(f);
		return -EINVAL;
	}
	*eventfd = f;
	return 0;
}

void env_eventfd_put(struct kvm_env *env, void *eventfd)
{
	(void)env;
	file_put(eventfd);
}

void env_eventfd_signal(struct kvm_env *env, void *eventfd)
{
	(void)env;
	eventfd_signal(eventfd, 1);
}

/* The watcher holds the file: it is never closed before. */
int env_eventfd_watch(struct kvm_env *env, void *eventfd, struct kvm_eventfd_watch *watch)
{
	struct watch_data *data = (void *)watch->opaque;

	(void)env;
	*data = (struct watch_data){.work.fn = tell, .file = eventfd};
	eventfd_watch(eventfd, &data->waiter, signalled);
	work_add(&data->work); /* it may have been signalled before */
	return 0;
}

void env_eventfd_unwatch(struct kvm_env *env, void *eventfd, struct kvm_eventfd_watch *watch)
{
	struct watch_data *data = (void *)watch->opaque;

	(void)env;
	(void)eventfd;
	wait_remove(&data->waiter);
	work_drain();
}
