#include "core/task/signal.h"

#include <asm/siginfo.h>
#include <asm/signal.h>
#include <errno.h>
#include <string.h>

#include "core/hw/entry.h"
#include "core/hw/regs.h"
#include "core/log.h"
#include "core/task/process.h"
#include "core/task/rseq.h"
#include "core/task/sched.h"

#define NR_RESTART_SYSCALL 219
#define SYSCALL_BYTES	   2 /* of the SYSCALL instruction */

#define UNBLOCKABLE (SIGNAL_BIT(SIGKILL) | SIGNAL_BIT(SIGSTOP))
#define STOPPING \
	(SIGNAL_BIT(SIGSTOP) | SIGNAL_BIT(SIGTSTP) | SIGNAL_BIT(SIGTTIN) | SIGNAL_BIT(SIGTTOU))
#define IGNORED \
	(SIGNAL_BIT(SIGCHLD) | SIGNAL_BIT(SIGURG) | SIGNAL_BIT(SIGWINCH) | SIGNAL_BIT(SIGCONT))

#define ACTION_DEFAULT 0
#define ACTION_IGNORE  1

void signals_init(struct signals *s)
{
	spin_init(&s->lock, LOCK_SIGNAL);
	signal_queue_init(&s->pending);
	wait_queue_init(&s->arrived);
}

void signals_fini(struct signals *s)
{
	signal_queue_flush(&s->pending, UINT64_MAX);
}

void signals_exec(struct signals *s)
{
	uint64_t flags = spin_take_irq(&s->lock);

	for (unsigned i = 0; i < SIGNAL_COUNT; i++) {
		uint64_t handler = s->action[i].handler;

		s->action[i] = (struct signal_action){
			.handler = handler == ACTION_IGNORE ? ACTION_IGNORE : ACTION_DEFAULT};
	}
	spin_give_irq(&s->lock, flags);
}

bool signal_is_pending(void)
{
	return atomic_load(&thread_current()->signal_pending);
}

void signal_look(void)
{
	_Atomic uint64_t *work = &cpu_this()->work;

	if ((atomic_load_explicit(work, memory_order_relaxed) & CPU_WORK_SIGNAL) == 0 ||
	    signal_is_pending()) {
		return;
	}
	/* Pairs with sched_notify(): what was pending before it is seen here. */
	atomic_fetch_and(work, ~CPU_WORK_SIGNAL);
	if (signal_is_pending()) {
		atomic_fetch_or(work, CPU_WORK_SIGNAL);
	}
}

bool signal_is_deadly(void)
{
	struct thread *t = thread_current();
	struct process *p = t->process;
	uint64_t waiting = t->pending.set | p->signals.pending.set;

	return p->ending || (p->only != NULL && p->only != t) ||
	       (waiting & SIGNAL_BIT(SIGKILL)) != 0;
}

void signal_update(struct thread *t)
{
	struct process *p = t->process;
	uint64_t waiting = (t->pending.set | p->signals.pending.set) & ~t->blocked;

	atomic_store(&t->signal_pending,
		     waiting != 0 || p->ending || p->stopped || (p->only != NULL && p->only != t));
}

/* What happens without a handler is nothing. Caller holds the signal lock. */
static bool is_ignored(struct process *p, int signo)
{
	uint64_t handler = p->signals.action[signo - 1].handler;

	return handler == ACTION_IGNORE ||
	       (handler == ACTION_DEFAULT && (IGNORED & SIGNAL_BIT(signo)) != 0);
}

/* Number 1 cannot be ended by others unless it wants to hear of it. */
static bool is_protected(struct process *p, const struct signal_info *info)
{
	return p->pid == PROCESS_INIT && info->code <= 0 &&
	       p->signals.action[info->signo - 1].handler == ACTION_DEFAULT;
}

static bool blocked_somewhere(struct process *p, struct thread *only, uint64_t bit)
{
	if (only != NULL) {
		return (only->blocked & bit) != 0;
	}
	list_each(&p->threads, node)
	{
		if ((container_of(node, struct thread, in_process)->blocked & bit) != 0) {
			return true;
		}
	}
	return false;
}

