/*
 * What the KVM provider's surroundings do for lib/kvm, which has no allocator, clock, lock, thread
 * or file of its own. A kernel implements this over its own services, a user-space library over
 * libc. One struct kvm_env serves all VMs of a provider.
 *
 * Locks. lib/kvm takes them in this order, outer first, and holds none while a guest runs but the
 * vCPU's own:
 *
 *	vcpu->lock	mutex	all of one vCPU's state, while a call on its fd lasts
 *	vm->lock	mutex	creation of vCPUs and chips, capabilities, the clock
 *	vm->memory	rwlock	slots, buses (doorbells, coalesced zones); held for reading by a
 *				vCPU that reaches guest memory or serves an exit
 *	vm->irq_lock	spin	chips and routes; taken in timers and by eventfds too
 *
 * A mutex may be held while user memory is copied, and so may the rwlock for reading, never for
 * writing; a spin lock never is. Who holds the rwlock for reading, to serve an exit, may come to
 * code that takes it for reading once more: that must succeed, though a writer waits.
 */
#pragma once

#include "lib/base/types.h"
#include "lib/insn/cpu.h"

struct kvm_vm;
struct kvm_vcpu;
struct kvm_slot;
struct kvm_env;

/** Storage for a lock of the surroundings, in whatever way they see fit. */
struct kvm_lock {
	uint64_t opaque[8];
};

enum kvm_lock_kind {
	KVM_LOCK_MUTEX, /* may sleep; taken for writing only */
	KVM_LOCK_RW,	/* may sleep; many readers or one writer */
	KVM_LOCK_SPIN,	/* never sleeps; taken for writing only; excludes timer callbacks */
};

/**
 * What storage is for. All is zeroed, and aligned to 64 bytes, pages to 4096.
 * KVM_STORE_PAGES can be mapped by user space: struct kvm_run and its neighbours.
 */
enum kvm_store {
	KVM_STORE_VM,	  /* struct kvm_vm, struct kvm_vcpu, chips: some KiB, for long */
	KVM_STORE_PAGES,  /* whole pages shared with user space */
	KVM_STORE_BITMAP, /* dirty logs: up to 2^31 pages' bits, that is 256 MiB */
	KVM_STORE_TABLE,  /* tables that user space gives: some KiB */
};

/** A timer of the surroundings. The owner sets the two upper fields before it is first armed. */
struct kvm_timer {
	void (*expired)(struct kvm_timer *timer); /* no lock held; may take spin locks */
	void *owner;
	uint64_t opaque[12];
};

/** A listener on an eventfd. The owner sets the upper field. */
struct kvm_eventfd_watch {
	/* The counter became nonzero; it has been read, and is zero again. As for timers; of one
	 * watch no two calls at once. */
	void (*signalled)(struct kvm_eventfd_watch *watch);
	uint64_t opaque[12];
};

/** Where a page of code is, and how that was found. */
struct kvm_code {
	uint64_t cr3, linear; /* of the page */
	uint64_t user;
	uint32_t levels;
	struct {
		uint64_t user, entry;
	} table[4];
};

/** As they lie in memory; in registers, for those who have no time. */
struct kvm_code_bytes {
	uint64_t word[2];
};

struct kvm_env_ops {
	/* ---- storage ---- */
	/** NULL if there is no memory. */
	void *(*alloc)(struct kvm_env *env, enum kvm_store kind, size_t bytes);
	void (*free)(struct kvm_env *env, enum kvm_store kind, void *p, size_t bytes);

	/* ---- locks ---- */
	void (*lock_init)(struct kvm_env *env, struct kvm_lock *lock, enum kvm_lock_kind kind);
	void (*lock_fini)(struct kvm_env *env, struct kvm_lock *lock);
	void (*lock)(struct kvm_env *env, struct kvm_lock *lock); /* for writing */
	void (*unlock)(struct kvm_env *env, struct kvm_lock *lock);
	void (*lock_read)(struct kvm_env *env, struct kvm_lock *lock);
	void (*unlock_read)(struct kvm_env *env, struct kvm_lock *lock);
	/** As lock(), but a fatal signal ends the wait with -EINTR. */
	int (*lock_killable)(struct kvm_env *env, struct kvm_lock *lock);

	/* ---- user memory: of the process that calls, at an address it gave ---- */
	/** 0 or -EFAULT; nothing is promised of the destination after an error. */
	int (*copy_in)(struct kvm_env *env, void *to, uint64_t user, size_t bytes);
	/**
	 * Finds code->linear by four levels of tables from code->cr3 on, all of it in @slot;
	 * nothing but presence is checked. Return: 0; -EAGAIN: it takes more than that. Both may be
	 * NULL: they are faster than copy_in(), nothing more.
	 */
	int (*find_code)(struct kvm_env *env, const struct kvm_slot *slot, struct kvm_code *code);
	/** 16 bytes of what was found, the page's from @at on. Zeros, which are no instruction that
	 * matters: perhaps the tables have changed, or it is not there. */
	struct kvm_code_bytes (*fetch_code)(struct kvm_env *env, const struct kvm_code *code,
					    unsigned at);
	int (*copy_out)(struct kvm_env *env, uint64_t user, const void *from, size_t bytes);
	/**
	 * Atomic compare and exchange of 1, 2, 4, 8 or 16 aligned bytes. Return: 0; -EAGAIN if
	 * there was something else than @old; -EFAULT.
	 */
	int (*cmpxchg)(struct kvm_env *env, uint64_t user, const void *old, const void *new,
		       unsigned bytes);
	/** Could all of it belong to user space? No access is made. */
	bool (*user_range)(struct kvm_env *env, uint64_t user, uint64_t bytes);
	/** Does the calling process own the VM's address space? */
	bool (*owns)(struct kvm_env *env, struct kvm_vm *vm);

