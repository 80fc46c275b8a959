#include "core/task/sched.h"

#include <errno.h>

#include "core/hw/clock.h"
#include "core/hw/ipi.h"
#include "core/hw/irq.h"
#include "core/lock.h"
#include "core/mem/heap.h"
#include "core/mem/space.h"
#include "core/task/process.h"
#include "core/task/thread.h"
#include "core/task/upcall.h"

struct cpu_queue {
	struct spinlock lock;
	struct run_queue queue;	 /* guarded by lock */
	struct thread *current;	 /* guarded by lock; written by this CPU */
	struct thread *previous; /* who is being switched away from; this CPU only */
	struct timer slice;
	uint64_t slice_end_ns;	 /* of the turn, CLOCK_NEVER: none; this CPU only */
	uint64_t slice_timer_ns; /* what the timer is set to, likewise */
	_Atomic bool slice_runs; /* there is an end */
	struct thread idle;
};

static struct cpu_queue *queues[CPU_MAX]; /* each constant after its CPU's start */
static _Atomic uint64_t idle_cpus, started_cpus;

static struct cpu_queue *this_queue(void)
{
	return queues[cpu_index()];
}

static bool is_idle(const struct cpu_queue *s, const struct thread *t)
{
	return t == &s->idle;
}

void sched_prepare(void)
{
	/* Orders the state before what the caller looks at next; pairs with wake_locked(). */
	atomic_store(&thread_current()->state, THREAD_SLEEPING);
}

void sched_unprepare(void)
{
	atomic_store(&thread_current()->state, THREAD_RUNNABLE);
}

/* The lock of the queue that @t belongs to. */
static struct cpu_queue *take_queue_of(struct thread *t, uint64_t *flags)
{
	for (;;) {
		struct cpu_queue *s = queues[__atomic_load_n(&t->cpu, __ATOMIC_RELAXED)];

		*flags = spin_take_irq(&s->lock);
		if (queues[t->cpu] == s) {
			return s;
		}
		spin_give_irq(&s->lock, *flags);
	}
}

/* Fewest threads; idle ones first. Without locks: a wrong guess costs time only. */
static unsigned choose_cpu(const struct thread *t)
{
	uint64_t started = atomic_load_explicit(&started_cpus, memory_order_relaxed);
	uint64_t allowed = t->affinity & started;
	uint64_t idle;
	unsigned best = t->cpu;
	unsigned least = ~0u;

	if (allowed == 0) {
		allowed = started;
	}
	idle = atomic_load_explicit(&idle_cpus, memory_order_relaxed) & allowed;
	if (idle != 0) {
		return (idle & BIT(t->cpu)) != 0 ? t->cpu : (unsigned)__builtin_ctzll(idle);
	}
	for (; allowed != 0; allowed &= allowed - 1) {
		unsigned cpu = (unsigned)__builtin_ctzll(allowed);
		const struct thread *running = queues[cpu]->current;
		unsigned load = __atomic_load_n(&queues[cpu]->queue.count, __ATOMIC_RELAXED) * 2;

		/* A real-time thread looks for the least important opponent. */
		if (t->entity.priority != 0) {
			load += running->entity.priority * 1024;
		}
		load += cpu == t->cpu ? 0 : 1;
		if (load < least) {
			least = load;
			best = cpu;
		}
	}
	return best;
}

/* Caller holds the lock. */
static void put_locked(struct cpu_queue *s, struct thread *t)
{
	struct thread *current = s->current;

	t->wait_since_ns = clock_now_ns();
	run_queue_enter(&s->queue, &t->entity, t->wait_since_ns);
	run_queue_put(&s->queue, &t->entity);
	if (is_idle(s, current) || run_entity_beats(&t->entity, &current->entity) ||
	    (!s->slice_runs && current->entity.policy != RUN_FIFO &&
	     current->entity.priority == t->entity.priority)) {
		cpu_add_work(cpu_by_index(t->cpu), CPU_WORK_RESCHED);
	}
}

/* Puts a runnable thread that is in no queue into the best one. */
static void place(struct thread *t, struct cpu_queue *s, uint64_t flags)
{
	for (;;) {
		unsigned cpu = choose_cpu(t);

		if (queues[cpu] == s) {
			put_locked(s, t);
			spin_give_irq(&s->lock, flags);
			return;
		}
		__atomic_store_n(&t->cpu, cpu, __ATOMIC_RELAXED);
		spin_give_irq(&s->lock, flags);
		/* Its affinity may change meanwhile; hence the loop. */
		s = take_queue_of(t, &flags);
		if ((t->affinity & BIT(t->cpu)) != 0) {
			put_locked(s, t);
			spin_give_irq(&s->lock, flags);
			return;
		}
	}
}

