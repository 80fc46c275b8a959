#include "core/task/mutex.h"

#include <errno.h>
#include <stdatomic.h>

#include "core/task/sched.h"
#include "core/task/signal.h"

void mutex_init(struct mutex *m)
{
	wait_queue_init(&m->waiters);
	m->taken = false;
}

static bool try(struct mutex *m)
{
	return !atomic_exchange(&m->taken, true);
}

void mutex_take(struct mutex *m)
{
	int ignored;

	if (!try(m)) {
		wait_until(&m->waiters, try(m), CLOCK_NEVER, false, ignored);
		(void)ignored;
	}
}

void mutex_give(struct mutex *m)
{
	atomic_store(&m->taken, false);
	if (!wait_is_empty(&m->waiters)) {
		wait_wake(&m->waiters, 0);
	}
}
