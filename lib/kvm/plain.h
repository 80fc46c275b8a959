/*
 * The instructions that guests are stopped at most: loads and stores by MOV, and those that stop by
 * themselves, whose length has to be known. A kernel needs no more of a decoder than this; all else
 * is the emulator's, which may be elsewhere (backend.h).
 */
#pragma once

#include "lib/insn/cpu.h"

/** In the place of a register of struct kvm_mov. */
#define KVM_MOV_NONE 0xff
#define KVM_MOV_RIP  0xfe

/** MOV, MOVZX, MOVSX or MOVSXD between memory and a register, or of a constant to memory. */
struct kvm_mov {
	uint8_t len;	  /* of the instruction */
	bool store;	  /* to memory */
	bool sign;	  /* a load that extends with the sign; others extend with zeros */
	uint8_t bytes;	  /* in memory: 1, 2, 4, 8 */
	uint8_t to_bytes; /* of the register that is loaded: as the CPU writes so many */
	uint8_t reg;	  /* GPR that is stored or loaded; KVM_MOV_NONE: imm is stored */
	uint8_t base;	  /* GPR, KVM_MOV_NONE, KVM_MOV_RIP: the next instruction's */
	uint8_t index;	  /* GPR or KVM_MOV_NONE */
	uint8_t shift;	  /* of the index: 0 to 3 */
	int32_t disp;
	uint64_t imm;
};

/**
 * kvm_plain_mov() - is it such a MOV, in 64-bit code, without FS, GS, addresses of 32 bits, AH to
 * BH and prefixes that mean something else?
 * @code: INSN_MAX bytes.
 * Spec: AMD APM vol. 3, ch. 1 "Instruction Encoding", "MOV", "MOVSX", "MOVSXD", "MOVZX"
 */
must_use bool kvm_plain_mov(struct kvm_mov *mov, const uint8_t code[INSN_MAX]);

/** kvm_plain_address() - of the operand. */
uint64_t kvm_plain_address(const struct kvm_mov *mov, const struct insn_cpu *cpu);

/** kvm_plain_load() - what a load does with @value, whose low bytes were in memory. */
void kvm_plain_load(const struct kvm_mov *mov, struct insn_cpu *cpu, uint64_t value);

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
