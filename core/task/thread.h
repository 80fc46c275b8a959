/*
 * Threads: of ring 3, which belong to a process, and few of the kernel's own, which do not.
 */
#pragma once

#include <stdatomic.h>

#include "core/hw/context.h"
#include "core/hw/cpu.h"
#include "core/hw/timer.h"
#include "core/list.h"
#include "core/task/run_queue.h"
#include "core/task/signal_queue.h"
#include "core/task/work.h"
#include "lib/base/types.h"

struct process;
struct upcall;
struct user_frame;

#define THREAD_NAME_BYTES 16
#define TID_MAX		  4096 /* process and thread numbers are below it */

enum thread_run_state {
	THREAD_RUNNABLE,
	THREAD_SLEEPING,
	THREAD_DEAD,
};

/* Of sigaltstack(). */
struct alt_stack {
	uint64_t sp, size;
	int flags;
};

struct thread {
	/* Constant after creation. */
	int tid;
	struct process *process; /* NULL: the kernel's own */
	uint64_t stack_top;

	/* Guarded by the lock of the queue of CPU `cpu`. */
	struct run_entity entity;
	unsigned cpu;
	uint64_t run_ns, run_since_ns;
	uint64_t wait_ns, wait_since_ns; /* in the queue; the sum changes while it is there only */
	uint64_t turns;
	_Atomic enum thread_run_state state; /* the thread itself may write it, too */

	/* This thread, and whoever switches from or to it. */
	struct context context;
	struct user_state user;
	struct timer timer; /* of sched_sleep() */
	struct work reap;

	/* This thread only. */
	char name[THREAD_NAME_BYTES];
	uint64_t clear_child_tid;
	uint64_t robust_list;
	uint64_t rseq; /* address of its struct rseq; 0: none */
	uint32_t rseq_signature;
	struct alt_stack alt_stack;
	uint64_t fault_vector, fault_error; /* of the last exception, for signal frames */
	uint64_t saved_blocked;		    /* what sigsuspend(), ppoll() and so on have replaced */
	bool has_saved_blocked;
	struct upcall *upcall;		      /* NULL: it is not in one */
	int64_t (*restart)(struct thread *t); /* what restart_syscall() does */
	uint64_t restart_argument[4];

	/* Guarded by the process's signal lock; pending.set and blocked may be read without. */
	uint64_t blocked;
	struct signal_queue pending;
	_Atomic bool signal_pending; /* something to do before ring 3 */

	/* Guarded by the task lock. */
	struct list in_process;

	_Atomic uint32_t refs;
};

/** thread_current() - who runs on this CPU. */
static inline struct thread *thread_current(void)
{
	return asm_cpu_this()->thread;
}

/** process_current() - of the current thread, which is one of ring 3. */
static inline struct process *process_current(void)
{
	return thread_current()->process;
}

/** thread_init() - start-up: before any other of these. */
void thread_init(void);

/**
 * thread_create() - a thread of @p (NULL: of the kernel) that does not run yet and begins with
 * fn(arg). Scheduling and signal mask are inherited from the current one. It has no number yet.
 * Return: it, with one reference, which ends when it has ended; NULL without memory.
 */
must_use struct thread *thread_create(struct process *p, void (*fn)(void *arg), void *arg);

/** thread_discard() - one that was created, but never started. */
void thread_discard(struct thread *t);

/** thread_create_kernel() - creates and starts one of the kernel's. Return: 0 or -ENOMEM. */
must_use int thread_create_kernel(const char *name, void (*fn)(void *arg), void *arg);

/** thread_begin() - the first thing that fn() of thread_create() calls; interrupts are on then. */
void thread_begin(void);

/** thread_get() / thread_put() - Context: thread_put(): interrupts on. */
void thread_get(struct thread *t);
void thread_put(struct thread *t);

/** thread_set_name() - cut to fit. */
void thread_set_name(struct thread *t, const char *name);

/** thread_dead() - the scheduler: @t has been switched away from for the last time. Context: any.
 */
void thread_dead(struct thread *t);

/** thread_end() - ends the current thread of ring 3, and its process if it is the last.
 * @status: as wait4() tells it; counts if no exit_group() has said something else. */
_Noreturn void thread_end(int status);
