#include "core/sys/syscall.h"

#include <asm/unistd_64.h>
#include <errno.h>

#include "core/log.h"
#include "core/task/process.h"
#include "core/task/signal.h"

static syscall_fn *const table[] = {
#define CORE_CALL(name, offered, limits) [__NR_##name] = sys_##name,
#include "abi/linux/core.def"
};

/* Once for each program and number, for who ports a program. */
static void tell_unknown(uint64_t number)
{
	struct thread *t = thread_current();
	struct process *p = t->process;

	if (number < ARRAY_SIZE(p->told_unknown) * 64 &&
	    (atomic_fetch_or_explicit(&p->told_unknown[number / 64], BIT(number % 64),
				      memory_order_relaxed) &
	     BIT(number % 64)) == 0) {
		log_program("%s[%d]: system call %u is not offered", t->name, p->pid,
			    (unsigned)number);
	}
}

void syscall_enter(struct user_frame *frame)
{
	uint64_t number = frame->orig_rax;
	int64_t result;

	if (atomic_load_explicit(&process_current()->seccomp.last, memory_order_relaxed) != NULL &&
	    !seccomp_allows(frame)) {
		return;
	}
	if (number >= ARRAY_SIZE(table) || table[number] == NULL) {
		tell_unknown(number);
		frame->rax = (uint64_t)-ENOSYS;
		return;
	}
	const uint64_t a[6] = {frame->rdi, frame->rsi, frame->rdx,
			       frame->r10, frame->r8,  frame->r9};

	result = table[number](a);
	if (frame->orig_rax == ENTRY_NO_SYSCALL) {
		return; /* the call has set all registers: rt_sigreturn(), execve() */
	}
	frame->rax = (uint64_t)result;
	if ((result <= -ERESTARTSYS && result >= -ERESTART_RESTARTBLOCK) ||
	    thread_current()->has_saved_blocked || signal_is_pending()) {
		/* Ring 3 must not see it, even if the signal has gone elsewhere meanwhile. And it
		 * must not see that a call was interrupted before the signal itself: who sends one
		 * makes it known first, and interrupts this CPU then. */
		signal_deliver(frame);
	}
}
