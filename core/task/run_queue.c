#include "core/task/run_queue.h"

#include <errno.h>

#define NICE_MIN      (-20)
#define NICE_MAX      19
#define WEIGHT_NORMAL 1024
#define WEIGHT_IDLE   3
#define LAG_MAX_NS    (4 * RUN_SLICE_FAIR_NS)

/* Each step of nice is a factor of 1.25: a tenth of the CPU between two threads. */
static const uint32_t nice_weight[NICE_MAX - NICE_MIN + 1] = {
	88761, 71755, 56483, 46273, 36291, 29154, 23254, 18705, 14949, 11916,
	9548,  7620,  6100,  4904,  3906,  3121,  2501,	 1991,	1586,  1277,
	1024,  820,   655,   526,   423,   335,	  272,	 215,	172,   137,
	110,   87,    70,    56,    45,	   36,	  29,	 23,	18,    15,
};

void run_queue_init(struct run_queue *q)
{
	for (unsigned i = 0; i < RUN_PRIORITIES; i++) {
		list_init(&q->level[i]);
	}
	q->levels[0] = 0;
	q->levels[1] = 0;
	q->count = 0;
	q->virtual_ns = 0;
	q->weight = 0;
	q->running = 0;
}

void run_entity_init(struct run_entity *e)
{
	*e = (struct run_entity){.policy = RUN_OTHER, .weight = WEIGHT_NORMAL, .cpus = UINT64_MAX};
	list_init(&e->node);
	e->slice_ns = RUN_SLICE_FAIR_NS;
}

static uint64_t full_slice(const struct run_entity *e)
{
	return e->policy == RUN_RR ? RUN_SLICE_RR_NS : RUN_SLICE_FAIR_NS;
}

int run_entity_set(struct run_entity *e, int policy, int priority, int nice)
{
	bool real_time = policy == RUN_FIFO || policy == RUN_RR;

	if (!real_time && policy != RUN_OTHER && policy != RUN_BATCH && policy != RUN_IDLE) {
		return -EINVAL;
	}
	if (real_time ? priority < 1 || priority >= RUN_PRIORITIES : priority != 0) {
		return -EINVAL;
	}
	if (nice < NICE_MIN || nice > NICE_MAX) {
		return -EINVAL;
	}
	e->policy = (enum run_policy)policy;
	e->priority = (unsigned)priority;
	e->nice = nice;
	e->weight = policy == RUN_IDLE ? WEIGHT_IDLE : nice_weight[nice - NICE_MIN];
	if (real_time) {
		e->weight = 0;
	}
	e->slice_ns = full_slice(e);
	return 0;
}

void run_queue_enter(struct run_queue *q, struct run_entity *e, uint64_t now_ns)
{
	int64_t lag = (int64_t)e->virtual_ns;

	if (e->left_ns != 0) {
		lag -= (int64_t)MIN(now_ns - e->left_ns, RUN_SLICE_FAIR_NS);
	}
	lag = MAX(lag, -(int64_t)RUN_SLICE_FAIR_NS);
	lag = MIN(lag, (int64_t)LAG_MAX_NS);
	e->virtual_ns = q->virtual_ns + (uint64_t)lag;
	if (e->priority != 0) {
		e->slice_ns = 0; /* behind those who are there */
	}
}

void run_queue_leave(struct run_queue *q, struct run_entity *e, uint64_t now_ns)
{
	e->left_ns = now_ns;
	e->virtual_ns -= q->virtual_ns;
}

static struct run_entity *entity_of(struct list *node)
{
	return container_of(node, struct run_entity, node);
}

/* From the end: who has run goes behind those who wait, mostly. */
static void put_fair(struct list *level, struct run_entity *e)
{
	struct list *place = level;

	while (place->prev != level &&
	       (int64_t)(entity_of(place->prev)->virtual_ns - e->virtual_ns) > 0) {
		place = place->prev;
	}
	list_add_before(place, &e->node);
}

static void add_weight(struct run_queue *q, uint64_t weight)
{
	weight += atomic_load_explicit(&q->weight, memory_order_relaxed);
	atomic_store_explicit(&q->weight, weight, memory_order_relaxed);
}

