/*
 * Who executes guest code for a vCPU. The reference is the interpreter (interp.c); all engines end
 * in equal states.
 */
#pragma once

#include "lib/kvm/backend.h"

struct soft_vcpu;

/** How a run of guest code ended. */
enum soft_end {
	SOFT_END_AGAIN, /* at a boundary between instructions: look at requests and windows */
	SOFT_END_STOP,	/* *stop says why the guest cannot go on */
};

struct soft_engine {
	const char *name;
	/**
	 * Runs instructions from RIP on, until something is to be decided, or a request is there
	 * (kvm_vcpu_must_not_enter()), or interrupts or NMIs that are waited for could be taken.
	 * Faults of the guest's own it has delivered by soft_deliver().
	 * Context: the vCPU's thread, soft_vcpu_inside().
	 */
	enum soft_end (*run)(struct soft_vcpu *vcpu, struct kvm_stop *stop);
	/** Forgets what it made of guest code. Context: the vCPU's thread. */
	void (*forget)(struct soft_vcpu *vcpu);
	/** The pieces @mask of the page at @host (soft/code.h) are written to. Context: as above.
	 */
	void (*written)(struct soft_vcpu *vcpu, uint64_t host, uint64_t mask);
	int (*init)(struct soft_vcpu *vcpu); /* 0 or -errno */
	void (*fini)(struct soft_vcpu *vcpu);
};

extern const struct soft_engine soft_interp;
extern const struct soft_engine soft_translate;
extern const struct soft_engine soft_translate_checked; /* judges all code that it makes */
extern const struct soft_engine
	soft_translate_small; /* so, too, and its cache is full soon: tests */

/*
 * Likewise, but flags are kept that the code that follows does not need, and that an instruction
 * which overwrites that code would lose. A handler of faults finds those of hardware.
 */
extern const struct soft_engine soft_translate_exact;

/**
 * soft_engine_choose() - of vCPUs to come: "interpret", "translate", "translate-checked",
 * "translate-small" or "translate-exact".
 * Return: 0, -EINVAL, or -EOPNOTSUPP if this host's CPU cannot have it.
 */
must_use int soft_engine_choose(const char *name);

/** soft_engine_chosen() - the one for a new vCPU. */
const struct soft_engine *soft_engine_chosen(void);
