#include "core/task/process.h"

#include <asm/siginfo.h>
#include <asm/signal.h>
#include <errno.h>

#include "core/hw/irq.h"
#include "core/mem/heap.h"
#include "core/mem/space.h"
#include "core/sys/fd.h"
#include "core/sys/tree.h"
#include "core/task/process_end.h"
#include "core/task/sched.h"

#define STACK_LIMIT (8 * MIB)

/* A number stands for a thread, a process, or both; a zombie's has no thread any more. */
struct slot {
	struct thread *thread;
	struct process *process; /* of which it is the number */
	unsigned members;	 /* of the group and of the session of that number */
};

struct spinlock task_lock = SPINLOCK_INIT(LOCK_TASK);

static struct slot slots[TID_MAX]; /* guarded by task_lock */
static int last_number;		   /* guarded by task_lock */

struct mutex signal_many_lock;
_Atomic unsigned signals_to_many; /* written under signal_many_lock */

void process_init(void)
{
	mutex_init(&signal_many_lock);
}

/* Return: a free number or 0. Caller holds the lock. */
static int free_number(void)
{
	for (int i = 0; i < TID_MAX - 1; i++) {
		last_number = last_number + 1 < TID_MAX ? last_number + 1 : 1;
		const struct slot *slot = &slots[last_number];
		if (slot->thread == NULL && slot->process == NULL && slot->members == 0) {
			return last_number;
		}
	}
	return 0;
}

static void on_alarm(struct timer *t)
{
	work_add(&container_of(t, struct process, alarm)->alarm_work);
}

static void send_alarm(struct work *w)
{
	struct process *p = container_of(w, struct process, alarm_work);

	signal_send(p, &(struct signal_info){.signo = SIGALRM, .code = SI_KERNEL});
}

static void init_locks(struct process *p)
{
	signals_init(&p->signals);
	seccomp_init(&p->seccomp);
	mutex_init(&p->memory);
	wait_queue_init(&p->child_wait);
	wait_queue_init(&p->thread_wait);
	timer_init(&p->alarm, on_alarm);
	p->alarm_work.fn = send_alarm;
	list_init(&p->threads);
	list_init(&p->children);
	list_init(&p->in_parent);
}

/* Caller holds the lock. */
static void join(struct process *p, int group, int session)
{
	p->group = group;
	p->session = session;
	slots[group].members++;
	slots[session].members++;
}

static void part(struct process *p)
{
	slots[p->group].members--;
	slots[p->session].members--;
}

struct process *process_create(struct process *parent)
{
	struct process *p = mem_alloc(sizeof(struct process));

	if (p == NULL) {
		return NULL;
	}
	p->refs = 1; /* its parent's, given up when it is waited for */
	init_locks(p);
	p->limits = (struct process_limits){FD_MAX, STACK_LIMIT, FD_MAX, UINT64_MAX, 0, UINT64_MAX};
	spin_take(&task_lock);
	p->pid = free_number();
	if (p->pid == 0) {
		spin_give(&task_lock);
		mem_free(p, sizeof(*p));
		return NULL;
	}
	slots[p->pid].process = p;
	if (parent != NULL) {
		p->parent = parent;
		p->limits = parent->limits;
		list_add_last(&parent->children, &p->in_parent);
		join(p, parent->group, parent->session);
	} else {
		join(p, p->pid, p->pid);
	}
	spin_give(&task_lock);
	return p;
}

/* Caller holds the lock. */
static void forget(struct process *p)
{
	slots[p->pid].process = NULL;
	part(p);
	list_remove(&p->in_parent);
	p->parent = NULL;
}

void process_discard(struct process *p)
{
	spin_take(&task_lock);
	/* Who waits for it learns that there is none. */
	wait_wake(&p->parent->child_wait, 0);
	forget(p);
	spin_give(&task_lock);
	process_put(p);
}

void process_get(struct process *p)
{
	atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
}

