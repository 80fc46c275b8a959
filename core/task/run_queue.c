#include "core/task/run_queue.h"

#include <errno.h>

#define NICE_MIN      (-20)
#define NICE_MAX      19
#define WEIGHT_NORMAL 1024
#define WEIGHT_IDLE   3
#define LAG_MAX_NS    (4 * RUN_SLICE_FAIR_NS)

/* Each step of nice is a factor of 1.25: a tenth of the CPU between two threads. */
static const uint32_t nice_weight[NICE_MAX - NICE_MIN + 1] = {
	88761, 71755, 56483, 46273, 36291, 29154, 23254, 18705, 14949, 11916, 9548, 7620, 6100, 4904,
	3906,  3121,  2501,  1991,  1586,  1277,  1024,	 820,	655,   526,   423,  335,  272,	215,
	172,   137,   110,   87,    70,	   56,	  45,	 36,	29,    23,    18,   15,
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
}

void run_entity_init(struct run_entity *e)
{
	*e = (struct run_entity){.policy = RUN_OTHER, .weight = WEIGHT_NORMAL};
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
	e->slice_ns = full_slice(e);
	return 0;
}

void run_queue_enter(struct run_queue *q, struct run_entity *e)
{
	int64_t lag = (int64_t)e->virtual_ns;

	lag = MAX(lag, -(int64_t)RUN_SLICE_FAIR_NS);
	lag = MIN(lag, (int64_t)LAG_MAX_NS);
	e->virtual_ns = q->virtual_ns + (uint64_t)lag;
}

void run_queue_leave(struct run_queue *q, struct run_entity *e)
{
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

void run_queue_put(struct run_queue *q, struct run_entity *e)
{
	struct list *level = &q->level[e->priority];

	if (e->priority == 0) {
		put_fair(level, e);
	} else if (e->slice_ns != 0 && e->slice_ns != full_slice(e)) {
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
}

void run_queue_remove(struct run_queue *q, struct run_entity *e)
{
	list_remove(&e->node);
	e->queued = false;
	q->count--;
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
