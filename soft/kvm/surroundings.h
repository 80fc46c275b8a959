/*
 * What the files of soft/kvm share: the surroundings of lib/kvm over libc and Linux's descriptors.
 */
#pragma once

#include "lib/kvm/kvm.h"
#include "lib/kvm/vcpu.h"
#include "soft/vcpu.h"

extern struct kvm_backend soft_backend;

/** soft_backend_init() - what the host can, once. Return: 0; -ENODEV: it has no XSAVE. */
must_use int soft_backend_init(void);

/** defences.c; soft_defences() - IA32_ARCH_CAPABILITIES for guests. @directory: DEFENCES_OF_HOST,
 * but for tests. */
#define DEFENCES_OF_HOST "/sys/devices/system/cpu/vulnerabilities"
uint64_t soft_defences(const char *directory);

/** steal.c; the vCPU's thread only, ns. */
struct soft_steal {
	const void *thread; /* whose processor time is counted; to compare with only */
	bool anew;	    /* the clocks have not been compared yet */
	uint64_t since; /* when it was ready last: part of `ready` it is not yet; 0: it is not */
	uint64_t ready; /* in KVM_RUN, and not asleep */
	uint64_t ready_seen, used_seen; /* when the clocks were compared last */
	uint64_t stolen, told;
};

/** What a vCPU's thread needs; vcpu->env_data, made and ended by the backend's vcpu_init/_fini. */
struct soft_thread {
	struct kvm_vcpu *vcpu;
	struct soft_thread *next; /* tick.c */
	unsigned ticks;		  /* likewise */
	_Atomic bool
		executes;  /* guest code, or what comes of it: is in KVM_RUN, and does not sleep */
	_Atomic bool look; /* a signal may be pending */
	int wake;	   /* an eventfd: ends block() */
	_Atomic bool blocked;	/* in block(), or about to be */
	_Atomic bool kicked;	/* a kick since the last block() */
	bool has_mask;		/* KVM_SET_SIGNAL_MASK */
	uint64_t mask;		/* of signals: bit 0 is signal 1 */
	uint64_t thread_before; /* the thread's own mask, while it runs the vCPU */
	int signals;		/* a signalfd of those that end KVM_RUN; -1 before the first */
	uint64_t signals_set;
	_Atomic bool compare; /* the clocks of steal.c */
	struct soft_steal steal;
};

must_use int soft_thread_init(struct kvm_vcpu *vcpu);
void soft_thread_fini(struct kvm_vcpu *vcpu);

/* Operations of struct kvm_env: thread.c */
void soft_run_begin(struct kvm_env *env, struct kvm_vcpu *vcpu);
void soft_run_end(struct kvm_env *env, struct kvm_vcpu *vcpu);
bool soft_signal_pending(struct kvm_env *env, struct kvm_vcpu *vcpu);
void soft_resched(struct kvm_env *env, struct kvm_vcpu *vcpu);
int soft_signal_mask(struct kvm_env *env, struct kvm_vcpu *vcpu, uint64_t user, unsigned bytes);
void soft_block(struct kvm_env *env, struct kvm_vcpu *vcpu);
void soft_kick(struct kvm_env *env, struct kvm_vcpu *vcpu);

/* tick.c */
must_use int soft_tick_init(void); /* a descriptor: when it is readable, soft_tick(); or -errno */
void soft_tick(void);
void soft_tick_add(struct soft_thread *thread);
void soft_tick_remove(struct soft_thread *thread);
void soft_tick_begin(struct soft_thread *thread); /* it executes */
void soft_tick_end(struct soft_thread *thread);

/* steal.c */
/** soft_steal_possible() - does the host's clock of threads' processor time tell enough? */
bool soft_steal_possible(void);
/** soft_steal_begin() / _end() - from now on it executes, or waits for a CPU; it does not. */
void soft_steal_begin(struct soft_thread *thread);
void soft_steal_end(struct soft_thread *thread);
/** soft_steal_look() - has it waited for a CPU? If so, the guest is told. */
void soft_steal_look(struct soft_thread *thread);
uint64_t soft_steal_ns(struct kvm_env *env, struct kvm_vcpu *vcpu);

/* service.c: a thread that waits for clocks and eventfds */
must_use int soft_service_start(void);
void soft_timer_arm(struct kvm_env *env, struct kvm_timer *timer, uint64_t deadline_ns);
void soft_timer_cancel(struct kvm_env *env, struct kvm_timer *timer);
int soft_eventfd_get(struct kvm_env *env, int fd, void **eventfd);
void soft_eventfd_put(struct kvm_env *env, void *eventfd);
void soft_eventfd_signal(struct kvm_env *env, void *eventfd);
int soft_eventfd_watch(struct kvm_env *env, void *eventfd, struct kvm_eventfd_watch *watch);
void soft_eventfd_unwatch(struct kvm_env *env, void *eventfd, struct kvm_eventfd_watch *watch);
uint64_t soft_now_ns(struct kvm_env *env);

/* door.c */
int soft_vm_fd(struct kvm_env *env, struct kvm_vm *vm);
int soft_vcpu_fd(struct kvm_env *env, struct kvm_vcpu *vcpu);

/** soft_env() - the one of this process, once it is ready; NULL and errno if it cannot be. */
struct kvm_env *soft_env(void);
