/*
 * Storage, locks, user memory and time of lib/kvm, by libc.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "lib/kvm/emul_here.h"
#include "soft/access.h"
#include "soft/kvm/surroundings.h"

#define USER_END     UINT64_C(0x7ffffffff000)
#define NS	     UINT64_C(1000000000)
#define MAX_VCPUS    1024
#define CALIBRATE_NS 10000000

/* ---- storage ---- */

static void *alloc(struct kvm_env *env, enum kvm_store kind, size_t bytes)
{
	void *p;

	(void)env;
	if (kind == KVM_STORE_PAGES || kind == KVM_STORE_BITMAP) {
		/* Shared, so that soft_mmap() can map the same pages at another place. */
		p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			 (kind == KVM_STORE_PAGES ? MAP_SHARED : MAP_PRIVATE | MAP_NORESERVE) |
				 MAP_ANONYMOUS,
			 -1, 0);
		return p == MAP_FAILED ? NULL : p;
	}
	p = aligned_alloc(64, ALIGN_UP(MAX(bytes, (size_t)1), 64));
	if (p != NULL) {
		memset(p, 0, bytes);
	}
	return p;
}

static void release(struct kvm_env *env, enum kvm_store kind, void *p, size_t bytes)
{
	(void)env;
	if (kind == KVM_STORE_PAGES || kind == KVM_STORE_BITMAP) {
		if (p != NULL) {
			munmap(p, bytes);
		}
	} else {
		free(p);
	}
}

/* ---- locks ---- */

struct lock {
	union {
		pthread_mutex_t mutex;
		pthread_rwlock_t rw; /* glibc's prefers readers: one may read twice */
	};
	uint32_t kind;
};

_Static_assert(sizeof(struct lock) <= sizeof(struct kvm_lock), "fits");

static struct lock *lock_of(struct kvm_lock *lock)
{
	return (struct lock *)lock->opaque;
}

static void lock_init(struct kvm_env *env, struct kvm_lock *lock, enum kvm_lock_kind kind)
{
	struct lock *l = lock_of(lock);

	(void)env;
	l->kind = kind;
	if (kind == KVM_LOCK_RW) {
		pthread_rwlock_init(&l->rw, NULL);
	} else {
		pthread_mutex_init(&l->mutex, NULL);
	}
}

static void lock_fini(struct kvm_env *env, struct kvm_lock *lock)
{
	struct lock *l = lock_of(lock);

	(void)env;
	if (l->kind == KVM_LOCK_RW) {
		pthread_rwlock_destroy(&l->rw);
	} else {
		pthread_mutex_destroy(&l->mutex);
	}
}

static void lock_write(struct kvm_env *env, struct kvm_lock *lock)
{
	struct lock *l = lock_of(lock);

	(void)env;
	if (l->kind == KVM_LOCK_RW) {
		pthread_rwlock_wrlock(&l->rw);
	} else {
		pthread_mutex_lock(&l->mutex);
	}
}

static void unlock(struct kvm_env *env, struct kvm_lock *lock)
{
	struct lock *l = lock_of(lock);

	(void)env;
	if (l->kind == KVM_LOCK_RW) {
		pthread_rwlock_unlock(&l->rw);
	} else {
		pthread_mutex_unlock(&l->mutex);
	}
}

static void lock_read(struct kvm_env *env, struct kvm_lock *lock)
{
	(void)env;
	pthread_rwlock_rdlock(&lock_of(lock)->rw);
}

static int lock_killable(struct kvm_env *env, struct kvm_lock *lock)
{
	/* A signal that kills, kills this process with its locks. */
	lock_write(env, lock);
	return 0;
}

/* ---- user memory ---- */

static bool user_range(struct kvm_env *env, uint64_t user, uint64_t bytes)
{
	uint64_t end;

	(void)env;
	return range_end(user, bytes, &end) && end <= USER_END;
}

static int copy_in(struct kvm_env *env, void *to, uint64_t user, size_t bytes)
{
	if (!user_range(env, user, bytes)) {
		return -EFAULT;
	}
	return soft_access_load(to, (const void *)(uintptr_t)user, bytes);
}

static int copy_out(struct kvm_env *env, uint64_t user, const void *from, size_t bytes)
{
	if (!user_range(env, user, bytes)) {
		return -EFAULT;
	}
	return soft_access_store((void *)(uintptr_t)user, from, bytes);
}

static int compare_exchange(struct kvm_env *env, uint64_t user, const void *old, const void *new,
			    unsigned bytes)
{
	if (!user_range(env, user, bytes)) {
		return -EFAULT;
	}
	return soft_access_cmpxchg((void *)(uintptr_t)user, old, new, bytes);
}