void run_queue_put(struct run_queue *q, struct run_entity *e)
{
	struct list *level = &q->level[e->priority];

	if (e->priority == 0) {
		put_fair(level, e);
	} else if (e->slice_ns != 0) {
		list_add_first(level, &e->node);
	} else {
		list_add_last(level, &e->node);
	}
	if (e->slice_ns == 0) {
		e->slice_ns = full_slice(e);
	}
	e->queued = true;
	q->levels[e->priority / 64] |= BIT(e->priority % 64);
	q->count++;
	add_weight(q, e->weight);
}

void run_queue_remove(struct run_queue *q, struct run_entity *e)
{
	list_remove(&e->node);
	e->queued = false;
	q->count--;
	add_weight(q, -(uint64_t)e->weight);
	if (list_is_empty(&q->level[e->priority])) {
		q->levels[e->priority / 64] &= ~BIT(e->priority % 64);
	}
}

struct run_entity *run_queue_first(struct run_queue *q)
{
	for (unsigned i = ARRAY_SIZE(q->levels); i-- > 0;) {
		if (q->levels[i] != 0) {
			unsigned level = i * 64 + 63 - (unsigned)__builtin_clzll(q->levels[i]);

			return entity_of(q->level[level].next);
		}
	}
	return NULL;
}

void run_queue_run(struct run_queue *q, const struct run_entity *e)
{
	uint64_t running = (uint64_t)e->priority << 32 | e->weight;

	atomic_store_explicit(&q->running, running, memory_order_relaxed);
}

unsigned run_queue_priority(const struct run_queue *q)
{
	return (unsigned)(atomic_load_explicit(&q->running, memory_order_relaxed) >> 32);
}

/* Weight to serve; more than any number of fair threads has while a real-time one runs. */
static uint64_t load(const struct run_queue *q)
{
	uint64_t running = atomic_load_explicit(&q->running, memory_order_relaxed);

	return atomic_load_explicit(&q->weight, memory_order_relaxed) + MIN(running, BIT(32));
}

struct run_entity *run_queue_spare(struct run_queue *from, const struct run_queue *to, unsigned cpu,
				   bool fair)
{
	struct run_entity *oldest = NULL, *first = run_queue_first(from);
	uint64_t here = load(from), there = load(to);
	unsigned level = first != NULL ? first->priority : 0;

	for (; level > run_queue_priority(to); level--) {
		list_each(&from->level[level], node)
		{
			if ((entity_of(node)->cpus & BIT(cpu)) != 0) {
				return entity_of(node);
			}
		}
	}
	if (!fair) {
		return NULL;
	}
	list_each(&from->level[0], node)
	{
		struct run_entity *e = entity_of(node);

		/* The difference may change sides, but does not grow. */
		if ((e->cpus & BIT(cpu)) != 0 && there + e->weight <= here &&
		    (oldest == NULL || e->left_ns < oldest->left_ns)) {
			oldest = e;
		}
	}
	return oldest;
}

void run_queue_account(struct run_queue *q, struct run_entity *e, uint64_t ns)
{
	uint64_t least;

	if (e->policy != RUN_FIFO) {
		e->slice_ns -= MIN(ns, e->slice_ns);
	}
	if (e->priority != 0) {
		return;
	}
	/* A run of days does not overflow: the kernel accounts at least once a slice or so. */
	e->virtual_ns += MIN(ns, UINT64_C(1) << 40) * WEIGHT_NORMAL / e->weight;
	least = e->virtual_ns;
	if (!list_is_empty(&q->level[0])) {
		uint64_t first = entity_of(q->level[0].next)->virtual_ns;

		least = (int64_t)(first - least) < 0 ? first : least;
	}
	if ((int64_t)(least - q->virtual_ns) > 0) {
		q->virtual_ns = least;
	}
}

bool run_entity_beats(const struct run_entity *a, const struct run_entity *b)
{
	if (a->priority != b->priority) {
		return a->priority > b->priority;
	}
	return a->priority == 0 &&
	       (int64_t)(b->virtual_ns - a->virtual_ns) > (int64_t)RUN_GRANULARITY_NS;
}
