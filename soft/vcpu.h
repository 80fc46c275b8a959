/*
 * One virtual CPU in software: what is kept beside struct kvm_vcpu, whose registers it works on
 * directly (all groups are always loaded).
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "lib/insn/decode.h"
#include "lib/insn/emulate.h"
#include "lib/kvm/vcpu.h"
#include "soft/code.h"
#include "soft/engine.h"
#include "soft/map.h"
#include "soft/mmu.h"
#include "soft/native.h"

#define SOFT_DECODED 4096
#define SOFT_PAUSES  64
#define SOFT_BUFFER  4096 /* the longest memory operand of x87 and vector instructions */

/** An instruction that was decoded before: valid as long as there are the same bytes. */
struct soft_decoded {
	uint64_t rip; /* linear */
	uint8_t mode;
	uint8_t bytes[16]; /* and what follows */
	struct insn insn;
};

struct soft_vcpu;

/*
 * Atomic accesses that one host instruction cannot make, such as LOCK over the end of a page, stop
 * the VM's other vCPUs: soft_vcpu_alone(). Whatever an engine does between two looks at
 * soft_vcpu_must_stop() is thereby whole for others, and needs no lock.
 */
struct soft_vm {
	struct soft_map map;
	struct soft_code code;
	pthread_mutex_t alone;		   /* held by `owner` */
	_Atomic(struct soft_vcpu *) owner; /* all others do not enter; NULL: none */
};

struct st_translator;

struct soft_vcpu {
	/* constant after creation */
	struct kvm_vcpu *kvm;
	struct soft_vm *vm;
	const struct soft_engine *engine;

	/*
	 * Atomic. inside: uses mappings right now. stale: mappings were taken away, the TLB is to
	 * be flushed before they are used again. Both are sequentially consistent: either who
	 * takes mappings away sees `inside`, or we see `stale`. visit: another number each time
	 * that it goes inside.
	 */
	_Atomic bool inside;
	_Atomic bool stale;
	_Atomic uint32_t visit;
	/* Set to 1 they end what the engine does; SOFT_SPACES, so many bytes apart; NULL: not
	 * needed. */
	_Atomic uint32_t *kick;
	size_t kick_stride;

	/* Others than vCPUs may have written to code. */
	_Atomic bool recheck;

	struct soft_code_mail mail;

	/* the vCPU's thread only */
	struct soft_mmu mmu;
	struct soft_native native;
	struct insn_env env;
	struct st_translator *translator;
	struct kvm_stop *stop;
	uint8_t insn_len;
	uint64_t dr6_hits; /* data breakpoints that the instruction met */
	uint64_t dr6_held; /* those of a MOV SS before it */
	uint32_t pauses;   /* PAUSE instructions, to count by */
	bool is_kept;	   /* `kept` is executed next, whatever is at RIP by then */
	struct insn kept;
	_Alignas(64) uint8_t buffer[SOFT_BUFFER];
	struct soft_decoded decoded[SOFT_DECODED];
};

static inline struct soft_vcpu *soft_vcpu_of(const struct kvm_vcpu *vcpu)
{
	return vcpu->backend_data;
}

/**
 * soft_vcpu_yields() - is the next PAUSE one where others may run? Who spins may wait for a vCPU
 * whose thread waits for this CPU.
 */
static inline bool soft_vcpu_yields(const struct soft_vcpu *vcpu)
{
	return vcpu->pauses % SOFT_PAUSES == SOFT_PAUSES - 1;
}

/** soft_vcpu_enter() - enter() of struct kvm_backend: delivers, runs, says why it stopped. */
void soft_vcpu_enter(struct kvm_vcpu *kvm, struct kvm_stop *stop);

/**
 * soft_vcpu_shoot() - mappings were taken away: when it returns, no vCPU of the VM uses them.
 * Context: any thread but one that is inside; may wait for the end of one instruction.
 */
void soft_vcpu_shoot(struct kvm_vm *vm);

/** soft_vcpu_kick() - it looks at its requests soon. Context: any. */
void soft_vcpu_kick(struct soft_vcpu *vcpu);
/**
 * soft_vcpu_alone() - when it returns, no other vCPU of the VM is inside, until
 * soft_vcpu_not_alone(). Meanwhile this one may have been outside itself: its TLB may be empty,
 * host addresses that it got before are not valid.
 * Context: vCPU thread, inside, at a point where the instruction could begin anew.
 */
void soft_vcpu_alone(struct soft_vcpu *vcpu);
void soft_vcpu_not_alone(struct soft_vcpu *vcpu);

/** soft_vcpu_must_stop() - is there a request, or a window that is waited for? Also: for engines.
 */
static inline bool soft_vcpu_must_stop(const struct soft_vcpu *vcpu)
{
	const struct kvm_vcpu *kvm = vcpu->kvm;

	if (__atomic_load_n((const uint32_t *)&kvm->requests, __ATOMIC_ACQUIRE) != 0) {
		return true;
	}
	if (kvm->cpu.interrupt_shadow) {
		return false;
	}
	return (kvm->want_irq_window && (kvm->cpu.rflags & BIT(9)) != 0) ||
	       (kvm->want_nmi_window && !kvm->events.nmi.masked);
}
