#include "core/hw/timer.h"

#include "core/hw/asm.h"
#include "core/hw/clock.h"
#include "core/hw/cpu.h"
#include "core/hw/timer_device.h"
#include "core/lock.h"

/*
 * A pairing heap: a tree whose root is the earliest. `child` is the first of a timer's children,
 * `sibling` the next child of the same parent; `parent` is the parent for a first child, and the
 * sibling before it for the others.
 */
struct timer_queue {
	struct spinlock lock;
	struct timer *first;	       /* guarded by lock */
	struct timer *_Atomic running; /* whose function this CPU calls */
};

static struct timer_queue queues[CPU_MAX];

static struct timer *meld(struct timer *a, struct timer *b)
{
	if (a == NULL || b == NULL) {
		return a != NULL ? a : b;
	}
	if (b->deadline_ns < a->deadline_ns) {
		struct timer *t = a;
		a = b;
		b = t;
	}
	b->parent = a;
	b->sibling = a->child;
	if (b->sibling != NULL) {
		b->sibling->parent = b;
	}
	a->child = b;
	return a;
}

static struct timer *take_first_of(struct timer **list)
{
	struct timer *t = *list;

	*list = t->sibling;
	t->sibling = NULL;
	t->parent = NULL;
	return t;
}

/* Makes one heap of a list of siblings: in pairs, then the pairs from the last to the first. */
static struct timer *meld_list(struct timer *list)
{
	struct timer *pairs = NULL;
	struct timer *all = NULL;

	while (list != NULL) {
		struct timer *a = take_first_of(&list);
		struct timer *b = list != NULL ? take_first_of(&list) : NULL;
		a = meld(a, b);
		a->sibling = pairs;
		pairs = a;
	}
	while (pairs != NULL) {
		all = meld(all, take_first_of(&pairs));
	}
	return all;
}

static void insert(struct timer_queue *q, struct timer *t)
{
	t->child = t->sibling = t->parent = NULL;
	q->first = meld(q->first, t);
}

static void remove(struct timer_queue *q, struct timer *t)
{
	struct timer *children = meld_list(t->child);

	t->child = NULL;
	if (t == q->first) {
		q->first = children;
		return;
	}
	if (t->parent->child == t) {
		t->parent->child = t->sibling;
	} else {
		t->parent->sibling = t->sibling;
	}
	if (t->sibling != NULL) {
		t->sibling->parent = t->parent;
	}
	q->first = meld(q->first, children);
}

static void set_device(const struct timer_queue *q)
{
	timer_device_set(q->first != NULL ? q->first->deadline_ns : CLOCK_NEVER);
}

void timer_init(struct timer *t, timer_fn *fn)
{
	*t = (struct timer){.fn = fn};
	atomic_init(&t->cpu, -1);
}

bool timer_stop(struct timer *t)
{
	for (;;) {
		int cpu = atomic_load_explicit(&t->cpu, memory_order_acquire);
		if (cpu < 0) {
			return false;
		}
		struct timer_queue *q = &queues[cpu];
		uint64_t flags = spin_take_irq(&q->lock);
		/* It may have fired meanwhile. */
		bool found = atomic_load_explicit(&t->cpu, memory_order_relaxed) == cpu;
		if (found) {
			bool was_first = t == q->first;
			remove(q, t);
			atomic_store_explicit(&t->cpu, -1, memory_order_release);
			/* Another CPU's device is left as it is: one interrupt too many. */
			if (was_first && cpu == (int)cpu_index()) {
				set_device(q);
			}
		}
		spin_give_irq(&q->lock, flags);
		if (found) {
			return true;
		}
	}
}

void timer_start(struct timer *t, uint64_t deadline_ns)
{
	uint64_t irq = asm_irq_save(); /* one CPU all the way */
	struct timer_queue *q = &queues[cpu_index()];

	(void)timer_stop(t);
	spin_take(&q->lock);
	t->deadline_ns = deadline_ns;
	insert(q, t);
	atomic_store_explicit(&t->cpu, (int)cpu_index(), memory_order_release);
	if (q->first == t) {
		set_device(q);
	}
	spin_give(&q->lock);
	asm_irq_restore(irq);
}

/* Is it to come on that CPU, or does its function run there? */
static bool is_there(struct timer_queue *q, int cpu, const struct timer *t)
{
	uint64_t flags = spin_take_irq(&q->lock);
	/* Its function may start it again: with the lock it does not go from one to the other. */
	bool there = atomic_load_explicit(&q->running, memory_order_acquire) == t ||
		     atomic_load_explicit(&t->cpu, memory_order_relaxed) == cpu;

	spin_give_irq(&q->lock, flags);
	return there;
}

bool timer_stop_wait(struct timer *t)
{
	bool was_to_come = timer_stop(t);

	for (unsigned i = 0; i < cpu_count(); i++) {
		while (is_there(&queues[i], (int)i, t)) {
			was_to_come |= timer_stop(t);
			asm_pause();
		}
	}
	return was_to_come;
}

void timer_run(void)
{
	struct timer_queue *q = &queues[cpu_index()];

	spin_take(&q->lock);
	while (q->first != NULL && q->first->deadline_ns <= clock_now_ns()) {
		struct timer *t = q->first;
		remove(q, t);
		/* Running before it is out of the heap: timer_stop_wait() sees one or the other. */
		atomic_store_explicit(&q->running, t, memory_order_relaxed);
		atomic_store_explicit(&t->cpu, -1, memory_order_release);
		spin_give(&q->lock);
		t->fn(t);
		atomic_store_explicit(&q->running, NULL, memory_order_release);
		spin_take(&q->lock);
	}
	set_device(q);
	spin_give(&q->lock);
}

void timer_init_cpu(void)
{
	spin_init(&queues[cpu_index()].lock, LOCK_TIMER);
	queues[cpu_index()].first = NULL;
}
