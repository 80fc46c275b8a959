/*
 * Signals of processes and threads, as Linux has them. Which are offered, and what not:
 * abi/linux/core.def.
 *
 * System calls that a signal interrupts return one of the ERESTART* values below, which ring 3
 * never sees: on the way back the call is made again, or becomes -EINTR.
 */
#pragma once

#include "core/lock.h"
#include "core/task/signal_queue.h"
#include "core/task/wait.h"
#include "lib/base/types.h"

struct exception;
struct process;
struct thread;
struct user_frame;

/* As in Linux's kernel, never in its ABI. */
#define ERESTARTSYS	      512 /* again, if no handler runs or it has SA_RESTART */
#define ERESTARTNOINTR	      513 /* again, always */
#define ERESTARTNOHAND	      514 /* again, if no handler runs */
#define ERESTART_RESTARTBLOCK 516 /* as NOHAND, by restart_syscall() */

/* As the kernel's struct sigaction on x86-64. */
struct signal_action {
	uint64_t handler; /* 0: SIG_DFL, 1: SIG_IGN */
	uint64_t flags;
	uint64_t restorer;
	uint64_t mask;
};

/* Of a process. */
struct signals {
	struct spinlock lock;
	struct signal_queue pending;		   /* guarded by lock */
	struct signal_action action[SIGNAL_COUNT]; /* guarded by lock */
	struct wait_queue arrived;		   /* for signalfd */
};

void signals_init(struct signals *s);
void signals_fini(struct signals *s);
/** signals_exec() - handlers become defaults, as execve() has it. */
void signals_exec(struct signals *s);

/** signal_is_pending() - has the current thread to stop waiting? */
bool signal_is_pending(void);

/**
 * signal_look() - the CPU's work for a signal is done if the signal is one that the thread blocks:
 * for loops in the kernel that go on only while there is no work. Context: thread, interrupts on.
 */
void signal_look(void);

/** signal_is_deadly() - will the current thread end before it sees ring 3 again? For waits that
 * other signals must not interrupt. Context: any. */
bool signal_is_deadly(void);

/** signal_send() - to a process: whichever thread does not block it. Return: 0, -EAGAIN.
 * Context: any without LOCK_SIGNAL. */
int signal_send(struct process *p, const struct signal_info *info);
int signal_send_thread(struct thread *t, const struct signal_info *info);

/** signal_send_locked() - as signal_send(). Context: LOCK_TASK held. */
void signal_send_locked(struct process *p, const struct signal_info *info);

/** signal_force() - to the current thread about its own doing: cannot be blocked or ignored. */
void signal_force(const struct signal_info *info);

/** signal_exception() - what entry_ops, exception(), does. */
void signal_exception(struct user_frame *frame, const struct exception *e);

/** signal_set_blocked() - the current thread's mask. SIGKILL and SIGSTOP stay out of it. */
void signal_set_blocked(uint64_t set);

/**
 * signal_borrow_mask() - another mask until ring 3 goes on, for ppoll() and the like. If the call
 * ends by a signal its handler runs with the borrowed mask still on; else signal_return_mask().
 */
void signal_borrow_mask(uint64_t set);
void signal_return_mask(void);

/** signal_update() - thread->signal_pending follows the sets. Caller holds the signal lock. */
void signal_update(struct thread *t);

/** signal_take() - takes one of @set that waits for the current thread or its process.
 * Return: its number or 0. */
int signal_take(uint64_t set, struct signal_info *info);

/** signal_waiting() - those of @set that signal_take() would find. */
uint64_t signal_waiting(uint64_t set);

/** signal_deliver() - what entry_ops, leave(), does about CPU_WORK_SIGNAL: interrupts on. */
void signal_deliver(struct user_frame *frame);

#define SIGINFO_BYTES 128

/** signal_info_pack() / signal_info_unpack() - Linux's siginfo_t. */
void signal_info_pack(const struct signal_info *info, uint8_t out[SIGINFO_BYTES]);
void signal_info_unpack(struct signal_info *info, const uint8_t in[SIGINFO_BYTES]);

/* signal_frame.c */

/** signal_frame_push() - makes ring 3 go on in a handler.
 * @blocked: the mask that rt_sigreturn() brings back. Return: 0, or -EFAULT. */
must_use int signal_frame_push(struct user_frame *frame, const struct signal_info *info,
			       const struct signal_action *action, uint64_t blocked);

/** signal_frame_pop() - rt_sigreturn(). Return: 0, or -EFAULT for a frame that cannot be. */
must_use int signal_frame_pop(struct user_frame *frame, uint64_t *blocked);