void sched_wake(struct thread *t)
{
	uint64_t flags;
	struct cpu_queue *s;

	if (atomic_load(&t->state) != THREAD_SLEEPING) {
		return;
	}
	s = take_queue_of(t, &flags);
	if (atomic_load(&t->state) != THREAD_SLEEPING) {
		spin_give_irq(&s->lock, flags);
		return;
	}
	atomic_store(&t->state, THREAD_RUNNABLE);
	if (s->current == t) {
		spin_give_irq(&s->lock, flags); /* it had not gone to sleep yet */
		return;
	}
	place(t, s, flags);
}

void sched_start(struct thread *t)
{
	uint64_t flags;
	struct cpu_queue *s = take_queue_of(t, &flags);

	place(t, s, flags);
}

static void set_slice_timer(struct cpu_queue *s, uint64_t at_ns)
{
	s->slice_timer_ns = at_ns;
	timer_start(&s->slice, at_ns);
}

static void slice_over(struct timer *timer)
{
	struct cpu_queue *s = container_of(timer, struct cpu_queue, slice);

	s->slice_timer_ns = CLOCK_NEVER;
	if (s->slice_end_ns > clock_now_ns()) {
		if (s->slice_end_ns != CLOCK_NEVER) {
			set_slice_timer(s, s->slice_end_ns);
		}
		return;
	}
	s->slice_end_ns = CLOCK_NEVER;
	s->slice_runs = false;
	cpu_add_work(cpu_this(), CPU_WORK_RESCHED);
}

/*
 * A turn has an end only while somebody waits for it. The timer may be set to an earlier moment
 * than that, and stays so when turns change: once a slice it costs less to look than to set it
 * with each turn.
 */
static void set_slice(struct cpu_queue *s, struct thread *next, uint64_t now)
{
	struct run_entity *first = run_queue_first(&s->queue);
	bool ends = first != NULL && !is_idle(s, next) && next->entity.policy != RUN_FIFO &&
		    first->priority == next->entity.priority;

	s->slice_end_ns = ends ? now + MAX(next->entity.slice_ns, RUN_GRANULARITY_NS) : CLOCK_NEVER;
	atomic_store_explicit(&s->slice_runs, ends, memory_order_relaxed);
	if (s->slice_end_ns < s->slice_timer_ns) {
		set_slice_timer(s, s->slice_end_ns);
	}
}

static void account(struct cpu_queue *s, struct thread *t, uint64_t now)
{
	uint64_t ran = now - t->run_since_ns;

	t->run_since_ns = now;
	t->run_ns += ran;
	if (!is_idle(s, t)) {
		run_queue_account(&s->queue, &t->entity, ran);
	}
}

/* Somebody who waits on another CPU and may run here. Caller holds no lock, interrupts off. */
static void pull(struct cpu_queue *s)
{
	unsigned self = cpu_index();

	for (unsigned i = 1; i < cpu_count(); i++) {
		struct cpu_queue *other = queues[(self + i) % cpu_count()];
		struct thread *found = NULL;
		uint64_t flags;

		if (other == NULL || __atomic_load_n(&other->queue.count, __ATOMIC_RELAXED) == 0) {
			continue;
		}
		flags = spin_take_irq(&other->lock);
		for (unsigned level = RUN_PRIORITIES; level-- > 0 && found == NULL;) {
			list_each(&other->queue.level[level], node)
			{
				struct thread *t = container_of(node, struct thread, entity.node);

				if ((t->affinity & BIT(self)) != 0) {
					found = t;
					break;
				}
			}
		}
		if (found != NULL) {
			run_queue_remove(&other->queue, &found->entity);
			run_queue_leave(&other->queue, &found->entity, clock_now_ns());
			__atomic_store_n(&found->cpu, self, __ATOMIC_RELAXED);
		}
		spin_give_irq(&other->lock, flags);
		if (found != NULL) {
			flags = spin_take_irq(&s->lock);
			run_queue_enter(&s->queue, &found->entity, clock_now_ns());
			run_queue_put(&s->queue, &found->entity);
			spin_give_irq(&s->lock, flags);
			return;
		}
	}
}

