/*
 * Processes: what their threads share. A process has a tree of children; one that has ended stays
 * as a zombie until its parent has waited for it. Children without parent become those of number 1.
 */
#pragma once

#include <stdatomic.h>

#include "core/hw/timer.h"
#include "core/list.h"
#include "core/lock.h"
#include "core/task/mutex.h"
#include "core/task/seccomp.h"
#include "core/task/signal.h"
#include "core/task/thread.h"
#include "core/task/wait.h"
#include "lib/base/types.h"

struct fd_table;
struct node;
struct space;

#define PROCESS_INIT	    1
#define PROCESS_THREADS_MAX 1024

/* Limits that mean something here; the others are without bound. */
struct process_limits {
	uint64_t files, stack;
	uint64_t files_max, stack_max;
	uint64_t core, core_max;
};

struct process {
	/* Constant after creation. */
	int pid;

	/* Changed by execve() only, when there is one thread. */
	struct space *space; /* NULL once it has ended */
	uint64_t brk_start;
	uint64_t arguments, arguments_end; /* of argv[] in its memory */

	/* Their own locks. */
	struct fd_table *files; /* NULL once it has ended */
	struct signals signals;
	struct mutex memory; /* brk */
	struct seccomp seccomp;

	/* Guarded by `memory`. */
	uint64_t brk;

	/* Guarded by the tree's lock (tree.h). */
	struct node *cwd, *exe;

	/* Guarded by the task lock. */
	struct list threads;
	unsigned thread_count;
	struct process *parent;
	struct list children, in_parent;
	int group, session;
	bool is_zombie;
	bool stopped, stop_reported, continued; /* job control */
	_Atomic bool stop_due; /* a stop signal was taken, and no SIGCONT came since */
	int stop_signal;
	int parent_death_signal;
	int status; /* as wait4() tells it; valid once `ending` */
	bool ending;
	struct thread *only;	       /* execve(): all others end */
	uint64_t children_ns, dead_ns; /* CPU time: of children waited for, of ended threads */
	struct process_limits limits;

	/* Set once. */
	_Atomic bool vfork_done;	  /* does not use its parent's memory any longer */
	_Atomic uint64_t told_unknown[8]; /* bits: system calls that were logged as not offered */

	struct wait_queue child_wait;  /* a child has ended, stopped, gone on */
	struct wait_queue thread_wait; /* a thread has ended; vfork_done; not stopped any more */
	struct timer alarm;
	struct work alarm_work;

	_Atomic uint64_t refs; /* signalfds hold it, too; 64 bits: see struct file */
};

/** The lock over process and thread numbers and the tree of processes. */
extern struct spinlock task_lock;

/** process_create() - a child of @parent (NULL: the first), with a number, without threads, memory
 * and files. Return: it, or NULL. */
must_use struct process *process_create(struct process *parent);

/** process_discard() - one without threads, as if it had never been. */
void process_discard(struct process *p);

void process_get(struct process *p);
void process_put(struct process *p);

/** process_find() - by number; zombies, too. Return: it, counted, or NULL. */
must_use struct process *process_find(int pid);

/** thread_find() - by number. Return: it, counted, or NULL. */
must_use struct thread *thread_find(int tid);

/** process_add_thread() - gives @t a number (the process's own if it is the first).
 * Return: 0; -EAGAIN: there are too many. */
must_use int process_add_thread(struct process *p, struct thread *t);

/** process_exit() - ends all threads of the process, as exit_group(). Context: any without
 * LOCK_TASK and LOCK_SIGNAL. */
void process_exit(struct process *p, int status);

/** process_end_others() - for execve(): returns when the current thread is alone, and has the
 * process's number. Return: 0; -EAGAIN: the process ends, and so does the caller. */
must_use int process_end_others(void);

/** process_thread_ended() - of thread_end(): the current thread leaves its process; the last one
 * ends it. */
void process_thread_ended(int status);

/** process_release_vfork() - the parent goes on: the memory is not used any more. */
void process_release_vfork(struct process *p);

/** process_stop() / process_continue() - job control. It is not stopped if SIGCONT has come since
 * the stop signal was taken. Context: process_continue(): LOCK_TASK held. */
void process_stop(struct process *p, int signo);
void process_continue(struct process *p);

/** process_set_group() - setpgid(). @p: the caller's or a child of it; @group: its own number, or
 * one of its session. Return: 0, -ESRCH, -EPERM. Context: no lock held. */
must_use int process_set_group(struct process *p, int group);

/** process_set_session() - setsid() of the current process. Return: 0; -EPERM: its number is a
 * group's. Context: no lock held. */
must_use int process_set_session(void);

/**
 * process_signal_many() - to all processes of a group, or PROCESS_ALL: to all but number 1 and the
 * caller's. Return: 0, -ESRCH. Context: thread, no lock held.
 */
int process_signal_many(int group, const struct signal_info *info);
#define PROCESS_ALL (-1)

/**
 * A signal to many meets each child that is made meanwhile, or its parent before: whoever makes one
 * takes the lock last of all, and starts again if the number is not that of its begin.
 */
extern struct mutex signal_many_lock;
extern _Atomic unsigned signals_to_many;

/** process_init() - once, before any other call. */
void process_init(void);

/* wait.c of Linux: */
#define PROCESS_WAIT_EXITED    0x4 /* as WEXITED, WUNTRACED/WSTOPPED, WCONTINUED, WNOHANG, WNOWAIT */
#define PROCESS_WAIT_STOPPED   0x2
#define PROCESS_WAIT_CONTINUED 0x8
#define PROCESS_WAIT_NOHANG    0x1
#define PROCESS_WAIT_NOWAIT    0x1000000

struct process_news {
	int pid;
	int status;	 /* as wait4() has it */
	uint64_t run_ns; /* CPU time of the child and those it has waited for */
};

/**
 * process_wait() - news of a child.
 * @which: > 0: this one; 0: of the caller's group; -1: any; < -1: of group -@which.
 * Return: its number; 0: none with PROCESS_WAIT_NOHANG; -ECHILD; -ERESTARTSYS.
 */
must_use int process_wait(int which, unsigned flags, struct process_news *news);