void process_put(struct process *p)
{
	if (atomic_fetch_sub(&p->refs, 1) != 1) {
		return;
	}
	signals_fini(&p->signals);
	seccomp_fini(&p->seccomp);
	mem_free(p, sizeof(*p));
}

struct process *process_find(int pid)
{
	struct process *p = NULL;

	if (pid > 0 && pid < TID_MAX) {
		spin_take(&task_lock);
		p = slots[pid].process;
		if (p != NULL) {
			process_get(p);
		}
		spin_give(&task_lock);
	}
	return p;
}

struct thread *thread_find(int tid)
{
	struct thread *t = NULL;

	if (tid > 0 && tid < TID_MAX) {
		spin_take(&task_lock);
		t = slots[tid].thread;
		if (t != NULL) {
			thread_get(t);
		}
		spin_give(&task_lock);
	}
	return t;
}

int process_add_thread(struct process *p, struct thread *t)
{
	int error = -EAGAIN;
	uint64_t flags;

	spin_take(&task_lock);
	if (p->thread_count < PROCESS_THREADS_MAX && !p->ending) {
		t->tid = p->thread_count == 0 ? p->pid : free_number();
		if (t->tid != 0) {
			slots[t->tid].thread = t;
			list_add_last(&p->threads, &t->in_process);
			p->thread_count++;
			error = 0;
			/* What was sent to its process while there was nobody to be told. */
			flags = spin_take_irq(&p->signals.lock);
			signal_update(t);
			spin_give_irq(&p->signals.lock, flags);
		}
	}
	spin_give(&task_lock);
	return error;
}

/* All threads look at how things are. Caller holds the task lock. */
static void notify_threads(struct process *p)
{
	list_each(&p->threads, node)
	{
		struct thread *t = container_of(node, struct thread, in_process);
		uint64_t flags = spin_take_irq(&p->signals.lock);

		signal_update(t);
		spin_give_irq(&p->signals.lock, flags);
		sched_notify(t);
	}
}

void process_exit(struct process *p, int status)
{
	spin_take(&task_lock);
	if (!p->ending) {
		p->ending = true;
		p->status = status;
		notify_threads(p);
	}
	spin_give(&task_lock);
}

int process_end_others(void)
{
	struct thread *t = thread_current();
	struct process *p = t->process;
	int ignored;

	spin_take(&task_lock);
	if (p->ending || p->only != NULL) {
		spin_give(&task_lock);
		return -EAGAIN;
	}
	p->only = t;
	notify_threads(p);
	spin_give(&task_lock);
	wait_until(&p->thread_wait, p->thread_count == 1 || p->ending, CLOCK_NEVER, false, ignored);
	(void)ignored;
	spin_take(&task_lock);
	p->only = NULL;
	if (!p->ending && t->tid != p->pid) {
		slots[t->tid].thread = NULL;
		slots[p->pid].thread = t;
		t->tid = p->pid;
	}
	notify_threads(p);
	spin_give(&task_lock);
	return p->ending ? -EAGAIN : 0;
}

void process_release_vfork(struct process *p)
{
	p->vfork_done = true;
	wait_wake(&p->thread_wait, 0);
}

/* The parent hears of it. Caller holds the task lock. */
static void tell_parent(struct process *p, int code, int status)
{
	bool goes_on = code == CLD_STOPPED || code == CLD_CONTINUED;

	if (p->parent == NULL) {
		return;
	}
	if (!goes_on || (p->parent->signals.action[SIGCHLD - 1].flags & SA_NOCLDSTOP) == 0) {
		signal_send_locked(p->parent, &(struct signal_info){.signo = SIGCHLD,
								    .code = code,
								    .pid = p->pid,
								    .status = status});
	}
	wait_wake(&p->parent->child_wait, 0);
}

void process_stop(struct process *p, int signo)
{
	spin_take(&task_lock);
	if (!p->ending && !p->stopped && p->stop_due) {
		p->stopped = true;
		p->stop_reported = false;
		p->stop_signal = signo;
		notify_threads(p);
		tell_parent(p, CLD_STOPPED, signo);
	}
	spin_give(&task_lock);
}