static void load(struct thread *from, struct thread *to)
{
	struct cpu *cpu = cpu_this();

	cpu->thread = to;
	if (to->stack_top != 0) {
		upcall_load(to);
	}
	space_switch(to->process != NULL ? to->process->space : NULL);
	user_state_switch(from->process != NULL ? &from->user : NULL,
			  to->process != NULL ? &to->user : NULL);
	/* The work bit is the thread's, as long as it runs here. */
	atomic_fetch_and(&cpu->work, ~CPU_WORK_SIGNAL);
	if (atomic_load(&to->signal_pending)) {
		atomic_fetch_or(&cpu->work, CPU_WORK_SIGNAL);
	}
}

/* Interrupts off. Returns when the current thread runs again, perhaps on another CPU. */
static void reschedule(void)
{
	struct cpu_queue *s = this_queue();
	struct thread *prev = s->current, *next;
	struct run_entity *first;
	uint64_t now, flags;

	atomic_fetch_and(&cpu_this()->work, ~CPU_WORK_RESCHED);
	if (s->queue.count == 0 &&
	    (is_idle(s, prev) || atomic_load(&prev->state) != THREAD_RUNNABLE)) {
		pull(s);
	}
	flags = spin_take_irq(&s->lock);
	now = clock_now_ns();
	account(s, prev, now);
	if (!is_idle(s, prev)) {
		if (atomic_load(&prev->state) == THREAD_RUNNABLE &&
		    (prev->affinity & BIT(prev->cpu)) != 0) {
			prev->wait_since_ns = now;
			run_queue_put(&s->queue, &prev->entity);
		} else {
			run_queue_leave(&s->queue, &prev->entity, now);
		}
	}
	first = run_queue_first(&s->queue);
	next = &s->idle;
	if (first != NULL) {
		run_queue_remove(&s->queue, first);
		next = container_of(first, struct thread, entity);
	}
	set_slice(s, next, now);
	if (next == prev) {
		spin_give_irq(&s->lock, flags);
		return;
	}
	next->wait_ns += now - next->wait_since_ns;
	next->turns++;
	next->run_since_ns = now;
	s->current = next;
	s->previous = prev;
	if (is_idle(s, next)) {
		atomic_fetch_or(&idle_cpus, BIT(cpu_index()));
	} else if (is_idle(s, prev)) {
		atomic_fetch_and(&idle_cpus, ~BIT(cpu_index()));
	}
	load(prev, next);
	context_switch(&prev->context, &next->context);
	sched_finish_switch();
}

void sched_finish_switch(void)
{
	struct cpu_queue *s = this_queue();
	struct thread *prev = s->previous;
	bool dead = atomic_load(&prev->state) == THREAD_DEAD;
	/* Not where it may not be: it was put into no queue. */
	bool moves = atomic_load(&prev->state) == THREAD_RUNNABLE && !is_idle(s, prev) &&
		     !prev->entity.queued;

	if (moves) {
		place(prev, s, 0);
		return;
	}
	spin_give_irq(&s->lock, 0);
	if (dead) {
		thread_dead(prev);
	}
}

static void on_timeout(struct timer *timer)
{
	sched_wake(container_of(timer, struct thread, timer));
}

bool sched_sleep(uint64_t deadline_ns)
{
	struct thread *t = thread_current();
	uint64_t flags;

	if (deadline_ns != CLOCK_NEVER) {
		if (deadline_ns <= clock_now_ns()) {
			sched_unprepare();
			return false;
		}
		t->timer.fn = on_timeout;
		timer_start(&t->timer, deadline_ns);
	}
	flags = irq_save();
	reschedule();
	irq_restore(flags);
	if (deadline_ns == CLOCK_NEVER) {
		return true;
	}
	timer_stop(&t->timer);
	return clock_now_ns() < deadline_ns;
}

void sched_pass(void)
{
	struct thread *t = thread_current();
	uint64_t flags = irq_save();
	struct cpu_queue *s = this_queue();
	uint64_t inner = spin_take_irq(&s->lock);
	struct run_entity *first = run_queue_first(&s->queue);

	t->entity.slice_ns = 0;
	/* Behind the next of its kind, at the price of its own share. */
	if (first != NULL && t->entity.priority == 0 && first->priority == 0 &&
	    (int64_t)(first->virtual_ns - t->entity.virtual_ns) >= 0) {
		t->entity.virtual_ns = first->virtual_ns + 1;
	}
	spin_give_irq(&s->lock, inner);
	reschedule();
	irq_restore(flags);
}