static pid_t owner; /* of all VMs: the process that first opened the door */

static bool owns(struct kvm_env *env, struct kvm_vm *vm)
{
	(void)env;
	(void)vm;
	return getpid() == owner;
}

/* ---- time ---- */

static uint64_t wall_ns(struct kvm_env *env)
{
	struct timespec now;

	(void)env;
	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * NS + (uint64_t)now.tv_nsec;
}

static uint64_t tsc(struct kvm_env *env)
{
	(void)env;
	return __rdtsc();
}

static bool tsc_is_clock;

static bool now_and_tsc(struct kvm_env *env, uint64_t *now, uint64_t *at_tsc)
{
	uint64_t before, after, best = UINT64_MAX;

	/* The closest of a few tries. */
	for (unsigned i = 0; i < 3; i++) {
		uint64_t ns;

		before = __rdtsc();
		ns = soft_now_ns(env);
		after = __rdtsc();
		if (after - before < best) {
			best = after - before;
			*now = ns;
			*at_tsc = before + best / 2;
		}
	}
	return tsc_is_clock;
}

static uint64_t measure_tsc_khz(struct kvm_env *env)
{
	struct timespec wait = {.tv_nsec = CALIBRATE_NS};
	uint64_t ns[2] = {0}, ticks[2] = {0};

	(void)now_and_tsc(env, &ns[0], &ticks[0]);
	nanosleep(&wait, NULL);
	(void)now_and_tsc(env, &ns[1], &ticks[1]);
	return (ticks[1] - ticks[0]) * 1000000 / MAX(ns[1] - ns[0], UINT64_C(1));
}

static bool clocksource_is_tsc(void)
{
	FILE *f = fopen("/sys/devices/system/clocksource/clocksource0/current_clocksource", "re");
	char name[16] = "";
	bool is;

	if (f == NULL) {
		return false;
	}
	is = fgets(name, sizeof(name), f) != NULL && strcmp(name, "tsc\n") == 0;
	fclose(f);
	return is;
}

/* ---- the one of this process ---- */

static enum insn_outcome env_emulate(struct kvm_env *env, struct kvm_vcpu *vcpu)
{
	(void)env;
	return kvm_emulate_here(vcpu, insn_do_other);
}

/* Constant but for what the host cannot: start(). */
static struct kvm_env_ops ops = {
	.emulate = env_emulate,
	.alloc = alloc,
	.free = release,
	.lock_init = lock_init,
	.lock_fini = lock_fini,
	.lock = lock_write,
	.unlock = unlock,
	.lock_read = lock_read,
	.unlock_read = unlock,
	.lock_killable = lock_killable,
	.copy_in = copy_in,
	.copy_out = copy_out,
	.cmpxchg = compare_exchange,
	.user_range = user_range,
	.owns = owns,
	.now_ns = soft_now_ns,
	.wall_ns = wall_ns,
	.tsc = tsc,
	.now_and_tsc = now_and_tsc,
	.timer_arm = soft_timer_arm,
	.timer_cancel = soft_timer_cancel,
	.eventfd_get = soft_eventfd_get,
	.eventfd_put = soft_eventfd_put,
	.eventfd_signal = soft_eventfd_signal,
	.eventfd_watch = soft_eventfd_watch,
	.eventfd_unwatch = soft_eventfd_unwatch,
	.vm_fd = soft_vm_fd,
	.vcpu_fd = soft_vcpu_fd,
	.run_begin = soft_run_begin,
	.run_end = soft_run_end,
	.signal_pending = soft_signal_pending,
	.resched = soft_resched,
	.signal_mask = soft_signal_mask,
	.block = soft_block,
	.kick = soft_kick,
	.steal_ns = soft_steal_ns,
};

static struct kvm_env the_env = {
	.ops = &ops,
	.backend = &soft_backend,
	.max_vcpus = MAX_VCPUS,
};
static int ready; /* 0 or -errno */

static void start(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	owner = getpid();
	tsc_is_clock = clocksource_is_tsc();
	the_env.cpus = cpus > 0 ? (unsigned)cpus : 1;
	the_env.tsc_khz = measure_tsc_khz(&the_env);
	if (!soft_steal_possible()) {
		ops.steal_ns = NULL;
	}
	ready = soft_backend_init();
	if (ready == 0) {
		ready = soft_access_init();
	}
	if (ready == 0) {
		ready = soft_service_start();
	}
}

struct kvm_env *soft_env(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, start);
	if (ready != 0) {
		errno = -ready;
		return NULL;
	}
	return &the_env;
}
