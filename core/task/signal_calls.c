/*
 * System calls about signals.
 */
#include <asm/siginfo.h>
#include <asm/signal.h>
#include <errno.h>
#include <linux/wait.h>

#include "core/hw/user.h"
#include "core/sys/syscall.h"
#include "core/task/process.h"
#include "core/task/sched.h"
#include "core/task/time.h"

#define SET_BYTES     8
#define SS_ONSTACK    1
#define SS_DISABLE    2
#define ALT_STACK_MIN 2048
#define AUTODISARM    (1u << 31)

static bool is_signal(int n)
{
	return n >= 1 && n <= SIGNAL_COUNT;
}

SYSCALL(rt_sigaction)
{
	struct signals *s = &process_current()->signals;
	int n = (int)a[0];
	struct signal_action action = {0}, before;
	uint64_t flags;

	if (!is_signal(n) || a[3] != SET_BYTES || (a[1] != 0 && (n == SIGKILL || n == SIGSTOP))) {
		return -EINVAL;
	}
	if (a[1] != 0 && user_read(&action, a[1], sizeof(action)) != 0) {
		return -EFAULT;
	}
	action.mask &= ~(SIGNAL_BIT(SIGKILL) | SIGNAL_BIT(SIGSTOP));
	spin_take(&task_lock);
	flags = spin_take_irq(&s->lock);
	before = s->action[n - 1];
	if (a[1] != 0) {
		s->action[n - 1] = action;
		if (action.handler == (uint64_t)SIG_IGN) {
			signal_queue_flush(&s->pending, SIGNAL_BIT(n));
			list_each(&process_current()->threads, node)
			{
				struct thread *t = container_of(node, struct thread, in_process);

				signal_queue_flush(&t->pending, SIGNAL_BIT(n));
			}
		}
	}
	spin_give_irq(&s->lock, flags);
	spin_give(&task_lock);
	return a[2] != 0 ? user_write(a[2], &before, sizeof(before)) : 0;
}

SYSCALL(rt_sigprocmask)
{
	struct thread *t = thread_current();
	uint64_t before = t->blocked, set;

	if (a[3] != SET_BYTES) {
		return -EINVAL;
	}
	if (a[1] != 0) {
		if (user_get64(a[1], &set) != 0) {
			return -EFAULT;
		}
		switch ((int)a[0]) {
		case SIG_BLOCK:
			set |= before;
			break;
		case SIG_UNBLOCK:
			set = before & ~set;
			break;
		case SIG_SETMASK:
			break;
		default:
			return -EINVAL;
		}
		signal_set_blocked(set);
	}
	return a[2] != 0 ? user_put64(a[2], before) : 0;
}

SYSCALL(rt_sigreturn)
{
	struct user_frame *frame = user_frame(thread_current()->stack_top);
	uint64_t blocked;

	(void)a;
	if (signal_frame_pop(frame, &blocked) != 0) {
		frame->orig_rax = ENTRY_NO_SYSCALL;
		signal_force(&(struct signal_info){.signo = SIGSEGV, .code = SI_KERNEL});
		return 0;
	}
	signal_set_blocked(blocked);
	return 0;
}

SYSCALL(rt_sigpending)
{
	return a[1] > SET_BYTES ? -EINVAL
				: user_put64(a[0], signal_waiting(thread_current()->blocked));
}

static int64_t wait_for_signal(void)
{
	for (;;) {
		sched_prepare();
		if (signal_is_pending()) {
			break;
		}
		sched_sleep(CLOCK_NEVER);
	}
	sched_unprepare();
	return -ERESTARTNOHAND;
}

SYSCALL(rt_sigsuspend)
{
	uint64_t set;

	if (a[1] != SET_BYTES) {
		return -EINVAL;
	}
	if (user_get64(a[0], &set) != 0) {
		return -EFAULT;
	}
	signal_borrow_mask(set);
	return wait_for_signal();
}

SYSCALL(pause)
{
	(void)a;
	return wait_for_signal();
}

