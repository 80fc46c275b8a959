/*
 * What vCPUs look for now and then. A signal to a vCPU's thread does not by itself end guest code:
 * signals are blocked meanwhile, and to look for them at every stop would cost a system call each.
 * So all vCPUs that execute are made to look, some hundred times a second; while none does, there
 * is no tick.
 */
#include <errno.h>
#include <pthread.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "soft/kvm/surroundings.h"

#define TICK_NS	      4000000
#define RECHECK_TICKS 4 /* between two looks for code that others than vCPUs have written */

static struct {
	pthread_mutex_t lock;
	struct soft_thread *threads; /* lock */
	int timerfd;		     /* constant after soft_tick_init() */
	_Atomic bool on;
} tick = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void set_clock(long ns)
{
	struct itimerspec when = {.it_value.tv_nsec = ns, .it_interval.tv_nsec = ns};

	timerfd_settime(tick.timerfd, 0, &when, NULL);
}

int soft_tick_init(void)
{
	tick.timerfd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	return tick.timerfd < 0 ? -errno : tick.timerfd;
}

void soft_tick_add(struct soft_thread *thread)
{
	pthread_mutex_lock(&tick.lock);
	thread->next = tick.threads;
	tick.threads = thread;
	pthread_mutex_unlock(&tick.lock);
}

void soft_tick_remove(struct soft_thread *thread)
{
	struct soft_thread **at = &tick.threads;

	pthread_mutex_lock(&tick.lock);
	while (*at != thread) {
		at = &(*at)->next;
	}
	*at = thread->next;
	pthread_mutex_unlock(&tick.lock);
}

void soft_tick_begin(struct soft_thread *thread)
{
	/* Either we see that there is no tick, or soft_tick() sees that we execute. */
	atomic_store(&thread->executes, true);
	if (!atomic_load(&tick.on) && !atomic_exchange(&tick.on, true)) {
		set_clock(TICK_NS);
	}
}

void soft_tick_end(struct soft_thread *thread)
{
	atomic_store_explicit(&thread->executes, false, memory_order_relaxed);
}

/* With the lock. Return: does any vCPU execute? */
static bool anybody(bool kick)
{
	bool found = false;

	for (struct soft_thread *t = tick.threads; t != NULL; t = t->next) {
		if (!atomic_load(&t->executes)) {
			continue;
		}
		found = true;
		if (kick) {
			atomic_store_explicit(&t->look, true, memory_order_relaxed);
			atomic_store_explicit(&t->compare, true, memory_order_relaxed);
			kvm_vcpu_note(t->vcpu, KVM_REQ_KICK);
			if (++t->ticks % RECHECK_TICKS == 0) {
				atomic_store(&soft_vcpu_of(t->vcpu)->recheck, true);
			}
			soft_vcpu_kick(soft_vcpu_of(t->vcpu));
		}
	}
	return found;
}

void soft_tick(void)
{
	uint64_t count;

	if (read(tick.timerfd, &count, sizeof(count)) < 0) {
		return;
	}
	pthread_mutex_lock(&tick.lock);
	if (!anybody(true)) {
		/* In this order: whoever sees that there is no tick starts the clock behind us. */
		set_clock(0);
		atomic_store(&tick.on, false);
		if (anybody(false) && !atomic_exchange(&tick.on, true)) {
			set_clock(TICK_NS);
		}
	}
	pthread_mutex_unlock(&tick.lock);
}
