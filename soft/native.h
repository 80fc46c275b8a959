/*
 * x87 and vector instructions on the host's CPU, with the guest's registers in it.
 *
 * Each vCPU has a page of slots, mapped twice: once to be written to, once to be executed. A slot
 * holds one instruction, as lib/insn has encoded it, and a jump back; those that come again are
 * found there. While one runs, all registers but RSP are the guest's.
 */
#pragma once

#include "lib/insn/emulate.h"

struct soft_vcpu;

#define SOFT_NATIVE_SLOTS 256

/** No image in standard format is longer: x87 to AVX-512, and PKRU. */
#define SOFT_NATIVE_IMAGE 2696

struct soft_native {
	uint8_t *write;	  /* the slots, to fill them */
	uint8_t *execute; /* the same memory */
	uint32_t mxcsr;	  /* bits that the host's CPU has, AMD's one more than Intel's */
};

/**
 * soft_native_features() - of XCR0, those that guests may have here: x87, SSE, AVX, and PKRU, if
 * this host's XRSTOR takes images with it. 0: no XSAVE.
 */
uint64_t soft_native_features(void);

/** soft_native_pkru_at() - where an image has PKRU, if guests may have it; else 0. */
uint32_t soft_native_pkru_at(void);

/**
 * soft_native_mask() - of @xcr0, what the host's registers hold for a guest: not PKRU, which would
 * bind this process. It is in vcpu->xsave always.
 */
static inline uint64_t soft_native_mask(uint64_t xcr0)
{
	return xcr0 & ~XCR0_PKRU;
}

/**
 * soft_native_component() - CPUID leaf 0xd of component @i, 2 or more: length, place, flags.
 * @pkru_at: as above.
 * Context: any; no CPUID, which takes long in a virtual machine.
 */
void soft_native_component(uint32_t i, uint32_t pkru_at, uint32_t regs[4]);

/** soft_native_init() - maps the slots. Return: 0, -errno; -ENODEV: the host has no XSAVE. */
must_use int soft_native_init(struct soft_native *native);

void soft_native_fini(struct soft_native *native);

/**
 * soft_native_restorable() - what user space may have left in the vCPU's area, and the host's CPU
 * would refuse to load, is gone. Context: vCPU thread.
 */
void soft_native_restorable(struct soft_vcpu *vcpu);

/** soft_native_run() - `native` of struct insn_ops. Context: vCPU thread, soft_access_init(). */
must_use enum insn_outcome soft_native_run(struct soft_vcpu *vcpu, struct insn_native *n);

/**
 * soft_native_trap() - for handlers of SIGFPE, SIGILL, SIGSEGV, SIGBUS: if it is an instruction in
 * a slot that faulted, has the thread go on behind it. Return: false: it is not.
 */
bool soft_native_trap(void *context);