SYSCALL(rt_sigtimedwait)
{
	uint8_t packed[SIGINFO_BYTES];
	struct signal_info info;
	uint64_t set, deadline_ns;
	int signo, error = time_read_timeout(a[2], &deadline_ns);

	if (a[3] != SET_BYTES) {
		return -EINVAL;
	}
	if (error != 0 || user_get64(a[0], &set) != 0) {
		return error != 0 ? error : -EFAULT;
	}
	set &= ~(SIGNAL_BIT(SIGKILL) | SIGNAL_BIT(SIGSTOP));
	for (;;) {
		sched_prepare();
		signo = signal_take(set, &info);
		if (signo != 0 || signal_is_pending()) {
			break;
		}
		if (!sched_sleep(deadline_ns) && signal_waiting(set) == 0) {
			return -EAGAIN;
		}
	}
	sched_unprepare();
	if (signo == 0) {
		return -EINTR;
	}
	signal_info_pack(&info, packed);
	return a[1] != 0 && user_write(a[1], packed, sizeof(packed)) != 0 ? -EFAULT : signo;
}

SYSCALL(sigaltstack)
{
	struct thread *t = thread_current();
	uint64_t sp = user_frame(t->stack_top)->rsp;
	bool used = t->alt_stack.size != 0 && sp > t->alt_stack.sp &&
		    sp - t->alt_stack.sp <= t->alt_stack.size;
	struct {
		uint64_t sp;
		int32_t flags, pad;
		uint64_t size;
	} in, out = {.sp = t->alt_stack.sp, .size = t->alt_stack.size};

	out.flags = t->alt_stack.size == 0 ? SS_DISABLE : t->alt_stack.flags;
	out.flags |= used ? SS_ONSTACK : 0;
	if (a[0] != 0) {
		if (user_read(&in, a[0], sizeof(in)) != 0) {
			return -EFAULT;
		}
		if (used) {
			return -EPERM;
		}
		if ((in.flags & ~(int)(AUTODISARM | SS_DISABLE | SS_ONSTACK)) != 0) {
			return -EINVAL;
		}
		if ((in.flags & SS_DISABLE) != 0) {
			t->alt_stack = (struct alt_stack){0};
		} else if (in.size < ALT_STACK_MIN) {
			return -ENOMEM;
		} else if (!user_range_ok(in.sp, in.size)) {
			return -EINVAL;
		} else {
			t->alt_stack =
				(struct alt_stack){in.sp, in.size, in.flags & (int)AUTODISARM};
		}
	}
	return a[1] != 0 ? user_write(a[1], &out, sizeof(out)) : 0;
}

/* Sending. */

static struct signal_info from_self(int signo, int code)
{
	return (struct signal_info){.signo = signo, .code = code, .pid = process_current()->pid};
}

static int64_t send_to(int pid, const struct signal_info *info)
{
	struct process *p;
	int error = 0;

	if (pid <= 0) {
		return process_signal_many(pid == 0    ? process_current()->group
					   : pid == -1 ? PROCESS_ALL
						       : -pid,
					   info);
	}
	p = process_find(pid);
	if (p == NULL) {
		return -ESRCH;
	}
	if (info->signo != 0 && !p->is_zombie) {
		error = signal_send(p, info);
	}
	process_put(p);
	return error;
}

SYSCALL(kill)
{
	struct signal_info info = from_self((int)a[1], SI_USER);

	return info.signo != 0 && !is_signal(info.signo) ? -EINVAL : send_to((int)a[0], &info);
}

static int64_t send_to_thread(int tgid, int tid, const struct signal_info *info)
{
	struct thread *t;
	int error = 0;

	if (tid <= 0 || (info->signo != 0 && !is_signal(info->signo))) {
		return -EINVAL;
	}
	t = thread_find(tid);
	if (t == NULL) {
		return -ESRCH;
	}
	if (tgid != 0 && t->process->pid != tgid) {
		error = -ESRCH;
	} else if (info->signo != 0) {
		error = signal_send_thread(t, info);
	}
	thread_put(t);
	return error;
}

SYSCALL(tgkill)
{
	struct signal_info info = from_self((int)a[2], SI_TKILL);

	return (int)a[0] <= 0 ? -EINVAL : send_to_thread((int)a[0], (int)a[1], &info);
}

