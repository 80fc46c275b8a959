/*
 * clone(), fork() and vfork(): new threads and processes.
 */
#include <asm/signal.h>
#include <errno.h>
#include <linux/sched.h>

#include "core/hw/entry.h"
#include "core/hw/user.h"
#include "core/mem/space.h"
#include "core/sys/fd.h"
#include "core/sys/syscall.h"
#include "core/sys/tree.h"
#include "core/task/process.h"
#include "core/task/sched.h"

/* What a thread of glibc or musl asks for, and what a child does. The others are refused. */
#define THREAD_FLAGS (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD)
#define OPTIONAL                                                                     \
	(CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID | \
	 CLONE_CHILD_SETTID | CLONE_DETACHED | CLONE_UNTRACED)

struct clone {
	uint64_t flags, stack, parent_tid, child_tid, tls;
};

static void child_begin(void *arg)
{
	struct thread *t = thread_current();
	uint64_t set_tid = (uint64_t)arg;

	thread_begin();
	if (set_tid != 0) {
		/* As in Linux: a bad address is the child's own problem. */
		int ignored = user_put32(set_tid, (uint32_t)t->tid);

		(void)ignored;
	}
	entry_to_user();
}

static struct thread *create_thread(struct process *p, const struct clone *c)
{
	struct thread *self = thread_current(), *t;
	uint64_t set_tid = (c->flags & CLONE_CHILD_SETTID) != 0 ? c->child_tid : 0;
	struct user_frame *frame;

	t = thread_create(p, child_begin, (void *)set_tid);
	if (t == NULL) {
		return NULL;
	}
	frame = user_frame(t->stack_top);
	*frame = *user_frame(self->stack_top);
	frame->rax = 0;
	frame->orig_rax = ENTRY_NO_SYSCALL;
	if (c->stack != 0) {
		frame->rsp = c->stack;
	}
	user_state_copy(&t->user, &self->user);
	if ((c->flags & CLONE_SETTLS) != 0) {
		t->user.fs_base = c->tls;
	}
	if ((c->flags & CLONE_CHILD_CLEARTID) != 0) {
		t->clear_child_tid = c->child_tid;
	}
	if ((c->flags & CLONE_VM) == 0) {
		t->rseq = self->rseq;
		t->rseq_signature = self->rseq_signature;
	}
	return t;
}

static int64_t start_thread(struct process *p, struct thread *t, const struct clone *c)
{
	int error = process_add_thread(p, t);
	int tid = t->tid;

	if (error != 0) {
		thread_discard(t);
		return error;
	}
	if ((c->flags & CLONE_PARENT_SETTID) != 0) {
		/* As in Linux: a bad address is the caller's own problem. */
		int ignored = user_put32(c->parent_tid, (uint32_t)tid);

		(void)ignored;
	}
	sched_start(t);
	return tid;
}

/* What a child has from its parent. Return: 0 or -ENOMEM. */
static int inherit(struct process *child, struct process *p, const struct clone *c)
{
	struct node *cwd;
	uint64_t flags;
	int error;

	child->files = fd_table_copy(p->files);
	if (child->files == NULL) {
		return -ENOMEM;
	}
	error = seccomp_inherit(&child->seccomp, &p->seccomp);
	if (error != 0) {
		return error;
	}
	/* brk, and the memory up to it, are of one moment. */
	mutex_take(&p->memory);
	child->brk = p->brk;
	if ((c->flags & CLONE_VM) != 0) {
		child->space = p->space;
		space_get(child->space);
	} else {
		child->space = space_copy(p->space);
	}
	mutex_give(&p->memory);
	if (child->space == NULL) {
		return -ENOMEM;
	}
	cwd = tree_get_cwd(p);
	tree_set_cwd(child, cwd);
	node_put(cwd);
	tree_set_exe(child, p->exe);
	child->brk_start = p->brk_start;
	child->arguments = p->arguments;
	child->arguments_end = p->arguments_end;
	flags = spin_take_irq(&p->signals.lock);
	for (unsigned i = 0; i < SIGNAL_COUNT; i++) {
		child->signals.action[i] = p->signals.action[i];
	}
	spin_give_irq(&p->signals.lock, flags);
	return 0;
}

