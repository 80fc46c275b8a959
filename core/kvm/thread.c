/* lib/kvm and the threads that run vCPUs: signals, sleeping, kicks. */
#include <errno.h>

#include "core/hw/clock.h"
#include "core/hw/user.h"
#include "core/kvm/internal.h"
#include "core/svm/svm.h"
#include "core/task/sched.h"
#include "core/task/signal.h"

#define STEAL_STEP_NS 50000

static struct vcpu_thread *of(const struct kvm_vcpu *vcpu)
{
	return vcpu->env_data;
}

static rare void count_wait(struct kvm_vcpu *vcpu, struct thread *thread)
{
	struct vcpu_thread *t = of(vcpu);

	/* What another thread has waited is no loss of this vCPU. */
	if (t->waiter == thread && thread->wait_ns > t->steal_seen_ns) {
		t->steal_ns += thread->wait_ns - t->steal_seen_ns;
	}
	t->waiter = thread;
	t->steal_seen_ns = thread->wait_ns;
	if (vcpu->msr[KVM_MSR_STEAL_TIME] != 0) {
		kvm_vcpu_note(vcpu, KVM_REQ_STEAL); /* few guests ask for it */
	}
}

/* Where the thread may have lost its CPU before. A little, as at each wake-up, is told later. */
static inline void look_at_wait(struct kvm_vcpu *vcpu)
{
	struct thread *thread = thread_current();

	if (thread->wait_ns - of(vcpu)->steal_seen_ns >= STEAL_STEP_NS) {
		count_wait(vcpu, thread);
	}
}

uint64_t env_steal_ns(struct kvm_env *env, struct kvm_vcpu *vcpu)
{
	(void)env;
	return of(vcpu)->steal_ns;
}

void env_run_begin(struct kvm_env *env, struct kvm_vcpu *vcpu)
{
	struct vcpu_thread *t = of(vcpu);

	(void)env;
	if (t->waiter != thread_current()) {
		count_wait(vcpu, thread_current());
	}
	look_at_wait(vcpu);
	if (t->has_mask) {
		t->own_mask = thread_current()->blocked;
		signal_set_blocked(t->mask);
	}
}

void env_run_end(struct kvm_env *env, struct kvm_vcpu *vcpu)
{
	struct vcpu_thread *t = of(vcpu);

	(void)env;
	svm_leave(vcpu);
	if (t->has_mask) {
		signal_set_blocked(t->own_mask);
	}
}

bool env_signal_pending(struct kvm_env *env, struct kvm_vcpu *vcpu)
{
	(void)env;
	(void)vcpu;
	return signal_is_pending();
}

void env_resched(struct kvm_env *env, struct kvm_vcpu *vcpu)
{
	(void)env;
	sched_relax();
	look_at_wait(vcpu);
	signal_look();
}

int env_signal_mask(struct kvm_env *env, struct kvm_vcpu *vcpu, uint64_t user, unsigned bytes)
{
	struct vcpu_thread *t = of(vcpu);
	uint64_t mask;

	(void)env;
	if (bytes == 0) {
		t->has_mask = false;
		return 0;
	}
	if (bytes != sizeof(mask)) {
		return -EINVAL;
	}
	if (user_get64(user, &mask) != 0) {
		return -EFAULT;
	}
	t->mask = mask;
	t->has_mask = true;
	return 0;
}

static bool was_woken(struct vcpu_thread *t)
{
	return atomic_exchange_explicit(&t->woken, false, memory_order_seq_cst);
}

/* Who is awake again is not woken any more when this returns: its thread may end then. */
static void end_sleep(struct vcpu_thread *t)
{
	uint64_t flags = spin_take_irq(&t->lock);

	atomic_store_explicit(&t->sleeper, NULL, memory_order_relaxed);
	spin_give_irq(&t->lock, flags);
}

void env_block(struct kvm_env *env, struct kvm_vcpu *vcpu)
{
	struct vcpu_thread *t = of(vcpu);

	(void)env;
	/* Pairs with env_kick(): one of the two sees what the other has written. */
	atomic_store_explicit(&t->sleeper, thread_current(), memory_order_seq_cst);
	for (;;) {
		sched_prepare();
		/* A signal is the caller's to see. */
		if (was_woken(t) || signal_is_pending()) {
			break;
		}
		(void)sched_sleep(CLOCK_NEVER);
	}
	sched_unprepare();
	end_sleep(t);
	look_at_wait(vcpu);
}

static __attribute__((noinline)) void wake(struct vcpu_thread *t)
{
	uint64_t flags = spin_take_irq(&t->lock);
	struct thread *sleeper = atomic_load_explicit(&t->sleeper, memory_order_relaxed);

	if (sleeper != NULL) {
		sched_wake(sleeper);
	}
	spin_give_irq(&t->lock, flags);
}

void env_kick(struct kvm_env *env, struct kvm_vcpu *vcpu)
{
	struct vcpu_thread *t = of(vcpu);

	(void)env;
	if (t == NULL) {
		return; /* it has no descriptor yet */
	}
	atomic_store_explicit(&t->woken, true, memory_order_seq_cst);
	if (atomic_load_explicit(&t->sleeper, memory_order_seq_cst) != NULL) {
		wake(t);
	} else {
		svm_kick(vcpu);
	}
}
