/*
 * Two-operand arithmetic and logic, their one-operand relatives, and the exchanges that compute.
 *
 * Spec: Intel SDM vol. 2, the instructions' pages; vol. 1, 3.4.3.1 "Status Flags"
 */
#include <string.h>

#include "lib/insn/exec.h"

/* Flags of r = a + b (with a carry). The carries out of each bit are (a & b) | ((a | b) & ~r). */
static uint64_t add_flags(uint64_t a, uint64_t b, uint64_t r, unsigned bytes)
{
	unsigned top = 8 * bytes - 1;
	uint64_t carry = (a & b) | ((a | b) & ~r);

	return insn_result_flags(r, bytes) | (carry >> top & 1 ? FLAG_CF : 0) |
	       ((a ^ b ^ r) & FLAG_AF) | (((a ^ r) & (b ^ r)) >> top & 1 ? FLAG_OF : 0);
}

/* Flags of r = a - b (with a borrow). */
static uint64_t sub_flags(uint64_t a, uint64_t b, uint64_t r, unsigned bytes)
{
	unsigned top = 8 * bytes - 1;
	uint64_t borrow = (~a & b) | ((~a | b) & r);

	return insn_result_flags(r, bytes) | (borrow >> top & 1 ? FLAG_CF : 0) |
	       ((a ^ b ^ r) & FLAG_AF) | (((a ^ b) & (a ^ r)) >> top & 1 ? FLAG_OF : 0);
}

static uint64_t compute(const struct insn_exec *x, uint64_t a, uint64_t b, uint64_t *flags)
{
	unsigned bytes = x->insn->operand[0].bytes;
	uint64_t carry = x->cpu->rflags & FLAG_CF, r;

	switch (x->insn->mnemonic) {
	case INSN_ADD:
		r = a + b;
		*flags = add_flags(a, b, r, bytes);
		return r;
	case INSN_ADC:
		r = a + b + carry;
		*flags = add_flags(a, b, r, bytes);
		return r;
	case INSN_SUB:
	case INSN_CMP:
		r = a - b;
		*flags = sub_flags(a, b, r, bytes);
		return r;
	case INSN_SBB:
		r = a - b - carry;
		*flags = sub_flags(a, b, r, bytes);
		return r;
	case INSN_OR:
		r = a | b;
		break;
	case INSN_XOR:
		r = a ^ b;
		break;
	default: /* AND, TEST */
		r = a & b;
		break;
	}
	*flags = insn_result_flags(r, bytes);
	return r;
}

enum insn_outcome insn_do_alu(struct insn_exec *x)
{
	bool writes = (x->insn->operand[0].access & INSN_WRITE) != 0;
	uint64_t a = 0, b = 0, flags, result;
	enum insn_outcome r = writes ? insn_read_rmw(x, 0, &a) : insn_read(x, 0, &a);

	if (r != INSN_DONE || (r = insn_read(x, 1, &b)) != INSN_DONE) {
		return r;
	}
	result = compute(x, a, b, &flags);
	if (writes && (r = insn_write_rmw(x, 0, result)) != INSN_DONE) {
		return r;
	}
	insn_set_flags(x, FLAGS_ARITH, flags);
	return INSN_DONE;
}

enum insn_outcome insn_do_unary(struct insn_exec *x)
{
	unsigned bytes = x->insn->operand[0].bytes;
	uint64_t a = 0, result, flags, which = FLAGS_ARITH;
	enum insn_outcome r = insn_read_rmw(x, 0, &a);

	if (r != INSN_DONE) {
		return r;
	}
	switch (x->insn->mnemonic) {
	case INSN_INC:
		result = a + 1;
		flags = add_flags(a, 1, result, bytes);
		which &= ~FLAG_CF;
		break;
	case INSN_DEC:
		result = a - 1;
		flags = sub_flags(a, 1, result, bytes);
		which &= ~FLAG_CF;
		break;
	case INSN_NEG:
		result = 0 - a;
		flags = sub_flags(0, a, result, bytes);
		break;
	default: /* NOT */
		result = ~a;
		flags = 0;
		which = 0;
		break;
	}
	r = insn_write_rmw(x, 0, result);
	if (r == INSN_DONE) {
		insn_set_flags(x, which, flags);
	}
	return r;
}

