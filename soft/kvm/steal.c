/*
 * Steal time: how long a vCPU's thread waited for a CPU of the host. It is what remains of the time
 * that it spent in KVM_RUN, and not asleep, when the processor time of the thread is taken away.
 * What the thread uses outside of KVM_RUN is taken away, too: rather too little is stolen than too
 * much, and to look at the clock at each KVM_RUN would be a system call.
 *
 * /proc/thread-self/schedstat says it more directly. But only the thread itself can open that, and
 * a vCPU's thread comes here first when the VMM's sandbox lets no file be opened any more.
 */
#include <time.h>

#include "soft/kvm/surroundings.h"

#define STEAL_STEP_NS 50000 /* less is told later */
#define FINE_NS	      100000
#define NS	      UINT64_C(1000000000)

static __thread char self; /* its address tells threads apart */

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now = {0};

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * NS + (uint64_t)now.tv_nsec;
}

/* It may count in ticks of the host's, or not at all: all the rest would seem stolen. */
bool soft_steal_possible(void)
{
	uint64_t first = clock_ns(CLOCK_THREAD_CPUTIME_ID), next = first;

	for (unsigned i = 0; i < 100 && next == first; i++) {
		next = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	}
	return next > first && next - first < FINE_NS;
}

/* Does the guest want to know? */
static bool wanted(const struct soft_thread *t)
{
	return t->vcpu->msr[KVM_MSR_STEAL_TIME] != 0;
}

void soft_steal_begin(struct soft_thread *t)
{
	struct soft_steal *s = &t->steal;

	if (s->thread != &self) {
		s->thread = &self;
		s->anew = true;
	}
	s->since = wanted(t) ? clock_ns(CLOCK_MONOTONIC) : 0;
}

void soft_steal_end(struct soft_thread *t)
{
	struct soft_steal *s = &t->steal;

	if (s->since != 0) {
		s->ready += clock_ns(CLOCK_MONOTONIC) - s->since;
		s->since = 0;
	}
}

static void compare(struct soft_steal *s)
{
	uint64_t now = clock_ns(CLOCK_MONOTONIC), used = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	uint64_t ready;

	/* The guest may want to know only since it runs. */
	s->anew = s->anew || s->since == 0;
	s->ready += s->since == 0 ? 0 : now - s->since;
	s->since = now;
	ready = s->ready - s->ready_seen;
	if (!s->anew && ready > used - s->used_seen) {
		s->stolen += ready - (used - s->used_seen);
	}
	s->anew = false;
	s->ready_seen = s->ready;
	s->used_seen = used;
}

void soft_steal_look(struct soft_thread *t)
{
	if (!wanted(t)) {
		return;
	}
	compare(&t->steal);
	if (t->steal.stolen - t->steal.told >= STEAL_STEP_NS) {
		kvm_vcpu_note(t->vcpu, KVM_REQ_STEAL);
	}
}

uint64_t soft_steal_ns(struct kvm_env *env, struct kvm_vcpu *vcpu)
{
	struct soft_thread *t = vcpu->env_data;

	(void)env;
	compare(&t->steal);
	t->steal.told = t->steal.stolen;
	return t->steal.stolen;
}
