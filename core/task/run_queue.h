/*
 * Who of the threads that could run on a CPU runs next: fixed real-time priorities above fair
 * sharing by weight. Only data; the locks are the scheduler's (sched.h).
 *
 * Fair threads are ordered by virtual time: the time they ran, divided by their weight. A thread's
 * virtual time means something in its queue only; between queues its distance from the queue's own
 * virtual time is kept, within bounds, so that who slept long does not starve the others.
 *
 * What waits at one queue while another would serve it better is moved: a real-time thread if the
 * other runs something lower, a fair one if the other has less weight to serve. Three equal threads
 * on two CPUs change places that way; who has been in its queue longest goes.
 */
#pragma once

#include <stdatomic.h>

#include "core/list.h"
#include "lib/base/types.h"

#define RUN_PRIORITIES	   100 /* 1 to 99 are SCHED_FIFO and SCHED_RR; 0 is fair sharing */
#define RUN_SLICE_FAIR_NS  UINT64_C(4000000)
#define RUN_SLICE_RR_NS	   UINT64_C(10000000)
#define RUN_GRANULARITY_NS UINT64_C(1000000)

/* As SCHED_* of Linux's <linux/sched.h>. */
enum run_policy {
	RUN_OTHER = 0,
	RUN_FIFO = 1,
	RUN_RR = 2,
	RUN_BATCH = 3,
	RUN_IDLE = 5,
};

/* What of a thread the queue is about. */
struct run_entity {
	struct list node;
	enum run_policy policy;
	unsigned priority;   /* 1 to 99 with FIFO and RR, else 0 */
	uint64_t cpus;	     /* where it may run, bit n being CPU n */
	int nice;	     /* -20 to 19 */
	uint32_t weight;     /* 0: real-time, or the idle thread */
	uint64_t virtual_ns; /* in a queue: absolute; outside: as int64_t, from the queue's */
	uint64_t slice_ns;   /* what is left of its turn */
	uint64_t left_ns;    /* when it left its queue; 0: it was in none yet */
	bool queued;
};

struct run_queue {
	struct list level[RUN_PRIORITIES];
	uint64_t levels[2]; /* bit n: level n has members */
	unsigned count;
	uint64_t virtual_ns; /* never goes back */

	/* Others look at these without the lock, too: a wrong guess costs time only. */
	_Atomic uint64_t weight;  /* of the fair members */
	_Atomic uint64_t running; /* weight of who runs; of real-time threads: priority << 32 */
};

void run_queue_init(struct run_queue *q);

/** run_entity_init() - fair, nice 0, on any CPU. */
void run_entity_init(struct run_entity *e);

/** run_entity_set() - Return: 0, -EINVAL for a policy, priority or nice value that is none. The
 * entity is not queued. */
must_use int run_entity_set(struct run_entity *e, int policy, int priority, int nice);

/** run_queue_enter() - a thread comes from elsewhere, or from sleep: who slept is owed the time, up
 * to a slice. @now_ns: the same clock for all queues. Then run_queue_put(). */
void run_queue_enter(struct run_queue *q, struct run_entity *e, uint64_t now_ns);

/** run_queue_leave() - it goes to sleep or elsewhere; it is not queued. */
void run_queue_leave(struct run_queue *q, struct run_entity *e, uint64_t now_ns);

/** run_queue_put() - waits for its turn: at its level's end, or with what is left of its turn at
 * its level's head; fair threads by their virtual time. FIFO's turns have no end. */
void run_queue_put(struct run_queue *q, struct run_entity *e);
void run_queue_remove(struct run_queue *q, struct run_entity *e);

/** run_queue_first() - whose turn it is; NULL if nobody waits. */
struct run_entity *run_queue_first(struct run_queue *q);

/** run_queue_run() - @e runs from now on, perhaps the idle thread. */
void run_queue_run(struct run_queue *q, const struct run_entity *e);

/** run_queue_priority() - of who runs; 0: fair, or nobody. Context: no lock. */
unsigned run_queue_priority(const struct run_queue *q);

/** run_queue_spare() - who waits at @from and would be better off at @to.
 * @cpu: whose queue @to is. @fair: fair ones, too. Return: it or NULL. */
struct run_entity *run_queue_spare(struct run_queue *from, const struct run_queue *to, unsigned cpu,
				   bool fair);

/** run_queue_account() - @e, which runs and is not queued, has run for @ns. */
void run_queue_account(struct run_queue *q, struct run_entity *e, uint64_t ns);

/** run_entity_beats() - should @a run at once while @b runs, both of one queue? */
bool run_entity_beats(const struct run_entity *a, const struct run_entity *b);
