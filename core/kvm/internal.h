/* What the files of core/kvm share. */
#pragma once

#include <stdatomic.h>

#include "core/lock.h"
#include "core/task/thread.h"
#include "lib/kvm/env.h"
#include "lib/kvm/vcpu.h"

struct annex_page;
struct object;
struct space;

extern const struct kvm_env_ops env_ops; /* env.c */

/* The surroundings' data of a vCPU: vcpu->env_data. */
struct vcpu_thread {
	_Atomic bool woken;
	struct spinlock lock;
	struct thread *_Atomic sleeper; /* or about to be; NULL again with lock. Or NULL */
	uint64_t mask;			/* signals blocked in KVM_RUN */
	uint64_t own_mask;		/* and outside, meanwhile */
	bool has_mask;
	/* What its thread has waited for a CPU. */
	struct thread *waiter; /* whom steal_seen_ns is of; to compare with only */
	uint64_t steal_ns, steal_seen_ns;
	struct vcpu_thread *next; /* of the same VM */
	struct annex_page *annex; /* shared with ring 3, which has it at annex_at */
	uint64_t annex_at;
};

/* Of a VM: vm->env_data. It goes with the last descriptor of VM and vCPUs, as the VM does. */
struct vm_data {
	struct space *space; /* whose memory the guest has */
	_Atomic uint32_t descriptors;
	/* the annex's stacks and pages, for each vCPU that there may be */
	struct object *areas;
	uint64_t areas_at, areas_bytes;
	struct vcpu_thread *threads; /* vm->lock */
};

/*
 * annex.c: the annex is in @space when there is a VM, and an area of it is a vCPU's.
 * annex_vm_init(): 0; -ENOMEM; -EEXIST: something else is where it has to be.
 */
must_use int annex_vm_init(struct vm_data *data, struct space *space, unsigned vcpus);
void annex_vm_fini(struct vm_data *data);
must_use int annex_vcpu_init(struct vm_data *data, struct vcpu_thread *t, unsigned index);
void annex_vcpu_fini(struct vcpu_thread *t);
must_use enum insn_outcome env_emulate(struct kvm_env *env, struct kvm_vcpu *vcpu);

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
uint64_t env_steal_ns(struct kvm_env *env, struct kvm_vcpu *vcpu);

/* files.c */
must_use int env_vm_fd(struct kvm_env *env, struct kvm_vm *vm);
must_use int env_vcpu_fd(struct kvm_env *env, struct kvm_vcpu *vcpu);