void sched_relax(void)
{
	uint64_t flags;

	/* Who sets it later interrupts, and is seen on the way out. */
	if ((atomic_load_explicit(&cpu_this()->work, memory_order_relaxed) & CPU_WORK_RESCHED) ==
	    0) {
		return;
	}
	flags = irq_save();
	sched_leave();
	irq_restore(flags);
}

void sched_leave(void)
{
	if ((atomic_load(&cpu_this()->work) & CPU_WORK_RESCHED) != 0) {
		reschedule();
	}
}

void sched_end(void)
{
	irq_off();
	atomic_store(&thread_current()->state, THREAD_DEAD);
	reschedule();
	__builtin_unreachable();
}

void sched_notify(struct thread *t)
{
	uint64_t flags;
	struct cpu_queue *s = take_queue_of(t, &flags);

	if (s->current == t) {
		cpu_add_work(cpu_by_index(t->cpu), CPU_WORK_SIGNAL);
	}
	spin_give_irq(&s->lock, flags);
	sched_wake(t);
}

int sched_set_policy(struct thread *t, int policy, int priority, int nice)
{
	uint64_t flags;
	struct cpu_queue *s = take_queue_of(t, &flags);
	bool queued = t->entity.queued;
	int error;

	if (queued) {
		run_queue_remove(&s->queue, &t->entity);
	}
	error = run_entity_set(&t->entity, policy, priority, nice);
	if (queued) {
		run_queue_put(&s->queue, &t->entity);
	}
	if (queued || s->current == t) {
		cpu_add_work(cpu_by_index(t->cpu), CPU_WORK_RESCHED);
	}
	spin_give_irq(&s->lock, flags);
	return error;
}

int sched_set_affinity(struct thread *t, uint64_t cpus)
{
	uint64_t flags;
	struct cpu_queue *s;

	if ((cpus & cpu_all()) == 0) {
		return -EINVAL;
	}
	s = take_queue_of(t, &flags);
	t->affinity = cpus;
	if ((cpus & BIT(t->cpu)) == 0 && t->entity.queued) {
		uint64_t now = clock_now_ns();

		run_queue_remove(&s->queue, &t->entity);
		run_queue_leave(&s->queue, &t->entity, now);
		t->wait_ns += now - t->wait_since_ns;
		place(t, s, flags);
	} else {
		if (s->current == t) {
			cpu_add_work(cpu_by_index(t->cpu), CPU_WORK_RESCHED);
		}
		spin_give_irq(&s->lock, flags);
	}
	if (t == thread_current()) {
		sched_relax();
	}
	return 0;
}

struct sched_times sched_times(struct thread *t)
{
	uint64_t flags;
	struct cpu_queue *s = take_queue_of(t, &flags);
	struct sched_times times = {t->run_ns, t->wait_ns, t->turns};

	if (s->current == t) {
		times.run_ns += clock_now_ns() - t->run_since_ns;
	}
	spin_give_irq(&s->lock, flags);
	return times;
}

uint64_t sched_run_ns(struct thread *t)
{
	return sched_times(t).run_ns;
}

int sched_init_cpu(void)
{
	struct cpu_queue *s = mem_alloc(sizeof(*s));
	struct cpu *cpu = cpu_this();

	if (s == NULL) {
		return -ENOMEM;
	}
	spin_init(&s->lock, LOCK_SCHED);
	run_queue_init(&s->queue);
	timer_init(&s->slice, slice_over);
	s->slice_end_ns = s->slice_timer_ns = CLOCK_NEVER;
	run_entity_init(&s->idle.entity);
	signal_queue_init(&s->idle.pending);
	thread_set_name(&s->idle, "idle");
	s->idle.cpu = cpu->index;
	s->idle.affinity = BIT(cpu->index);
	s->idle.run_since_ns = clock_now_ns();
	s->current = &s->idle;
	cpu->thread = &s->idle;
	queues[cpu->index] = s;
	atomic_fetch_or(&idle_cpus, BIT(cpu->index));
	atomic_fetch_or(&started_cpus, BIT(cpu->index));
	return 0;
}

void sched_idle(void)
{
	irq_off();
	for (;;) {
		if ((atomic_load(&cpu_this()->work) & CPU_WORK_RESCHED) != 0) {
			reschedule();
		} else {
			cpu_idle();
		}
	}
}