enum insn_outcome insn_do_xadd(struct insn_exec *x)
{
	const struct insn_operand *source = &x->insn->operand[1];
	unsigned bytes = x->insn->operand[0].bytes;
	uint64_t a = 0, b = 0;
	enum insn_outcome r = insn_read_rmw(x, 0, &a);

	if (r != INSN_DONE || (r = insn_read(x, 1, &b)) != INSN_DONE) {
		return r;
	}
	/* The source gets its value first: both may be the same register, which then has the sum.
	 */
	if (x->insn->operand[0].kind == INSN_OP_MEM) {
		r = insn_write_rmw(x, 0, a + b);
		if (r == INSN_DONE) {
			r = insn_write(x, 1, a);
		}
	} else {
		r = source->kind == INSN_OP_REG ? insn_write(x, 1, a) : INSN_UNSUPPORTED;
		if (r == INSN_DONE) {
			r = insn_write(x, 0, a + b);
		}
	}
	if (r == INSN_DONE) {
		insn_set_flags(x, FLAGS_ARITH, add_flags(a, b, a + b, bytes));
	}
	return r;
}

enum insn_outcome insn_do_cmpxchg(struct insn_exec *x)
{
	unsigned bytes = x->insn->operand[0].bytes;
	uint64_t rax = insn_get_gpr(x, RAX, bytes), a = 0, b = 0;
	enum insn_outcome r = insn_read_rmw(x, 0, &a);

	if (r != INSN_DONE || (r = insn_read(x, 1, &b)) != INSN_DONE) {
		return r;
	}
	/* Memory is written to in any case; a register only if it changes. */
	if (a == rax || x->insn->operand[0].kind == INSN_OP_MEM) {
		r = insn_write_rmw(x, 0, a == rax ? b : a);
		if (r != INSN_DONE) {
			return r;
		}
	}
	if (a != rax) {
		insn_set_gpr(x, RAX, bytes, a);
	}
	insn_set_flags(x, FLAGS_ARITH, sub_flags(rax, a, rax - a, bytes));
	return INSN_DONE;
}

/* CMPXCHG8B and CMPXCHG16B: [E|R]DX:[E|R]AX with memory. */
enum insn_outcome insn_do_cmpxchg_wide(struct insn_exec *x)
{
	const struct insn_mem *m = &x->insn->mem[0];
	unsigned half = m->bytes / 2;
	uint8_t old[16], want[16], new[16];
	bool same;
	uint64_t linear = 0;
	enum insn_outcome r = insn_translate(x, m->seg, insn_offset(x, m), m->bytes, true, &linear);

	if (r != INSN_DONE) {
		return r;
	}
	if (m->bytes == 16 && linear % 16 != 0) {
		return insn_raise(x->env, INSN_EXC_GP, 0);
	}
	r = x->ops->read(x->env, linear, old, m->bytes, INSN_ACCESS_WRITE);
	if (r != INSN_DONE) {
		return r;
	}
	memcpy(want, &x->cpu->gpr[RAX], half);
	memcpy(want + half, &x->cpu->gpr[RDX], half);
	memcpy(new, &x->cpu->gpr[RBX], half);
	memcpy(new + half, &x->cpu->gpr[RCX], half);
	same = memcmp(old, want, m->bytes) == 0;
	if (!insn_locked(x)) {
		r = x->ops->write(x->env, linear, same ? new : old, m->bytes, INSN_ACCESS_WRITE);
	} else if (x->ops->cmpxchg != NULL) {
		r = x->ops->cmpxchg(x->env, linear, old, same ? new : old, m->bytes);
	} else {
		r = INSN_UNSUPPORTED;
	}
	if (r != INSN_DONE) {
		return r;
	}
	if (!same) {
		x->cpu->gpr[RAX] = 0;
		x->cpu->gpr[RDX] = 0;
		memcpy(&x->cpu->gpr[RAX], old, half);
		memcpy(&x->cpu->gpr[RDX], old + half, half);
	}
	insn_set_flags(x, FLAG_ZF, same ? FLAG_ZF : 0);
	return INSN_DONE;
}