/* Stop and continue signals take each other away. Caller holds the task and the signal lock. */
static void cancel_opposite(struct process *p, int signo)
{
	uint64_t against = 0;

	if (signo == SIGCONT) {
		against = STOPPING;
	} else if ((STOPPING & SIGNAL_BIT(signo)) != 0) {
		against = SIGNAL_BIT(SIGCONT);
	}
	if (against == 0) {
		return;
	}
	signal_queue_flush(&p->signals.pending, against);
	list_each(&p->threads, node)
	{
		signal_queue_flush(&container_of(node, struct thread, in_process)->pending,
				   against);
	}
}

/* Caller holds the task and the signal lock. Without @t to the process. */
static int put(struct process *p, struct thread *t, const struct signal_info *info)
{
	int error;

	if (is_protected(p, info) ||
	    (is_ignored(p, info->signo) && !blocked_somewhere(p, t, SIGNAL_BIT(info->signo)))) {
		return 0;
	}
	error = signal_queue_put(t != NULL ? &t->pending : &p->signals.pending, info);
	list_each(&p->threads, node)
	{
		struct thread *each = container_of(node, struct thread, in_process);

		if (t != NULL && each != t) {
			continue;
		}
		signal_update(each);
		/* Blocked ones too: they may wait in sigtimedwait(). */
		sched_notify(each);
	}
	return error;
}

/* Caller holds the task lock. */
static int send_locked(struct process *p, struct thread *t, const struct signal_info *info)
{
	uint64_t flags = spin_take_irq(&p->signals.lock);
	int error;

	cancel_opposite(p, info->signo);
	error = put(p, t, info);
	spin_give_irq(&p->signals.lock, flags);
	wait_wake(&p->signals.arrived, 1);
	/* After the above: a stop signal that was taken before it stops nobody from here on. */
	if (info->signo == SIGCONT) {
		process_continue(p);
	}
	return error;
}

void signal_send_locked(struct process *p, const struct signal_info *info)
{
	(void)send_locked(p, NULL, info);
}

static int send(struct process *p, struct thread *t, const struct signal_info *info)
{
	int error;

	spin_take(&task_lock);
	error = send_locked(p, t, info);
	spin_give(&task_lock);
	return error;
}

int signal_send(struct process *p, const struct signal_info *info)
{
	return send(p, NULL, info);
}

int signal_send_thread(struct thread *t, const struct signal_info *info)
{
	return send(t->process, t, info);
}

void signal_force(const struct signal_info *info)
{
	struct thread *t = thread_current();
	struct process *p = t->process;
	uint64_t bit = SIGNAL_BIT(info->signo);
	uint64_t flags = spin_take_irq(&p->signals.lock);
	struct signal_action *action = &p->signals.action[info->signo - 1];

	if ((t->blocked & bit) != 0 || action->handler == ACTION_IGNORE) {
		*action = (struct signal_action){.handler = ACTION_DEFAULT};
		t->blocked &= ~bit;
	}
	/* Too many wait only of those that queue, and faults do not. */
	if (signal_queue_put(&t->pending, info) != 0) {
		log_program("%s[%d]: signal %d is lost", t->name, t->tid, info->signo);
	}
	signal_update(t);
	spin_give_irq(&p->signals.lock, flags);
	sched_notify(t);
}

static void fault_info(const struct exception *e, uint64_t rip, struct signal_info *info)
{
	static const struct {
		uint8_t vector, signo, code;
	} of_vector[] = {
		{EXCEPTION_DE, SIGFPE, FPE_INTDIV},  {EXCEPTION_DB, SIGTRAP, TRAP_TRACE},
		{EXCEPTION_BP, SIGTRAP, TRAP_BRKPT}, {EXCEPTION_UD, SIGILL, ILL_ILLOPN},
		{EXCEPTION_AC, SIGBUS, BUS_ADRALN},  {EXCEPTION_MF, SIGFPE, FPE_FLTINV},
		{EXCEPTION_XM, SIGFPE, FPE_FLTINV},
	};

	*info = (struct signal_info){.signo = SIGSEGV, .code = SI_KERNEL, .address = 0};
	if (e->vector == EXCEPTION_PF) {
		info->address = e->address;
		info->code = (e->error & PFERR_P) != 0 ? SEGV_ACCERR : SEGV_MAPERR;
		if (e->result == -ENXIO || e->result == -ENOMEM) {
			info->signo = SIGBUS;
			info->code = BUS_ADRERR;
		}
		return;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(of_vector); i++) {
		if (of_vector[i].vector == e->vector) {
			info->signo = of_vector[i].signo;
			info->code = of_vector[i].code;
			info->address = rip;
		}
	}
}

