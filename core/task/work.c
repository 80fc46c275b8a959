#include "core/task/work.h"

#include <errno.h>

#include "core/task/sched.h"
#include "core/task/signal.h"
#include "core/task/thread.h"
#include "core/task/wait.h"
#include "lib/base/check.h"

#define WORKER_PRIORITY 50

static struct {
	struct spinlock lock;
	struct work *first, **last; /* guarded by lock */
	uint64_t added, done;	    /* guarded by lock */
	struct wait_queue more, idle;
} queue = {.lock = SPINLOCK_INIT(LOCK_LEAF)};

static bool work_is_there(void)
{
	uint64_t flags = spin_take_irq(&queue.lock);
	bool there = queue.first != NULL;

	spin_give_irq(&queue.lock, flags);
	return there;
}

static bool is_done(uint64_t count)
{
	uint64_t flags = spin_take_irq(&queue.lock);
	bool done = queue.done >= count;

	spin_give_irq(&queue.lock, flags);
	return done;
}

static struct work *next_work(void)
{
	uint64_t flags = spin_take_irq(&queue.lock);
	struct work *w = queue.first;

	if (w != NULL) {
		queue.first = w->next;
		queue.last = w->next == NULL ? &queue.first : queue.last;
		w->queued = false;
	}
	spin_give_irq(&queue.lock, flags);
	return w;
}

static void worker(void *arg)
{
	int ignored;

	(void)arg;
	thread_begin();
	/* Guests' interrupts pass through here: before all that only computes. */
	check(sched_set_policy(thread_current(), RUN_FIFO, WORKER_PRIORITY, 0) == 0);
	for (;;) {
		struct work *w = next_work();

		if (w == NULL) {
			wait_until(&queue.more, work_is_there(), CLOCK_NEVER, false, ignored);
			(void)ignored;
			continue;
		}
		w->fn(w);
		uint64_t flags = spin_take_irq(&queue.lock);
		queue.done++;
		spin_give_irq(&queue.lock, flags);
		wait_wake(&queue.idle, 0);
	}
}

int work_start(void)
{
	queue.last = &queue.first;
	wait_queue_init_rank(&queue.more, LOCK_WORK);
	wait_queue_init(&queue.idle);
	return thread_create_kernel("worker", worker, NULL);
}

void work_add(struct work *w)
{
	uint64_t flags = spin_take_irq(&queue.lock);
	bool added = !w->queued;

	if (added) {
		w->queued = true;
		w->next = NULL;
		*queue.last = w;
		queue.last = &w->next;
		queue.added++;
	}
	spin_give_irq(&queue.lock, flags);
	if (added) {
		wait_wake(&queue.more, 0);
	}
}

void work_drain(void)
{
	uint64_t flags = spin_take_irq(&queue.lock);
	uint64_t count = queue.added;
	int ignored;

	spin_give_irq(&queue.lock, flags);
	wait_until(&queue.idle, is_done(count), CLOCK_NEVER, false, ignored);
	(void)ignored;
}
