/*
 * The instruction decoder of x86: 16-, 32- and 64-bit code, legacy, VEX and EVEX encodings.
 *
 * It reads bytes and nothing else: no CPUID, no CPL, no control registers. Whether the instruction
 * may run here and now is the caller's to decide; `attributes`, `feature` and `klass` are what it
 * needs for that. Not decoded, thus INSN_UNDEFINED: XOP, 3DNow!, FMA4, TBM, MPX (which are NOPs
 * without it), AMX, FP16 and other extensions without rows in the *.tab files.
 *
 * Two kinds of callers: an emulator looks at `mnemonic`, `operand` and `mem`; a translator that
 * copies the instruction and rewrites its memory operand looks at the bytes' places (`modrm_at`,
 * `disp_at`, ...), at what registers are read and written, and at the flags.
 */
#pragma once

#include "lib/insn/cpu.h"
#include "lib/insn/mnemonics.h"

/** Or'ed to the mode, for CPUs of AMD: near branches in 64-bit code obey the operand-size prefix,
 * LOCK MOV CR0 is MOV CR8, MOVSXD reads 32 bits always, and 0F 0D needs memory. */
#define INSN_AMD 0x100

enum insn_result {
	INSN_OK,
	INSN_MORE,	/* the bytes end within the instruction */
	INSN_TOO_LONG,	/* it has more than INSN_MAX bytes: #GP(0) */
	INSN_UNDEFINED, /* #UD */
};

#define INSN_ENUM(name) INSN_##name,
enum insn_mnemonic {
	INSN_NONE,
	INSN_MNEMONICS(INSN_ENUM) INSN_NMNEMONICS
};
#undef INSN_ENUM

/** What CPUID must show; of the 80386's NONE. VEX also needs AVX, EVEX also AVX512F, and VL when
 * shorter than 512 bits. */
#define INSN_ENUM(name) INSN_F_##name,
enum insn_feature {
	INSN_F_NONE,
	INSN_FEATURES(INSN_ENUM) INSN_NFEATURES
};
#undef INSN_ENUM

enum insn_class {
	INSN_CLASS_INTEGER,
	INSN_CLASS_NOP,	   /* hints, prefetches */
	INSN_CLASS_JUMP,   /* JMP near, direct or indirect */
	INSN_CLASS_JCC,	   /* conditional: Jcc, LOOPcc, JrCXZ, XBEGIN */
	INSN_CLASS_CALL,   /* near */
	INSN_CLASS_RET,	   /* near */
	INSN_CLASS_FAR,	   /* other transfers: far, INT, IRET, SYSCALL, ... */
	INSN_CLASS_STRING, /* MOVS, CMPS, STOS, LODS, SCAS */
	INSN_CLASS_IO,	   /* IN, OUT, INS, OUTS */
	INSN_CLASS_SYSTEM, /* reads or changes what the operating system owns */
	INSN_CLASS_UD,	   /* UD0, UD1, UD2 */
	INSN_CLASS_X87,
	INSN_CLASS_MMX,
	INSN_CLASS_SSE,
	INSN_CLASS_AVX,	   /* VEX, vectors and masks */
	INSN_CLASS_AVX512, /* EVEX */
};

/** Attributes. */
#define INSN_ATTR_LOCK	 BIT(0)	 /* LOCK is allowed with a memory operand */
#define INSN_ATTR_REP	 BIT(1)	 /* obeys REP, REPE, REPNE */
#define INSN_ATTR_CPL0	 BIT(2)	 /* #GP(0) unless CPL is 0 */
#define INSN_ATTR_IOPL	 BIT(3)	 /* subject to IOPL or the I/O permission map */
#define INSN_ATTR_IOPL86 BIT(4)	 /* subject to IOPL in virtual-8086 mode */
#define INSN_ATTR_PROT	 BIT(5)	 /* #UD in real and virtual-8086 mode */
#define INSN_ATTR_UMIP	 BIT(6)	 /* #GP(0) with CR4.UMIP unless CPL is 0 */
#define INSN_ATTR_PUSH	 BIT(7)	 /* writes to the stack, slots of op_bytes */
#define INSN_ATTR_POP	 BIT(8)	 /* reads from it */
#define INSN_ATTR_BITSTR BIT(9)	 /* the bit offset in a register moves the memory operand */
#define INSN_ATTR_SHIFT	 BIT(10) /* no flags change if the count is zero */

enum insn_encoding {
	INSN_LEGACY,
	INSN_VEX,
	INSN_EVEX
};

/** Legacy prefixes, as bits. */
#define INSN_PREFIX_LOCK   BIT(0)
#define INSN_PREFIX_REP	   BIT(1) /* F3 is the last of F2 and F3 */
#define INSN_PREFIX_REPNE  BIT(2) /* F2 is */
#define INSN_PREFIX_OPSIZE BIT(3)
#define INSN_PREFIX_ADSIZE BIT(4)
#define INSN_PREFIX_SEG	   BIT(5) /* any segment override, even one without effect */
#define INSN_PREFIX_REX	   BIT(6)

/** In the place of a register of struct insn_mem. */
#define INSN_NO_REG 0xff
#define INSN_RIP    0xfe

enum insn_mem_kind {
	INSN_MEM_MODRM,	  /* ModRM, SIB and displacement */
	INSN_MEM_VSIB,	  /* so too, the index being a vector register */
	INSN_MEM_MOFFS,	  /* an address in the instruction (A0 to A3) */
	INSN_MEM_IMPLIED, /* a register that the opcode names: rSI, rDI, rAX, or ModRM.reg */
	INSN_MEM_XLAT,	  /* rBX + AL */
};

