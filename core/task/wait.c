#include "core/task/wait.h"

#include "core/task/sched.h"
#include "core/task/thread.h"

void wait_queue_init(struct wait_queue *q)
{
	wait_queue_init_rank(q, LOCK_WAIT);
}

void wait_queue_init_rank(struct wait_queue *q, enum lock_rank rank)
{
	spin_init(&q->lock, rank);
	list_init(&q->waiters);
}

void wait_add(struct wait_queue *q, struct waiter *w, waiter_fn *fn)
{
	uint64_t flags;

	w->queue = q;
	w->fn = fn;
	w->thread = fn == NULL ? thread_current() : NULL;
	flags = spin_take_irq(&q->lock);
	list_add_last(&q->waiters, &w->node);
	spin_give_irq(&q->lock, flags);
}

void wait_remove(struct waiter *w)
{
	uint64_t flags = spin_take_irq(&w->queue->lock);

	list_remove(&w->node);
	spin_give_irq(&w->queue->lock, flags);
}

void wait_wake_all(struct wait_queue *q, uint32_t events)
{
	list_each_safe(&q->waiters, node)
	{
		struct waiter *w = container_of(node, struct waiter, node);

		if (w->thread != NULL) {
			sched_wake(w->thread);
		} else {
			w->fn(w, events);
		}
	}
}

void wait_wake(struct wait_queue *q, uint32_t events)
{
	uint64_t flags = spin_take_irq(&q->lock);

	wait_wake_all(q, events);
	spin_give_irq(&q->lock, flags);
}