void signal_exception(struct user_frame *frame, const struct exception *e)
{
	struct signal_info info;

	fault_info(e, frame->rip, &info);
	thread_current()->fault_vector = e->vector;
	thread_current()->fault_error = e->error;
	signal_force(&info);
}

void signal_set_blocked(uint64_t set)
{
	struct thread *t = thread_current();
	struct signals *s = &t->process->signals;
	uint64_t flags = spin_take_irq(&s->lock);

	t->blocked = set & ~UNBLOCKABLE;
	signal_update(t);
	spin_give_irq(&s->lock, flags);
	if (atomic_load(&t->signal_pending)) {
		sched_notify(t);
	}
}

void signal_borrow_mask(uint64_t set)
{
	struct thread *t = thread_current();

	t->saved_blocked = t->blocked;
	t->has_saved_blocked = true;
	signal_set_blocked(set);
}

void signal_return_mask(void)
{
	struct thread *t = thread_current();

	if (t->has_saved_blocked) {
		t->has_saved_blocked = false;
		signal_set_blocked(t->saved_blocked);
	}
}

/* Caller holds the signal lock. */
static int take_locked(struct thread *t, uint64_t set, struct signal_info *info)
{
	int signo = signal_queue_take(&t->pending, set, info);

	if (signo == 0) {
		signo = signal_queue_take(&t->process->signals.pending, set, info);
	}
	signal_update(t);
	return signo;
}

int signal_take(uint64_t set, struct signal_info *info)
{
	struct thread *t = thread_current();
	struct signals *s = &t->process->signals;
	uint64_t flags = spin_take_irq(&s->lock);
	int signo = take_locked(t, set, info);

	spin_give_irq(&s->lock, flags);
	return signo;
}

uint64_t signal_waiting(uint64_t set)
{
	struct thread *t = thread_current();

	return (t->pending.set | t->process->signals.pending.set) & set;
}

/* A system call that was interrupted: once more, or an error. */
static void end_call(struct user_frame *frame, const struct signal_action *handler)
{
	int64_t result = (int64_t)frame->rax;
	bool again = handler == NULL;

	if (frame->orig_rax == ENTRY_NO_SYSCALL) {
		return;
	}
	switch (-result) {
	case ERESTARTNOINTR:
		again = true;
		break;
	case ERESTARTSYS:
		again = again || (handler->flags & SA_RESTART) != 0;
		break;
	case ERESTARTNOHAND:
	case ERESTART_RESTARTBLOCK:
		break;
	default:
		return;
	}
	if (again) {
		frame->rax =
			result == -ERESTART_RESTARTBLOCK ? NR_RESTART_SYSCALL : frame->orig_rax;
		frame->rip -= SYSCALL_BYTES;
	} else {
		frame->rax = (uint64_t)-EINTR;
	}
	frame->orig_rax = ENTRY_NO_SYSCALL;
}

static void act_by_default(struct user_frame *frame, const struct signal_info *info)
{
	struct thread *t = thread_current();
	int signo = info->signo;

	if ((IGNORED & SIGNAL_BIT(signo)) != 0) {
		return;
	}
	if ((STOPPING & SIGNAL_BIT(signo)) != 0) {
		process_stop(t->process, signo);
		return;
	}
	if (info->code > 0 && signo != SIGALRM && signo != SIGPIPE && signo != SIGTERM) {
		log_program("%s[%d]: signal %d at rip 0x%llx, address 0x%llx, rsp 0x%llx", t->name,
			    t->tid, signo, (unsigned long long)frame->rip,
			    (unsigned long long)info->address, (unsigned long long)frame->rsp);
	}
	process_exit(t->process, signo);
}

