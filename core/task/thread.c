#include "core/task/thread.h"

#include <errno.h>
#include <string.h>

#include "core/hw/irq.h"
#include "core/mem/heap.h"
#include "core/mem/kmap.h"
#include "core/task/process.h"
#include "core/task/robust.h"
#include "core/task/sched.h"

static struct heap heap;

void thread_init(void)
{
	heap_init(&heap, "thread", sizeof(struct thread));
	signal_queue_init_heap();
}

static void ignore_timer(struct timer *t)
{
	(void)t;
}

/* On the worker's stack: the thread's own is no longer used. */
static void reap(struct work *w)
{
	struct thread *t = container_of(w, struct thread, reap);

	thread_discard(t);
}

static void inherit(struct thread *t, const struct thread *from)
{
	t->entity.cpus = from->process != NULL ? from->entity.cpus : UINT64_MAX;
	t->cpu = from->cpu;
	if (from->process != NULL) {
		t->blocked = from->blocked;
		t->entity.policy = from->entity.policy;
		t->entity.priority = from->entity.priority;
		t->entity.nice = from->entity.nice;
		t->entity.weight = from->entity.weight;
		memcpy(t->name, from->name, sizeof(t->name));
	}
}

struct thread *thread_create(struct process *p, void (*fn)(void *arg), void *arg)
{
	struct thread *t = heap_alloc(&heap);

	if (t == NULL) {
		return NULL;
	}
	t->refs = 1;
	t->process = p;
	t->reap.fn = reap;
	list_init(&t->in_process);
	signal_queue_init(&t->pending);
	run_entity_init(&t->entity);
	timer_init(&t->timer, ignore_timer);
	inherit(t, thread_current());
	t->stack_top = kmap_stack_create();
	if (t->stack_top == 0 || (p != NULL && user_state_init(&t->user) != 0)) {
		if (t->stack_top != 0) {
			kmap_stack_destroy(t->stack_top);
		}
		heap_free(&heap, t);
		return NULL;
	}
	if (p != NULL) {
		process_get(p);
	}
	context_init(&t->context, t->stack_top, fn, arg);
	return t;
}

void thread_discard(struct thread *t)
{
	timer_stop_wait(&t->timer);
	kmap_stack_destroy(t->stack_top);
	t->stack_top = 0;
	thread_put(t);
}

int thread_create_kernel(const char *name, void (*fn)(void *arg), void *arg)
{
	struct thread *t = thread_create(NULL, fn, arg);

	if (t == NULL) {
		return -ENOMEM;
	}
	thread_set_name(t, name);
	sched_start(t);
	return 0;
}

void thread_begin(void)
{
	sched_finish_switch();
	irq_on();
}

void thread_get(struct thread *t)
{
	atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
}

void thread_put(struct thread *t)
{
	if (atomic_fetch_sub(&t->refs, 1) != 1) {
		return;
	}
	signal_queue_flush(&t->pending, UINT64_MAX);
	if (t->process != NULL) {
		user_state_fini(&t->user);
		process_put(t->process);
	}
	heap_free(&heap, t);
}

void thread_set_name(struct thread *t, const char *name)
{
	size_t len = strnlen(name, sizeof(t->name) - 1);

	memcpy(t->name, name, len);
	memset(t->name + len, 0, sizeof(t->name) - len);
}

void thread_dead(struct thread *t)
{
	work_add(&t->reap);
}

void thread_end(int status)
{
	robust_end();
	process_thread_ended(status);
	sched_end();
}
