/*
 * The scheduler: each CPU has a queue of the threads that could run on it (run_queue.h), and a
 * thread of its own to halt in when there is none. There is no tick: a timer ends a turn only while
 * somebody else waits for the CPU.
 *
 * Sleeping is in two steps, so that no wake-up is lost:
 *
 *	for (;;) {
 *		sched_prepare();
 *		if (what is waited for has come) { break; }
 *		if (!sched_sleep(deadline)) { it is too late; break; }
 *	}
 *	sched_unprepare();
 *
 * From sched_prepare() on, a sched_wake() makes the next sched_sleep() return at once. Wake-ups may
 * come without a reason; who sleeps looks again.
 */
#pragma once

#include "core/hw/cpu.h"
#include "lib/base/types.h"

struct thread;

/** sched_prepare() - the current thread is about to sleep. */
void sched_prepare(void);

/** sched_unprepare() - it does not sleep after all, or no more. */
void sched_unprepare(void);

/**
 * sched_sleep() - gives the CPU away until a wake-up.
 * @deadline_ns: of clock_now_ns(); CLOCK_NEVER: none.
 * Return: false if the deadline has passed.
 * Context: thread, no spinlock held.
 */
bool sched_sleep(uint64_t deadline_ns);

/** sched_wake() - the thread does not sleep any longer. The caller makes sure that it exists.
 * Context: any without LOCK_SCHED. */
void sched_wake(struct thread *t);

/** sched_start() - a new thread may run from now on. */
void sched_start(struct thread *t);

/** sched_pass() - others of the same priority first. Context: thread, no spinlock held. */
void sched_pass(void);

/**
 * sched_relax() - if this CPU has work, does what is due: for loops in the kernel that take long,
 * and for vCPUs between two entries of the guest. Signals are left alone.
 * Context: thread, no spinlock held, interrupts on.
 */
void sched_relax(void);

/** sched_end() - the current thread never runs again. Context: thread, no lock. */
_Noreturn void sched_end(void);

/** sched_notify() - @t looks at its signals before it goes back to ring 3 or into a guest.
 * Context: any without LOCK_SCHED. */
void sched_notify(struct thread *t);

/** sched_leave() - what struct entry_ops, leave(), does about CPU_WORK_RESCHED. Context: interrupts
 * off. */
void sched_leave(void);

/** sched_set_policy() - as sched_setscheduler() and setpriority(). Return: 0, -EINVAL. */
must_use int sched_set_policy(struct thread *t, int policy, int priority, int nice);

/** sched_set_affinity() - the CPUs it may run on. It has left others when this returns, or does so
 * at its next system call or interrupt. Return: 0; -EINVAL: none of them is there. */
must_use int sched_set_affinity(struct thread *t, uint64_t cpus);

/** What a thread has had so far; waiting: for a CPU, until the last turn began. */
struct sched_times {
	uint64_t run_ns, wait_ns, turns;
};

struct sched_times sched_times(struct thread *t);

/** sched_run_ns() - CPU time it has had. */
uint64_t sched_run_ns(struct thread *t);

/** sched_init_cpu() - this CPU's queue; what runs now becomes its idle thread. Once a CPU.
 * Return: 0 or -ENOMEM. */
must_use int sched_init_cpu(void);

/** sched_idle() - the end of each CPU's start-up. Context: interrupts off. */
_Noreturn void sched_idle(void);

/** sched_finish_switch() - the first thing a new thread does. Context: interrupts off. */
void sched_finish_switch(void);
