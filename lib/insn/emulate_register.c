/*
 * What has registers only, or no data at all: address computation, conversions, decimal
 * adjustments, flags as data, conditional branches.
 *
 * Spec: Intel SDM vol. 2, the instructions' pages
 */
#include "lib/insn/exec.h"

enum insn_outcome insn_do_lea(struct insn_exec *x)
{
	return insn_write(x, 0, insn_offset(x, &x->insn->mem[0]));
}

/* With 16 bits the result is undefined: zero, on all CPUs known. */
enum insn_outcome insn_do_bswap(struct insn_exec *x)
{
	unsigned bytes = x->insn->operand[0].bytes;
	uint64_t value = 0;
	enum insn_outcome r = insn_read(x, 0, &value);

	if (r != INSN_DONE) {
		return r;
	}
	return insn_write(x, 0, bytes == 2 ? 0 : __builtin_bswap64(value) >> (64 - 8 * bytes));
}

/* CBW, CWDE, CDQE widen rAX; CWD, CDQ, CQO fill rDX with its sign. */
enum insn_outcome insn_do_convert(struct insn_exec *x)
{
	unsigned bytes = x->insn->op_bytes;
	uint64_t rax = x->cpu->gpr[RAX];
	unsigned shift = 64 - 8 * bytes;

	if (x->insn->opcode == 0x98) {
		shift = 64 - 4 * bytes;
		insn_set_gpr(x, RAX, bytes, (uint64_t)((int64_t)(rax << shift) >> shift));
	} else {
		insn_set_gpr(x, RDX, bytes, (rax << shift & BIT(63)) != 0 ? UINT64_MAX : 0);
	}
	return INSN_DONE;
}

enum insn_outcome insn_do_flags(struct insn_exec *x)
{
	const uint64_t low = FLAGS_ARITH & ~FLAG_OF;
	uint64_t f = x->cpu->rflags;

	switch (x->insn->mnemonic) {
	case INSN_CLC:
		insn_set_flags(x, FLAG_CF, 0);
		break;
	case INSN_STC:
		insn_set_flags(x, FLAG_CF, FLAG_CF);
		break;
	case INSN_CMC:
		insn_set_flags(x, FLAG_CF, ~f);
		break;
	case INSN_CLD:
		insn_set_flags(x, FLAG_DF, 0);
		break;
	case INSN_STD:
		insn_set_flags(x, FLAG_DF, FLAG_DF);
		break;
	case INSN_CLAC:
		insn_set_flags(x, FLAG_AC, 0);
		break;
	case INSN_STAC:
		insn_set_flags(x, FLAG_AC, FLAG_AC);
		break;
	case INSN_LAHF:
		insn_set_gpr(x, RAX, 2, ((f & low) | FLAG_ONE) << 8 | (x->cpu->gpr[RAX] & 0xff));
		break;
	case INSN_SAHF:
		insn_set_flags(x, low, x->cpu->gpr[RAX] >> 8);
		break;
	default: /* SALC */
		insn_set_gpr(x, RAX, 1, (f & FLAG_CF) != 0 ? 0xff : 0);
		break;
	}
	return INSN_DONE;
}

/* Decimal adjustments. Spec: Intel SDM vol. 2, "AAA" to "AAS", "DAA", "DAS" */
static void adjust_packed(struct insn_exec *x, bool subtract)
{
	uint8_t al = (uint8_t)x->cpu->gpr[RAX], old = al;
	uint64_t f = x->cpu->rflags, flags = 0;
	uint8_t by = 0;

	if ((al & 0xf) > 9 || (f & FLAG_AF) != 0) {
		by = 6;
		flags |= FLAG_AF;
		/* The low half may carry out by itself. */
		flags |= subtract && old < 6 ? FLAG_CF : 0;
		flags |= !subtract && old > 0xff - 6 ? FLAG_CF : 0;
		flags |= f & FLAG_CF;
	}
	if (old > 0x99 || (f & FLAG_CF) != 0) {
		by += 0x60;
		flags |= FLAG_CF;
	}
	al = (uint8_t)(subtract ? old - by : old + by);
	insn_set_gpr(x, RAX, 1, al);
	insn_set_flags(x, FLAGS_ARITH & ~FLAG_OF, flags | insn_result_flags(al, 1));
}

static void adjust_unpacked(struct insn_exec *x, bool subtract)
{
	uint16_t ax = (uint16_t)x->cpu->gpr[RAX];
	bool adjust = (ax & 0xf) > 9 || (x->cpu->rflags & FLAG_AF) != 0;

	if (adjust) {
		ax = (uint16_t)(subtract ? ax - 0x106 : ax + 0x106);
	}
	ax &= 0xff0f;
	insn_set_gpr(x, RAX, 2, ax);
	insn_set_flags(x, FLAGS_ARITH & ~FLAG_OF,
		       (adjust ? FLAG_AF | FLAG_CF : 0) | insn_result_flags(ax & 0xff, 1));
}

enum insn_outcome insn_do_bcd(struct insn_exec *x)
{
	uint8_t al = (uint8_t)x->cpu->gpr[RAX], ah = (uint8_t)(x->cpu->gpr[RAX] >> 8);
	uint8_t base = (uint8_t)x->insn->imm[0];

	switch (x->insn->mnemonic) {
	case INSN_DAA:
	case INSN_DAS:
		adjust_packed(x, x->insn->mnemonic == INSN_DAS);
		return INSN_DONE;
	case INSN_AAA:
	case INSN_AAS:
		adjust_unpacked(x, x->insn->mnemonic == INSN_AAS);
		return INSN_DONE;
	case INSN_AAM:
		if (base == 0) {
			return insn_raise(x->env, INSN_EXC_DE, 0);
		}
		ah = al / base;
		al = al % base;
		break;
	default: /* AAD */
		al = (uint8_t)(al + ah * base);
		ah = 0;
		break;
	}
	insn_set_gpr(x, RAX, 2, (uint64_t)ah << 8 | al);
	insn_set_flags(x, FLAGS_ARITH, insn_result_flags(al, 1));
	return INSN_DONE;
}

enum insn_outcome insn_do_jcc(struct insn_exec *x)
{
	return insn_condition(x, x->insn->opcode) ? insn_do_jump(x) : INSN_DONE;
}

/* LOOP, LOOPE, LOOPNE, JrCXZ: the counter is as wide as addresses. */
enum insn_outcome insn_do_loop(struct insn_exec *x)
{
	unsigned bytes = x->insn->adr_bytes;
	uint64_t count = insn_get_gpr(x, RCX, bytes);
	bool zero = (x->cpu->rflags & FLAG_ZF) != 0, taken;
	enum insn_outcome r = INSN_DONE;

	if (x->insn->mnemonic == INSN_JCXZ) {
		return count == 0 ? insn_do_jump(x) : INSN_DONE;
	}
	count--;
	taken = (count & insn_mask(bytes)) != 0 &&
		(x->insn->mnemonic == INSN_LOOP || zero == (x->insn->mnemonic == INSN_LOOPE));
	if (taken) {
		r = insn_do_jump(x);
	}
	if (r == INSN_DONE) {
		insn_set_gpr(x, RCX, bytes, count);
	}
	return r;
}
