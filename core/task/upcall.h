/*
 * Ring 3 in the midst of a system call: the kernel has something done by code of ring 3, in the
 * address space and with the rights of the process, and goes on when it is done.
 *
 * While it runs, the thread's system calls are for whoever called it alone; those of Linux are not
 * there. Its kernel stack begins below the caller's part of it. Signals wait, unless they end the
 * thread. It may be preempted, and it may never end: its caller holds nothing that other processes
 * wait for.
 */
#pragma once

#include "core/task/thread.h"

struct user_frame;

enum upcall_end {
	UPCALL_DONE,
	UPCALL_FAULT,  /* an exception */
	UPCALL_KILLED, /* the thread is about to end */
};

struct upcall {
	/**
	 * serve() - a system call: number in orig_rax, arguments in rdi, rsi, rdx, r10, r8, r9. It
	 * sets rax, no other register. Return: false: it was the last.
	 */
	bool (*serve)(struct upcall *u, struct user_frame *frame);

	/* upcall.c */
	uint64_t sp;	/* of who waits for it */
	uint64_t stack; /* where the thread's kernel stack begins meanwhile */
};

/**
 * upcall_run() - runs ring 3 at @rip, with the stack @rsp and @argument in RDI, all other registers
 * zero, until serve() says that it is done.
 * Context: a system call of a thread of ring 3, not in another upcall; interrupts on, no spinlock.
 */
must_use enum upcall_end upcall_run(struct upcall *u, uint64_t rip, uint64_t rsp,
				    uint64_t argument);

/** upcall_load() - the scheduler: the doors of @t, which has a kernel stack, on this CPU.
 * Context: interrupts off. */
void upcall_load(const struct thread *t);

/** upcall_stop() - of the current thread, if it is in one: what the doors do about exceptions and
 * signals. It does not return then. */
void upcall_stop(enum upcall_end end);
