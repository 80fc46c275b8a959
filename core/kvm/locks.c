/* lib/kvm's locks: a mutex, a read-write lock and a spin lock, in one piece of storage. */
#include <errno.h>

#include "core/kvm/internal.h"
#include "core/task/mutex.h"
#include "core/task/sched.h"
#include "core/task/signal.h"

#define RW_WRITTEN INT32_MIN

/* Readers first, so that one who has it for reading may take it so again. */
struct rw {
	struct wait_queue waiters;
	/* Readers, those among them who see that a writer has it and are about to go; RW_WRITTEN is
	 * added while one has. */
	_Atomic int32_t readers;
};

struct spin {
	struct spinlock lock;
	uint64_t flags; /* of interrupts; guarded by lock */
};

struct any_lock {
	union {
		struct mutex mutex;
		struct rw rw;
		struct spin spin;
	};
	uint8_t kind;
};

_Static_assert(sizeof(struct any_lock) <= sizeof(struct kvm_lock), "lib/kvm/env.h");

static struct any_lock *of(struct kvm_lock *lock)
{
	return (struct any_lock *)lock;
}

void env_lock_init(struct kvm_env *env, struct kvm_lock *lock, enum kvm_lock_kind kind)
{
	struct any_lock *l = of(lock);

	(void)env;
	l->kind = (uint8_t)kind;
	switch (kind) {
	case KVM_LOCK_MUTEX:
		mutex_init(&l->mutex);
		break;
	case KVM_LOCK_RW:
		wait_queue_init(&l->rw.waiters);
		l->rw.readers = 0;
		break;
	default:
		spin_init(&l->spin.lock, LOCK_KVM_CHIP);
		break;
	}
}

void env_lock_fini(struct kvm_env *env, struct kvm_lock *lock)
{
	(void)env;
	(void)lock; /* nothing of it is elsewhere */
}

static bool try_write(struct rw *rw)
{
	int32_t none = 0;

	return atomic_compare_exchange_strong_explicit(&rw->readers, &none, RW_WRITTEN,
						       memory_order_acquire, memory_order_relaxed);
}

static void wake(struct rw *rw)
{
	if (!wait_is_empty(&rw->waiters)) {
		wait_wake(&rw->waiters, 0);
	}
}

/* One reader less. */
static void leave(struct rw *rw)
{
	if (atomic_fetch_sub_explicit(&rw->readers, 1, memory_order_seq_cst) == 1) {
		wake(rw);
	}
}

static inline bool try_read(struct rw *rw)
{
	return atomic_fetch_add_explicit(&rw->readers, 1, memory_order_acquire) >= 0;
}

static bool try_read_again(struct rw *rw)
{
	bool got = atomic_load_explicit(&rw->readers, memory_order_relaxed) >= 0;

	if (got && !try_read(rw)) {
		leave(rw);
		got = false;
	}
	return got;
}

static rare void wait_to_write(struct rw *rw)
{
	int r;

	wait_until(&rw->waiters, try_write(rw), CLOCK_NEVER, false, r);
	(void)r; /* it cannot fail */
}

static rare void wait_to_read(struct rw *rw)
{
	int r;

	leave(rw);
	wait_until(&rw->waiters, try_read_again(rw), CLOCK_NEVER, false, r);
	(void)r; /* it cannot fail */
}

void env_lock(struct kvm_env *env, struct kvm_lock *lock)
{
	struct any_lock *l = of(lock);
	uint64_t flags;

	(void)env;
	switch (l->kind) {
	case KVM_LOCK_MUTEX:
		mutex_take(&l->mutex);
		break;
	case KVM_LOCK_RW:
		if (!try_write(&l->rw)) {
			wait_to_write(&l->rw);
		}
		break;
	default:
		flags = spin_take_irq(&l->spin.lock);
		l->spin.flags = flags;
		break;
	}
}

void env_unlock(struct kvm_env *env, struct kvm_lock *lock)
{
	struct any_lock *l = of(lock);
	uint64_t flags;

	(void)env;
	switch (l->kind) {
	case KVM_LOCK_MUTEX:
		mutex_give(&l->mutex);
		break;
	case KVM_LOCK_RW:
		/* Pairs with the acquires above. */
		atomic_fetch_sub_explicit(&l->rw.readers, RW_WRITTEN, memory_order_seq_cst);
		wake(&l->rw);
		break;
	default:
		flags = l->spin.flags;
		spin_give_irq(&l->spin.lock, flags);
		break;
	}
}

void env_lock_read(struct kvm_env *env, struct kvm_lock *lock)
{
	struct rw *rw = &of(lock)->rw;

	(void)env;
	if (!try_read(rw)) {
		wait_to_read(rw);
	}
}

void env_unlock_read(struct kvm_env *env, struct kvm_lock *lock)
{
	struct rw *rw = &of(lock)->rw;

	(void)env;
	leave(rw);
}

int env_lock_killable(struct kvm_env *env, struct kvm_lock *lock)
{
	/*
	 * Who holds a mutex of a vCPU is in KVM_RUN, and is killed along with the caller if they
	 * are of one process.
	 */
	(void)env;
	mutex_take(&of(lock)->mutex);
	return 0;
}