	/* ---- time ---- */
	uint64_t (*now_ns)(struct kvm_env *env);  /* monotonic, from a point of its own */
	uint64_t (*wall_ns)(struct kvm_env *env); /* since 1970, UTC */
	uint64_t (*tsc)(struct kvm_env *env);	  /* what RDTSC gives the host */
	/**
	 * Both at one moment. Return: is now_ns() driven by the TSC, on all CPUs alike (so that
	 * guests may reckon time from their TSC)?
	 */
	bool (*now_and_tsc)(struct kvm_env *env, uint64_t *now_ns, uint64_t *tsc);
	/** (Re)arms: calls expired() once, when now_ns() has reached @deadline_ns. */
	void (*timer_arm)(struct kvm_env *env, struct kvm_timer *timer, uint64_t deadline_ns);
	/** When it returns, the callback neither runs nor will. Not from the callback itself. */
	void (*timer_cancel)(struct kvm_env *env, struct kvm_timer *timer);

	/* ---- eventfds ---- */
	/** Holds the eventfd behind descriptor @fd. 0; -EBADF; -EINVAL if it is something else. */
	int (*eventfd_get)(struct kvm_env *env, int fd, void **eventfd);
	void (*eventfd_put)(struct kvm_env *env, void *eventfd);
	void (*eventfd_signal)(struct kvm_env *env, void *eventfd);
	/** Calls signalled() from now on, at once if the counter is not zero. 0 or -errno. */
	int (*eventfd_watch)(struct kvm_env *env, void *eventfd, struct kvm_eventfd_watch *watch);
	/** When it returns, no callback runs nor will. */
	void (*eventfd_unwatch)(struct kvm_env *env, void *eventfd,
				struct kvm_eventfd_watch *watch);

	/* ---- descriptors ---- */
	/**
	 * A new descriptor for the VM or the vCPU, or -errno. When its last user closes it, the
	 * surroundings call kvm_vm_release() or kvm_vcpu_release(); not if this fails.
	 */
	int (*vm_fd)(struct kvm_env *env, struct kvm_vm *vm);
	int (*vcpu_fd)(struct kvm_env *env, struct kvm_vcpu *vcpu);

	/* ---- the vCPU's thread ---- */
	/** Binds the calling thread to the vCPU: from now on wake() and kick() mean it. */
	void (*run_begin)(struct kvm_env *env, struct kvm_vcpu *vcpu);
	void (*run_end)(struct kvm_env *env, struct kvm_vcpu *vcpu);
	/** Is a signal pending that the thread does not block? */
	bool (*signal_pending)(struct kvm_env *env, struct kvm_vcpu *vcpu);
	/** Gives the CPU to others where that is due; at every exit, no lock held but vcpu->lock.
	 */
	void (*resched)(struct kvm_env *env, struct kvm_vcpu *vcpu);
	/** The signals blocked while the guest runs: @bytes of mask, or 0 for those of the thread.
	 */
	int (*signal_mask)(struct kvm_env *env, struct kvm_vcpu *vcpu, uint64_t user,
			   unsigned bytes);
	/**
	 * Sleeps until wake() or kick() is called or a signal is pending; a call since the last
	 * block() counts, so that none is lost. May return for no reason.
	 */
	void (*block)(struct kvm_env *env, struct kvm_vcpu *vcpu);
	/** From anywhere. Ends block(), and makes enter() of the backend return soon. */
	void (*kick)(struct kvm_env *env, struct kvm_vcpu *vcpu);
	/**
	 * lib/insn on the instruction that begins with vcpu->exits->code, with the registers and,
	 * for all beyond them, the functions that emul.h has for that. INSN_FAULT: in
	 * vcpu->exits->fault. In place (kvm_emulate_here()) or elsewhere: who runs the emulator
	 * need not be trusted. It may say in vcpu->exits->found what the instruction is, to be
	 * spared it when it comes again. If it does not answer, that is INSN_UNSUPPORTED, and
	 * vcpu->exits->broken. The vCPU's thread, vcpu->lock and vm->memory for reading.
	 */
	enum insn_outcome (*emulate)(struct kvm_env *env, struct kvm_vcpu *vcpu);
	/**
	 * Time that the vCPU was ready to run and did not, ns since it exists. When it has grown,
	 * the vCPU's thread notes KVM_REQ_STEAL, before the guest runs again. NULL: unknown.
	 */
	uint64_t (*steal_ns)(struct kvm_env *env, struct kvm_vcpu *vcpu);
};

struct kvm_env {
	const struct kvm_env_ops *ops;
	const struct kvm_backend *backend;
	unsigned max_vcpus;   /* of a VM; KVM_CAP_MAX_VCPUS */
	unsigned cpus;	      /* of the host; KVM_CAP_NR_VCPUS */
	uint64_t tsc_khz;     /* of the host's TSC */
	_Atomic uint32_t vms; /* how many there are */
};

/**
 * kvm_ops() - the surroundings' operations. Where there is only one, KVM_ENV_OPS names it, and what
 * it does is called without a detour, or built in.
 */
#ifdef KVM_ENV_OPS
extern const struct kvm_env_ops KVM_ENV_OPS;

static inline const struct kvm_env_ops *kvm_ops(const struct kvm_env *env)
{
	(void)env;
	return &KVM_ENV_OPS;
}
#else
static inline const struct kvm_env_ops *kvm_ops(const struct kvm_env *env)
{
	return env->ops;
}
#endif
