/*
 * A vCPU's thread. While KVM_RUN lasts, all signals but those of faults are blocked: one that the
 * caller does not block stays pending, ends KVM_RUN, and its handler runs when that has returned.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "soft/access.h"
#include "soft/kvm/surroundings.h"

#define SIGNAL_BIT(n) BIT((n)-1)
/* Of faults; and those that nobody can block. */
#define NEVER_BLOCKED                                                                         \
	(SIGNAL_BIT(SIGSEGV) | SIGNAL_BIT(SIGBUS) | SIGNAL_BIT(SIGILL) | SIGNAL_BIT(SIGFPE) | \
	 SIGNAL_BIT(SIGTRAP) | SIGNAL_BIT(SIGABRT) | SIGNAL_BIT(SIGSYS))
/* Those whose default is to do nothing. */
#define IGNORED \
	(SIGNAL_BIT(SIGCHLD) | SIGNAL_BIT(SIGURG) | SIGNAL_BIT(SIGWINCH) | SIGNAL_BIT(SIGCONT))

static struct soft_thread *thread_of(const struct kvm_vcpu *vcpu)
{
	return vcpu->env_data;
}

int soft_thread_init(struct kvm_vcpu *vcpu)
{
	struct soft_thread *t = calloc(1, sizeof(*t));

	if (t == NULL) {
		return -ENOMEM;
	}
	t->vcpu = vcpu;
	t->signals = -1;
	t->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (t->wake < 0) {
		int error = -errno;

		free(t);
		return error;
	}
	vcpu->env_data = t;
	soft_tick_add(t);
	return 0;
}

void soft_thread_fini(struct kvm_vcpu *vcpu)
{
	struct soft_thread *t = thread_of(vcpu);

	if (t != NULL) {
		soft_tick_remove(t);
		close(t->wake);
		if (t->signals >= 0) {
			close(t->signals);
		}
		free(t);
		vcpu->env_data = NULL;
	}
}

/* The kernel's own call: libc keeps two signals for itself, which are not ours to let through. */
static uint64_t set_mask(uint64_t mask)
{
	uint64_t before = 0;

	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, &before, sizeof(mask));
	return before;
}

void soft_run_begin(struct kvm_env *env, struct kvm_vcpu *vcpu)
{
	struct soft_thread *t = thread_of(vcpu);

	(void)env;
	t->thread_before = set_mask(~NEVER_BLOCKED);
	atomic_store_explicit(&t->look, true, memory_order_relaxed);
	soft_tick_begin(t);
	soft_steal_begin(t);
	atomic_store(&soft_vcpu_of(vcpu)->recheck, true);
}

void soft_run_end(struct kvm_env *env, struct kvm_vcpu *vcpu)
{
	(void)env;
	soft_steal_end(thread_of(vcpu));
	soft_tick_end(thread_of(vcpu));
	set_mask(thread_of(vcpu)->thread_before);
}

/* The signals that end KVM_RUN. */
static uint64_t wanted(const struct soft_thread *t)
{
	return ~(t->has_mask ? t->mask : t->thread_before) & ~NEVER_BLOCKED;
}

static bool is_ignored(unsigned number)
{
	struct sigaction action;

	if (sigaction((int)number, NULL, &action) != 0 || (action.sa_flags & SA_SIGINFO) != 0) {
		return false;
	}
	return action.sa_handler == SIG_IGN ||
	       (action.sa_handler == SIG_DFL && (IGNORED & SIGNAL_BIT(number)) != 0);
}

/* A signal that is ignored is gone when it comes; one that waited would keep block() awake. */
static void drop_signal(unsigned number)
{
	const uint64_t set = SIGNAL_BIT(number);
	int fd = (int)syscall(SYS_signalfd4, -1, &set, sizeof(set), SFD_CLOEXEC | SFD_NONBLOCK);
	struct signalfd_siginfo info;

	if (fd >= 0) {
		ssize_t got = read(fd, &info, sizeof(info));

		(void)got; /* another thread may have had it */
		close(fd);
	}
}

bool soft_signal_pending(struct kvm_env *env, struct kvm_vcpu *vcpu)
{
	struct soft_thread *t = thread_of(vcpu);
	uint64_t pending = 0;

	(void)env;
	if (atomic_exchange_explicit(&t->compare, false, memory_order_relaxed)) {
		soft_steal_look(t);
	}
	if (!atomic_exchange_explicit(&t->look, false, memory_order_relaxed)) {
		return false;
	}
	syscall(SYS_rt_sigpending, &pending, sizeof(pending));
	pending &= wanted(t);
	while (pending != 0) {
		unsigned bit = (unsigned)__builtin_ctzll(pending);

		if (!is_ignored(bit + 1)) {
			atomic_store_explicit(&t->look, true, memory_order_relaxed);
			return true;
		}
		/* What the caller blocks may be for somebody who reads it. */
		if ((t->thread_before & BIT(bit)) == 0) {
			drop_signal(bit + 1);
		}
		pending &= pending - 1;
	}
	return false;
}

void soft_resched(struct kvm_env *env, struct kvm_vcpu *vcpu)
{
	/* The host's scheduler needs no help. */
	(void)env;
	(void)vcpu;
}

int soft_signal_mask(struct kvm_env *env, struct kvm_vcpu *vcpu, uint64_t user, unsigned bytes)
{
	struct soft_thread *t = thread_of(vcpu);

	(void)env;
	if (bytes == 0) {
		t->has_mask = false;
		return 0;
	}
	if (bytes != sizeof(t->mask)) {
		return -EINVAL;
	}
	if (soft_access_copy(&t->mask, (const void *)(uintptr_t)user, sizeof(t->mask)) != 0) {
		return -EFAULT;
	}
	t->has_mask = true;
	return 0;
}

/* A descriptor that can be read when one of the signals waits; it is not read. */
static int signals_fd(struct soft_thread *t)
{
	uint64_t set = wanted(t);

	if (t->signals < 0 || t->signals_set != set) {
		int fd = (int)syscall(SYS_signalfd4, t->signals, &set, sizeof(set), SFD_CLOEXEC);

		t->signals = fd < 0 ? t->signals : fd;
		t->signals_set = set;
	}
	return t->signals;
}

void soft_block(struct kvm_env *env, struct kvm_vcpu *vcpu)
{
	struct soft_thread *t = thread_of(vcpu);
	struct pollfd fds[2] = {{.fd = t->wake, .events = POLLIN},
				{.fd = signals_fd(t), .events = POLLIN}};
	uint64_t count;

	(void)env;
	/* Either who kicks sees that we block, or we see the kick. */
	atomic_store(&t->blocked, true);
	if (!atomic_exchange(&t->kicked, false)) {
		soft_tick_end(t);
		soft_steal_end(t);
		(void)poll(fds, 2, -1);
		soft_steal_begin(t);
		soft_tick_begin(t);
		atomic_store_explicit(&t->look, true, memory_order_relaxed);
	}
	atomic_store(&t->blocked, false);
	atomic_store(&t->kicked, false);
	if (read(t->wake, &count, sizeof(count)) < 0) {
		return; /* nobody has written, or does so now: the next block() returns at once */
	}
}

void soft_kick(struct kvm_env *env, struct kvm_vcpu *vcpu)
{
	struct soft_thread *t = thread_of(vcpu);

	(void)env;
	if (t == NULL) {
		return;
	}
	if (soft_vcpu_of(vcpu) != NULL) {
		soft_vcpu_kick(soft_vcpu_of(vcpu));
	}
	atomic_store(&t->kicked, true);
	if (atomic_load(&t->blocked)) {
		eventfd_write(t->wake, 1);
	}
}
