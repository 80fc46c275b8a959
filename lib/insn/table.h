/*
 * Between the decoder and its tables, which mktable.py makes of the *.tab files.
 */
#pragma once

#include "lib/insn/decode.h"

/* Of a row only. d64, f64: the operand size in 64-bit mode is 8 unless told, or ever. */
#define ROW_D64	  BIT(16)
#define ROW_F64	  BIT(17)
#define ROW_K	  BIT(18) /* EVEX.aaa may be other than 0 */
#define ROW_KZ	  BIT(19) /* so may z */
#define ROW_KREQ  BIT(20) /* aaa must be other than 0 */
#define ROW_B4	  BIT(21) /* broadcasts elements of 4 bytes */
#define ROW_B8	  BIT(22)
#define ROW_ER	  BIT(23) /* EVEX.b with registers: rounding */
#define ROW_SAE	  BIT(24)
#define ROW_ELEM  BIT(25) /* disp8 counts elements of the vector */
#define ROW_CRDR  BIT(26) /* MOV to and from control and debug registers: ModRM.mod is ignored */
#define ROW_XLAT  BIT(27)
#define ROW_AXMEM BIT(28) /* implied operands: memory at rAX, at rDI; rAX, rCX of address size */
#define ROW_DIMEM BIT(29)
#define ROW_AXREG BIT(30)
#define ROW_COUNT BIT(31)
#define ROW_JCX	  BIT(32)

/* How an operand is encoded: letters of the manual's appendix A. */
enum insn_how {
	HOW_NONE,
	HOW_E, /* ModRM.rm: GPR or memory */
	HOW_G, /* ModRM.reg: GPR */
	HOW_M, /* ModRM.rm: memory */
	HOW_R, /* ModRM.rm: GPR */
	HOW_O, /* moffs */
	HOW_I,
	HOW_A, /* far pointer */
	HOW_S, /* ModRM.reg: segment, control, debug register */
	HOW_C,
	HOW_D,
	HOW_Z, /* GPR in the opcode */
	HOW_X, /* DS:rSI, ES:rDI */
	HOW_Y,
	HOW_B, /* VEX.vvvv: GPR */
	HOW_V, /* ModRM.reg, VEX.vvvv, ModRM.rm, ModRM.rm without memory: vector */
	HOW_H,
	HOW_W,
	HOW_U,
	HOW_L, /* immediate, bits 4 to 7: vector */
	HOW_P, /* ModRM.reg, ModRM.rm, ModRM.rm without memory: MMX */
	HOW_Q,
	HOW_N,
	HOW_T, /* VSIB, the index as long as the vector, or half of it */
	HOW_T_HALF,
	HOW_J, /* relative branch */
	HOW_AL,
	HOW_AX,
	HOW_CL,
	HOW_DX,
	HOW_RAX,
	HOW_ZAX, /* like rAX, but never of 8 bytes */
	HOW_ONE,
	HOW_ES,
	HOW_CS,
	HOW_SS,
	HOW_DS,
	HOW_FS,
	HOW_GS,
	HOW_ST0,
	HOW_ST1,
	HOW_STI, /* ModRM.rm */
	HOW_XMM0,
	HOW_KG, /* ModRM.reg, VEX.vvvv, ModRM.rm: mask */
	HOW_KH,
	HOW_KR,
};

enum insn_size {
	SIZE_0,
	SIZE_B,
	SIZE_W,
	SIZE_D,
	SIZE_Q,
	SIZE_V, /* operand size */
	SIZE_Z, /* at most 4 */
	SIZE_Y, /* at least 4 */
	SIZE_N, /* 8 in 64-bit mode, else 4 */
	SIZE_DQ,
	SIZE_QQ,
	SIZE_X, /* vector length, its half, quarter, eighth */
	SIZE_H,
	SIZE_F,
	SIZE_E,
	SIZE_P, /* far pointer */
	SIZE_S, /* operand of LGDT */
	SIZE_T,
	SIZE_A,	  /* bounds */
	SIZE_U,	  /* memory: 2, register: operand size */
	SIZE_J,	  /* address size */
	SIZE_WD,  /* memory: 2, register: 4 */
	SIZE_BD,  /* memory: 1, register: 4 */
	SIZE_DUP, /* memory: 8 of a vector of 16 bytes, else the vector */
	SIZE_FX,
	SIZE_ZZ,
	SIZE_ENV, /* of FNSTENV, FNSAVE */
	SIZE_SAVE,
	SIZE_BS, /* a byte, sign-extended */
	SIZE_DX, /* VSIB: elements of 4, of 8 bytes */
	SIZE_QX,
};

#define ROW_SIZE(op)   ((op).size_access & 0x1f)
#define ROW_ACCESS(op) ((op).size_access >> 5)

struct insn_row {
	uint32_t match; /* bits of a situation in which this row applies */
	uint64_t attr;
	uint16_t mnemonic;
	uint8_t feature, klass;
	uint8_t flags, implied; /* indexes below */
	struct {
		uint8_t how, size_access;
	} operand[INSN_NOPERANDS];
};

/* A situation has one bit of each field; rows have all for which they hold. */
#define MATCH_PP   0 /* none, 66, F3, F2 */
#define MATCH_REG  4
#define MATCH_RM   12
#define MATCH_MOD  20 /* memory, register */
#define MATCH_W	   22
#define MATCH_L	   24
#define MATCH_MODE 27 /* 16 or 32, 64 */
#define MATCH_O	   29 /* operand size 2, 4, 8 */

struct insn_flags {
	uint32_t read, written, undefined;
};

struct insn_implied {
	uint16_t read, read_wide, write, write_wide; /* GPRs; wide: as the operand size */
};

/* Spaces of opcodes: legacy maps 0 to 3, VEX maps 1 to 3, EVEX maps 1 to 3. */
#define SPACE_VEX  3
#define SPACE_EVEX 6
#define NSPACES	   10

extern const struct insn_row insn_rows[];
extern const uint16_t insn_index[NSPACES * 256 + 1]; /* the first row of each opcode */
extern const uint8_t insn_modrm[NSPACES * 32];	     /* a bit for each opcode */
extern const struct insn_flags insn_flags[];
extern const struct insn_implied insn_implied[];
