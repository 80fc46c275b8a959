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

/* Fair threads change their CPU once in that time at most, but when they wake or a CPU is idle. */
#define BALANCE_NS UINT64_C(100000000)

struct cpu_queue {
	struct spinlock lock;
	struct run_queue queue;	 /* guarded by lock */
	struct thread *current;	 /* guarded by lock; written by this CPU */
	struct thread *previous; /* who is being switched away from; this CPU only */
	struct timer slice;
	uint64_t slice_end_ns;	      /* of the turn, CLOCK_NEVER: none; this CPU only */
	uint64_t slice_timer_ns;      /* what the timer is set to, likewise */
	_Atomic bool slice_runs;      /* there is an end */
	_Atomic uint64_t balanced_ns; /* when balance() last moved a fair thread from or to here */
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

/* Idle ones first; then what runs nothing real-time, with the fewest threads. Without locks: a
 * wrong guess costs time only. */
static unsigned choose_cpu(const struct thread *t)
{
	uint64_t started = atomic_load_explicit(&started_cpus, memory_order_relaxed);
	uint64_t allowed = t->entity.cpus & started;
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
		const struct run_queue *q = &queues[cpu]->queue;
		unsigned load = __atomic_load_n(&q->count, __ATOMIC_RELAXED) * 2;

		/* The least important opponent counts more than the shortest queue. */
		load += run_queue_priority(q) * 4 * TID_MAX + (cpu == t->cpu ? 0 : 1);
		if (load < least) {
			least = load;
			best = cpu;
		}
	}
	return best;
}

static void account(struct cpu_queue *s, struct thread *t, uint64_t now)
{
	uint64_t ran = now - MIN(now, t->run_since_ns); /* clocks may differ a little */

	t->run_since_ns += ran;
	t->run_ns += ran;
	if (!is_idle(s, t)) {
		run_queue_account(&s->queue, &t->entity, ran);
	}
}

/* Caller holds the lock. */
static void put_locked(struct cpu_queue *s, struct thread *t)
{
	struct thread *current = s->current;

	t->wait_since_ns = clock_now_ns();
	/* It may have been alone for long. */
	if (!is_idle(s, current) && t->wait_since_ns > current->run_since_ns + RUN_SLICE_FAIR_NS) {
		account(s, current, t->wait_since_ns);
	}
	run_queue_enter(&s->queue, &t->entity, t->wait_since_ns);
	run_queue_put(&s->queue, &t->entity);
	if (is_idle(s, current) || run_entity_beats(&t->entity, &current->entity) ||
	    !s->slice_runs) {
		cpu_add_work(cpu_by_index(t->cpu), CPU_WORK_RESCHED);
	}
}

/* A runnable thread that is in no queue goes into that of @cpu. @s, its CPU's so far, is locked. */
static void place(struct thread *t, unsigned cpu, struct cpu_queue *s, uint64_t flags)
{
	for (;;) {
		if (queues[cpu] == s) {
			put_locked(s, t);
			spin_give_irq(&s->lock, flags);
			return;
		}
		__atomic_store_n(&t->cpu, cpu, __ATOMIC_RELAXED);
		spin_give_irq(&s->lock, flags);
		/* Its affinity may change meanwhile; hence the loop. */
		s = take_queue_of(t, &flags);
		if ((t->entity.cpus & BIT(t->cpu)) != 0) {
			put_locked(s, t);
			spin_give_irq(&s->lock, flags);
			return;
		}
		cpu = choose_cpu(t);
	}
}

/* One that waits; its queue @s is locked. */
static void move(struct cpu_queue *s, struct run_entity *e, unsigned cpu, uint64_t flags)
{
	struct thread *t = container_of(e, struct thread, entity);
	uint64_t now = clock_now_ns();

	run_queue_remove(&s->queue, e);
	run_queue_leave(&s->queue, e, now);
	t->wait_ns += now - t->wait_since_ns;
	place(t, cpu, s, flags);
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
	place(t, choose_cpu(t), s, flags);
}

void sched_start(struct thread *t)
{
	uint64_t flags;
	struct cpu_queue *s = take_queue_of(t, &flags);

	place(t, choose_cpu(t), s, flags);
}

static void set_slice_timer(struct cpu_queue *s, uint64_t at_ns)
{
	s->slice_timer_ns = at_ns;
	timer_start(&s->slice, at_ns);
}

/* Who waits here and would be better off elsewhere. Caller holds no lock, interrupts off. */
static void balance(struct cpu_queue *s, uint64_t now)
{
	unsigned self = cpu_index();
	uint64_t flags = spin_take_irq(&s->lock);
	const struct run_entity *current = &s->current->entity;
	uint64_t waited = now - MIN(now, s->balanced_ns);
	bool fair = waited >= BALANCE_NS;

	for (unsigned i = 1; i < cpu_count(); i++) {
		unsigned cpu = (self + i) % cpu_count();
		struct run_entity *e;

		if (queues[cpu] == NULL) {
			continue;
		}
		e = run_queue_spare(&s->queue, &queues[cpu]->queue, cpu, fair);
		if (e == NULL) {
			continue;
		}
		if (e->priority == 0) {
			/* In turn: if it is that of who runs, after the next slice, perhaps. */
			if (current->priority == 0 && current->left_ns < e->left_ns &&
			    waited < 2 * BALANCE_NS) {
				break;
			}
			s->balanced_ns = now;
			queues[cpu]->balanced_ns = now;
		}
		move(s, e, cpu, flags);
		return;
	}
	spin_give_irq(&s->lock, flags);
}

