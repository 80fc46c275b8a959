/* What the files of core/kvm share. */
#pragma once

#include <stdatomic.h>

#include "core/lock.h"
#include "core/task/thread.h"
#include "lib/kvm/env.h"
#include "lib/kvm/vcpu.h"

extern const struct kvm_env_ops env_ops; /* env.c */

/* The surroundings' data of a vCPU: vcpu->env_data. */
struct vcpu_thread {
	_Atomic bool woken;
	struct spinlock lock;
	struct thread *_Atomic sleeper; /* guarded by lock; it sleeps, or is about to. Or NULL */
	uint64_t mask;			/* signals blocked in KVM_RUN */
	uint64_t own_mask;		/* and outside, meanwhile */
	bool has_mask;
	struct vcpu_thread *next; /* of the same VM */
};

/* Of a VM: vm->env_data. It goes with the last descriptor of VM and vCPUs, as the VM does. */
struct vm_data {
	const struct space *space; /* whose memory the guest has; only compared */
	_Atomic uint32_t descriptors;
	struct vcpu_thread *threads; /* vm->lock */
};

/* locks.c */
void env_lock_init(struct kvm_env *env, struct kvm_lock *lock, enum kvm_lock_kind kind);
void env_lock_fini(struct kvm_env *env, struct kvm_lock *lock);
void env_lock(struct kvm_env *env, struct kvm_lock *lock);
void env_unlock(struct kvm_env *env, struct kvm_lock *lock);
void env_lock_read(struct kvm_env *env, struct kvm_lock *lock);
void env_unlock_read(struct kvm_env *env, struct kvm_lock *lock);
must_use int env_lock_killable(struct kvm_env *env, struct kvm_lock *lock);

/* events.c */
must_use int env_eventfd_get(struct kvm_env *env, int fd, void **eventfd);
void env_eventfd_put(struct kvm_env *env, void *eventfd);
void env_eventfd_signal(struct kvm_env *env, void *eventfd);
must_use int env_eventfd_watch(struct kvm_env *env, void *eventfd, struct kvm_eventfd_watch *watch);
void env_eventfd_unwatch(struct kvm_env *env, void *eventfd, struct kvm_eventfd_watch *watch);
void env_timer_arm(struct kvm_env *env, struct kvm_timer *timer, uint64_t deadline_ns);
void env_timer_cancel(struct kvm_env *env, struct kvm_timer *timer);

/* thread.c */
void env_run_begin(struct kvm_env *env, struct kvm_vcpu *vcpu);
void env_run_end(struct kvm_env *env, struct kvm_vcpu *vcpu);
bool env_signal_pending(struct kvm_env *env, struct kvm_vcpu *vcpu);
void env_resched(struct kvm_env *env, struct kvm_vcpu *vcpu);
must_use int env_signal_mask(struct kvm_env *env, struct kvm_vcpu *vcpu, uint64_t user,
			     unsigned bytes);
void env_block(struct kvm_env *env, struct kvm_vcpu *vcpu);
void env_kick(struct kvm_env *env, struct kvm_vcpu *vcpu);

/* files.c */
must_use int env_vm_fd(struct kvm_env *env, struct kvm_vm *vm);
must_use int env_vcpu_fd(struct kvm_env *env, struct kvm_vcpu *vcpu);
