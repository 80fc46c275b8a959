#include "core/task/signal_queue.h"

#include <asm/signal.h>
#include <errno.h>

#include "core/mem/heap.h"

#define QUEUED_MAX 256

struct entry {
	struct list node;
	struct signal_info info;
};

static struct heap heap;

/* What the thread itself brought about comes before what others sent. */
#define FAULTS                                                                      \
	(SIGNAL_BIT(SIGSEGV) | SIGNAL_BIT(SIGBUS) | SIGNAL_BIT(SIGILL) |            \
	 SIGNAL_BIT(SIGTRAP) | SIGNAL_BIT(SIGFPE) | SIGNAL_BIT(SIGSYS))

void signal_queue_init_heap(void)
{
	heap_init(&heap, "signal", sizeof(struct entry));
}

void signal_queue_init(struct signal_queue *q)
{
	list_init(&q->entries);
	q->set = 0;
	q->count = 0;
}

static void drop(struct signal_queue *q, struct entry *e)
{
	list_remove(&e->node);
	heap_free(&heap, e);
	q->count--;
}

void signal_queue_flush(struct signal_queue *q, uint64_t set)
{
	list_each_safe(&q->entries, node) {
		struct entry *e = container_of(node, struct entry, node);

		if ((set & SIGNAL_BIT(e->info.signo)) != 0) {
			drop(q, e);
		}
	}
	q->set &= ~set;
}

int signal_queue_put(struct signal_queue *q, const struct signal_info *info)
{
	uint64_t bit = SIGNAL_BIT(info->signo);
	struct entry *e;

	if (info->signo < SIGNAL_RT && (q->set & bit) != 0) {
		return 0;
	}
	if (q->count >= QUEUED_MAX && info->signo >= SIGNAL_RT) {
		return -EAGAIN;
	}
	q->set |= bit;
	e = heap_alloc(&heap);
	if (e != NULL) {
		e->info = *info;
		list_add_last(&q->entries, &e->node);
		q->count++;
	}
	return 0;
}

int signal_queue_take(struct signal_queue *q, uint64_t set, struct signal_info *info)
{
	uint64_t ready = q->set & set;
	bool found = false, more = false;
	int signo;

	if (ready == 0) {
		return 0;
	}
	ready = (ready & FAULTS) != 0 ? ready & FAULTS : ready;
	signo = __builtin_ctzll(ready) + 1;
	*info = (struct signal_info){.signo = signo};
	list_each_safe(&q->entries, node) {
		struct entry *e = container_of(node, struct entry, node);

		if (e->info.signo != signo) {
			continue;
		}
		if (found) {
			more = true; /* only a real-time signal can be there twice */
			break;
		}
		found = true;
		*info = e->info;
		drop(q, e);
	}
	if (!more) {
		q->set &= ~SIGNAL_BIT(signo);
	}
	return signo;
}