static void slice_over(struct timer *timer)
{
	struct cpu_queue *s = container_of(timer, struct cpu_queue, slice);
	uint64_t now = clock_now_ns();

	s->slice_timer_ns = CLOCK_NEVER;
	if (s->slice_end_ns > now) {
		if (s->slice_end_ns != CLOCK_NEVER) {
			set_slice_timer(s, s->slice_end_ns);
		}
		return;
	}
	s->slice_end_ns = CLOCK_NEVER;
	s->slice_runs = false;
	balance(s, now);
	cpu_add_work(cpu_this(), CPU_WORK_RESCHED);
}

/*
 * A turn has an end only while somebody waits, be it one who does not get the CPU then: so
 * balance() looks after who waits in vain. The timer may be set to an earlier moment
 * than that, and stays so when turns change: once a slice it costs less to look than to set it
 * with each turn.
 */
static void set_slice(struct cpu_queue *s, struct thread *next, uint64_t now)
{
	bool ends = s->queue.count != 0 && !is_idle(s, next);

	run_queue_run(&s->queue, &next->entity);
	atomic_store_explicit(&s->slice_runs, ends, memory_order_relaxed);
	s->slice_end_ns = CLOCK_NEVER;
	if (ends) {
		s->slice_end_ns = now + MAX(next->entity.slice_ns, RUN_GRANULARITY_NS);
		if (s->slice_end_ns < s->slice_timer_ns) {
			set_slice_timer(s, s->slice_end_ns);
		}
	}
}

/* Somebody who waits on another CPU and may run here. Caller holds no lock, interrupts off. */
static void pull(struct cpu_queue *s)
{
	unsigned self = cpu_index();

	for (unsigned i = 1; i < cpu_count(); i++) {
		struct cpu_queue *other = queues[(self + i) % cpu_count()];
		struct run_entity *found;
		uint64_t flags;

		if (other == NULL || __atomic_load_n(&other->queue.count, __ATOMIC_RELAXED) == 0) {
			continue;
		}
		run_queue_run(&s->queue, &s->idle.entity);
		flags = spin_take_irq(&other->lock);
		found = run_queue_spare(&other->queue, &s->queue, self, true);
		if (found != NULL) {
			move(other, found, self, flags);
			return;
		}
		spin_give_irq(&other->lock, flags);
	}
}

/* The work bit is the thread's, as long as it runs here. */
static inline void announce_signal(const struct thread *t)
{
	if (atomic_load(&t->signal_pending)) {
		atomic_fetch_or(&cpu_this()->work, CPU_WORK_SIGNAL);
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
	announce_signal(to);
}

/* Does a real-time thread that ran here go elsewhere, for one above it? Caller holds the lock. */
static rare bool displaced(struct cpu_queue *s, const struct thread *t)
{
	const struct run_entity *first = run_queue_first(&s->queue);

	if (first == NULL || first->priority <= t->entity.priority) {
		return false;
	}
	run_queue_run(&s->queue, first);
	return run_queue_priority(&queues[choose_cpu(t)]->queue) < t->entity.priority;
}

/* Interrupts off. Returns when the current thread runs again, perhaps on another CPU. */
static void reschedule(void)
{
	struct cpu_queue *s = this_queue();
	struct thread *prev = s->current, *next;
	struct run_entity *first;
	uint64_t now, flags;

	if (s->queue.count == 0 &&
	    (is_idle(s, prev) || atomic_load(&prev->state) != THREAD_RUNNABLE)) {
		pull(s);
	}
	flags = spin_take_irq(&s->lock);
	/* Whoever adds to it for this queue or who runs of it has the lock, or is this CPU. */
	atomic_exchange(&cpu_this()->work, CPU_WORK_ARRIVED);
	now = clock_now_ns();
	account(s, prev, now);
	if (!is_idle(s, prev)) {
		if (atomic_load(&prev->state) == THREAD_RUNNABLE &&
		    (prev->entity.cpus & BIT(prev->cpu)) != 0 &&
		    (prev->entity.priority == 0 || !displaced(s, prev))) {
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
		announce_signal(prev);
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
	unsigned state = atomic_load(&prev->state);
	bool dead = state == THREAD_DEAD;
	/* Not where it may not or should not be: it was put into no queue. */
	bool moves = state == THREAD_RUNNABLE && !is_idle(s, prev) && !prev->entity.queued;

	if (moves) {
		place(prev, choose_cpu(prev), s, 0);
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
		t->entity.slice_ns = 0; /* at the end of its new level */
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
	t->entity.cpus = cpus;
	if ((cpus & BIT(t->cpu)) == 0 && t->entity.queued) {
		move(s, &t->entity, choose_cpu(t), flags);
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
	s->idle.entity.weight = 0;
	signal_queue_init(&s->idle.pending);
	thread_set_name(&s->idle, "idle");
	s->idle.cpu = cpu->index;
	s->idle.entity.cpus = BIT(cpu->index);
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
