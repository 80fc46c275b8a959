/*
 * Surroundings and a backend for tests: user memory is the test's own, time stands still unless it
 * is moved, and the guest is a function.
 */
#pragma once

#include "lib/kvm/backend.h"
#include "lib/kvm/create.h"
#include "lib/kvm/env.h"
#include "lib/kvm/kvm.h"
#include "lib/kvm/vcpu.h"
#include "tests/unit.h"

#define FAKE_FD_EVENT 100 /* and above: eventfds */
#define FAKE_EVENTS   8
#define FAKE_CHANGES  64

/** What the guest does when it is entered: sets *stop. */
typedef void fake_guest(struct kvm_vcpu *vcpu, struct kvm_stop *stop);

/** The stop that a guest's function may just hand out, one after the other. */
struct fake_step {
	struct kvm_stop stop;
	void (*before)(struct kvm_vcpu *vcpu);
};

struct fake {
	struct kvm_env env;
	struct kvm_backend backend;

	/* storage */
	int allocated;	/* pieces that are out */
	int fail_in;	/* the n-th allocation from now on fails; 0: none */
	int locks_held; /* for writing and reading */

	/* user memory that is not there */
	uintptr_t hole, hole_end;
	uintptr_t only, only_end; /* if set: nothing else is */
	bool stranger;		  /* the caller is another process */

	uint64_t now_ns, wall_ns, tsc, steal_ns;
	bool tsc_stable;

	struct kvm_vm *vm; /* the last ones that got a descriptor */
	struct kvm_vcpu *vcpu[8];
	unsigned vcpus;
	bool no_fds;

	bool signal; /* one is pending */
	bool late;   /* a handler sets immediate_exit, just before signals are held back */
	unsigned kicks, blocks, enters;
	unsigned event_refs[FAKE_EVENTS];
	unsigned rings[FAKE_EVENTS];

	/* what the backend was told, in order */
	struct {
		char what; /* 'u'nmap, 'p'rotect, 'm'ap */
		uint64_t gfn, pages;
	} change[FAKE_CHANGES];
	unsigned changes, flushes;
	struct kvm_fault last_fault;
	int map_result;

	bool finds_code; /* of 64-bit code, where its linear address is, too */
	/* who emulates; NULL: lib/insn */
	enum insn_outcome (*emulate)(struct kvm_vcpu *vcpu);

	/* the guest */
	fake_guest *guest;
	const struct fake_step *step;
	unsigned steps, at;
	struct kvm_event delivered[8]; /* what entries delivered */
	unsigned deliveries;
};

/** fake_init() - one AMD CPU with XSAVE, of 1 GHz. */
void fake_init(struct fake *f);
/** fake_end() - nothing may be left: no storage, no locks, no eventfds. */
void fake_end(struct fake *f);

/** fake_vm() - a VM by ioctl. */
struct kvm_vm *fake_vm(struct fake *f);
/** fake_vcpu() - a vCPU of the last VM, by ioctl. */
struct kvm_vcpu *fake_vcpu(struct fake *f, uint32_t id);
/** fake_close() - closes all descriptors. */
void fake_close(struct fake *f);

/** fake_slot() - KVM_SET_USER_MEMORY_REGION. */
int64_t fake_slot(struct fake *f, uint32_t id, uint32_t flags, uint64_t gpa, uint64_t bytes,
		  const void *user);

/** fake_play() - the guest stops as @steps say; then it does KVM_STOP_HLT. */
void fake_play(struct fake *f, const struct fake_step *steps, unsigned count);

static inline int64_t vm_call(struct fake *f, uint32_t request, const void *arg)
{
	return kvm_vm_ioctl(f->vm, request, (uintptr_t)arg);
}

static inline int64_t vcpu_call(struct kvm_vcpu *vcpu, uint32_t request, const void *arg)
{
	return kvm_vcpu_ioctl(vcpu, request, (uintptr_t)arg);
}
