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
static rare void tell_unknown(uint64_t number)
{
	struct thread *t = thread_current();
	struct process *p = t->process;
	/* The last bit is that of all above. */
	uint64_t bit = MIN(number, ARRAY_SIZE(p->told_unknown) * 64 - 1);

	if ((atomic_fetch_or_explicit(&p->told_unknown[bit / 64], BIT(bit % 64),
				      memory_order_relaxed) &
	     BIT(bit % 64)) == 0) {
		log_program("%s[%d]: system call %lu is not offered", t->name, p->pid, number);
	}
}

/* What user_frame() calls arguments is what SYSCALL() takes. */
_Static_assert(offsetof(struct user_frame, r9) == offsetof(struct user_frame, rdi) + 40, "order");

bool syscall_enter(struct user_frame *frame)
{
	struct thread *t = thread_current();
	uint64_t number;
	int64_t result;

	if (atomic_load_explicit(&t->process->seccomp.last, memory_order_relaxed) != NULL &&
	    !seccomp_allows(frame)) {
		return false;
	}
	number = frame->orig_rax;
	if (number >= ARRAY_SIZE(table) || table[number] == NULL) {
		tell_unknown(frame->orig_rax);
		frame->rax = (uint64_t)-ENOSYS;
		return false;
	}
	result = table[number](&frame->rdi);
	if (frame->orig_rax == ENTRY_NO_SYSCALL) {
		return false; /* the call has set all registers: rt_sigreturn(), execve() */
	}
	frame->rax = (uint64_t)result;
	if ((result <= -ERESTARTSYS && result >= -ERESTART_RESTARTBLOCK) ||
	    (t->has_saved_blocked |
	     atomic_load_explicit(&t->signal_pending, memory_order_relaxed))) {
		/* Ring 3 must not see it, even if the signal has gone elsewhere meanwhile. And it
		 * must not see that a call was interrupted before the signal itself: who sends one
		 * makes it known first, and interrupts this CPU then. */
		signal_deliver(frame);
		return false;
	}
	return true;
}
