/*
 * The registers that instructions here work on, and how an instruction ends: what those need to
 * know who have an instruction emulated, but do not do it themselves.
 */
#pragma once

#include "lib/base/types.h"
#include "lib/x86/regs.h"

/** No instruction is longer. Spec: Intel SDM vol. 2, 2.3.11 */
#define INSN_MAX 15

enum insn_mode {
	INSN_16, /* default sizes of a segment: real mode, or CS.D = 0 */
	INSN_32,
	INSN_64,
};

enum insn_seg {
	INSN_ES,
	INSN_CS,
	INSN_SS,
	INSN_DS,
	INSN_FS,
	INSN_GS,
	INSN_NSEGS
};

/** How an instruction ends; lib/insn/emulate.h says what is true then. */
enum insn_outcome {
	INSN_DONE,
	INSN_HALT,
	INSN_AGAIN,
	INSN_EXIT,
	INSN_FAULT,
	INSN_UNSUPPORTED,
};

/** Vectors of exceptions. Spec: Intel SDM vol. 3A, table 6-1 */
enum insn_vector {
	INSN_EXC_DE = 0,
	INSN_EXC_DB = 1,
	INSN_EXC_BP = 3,
	INSN_EXC_OF = 4,
	INSN_EXC_BR = 5,
	INSN_EXC_UD = 6,
	INSN_EXC_NM = 7,
	INSN_EXC_DF = 8,
	INSN_EXC_TS = 10,
	INSN_EXC_NP = 11,
	INSN_EXC_SS = 12,
	INSN_EXC_GP = 13,
	INSN_EXC_PF = 14,
	INSN_EXC_MF = 16,
	INSN_EXC_AC = 17,
	INSN_EXC_XM = 19,
};

struct insn_fault {
	uint8_t vector;
	bool has_error;
	uint32_t error;
	uint64_t address; /* of a page fault: CR2 */
	uint64_t dr6;	  /* of a #DB: what to set in DR6; INT1 sets nothing */
};

/** A segment register. Attributes are those of AMD's VMCB: the descriptor's bits 40 to 47, 52 to
 * 55. */
struct insn_segment {
	uint16_t selector;
	uint16_t attr;
	uint32_t limit; /* in bytes */
	uint64_t base;
};

#define INSN_SEG_TYPE	0x00f
#define INSN_SEG_S	0x010
#define INSN_SEG_DPL(a) ((a) >> 5 & 3)
#define INSN_SEG_P	0x080
#define INSN_SEG_L	0x200
#define INSN_SEG_DB	0x400

struct insn_table_register {
	uint16_t limit;
	uint64_t base;
};

/** The registers that instructions here read and write by themselves. */
struct insn_cpu {
	uint64_t gpr[16];
	uint64_t rip, rflags;
	struct insn_segment seg[INSN_NSEGS], ldtr, tr;
	struct insn_table_register gdtr, idtr;
	uint64_t cr0, cr4, efer; /* for decisions; changed by ops->write_cr and write_msr only */
	uint8_t cpl;
	bool interrupt_shadow; /* set by STI, MOV SS and POP SS, cleared by all others */
	bool trap_shadow;      /* set by MOV SS and POP SS: debug traps are held back, too */
};

/** Why memory is accessed; bits. */
#define INSN_ACCESS_WRITE BIT(0) /* of a read: a write to the same place follows */
/* by the CPU itself (descriptor tables, TSS), whatever the CPL */
#define INSN_ACCESS_SYSTEM BIT(1)
/* lib/kvm's, see emul.h: it is the instruction's only operand in memory */
#define KVM_ACCESS_OPERAND BIT(7)

/** insn_mode() - in which mode the CPU fetches: what insn_decode() is to be called with. */
static inline enum insn_mode insn_mode(const struct insn_cpu *cpu)
{
	uint16_t cs = cpu->seg[INSN_CS].attr;

	if ((cpu->cr0 & CR0_PE) == 0 || (cpu->rflags & RFLAGS_VM) != 0) {
		return INSN_16;
	}
	if ((cpu->efer & EFER_LMA) != 0 && (cs & INSN_SEG_L) != 0) {
		return INSN_64;
	}
	return (cs & INSN_SEG_DB) != 0 ? INSN_32 : INSN_16;
}
