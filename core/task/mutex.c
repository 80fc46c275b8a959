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

static rare void wait_for(struct mutex *m)
{
	int ignored;

	wait_until(&m->waiters, try(m), CLOCK_NEVER, false, ignored);
	(void)ignored;
}

void mutex_take(struct mutex *m)
{
	if (!try(m)) {
		wait_for(m);
	}
}

void mutex_give(struct mutex *m)
{
	atomic_store(&m->taken, false);
	if (!wait_is_empty(&m->waiters)) {
		wait_wake(&m->waiters, 0);
	}
}
