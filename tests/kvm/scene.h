/*
 * What the cases about I/O, injection and debugging share: scripts of accesses that a guest is to
 * make, pages of 4 KiB in its tables, and code at CPL 3.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "tests/kvm/vm.h"

#define FLAG_CF	 0x001u
#define FLAG_PF	 0x004u
#define FLAG_AF	 0x010u
#define FLAG_ZF	 0x040u
#define FLAG_SF	 0x080u
#define FLAG_TF	 0x100u
#define FLAG_IF	 0x200u
#define FLAG_OF	 0x800u
#define FLAG_RF	 0x10000u
#define FLAGS_IO 0x3000u /* IOPL 3 */

/* One exit of a script; what is read is what the device says. */
struct step {
	enum {
		STEP_END,
		STEP_MMIO_READ,
		STEP_MMIO_WRITE,
		STEP_IN,
		STEP_OUT,
	} kind;
	uint64_t address;
	uint32_t bytes;
	uint64_t value;
};

/* Offsets from VM_HOLE; ports. */
#define R(offset, bytes, value)                                      \
	{                                                            \
		STEP_MMIO_READ, VM_HOLE + (offset), (bytes), (value) \
	}
#define W(offset, bytes, value)                                       \
	{                                                             \
		STEP_MMIO_WRITE, VM_HOLE + (offset), (bytes), (value) \
	}
#define IN(port, bytes, value)                    \
	{                                         \
		STEP_IN, (port), (bytes), (value) \
	}
#define OUT(port, bytes, value)                    \
	{                                          \
		STEP_OUT, (port), (bytes), (value) \
	}
#define STEPS_END                 \
	{                         \
		STEP_END, 0, 0, 0 \
	}

/* The guest makes exactly these exits, in this order, then halts. */
#define expect_steps(vcpu, ...) \
	scene_steps(__FILE__, __LINE__, (vcpu), (const struct step[]){__VA_ARGS__, STEPS_END})
void scene_steps(const char *file, int line, struct vcpu *vcpu, const struct step *steps);

/** scene_user() - a vCPU at 64-bit CPL 0 goes to CPL 3, with these bits in RFLAGS; exceptions and
 *  interrupts find their stack at VM_STACK - 0x1000. The I/O bitmap is out of the TSS's limit. */
void scene_user(struct vcpu *vcpu, uint64_t rflags);
#define USER_STACK0 (VM_STACK - 0x1000)

/**
 * scene_pte() - the 4 KiB entry that maps an address below 4 GiB in 64-bit mode, to be changed
 * before the guest runs. The 2 MiB page it lies in is split, to the same memory, at most four.
 */
uint64_t *scene_pte(struct vm *vm, uint64_t gva);
#define SCENE_TABLES 0xf00000 /* four pages, for that */

/** scene_word() - a 64-bit word of guest RAM. */
uint64_t *scene_word(struct vm *vm, uint64_t gpa);

/** scene_set_rip() - moves RIP. */
void scene_set_rip(struct vcpu *vcpu, uint64_t rip);

/** scene_complete() - KVM_RUN with immediate_exit: ends a pending access, runs nothing. */
#define complete_only(vcpu) scene_complete(__FILE__, __LINE__, (vcpu))
void scene_complete(const char *file, int line, struct vcpu *vcpu);
