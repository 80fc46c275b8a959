/*
 * Wait queues: who wants to know that something happened. A waiter is a thread that sleeps, or a
 * function (epoll, irqfds).
 */
#pragma once

#include "core/hw/clock.h"
#include "core/list.h"
#include "core/lock.h"
#include "lib/base/types.h"

struct thread;
struct waiter;

/** A waiter's function: under the queue's lock, interrupts off. It may remove its waiter. */
typedef void waiter_fn(struct waiter *w, uint32_t events);

struct wait_queue {
	struct spinlock lock;
	struct list waiters; /* guarded by lock */
};

/* Storage is the waiter's, often its stack. */
struct waiter {
	struct list node; /* guarded by the queue's lock */
	struct wait_queue *queue;
	struct thread *thread; /* to wake, or NULL: */
	void *context;	       /* of fn() */
	waiter_fn *fn;
};

void wait_queue_init(struct wait_queue *q);

/** wait_queue_init_rank() - for queues that are woken by functions of others. */
void wait_queue_init_rank(struct wait_queue *q, enum lock_rank rank);

/** wait_add() - @fn NULL: the current thread. Until wait_remove(). Context: any. */
void wait_add(struct wait_queue *q, struct waiter *w, waiter_fn *fn);
void wait_remove(struct waiter *w);

/**
 * wait_is_empty() - does nobody wait? For threads in wait_until() only: with it a wake-up can be
 * left out. What they wait for was written by a sequentially consistent store, which pairs with
 * that of sched_prepare().
 */
static inline bool wait_is_empty(const struct wait_queue *q)
{
	return __atomic_load_n(&q->waiters.next, __ATOMIC_RELAXED) == &q->waiters;
}

/** wait_wake() - wakes all; @events (EPOLL*) are for functions. Context: any. */
void wait_wake(struct wait_queue *q, uint32_t events);

/** wait_wake_locked() - the same, for who has taken the queue's lock. */
void wait_wake_all(struct wait_queue *q, uint32_t events);

static inline void wait_wake_locked(struct wait_queue *q, uint32_t events)
{
	struct list *first = q->waiters.next;
	struct waiter *w = container_of(first, struct waiter, node);

	if (first == &q->waiters) {
		return;
	}
	/* A function alone, as a rule. */
	if (first->next == &q->waiters && w->thread == NULL) {
		w->fn(w, events);
	} else {
		wait_wake_all(q, events);
	}
}

/**
 * wait_until() - sleeps until @condition, an expression, is true.
 * @result: int; 0, -ETIMEDOUT, or -EINTR if a signal came and @interruptible.
 * A macro, for the condition is looked at again and again. Context: thread, no spinlock held.
 */
#define wait_until(q, condition, deadline_ns, interruptible, result)     \
	do {                                                             \
		struct waiter w_##result;                                \
                                                                         \
		wait_add(q, &w_##result, NULL);                          \
		for ((result) = 0;;) {                                   \
			sched_prepare();                                 \
			if (condition) {                                 \
				break;                                   \
			}                                                \
			if ((interruptible) && signal_is_pending()) {    \
				(result) = -EINTR;                       \
				break;                                   \
			}                                                \
			if (!sched_sleep(deadline_ns) && !(condition)) { \
				(result) = -ETIMEDOUT;                   \
				break;                                   \
			}                                                \
		}                                                        \
		sched_unprepare();                                       \
		wait_remove(&w_##result);                                \
	} while (0)