static void undo(struct process *child)
{
	fd_table_put(child->files);
	child->files = NULL;
	if (child->space != NULL) {
		space_put(child->space);
		child->space = NULL;
	}
	tree_forget(child);
	process_discard(child);
}

static int64_t start_process(const struct clone *c)
{
	unsigned sent = atomic_load(&signals_to_many);
	struct process *p = process_current(), *child;
	struct thread *t = NULL;
	int64_t pid;
	int ignored;

	if (signal_is_pending()) {
		return -ERESTARTNOINTR; /* it may be one for the child, too */
	}
	child = process_create(p);
	if (child == NULL) {
		return -EAGAIN;
	}
	if (inherit(child, p, c) == 0) {
		t = create_thread(child, c);
	}
	if (t == NULL) {
		undo(child);
		return -ENOMEM;
	}
	/* Two that run in one memory must not use one stack. */
	if ((c->flags & (CLONE_VM | CLONE_VFORK)) != CLONE_VM) {
		t->alt_stack = thread_current()->alt_stack;
	}
	process_get(child);
	mutex_take(&signal_many_lock);
	if (atomic_load(&signals_to_many) != sent && signal_is_pending()) {
		thread_discard(t);
		pid = -ERESTARTNOINTR;
	} else {
		pid = start_thread(child, t, c);
	}
	mutex_give(&signal_many_lock);
	if (pid < 0) {
		process_put(child);
		undo(child);
		return pid;
	}
	if ((c->flags & CLONE_VFORK) != 0) {
		wait_until(&child->thread_wait, child->vfork_done || signal_is_deadly(),
			   CLOCK_NEVER, false, ignored);
		(void)ignored;
	}
	process_put(child);
	return pid;
}

static int64_t do_clone(const struct clone *c)
{
	uint64_t kind = c->flags & ~(uint64_t)(OPTIONAL | CSIGNAL);
	struct thread *t;

	/* What is not canonical would be a #GP of the kernel's when it is loaded. */
	if ((c->flags & CLONE_SETTLS) != 0 && !user_range_ok(c->tls, 0)) {
		return -EPERM;
	}
	if (kind == THREAD_FLAGS) {
		t = create_thread(process_current(), c);
		return t != NULL ? start_thread(process_current(), t, c) : -ENOMEM;
	}
	return (kind & ~(uint64_t)(CLONE_VM | CLONE_VFORK)) == 0 ? start_process(c) : -EINVAL;
}

SYSCALL(clone)
{
	return do_clone(&(struct clone){a[0], a[1], a[2], a[3], a[4]});
}

SYSCALL(fork)
{
	(void)a;
	return do_clone(&(struct clone){.flags = SIGCHLD});
}

SYSCALL(vfork)
{
	(void)a;
	return do_clone(&(struct clone){.flags = CLONE_VM | CLONE_VFORK | SIGCHLD});
}

/* libc asks for it each time, and does without. */

SYSCALL(clone3)
{
	(void)a;
	return -ENOSYS;
}

SYSCALL(set_tid_address)
{
	thread_current()->clear_child_tid = a[0];
	return thread_current()->tid;
}

SYSCALL(set_robust_list)
{
	if (a[1] != 24) {
		return -EINVAL;
	}
	thread_current()->robust_list = a[0];
	return 0;
}

SYSCALL(exit)
{
	thread_end((int)(a[0] & 0xff) << 8);
}

SYSCALL(exit_group)
{
	process_exit(process_current(), (int)(a[0] & 0xff) << 8);
	thread_end((int)(a[0] & 0xff) << 8);
}