SYSCALL(tkill)
{
	struct signal_info info = from_self((int)a[1], SI_TKILL);

	return send_to_thread(0, (int)a[0], &info);
}

/* What a program says about itself may not look as if the kernel had said it. */
static int read_info(uint64_t va, int signo, struct signal_info *info)
{
	uint8_t packed[SIGINFO_BYTES];

	if (!is_signal(signo)) {
		return -EINVAL;
	}
	if (user_read(packed, va, sizeof(packed)) != 0) {
		return -EFAULT;
	}
	signal_info_unpack(info, packed);
	info->signo = signo;
	return info->code >= 0 || info->code == SI_TKILL ? -EPERM : 0;
}

SYSCALL(rt_sigqueueinfo)
{
	struct signal_info info;
	int error = read_info(a[2], (int)a[1], &info);

	return error != 0 ? error : send_to((int)a[0], &info);
}

SYSCALL(rt_tgsigqueueinfo)
{
	struct signal_info info;
	int error = read_info(a[3], (int)a[2], &info);

	return error != 0 ? error : send_to_thread((int)a[0], (int)a[1], &info);
}

/* Waiting for children. */

static int write_usage(uint64_t va, uint64_t ns)
{
	uint64_t usage[18] = {ns / NS_PER_S, ns % NS_PER_S / 1000};

	return va != 0 ? user_write(va, usage, sizeof(usage)) : 0;
}

SYSCALL(wait4)
{
	struct process_news news;
	unsigned flags = (unsigned)a[2];
	int pid;

	if ((flags & ~(unsigned)(WNOHANG | WUNTRACED | WCONTINUED | __WALL | __WCLONE |
				 __WNOTHREAD)) != 0) {
		return -EINVAL;
	}
	flags &= WNOHANG | WUNTRACED | WCONTINUED;
	pid = process_wait((int)a[0], flags | PROCESS_WAIT_EXITED, &news);
	if (pid <= 0) {
		return pid;
	}
	if ((a[1] != 0 && user_put32(a[1], (uint32_t)news.status) != 0) ||
	    write_usage(a[3], news.run_ns) != 0) {
		return -EFAULT;
	}
	return pid;
}

static void describe(const struct process_news *news, struct signal_info *info)
{
	int status = news->status;

	*info = (struct signal_info){.signo = SIGCHLD, .pid = news->pid};
	if (status == 0xffff) {
		info->code = CLD_CONTINUED;
		info->status = SIGCONT;
	} else if ((status & 0xff) == 0x7f) {
		info->code = CLD_STOPPED;
		info->status = status >> 8;
	} else if ((status & 0x7f) != 0) {
		info->code = CLD_KILLED;
		info->status = status & 0x7f;
	} else {
		info->code = CLD_EXITED;
		info->status = (status >> 8) & 0xff;
	}
}

SYSCALL(waitid)
{
	unsigned flags = (unsigned)a[3];
	uint8_t packed[SIGINFO_BYTES] = {0};
	struct process_news news;
	struct signal_info info;
	int which = (int)a[1], pid;

	if ((flags & ~(unsigned)(WNOHANG | WNOWAIT | WEXITED | WSTOPPED | WCONTINUED | __WALL |
				 __WCLONE | __WNOTHREAD)) != 0 ||
	    (flags & (WEXITED | WSTOPPED | WCONTINUED)) == 0) {
		return -EINVAL;
	}
	switch ((int)a[0]) {
	case P_ALL:
		which = -1;
		break;
	case P_PID:
		if (which <= 0) {
			return -EINVAL;
		}
		break;
	case P_PGID:
		which = which == 0 ? 0 : -which;
		break;
	default:
		return -EINVAL;
	}
	pid = process_wait(which, flags, &news);
	if (pid < 0) {
		return pid;
	}
	if (pid > 0) {
		describe(&news, &info);
		signal_info_pack(&info, packed);
	}
	if ((a[2] != 0 && user_write(a[2], packed, sizeof(packed)) != 0) ||
	    write_usage(a[4], pid > 0 ? news.run_ns : 0) != 0) {
		return -EFAULT;
	}
	return 0;
}