void process_continue(struct process *p)
{
	p->stop_due = false;
	if (p->stopped) {
		p->stopped = false;
		p->continued = true;
		notify_threads(p);
		wait_wake(&p->thread_wait, 0);
		tell_parent(p, CLD_CONTINUED, SIGCONT);
	}
}

static bool is_meant(const struct process *p, int group)
{
	if (group == PROCESS_ALL) {
		return p->pid != PROCESS_INIT && p != process_current();
	}
	return p->group == group && !p->is_zombie;
}

static bool is_group(int group, int session)
{
	for (int pid = 1; pid < TID_MAX; pid++) {
		const struct process *p = slots[pid].process;

		if (p != NULL && p->group == group && p->session == session) {
			return true;
		}
	}
	return false;
}

int process_set_group(struct process *p, int group)
{
	struct process *self = process_current();
	int error = 0;

	spin_take(&task_lock);
	if (p != self && p->parent != self) {
		error = -ESRCH;
	} else if (p->session != self->session || p->session == p->pid ||
		   (group != p->pid && !is_group(group, p->session))) {
		error = -EPERM;
	} else {
		part(p);
		join(p, group, p->session);
	}
	spin_give(&task_lock);
	return error;
}

int process_set_session(void)
{
	struct process *p = process_current();
	int error = -EPERM;

	spin_take(&task_lock);
	if (slots[p->pid].members == 0 || p->pid == PROCESS_INIT) {
		part(p);
		join(p, p->pid, p->pid);
		error = 0;
	}
	spin_give(&task_lock);
	return error;
}

int process_signal_many(int group, const struct signal_info *info)
{
	int result = -ESRCH;

	mutex_take(&signal_many_lock);
	for (int pid = 1; pid < TID_MAX; pid++) {
		struct process *p = process_find(pid);

		if (p == NULL) {
			continue;
		}
		if (is_meant(p, group)) {
			result = 0;
			if (info->signo != 0) {
				signal_send(p, info);
			}
		}
		process_put(p);
	}
	/* Last: who has seen the number that it has now has been sent it already. */
	atomic_fetch_add(&signals_to_many, 1);
	mutex_give(&signal_many_lock);
	return result;
}

/* The end. */

/* Gives back all but the number and what the parent wants to know. */
static void release_resources(struct process *p)
{
	struct fd_table *files = p->files;
	struct space *space = p->space;
	uint64_t flags;

	p->files = NULL;
	fd_table_put(files);
	flags = irq_save();
	p->space = NULL;
	space_switch(NULL);
	irq_restore(flags);
	if (space != NULL) {
		space_put(space);
	}
	tree_forget(p);
	timer_stop_wait(&p->alarm);
	work_drain(); /* an alarm may be on its way */
	process_release_vfork(p);
}

/*
 * The parent hears of a zombie, or has said that it will not wait: then it goes. All under one
 * lock: who has waited has the signal, too. Caller holds it. Return: has it gone, but for the
 * reference that was its parent's?
 */
static bool tell_end(struct process *p)
{
	const struct signal_action *a = &p->parent->signals.action[SIGCHLD - 1];
	bool goes = a->handler == (uint64_t)SIG_IGN || (a->flags & SA_NOCLDWAIT) != 0;
	int signo = p->status & 0x7f;

	tell_parent(p, signo != 0 ? CLD_KILLED : CLD_EXITED,
		    signo != 0 ? signo : (p->status >> 8) & 0xff);
	if (goes) {
		forget(p);
	}
	return goes;
}

/* Children go to number 1; those who asked for it get a signal. */
static void leave_children(struct process *p)
{
	for (;;) {
		struct process *child, *init;
		bool goes;

		spin_take(&task_lock);
		if (list_is_empty(&p->children)) {
			spin_give(&task_lock);
			return;
		}
		child = container_of(p->children.next, struct process, in_parent);
		init = slots[PROCESS_INIT].process;
		list_remove(&child->in_parent);
		child->parent = init;
		list_add_last(&init->children, &child->in_parent);
		if (child->parent_death_signal != 0) {
			signal_send_locked(
				child, &(struct signal_info){.signo = child->parent_death_signal});
		}
		goes = child->is_zombie && tell_end(child);
		spin_give(&task_lock);
		if (goes) {
			process_put(child);
		}
	}
}