/* The next signal to act on, with its action. */
static int next_signal(struct thread *t, struct signal_info *info, struct signal_action *action)
{
	struct signals *s = &t->process->signals;
	uint64_t flags = spin_take_irq(&s->lock);
	int signo = take_locked(t, ~t->blocked, info);

	if (signo != 0) {
		t->process->stop_due |= (STOPPING & SIGNAL_BIT(signo)) != 0;
		*action = s->action[signo - 1];
		if ((action->flags & SA_RESETHAND) != 0 && action->handler > ACTION_IGNORE) {
			s->action[signo - 1].handler = ACTION_DEFAULT;
		}
	}
	spin_give_irq(&s->lock, flags);
	return signo;
}

static void run_handler(struct user_frame *frame, const struct signal_info *info,
			const struct signal_action *action)
{
	struct thread *t = thread_current();
	uint64_t before = t->has_saved_blocked ? t->saved_blocked : t->blocked;
	uint64_t mask = action->mask;

	end_call(frame, action);
	if (!rseq_resume(frame)) {
		return;
	}
	if (signal_frame_push(frame, info, action, before) != 0) {
		log_program("%s[%d]: no room for signal %d on the stack at 0x%llx", t->name, t->tid,
			    info->signo, (unsigned long long)frame->rsp);
		process_exit(t->process, SIGSEGV);
		return;
	}
	t->has_saved_blocked = false;
	if ((action->flags & SA_NODEFER) == 0) {
		mask |= SIGNAL_BIT(info->signo);
	}
	signal_set_blocked(t->blocked | mask);
}

rare void signal_deliver(struct user_frame *frame)
{
	struct thread *t = thread_current();
	struct process *p = t->process;

	for (;;) {
		struct signal_action action;
		struct signal_info info;
		int ignored;

		if (p->ending || (p->only != NULL && p->only != t)) {
			thread_end(p->status);
		}
		if (p->stopped && !signal_is_deadly()) {
			wait_until(&p->thread_wait, !p->stopped || signal_is_deadly(), CLOCK_NEVER,
				   false, ignored);
			(void)ignored;
			continue;
		}
		if (next_signal(t, &info, &action) == 0) {
			break;
		}
		if (action.handler == ACTION_DEFAULT) {
			act_by_default(frame, &info);
		} else if (action.handler != ACTION_IGNORE) {
			run_handler(frame, &info, &action);
		}
	}
	end_call(frame, NULL);
	signal_return_mask();
}

void signal_info_pack(const struct signal_info *info, uint8_t out[SIGINFO_BYTES])
{
	siginfo_t si;

	_Static_assert(sizeof(si) == SIGINFO_BYTES, "siginfo_t");
	memset(&si, 0, sizeof(si));
	si.si_signo = info->signo;
	si.si_errno = info->error;
	si.si_code = info->code;
	if (info->signo == SIGSYS && info->code > 0) {
		si.si_call_addr = (void *)info->address;
		si.si_syscall = info->status;
		si.si_arch = 0xc000003e; /* AUDIT_ARCH_X86_64 */
	} else if (info->code > 0 && info->signo != SIGCHLD) {
		si.si_addr = (void *)info->address;
	} else {
		si.si_pid = info->pid;
		si.si_uid = (__kernel_uid32_t)info->uid;
		if (info->signo == SIGCHLD && info->code > 0) {
			si.si_status = info->status;
		} else {
			si.si_ptr = (void *)info->value;
		}
	}
	memcpy(out, &si, sizeof(si));
}

void signal_info_unpack(struct signal_info *info, const uint8_t in[SIGINFO_BYTES])
{
	siginfo_t si;

	memcpy(&si, in, sizeof(si));
	*info = (struct signal_info){
		.signo = si.si_signo,
		.code = si.si_code,
		.error = si.si_errno,
		.pid = si.si_pid,
		.uid = (int)si.si_uid,
		.value = (uint64_t)si.si_ptr,
	};
}