/** A memory operand. */
struct insn_mem {
	uint8_t kind;
	uint8_t seg;	     /* enum insn_seg, after prefixes and defaults */
	uint8_t base, index; /* GPRs, vector register (VSIB), INSN_NO_REG, base INSN_RIP */
	uint8_t scale;	     /* 1, 2, 4, 8 */
	uint8_t index_bytes; /* VSIB: length of the index register */
	uint16_t bytes;	     /* of the access; 0: none, or one of unknown length (XSAVE) */
	int64_t disp;	     /* sign-extended, scaled by EVEX; MOFFS: zero-extended */
};

enum insn_operand_kind {
	INSN_OP_NONE,
	INSN_OP_REG,
	INSN_OP_MEM, /* mem[reg] */
	INSN_OP_IMM, /* imm[reg]: extended to 64 bits as the instruction does */
	INSN_OP_REL, /* imm[0], signed, from the end of the instruction; see insn_target() */
	INSN_OP_FAR, /* imm[0] is the offset, imm[1] the selector */
};

enum insn_reg_class {
	INSN_GPR,
	INSN_GPR_HIGH, /* AH, CH, DH, BH are 0 to 3 here */
	INSN_SEG,
	INSN_CR,
	INSN_DR,
	INSN_ST, /* reg is i of ST(i) */
	INSN_MM,
	INSN_VEC,
	INSN_MASK,
};

/** Accesses, as bits. */
#define INSN_READ  1
#define INSN_WRITE 2
#define INSN_COND  4 /* the write may not happen */

/** Which field of the encoding names a GPR. */
enum insn_field {
	INSN_FIELD_NONE, /* none: the opcode implies it */
	INSN_FIELD_REG,	 /* ModRM.reg */
	INSN_FIELD_RM,	 /* ModRM.rm */
	INSN_FIELD_VVVV,
	INSN_FIELD_OPCODE, /* its low three bits */
};

struct insn_operand {
	uint8_t kind, klass, reg, access;
	uint16_t bytes;
	uint8_t field; /* enum insn_field, of a GPR */
};

#define INSN_NOPERANDS 4

struct insn {
	uint8_t len;
	uint8_t mode;	  /* enum insn_mode, without INSN_AMD */
	bool amd;	  /* INSN_AMD */
	uint8_t encoding; /* enum insn_encoding */
	uint8_t map;	  /* 0: one byte, 1: 0F, 2: 0F 38, 3: 0F 3A */
	uint8_t opcode;
	uint8_t prefixes;
	uint8_t rex;	   /* W, R, X, B as in the low bits of REX; VEX and EVEX give theirs too */
	uint8_t op_bytes;  /* operand size: 2, 4, 8; slots of PUSH and POP have it */
	uint8_t adr_bytes; /* address size: 2, 4, 8 */
	uint8_t modrm, sib;
	uint8_t bytes[INSN_MAX]; /* as they were; behind len, zero */

	/* Where in the bytes; what is not there has 0. */
	uint8_t rex_at; /* REX, or the first byte of VEX or EVEX */
	uint8_t opcode_at;
	uint8_t modrm_at, sib_at;
	uint8_t disp_at, disp_len;
	uint8_t imm_at[2], imm_len[2];

	/* VEX and EVEX */
	uint8_t vvvv;	   /* 0 to 31 */
	uint8_t vec_bytes; /* 16, 32, 64 */
	uint8_t evex_r2;   /* the fifth bit of ModRM.reg */
	uint8_t evex_aaa;
	bool evex_z, evex_b;

	uint8_t klass; /* enum insn_class */
	uint8_t feature;
	uint16_t mnemonic;
	uint16_t attributes;
	uint8_t noperands, nmem;
	struct insn_operand operand[INSN_NOPERANDS];
	struct insn_mem mem[2];
	uint64_t imm[2];

	/*
	 * GPRs as bits. Read: the value before matters, be it for an operand, an address, or for
	 * what a partial or conditional write leaves. Fixed: no field of the encoding names it.
	 */
	uint16_t gpr_read, gpr_write, gpr_fixed;

	/*
	 * Bits of RFLAGS. Written: all that may change; of these, undefined have no value that a
	 * program may use. With flags_maybe the instruction may also change none.
	 */
	uint32_t flags_read, flags_written, flags_undefined;
	bool flags_maybe;
};

/**
 * insn_decode() - one instruction.
 * @insn: set as a whole when the result is INSN_OK; otherwise only `len` is, to the bytes that
 *        were looked at.
 * @mode: enum insn_mode, or'ed with INSN_AMD.
 * @bytes, @len: nothing past them is read. More than INSN_MAX are never needed.
 * Context: any; no lock, no allocation.
 * Spec: Intel SDM vol. 2, ch. 2 "Instruction Format" and appendix A; AMD APM vol. 3, ch. 1
 */
must_use enum insn_result insn_decode(struct insn *insn, unsigned mode, const uint8_t *bytes,
				      unsigned len);

/** insn_target() - of a direct near branch at @rip, cut to the operand size. */
uint64_t insn_target(const struct insn *insn, uint64_t rip);

/**
 * insn_w_is_size() - does the W of its VEX or EVEX prefix say how long a GPR is, or what stands for
 * one in memory? Only 64-bit code obeys such a W. Spec: Intel SDM vol. 2, 2.3.5.5
 */
bool insn_w_is_size(const struct insn *insn);

/** insn_names_in_imm() - does the upper half of its immediate name a vector register? */
static inline bool insn_names_in_imm(const struct insn *insn)
{
	return insn->noperands == 4 && insn->operand[3].kind == INSN_OP_REG &&
	       insn->imm_len[0] == 1;
}

/** insn_mnemonic_name(), insn_feature_name() - as in the manual; "?" for none. */
const char *insn_mnemonic_name(unsigned mnemonic);
const char *insn_feature_name(unsigned feature);