static void become_zombie(struct process *p, struct thread *t)
{
	bool goes;

	spin_take(&task_lock);
	slots[t->tid].thread = NULL;
	list_remove(&t->in_process);
	p->thread_count = 0;
	p->dead_ns += sched_run_ns(t);
	p->is_zombie = true;
	goes = tell_end(p);
	spin_give(&task_lock);
	if (goes) {
		process_put(p);
	}
}

void process_thread_ended(int status)
{
	struct thread *t = thread_current();
	struct process *p = t->process;
	uint64_t flags;
	bool last;

	spin_take(&task_lock);
	last = p->thread_count == 1;
	if (!last) {
		/* From here to its end it does not sleep, so the memory is not loaded again. */
		flags = irq_save();
		space_switch(NULL);
		irq_restore(flags);
		slots[t->tid].thread = NULL;
		list_remove(&t->in_process);
		p->dead_ns += sched_run_ns(t);
		p->thread_count--;
	} else if (!p->ending) {
		p->ending = true;
		p->status = status;
	}
	spin_give(&task_lock);
	if (!last) {
		wait_wake(&p->thread_wait, 0);
		return;
	}
	if (p->pid == PROCESS_INIT) {
		process_init_ended(p->status);
	}
	release_resources(p);
	leave_children(p);
	become_zombie(p, t);
}

/* Waiting for children. */

static bool is_wanted(const struct process *child, const struct process *self, int which)
{
	return which == -1 || (which > 0 && child->pid == which) ||
	       (which == 0 && child->group == self->group) ||
	       (which < -1 && child->group == -which);
}

/* Is there news? Caller holds the lock. */
static bool get_news(struct process *child, unsigned flags, struct process_news *news)
{
	bool keep = (flags & PROCESS_WAIT_NOWAIT) != 0;

	news->pid = child->pid;
	news->run_ns = child->dead_ns + child->children_ns;
	if (child->is_zombie && (flags & PROCESS_WAIT_EXITED) != 0) {
		news->status = child->status;
		return true;
	}
	if (child->stopped && !child->stop_reported && (flags & PROCESS_WAIT_STOPPED) != 0) {
		child->stop_reported = !keep;
		news->status = child->stop_signal << 8 | 0x7f;
		return true;
	}
	if (child->continued && (flags & PROCESS_WAIT_CONTINUED) != 0) {
		child->continued = keep;
		news->status = 0xffff;
		return true;
	}
	return false;
}

/* Return: a number, 0: nothing yet, -ECHILD. */
static int look(int which, unsigned flags, struct process_news *news)
{
	struct process *self = process_current(), *reaped = NULL;
	int result = -ECHILD;

	spin_take(&task_lock);
	list_each(&self->children, node)
	{
		struct process *child = container_of(node, struct process, in_parent);

		if (!is_wanted(child, self, which)) {
			continue;
		}
		result = 0;
		if (get_news(child, flags, news)) {
			result = child->pid;
			if (child->is_zombie && (flags & PROCESS_WAIT_NOWAIT) == 0) {
				self->children_ns += news->run_ns;
				reaped = child;
				forget(child);
			}
			break;
		}
	}
	spin_give(&task_lock);
	if (reaped != NULL) {
		process_put(reaped);
	}
	return result;
}

int process_wait(int which, unsigned flags, struct process_news *news)
{
	int result, error;

	wait_until(&process_current()->child_wait,
		   (result = look(which, flags, news)) != 0 || (flags & PROCESS_WAIT_NOHANG) != 0,
		   CLOCK_NEVER, true, error);
	return error != 0 ? -ERESTARTSYS : result;
}
