/*
 * Spinlocks. First come, first served (ticket locks). Each has a rank; a CPU takes them in the
 * order of their ranks and never two of one rank, which builds with -Ddebug_locks=true check.
 *
 * The kernel is not preempted while it runs: a thread gives its CPU away only by calling the
 * scheduler, and never with a spinlock held. So there are two forms. spin_take() leaves interrupts
 * on: for what interrupt handlers never touch. spin_take_irq() turns them off: for what handlers
 * touch, too. While a CPU waits in spin_take(), it still answers other CPUs' calls (ipi.h).
 *
 * Which lock guards what: docs/locking.md
 */
#pragma once

#include <stdatomic.h>

#include "core/hw/asm.h"
#include "lib/base/types.h"

/* Outermost first. LOCK_TASK and LOCK_FILE are for core/task and core/sys. */
enum lock_rank {
	LOCK_TASK,	 /* a table of processes, a process */
	LOCK_FILE,	 /* an open file, a table of files */
	LOCK_SPACE,	 /* struct space */
	LOCK_OBJECT,	 /* struct object */
	LOCK_KVM_MMU,	 /* nested page tables; taken by notifiers under LOCK_SPACE, too */
	LOCK_EVENTFD,	 /* who waits for an eventfd: irqfds reach the chips from there */
	LOCK_KVM_CHIP,	 /* interrupt chips of a VM */
	LOCK_KMAP,	 /* the kernel's own mappings */
	LOCK_WAIT,	 /* wait queues, futexes; from here on mostly taken with interrupts off */
	LOCK_EPOLL,	 /* what is ready, of an epoll: under the queue that woke it */
	LOCK_EPOLL_WAIT, /* who waits for an epoll */
	LOCK_WORK,	 /* the worker's queue: under whatever gives it work */
	LOCK_SIGNAL,
	LOCK_SCHED,   /* a run queue */
	LOCK_TIMER,   /* a CPU's timers */
	LOCK_HEAP,    /* struct heap */
	LOCK_PAGE,    /* free pages */
	LOCK_LOG,     /* how many messages there were */
	LOCK_CONSOLE, /* the UART and its buffers */
	LOCK_LEAF,    /* nothing is taken under it */
};

struct spinlock {
	_Atomic uint32_t next;	  /* the ticket for whoever comes next */
	_Atomic uint32_t serving; /* the ticket that may go on */
	enum lock_rank rank;	  /* constant after init */
};

/** SPINLOCK_INIT() - a static lock that is free. */
#define SPINLOCK_INIT(r)   \
	{                  \
		.rank = r, \
	}

void spin_init(struct spinlock *l, enum lock_rank rank);

/**
 * spin_take() - waits for the lock. Until spin_give() the caller does not sleep, does not touch
 * user memory and does not give up its CPU.
 * Context: any with interrupts on; a lock that is ever taken in an interrupt handler wants
 * spin_take_irq() everywhere.
 */
void spin_take(struct spinlock *l);
void spin_give(struct spinlock *l);

/**
 * spin_take_irq() - turns interrupts off on this CPU and takes the lock.
 * Return: what spin_give_irq() wants, to put interrupts back as they were.
 */
must_use uint64_t spin_take_irq(struct spinlock *l);
void spin_give_irq(struct spinlock *l, uint64_t flags);

/** spin_enter_irq() / spin_leave_irq() - around an interrupt's handler, for the check of ranks. */
must_use unsigned spin_enter_irq(void);
void spin_leave_irq(unsigned base);
