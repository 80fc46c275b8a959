/*
 * The instructions that guests are stopped at most: those that read or write memory once, and those
 * that stop by themselves, whose length has to be known. Of the first no bytes are looked at here:
 * the emulator, which may be elsewhere (env.h), says what it has found one to be, and when it comes
 * again it is carried out without it.
 */
#pragma once

#include "lib/insn/cpu.h"

/** In the place of a register of struct kvm_plain. */
#define KVM_PLAIN_NONE 0xff
#define KVM_PLAIN_RIP  0xfe

enum kvm_plain_op {
	KVM_PLAIN_MOVE, /* flags do not change */
	KVM_PLAIN_ADD,
	KVM_PLAIN_SUB,
	KVM_PLAIN_AND,
	KVM_PLAIN_OR,
	KVM_PLAIN_XOR,
	KVM_PLAIN_NOPS,
};

/**
 * One operand is in memory, at base + index << shift + disp; all else may come from ring 3.
 *
 *	store:	memory = reg or imm	MOV
 *	load:	reg = memory		MOV, MOVZX, MOVSX, MOVSXD
 *		reg = reg op memory	ADD, SUB, AND, OR, XOR; only flags: CMP, TEST
 *		flags of memory op reg or imm	CMP, TEST
 */
struct kvm_plain {
	uint8_t len;	      /* of the instruction */
	uint8_t op;	      /* enum kvm_plain_op; of a store KVM_PLAIN_MOVE */
	uint8_t store;	      /* to memory; these four are 0 or 1 */
	uint8_t sign;	      /* a move that extends with the sign; others extend with zeros */
	uint8_t flags_only;   /* there is no result but flags */
	uint8_t memory_first; /* of the operands */
	uint8_t bytes;	      /* in memory: 1, 2, 4, 8 */
	uint8_t to_bytes;     /* of the register: as the CPU writes so many */
	uint8_t reg;	      /* GPR; KVM_PLAIN_NONE: imm, of a store or with flags_only */
	uint8_t base;	      /* GPR, KVM_PLAIN_NONE, KVM_PLAIN_RIP: the next instruction's */
	uint8_t index;	      /* GPR or KVM_PLAIN_NONE */
	uint8_t shift;	      /* of the index: 0 to 3 */
	int32_t disp;
	uint64_t imm;
};

/** kvm_plain_is_sound() - is it something that can be carried out? */
must_use bool kvm_plain_is_sound(const struct kvm_plain *plain);

/** kvm_plain_address() - of the operand, which must be sound, as for the next. */
uint64_t kvm_plain_address(const struct kvm_plain *plain, const struct insn_cpu *cpu);

/** kvm_plain_load() - what a load does with @value, whose low bytes were in memory. */
void kvm_plain_load(const struct kvm_plain *plain, struct insn_cpu *cpu, uint64_t value);

/**
 * kvm_plain_length() - of an instruction that stops a guest by itself: CPUID, HLT, PAUSE, IN, OUT,
 * RDMSR, WRMSR, INVD, WBINVD, XSETBV, VMCALL, VMMCALL, MONITOR, MWAIT.
 * @have: bytes in @code, at most INSN_MAX are looked at.
 * @opcode: its two or three bytes, the first in the highest place; or one.
 * Return: 0: there is not all of it, or it is another instruction.
 */
must_use unsigned kvm_plain_length(const uint8_t *code, unsigned have, bool long_mode,
				   uint32_t *opcode);

#define KVM_PLAIN_VMCALL  0x0f01c1
#define KVM_PLAIN_VMMCALL 0x0f01d9
