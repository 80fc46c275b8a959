/*
 * Data movement, conversions, the flags as data, and the stack.
 *
 * Spec: Intel SDM vol. 2, the instructions' pages
 */
#include <string.h>

#include "lib/insn/descriptor.h"

static enum insn_outcome set_segment(struct insn_exec *x, unsigned seg, uint64_t selector)
{
	enum insn_outcome r = insn_load_segment(x->env, seg, (uint16_t)selector);

	x->shadow = r == INSN_DONE && seg == INSN_SS;
	x->trap_shadow = x->shadow;
	return r;
}

enum insn_outcome insn_do_mov(struct insn_exec *x)
{
	const struct insn_operand *to = &x->insn->operand[0];
	uint64_t value = 0;
	enum insn_outcome r = insn_read(x, 1, &value);

	if (r != INSN_DONE) {
		return r;
	}
	if (to->kind == INSN_OP_REG && to->klass == INSN_SEG) {
		return set_segment(x, to->reg, value);
	}
	return insn_write(x, 0, value);
}

/* MOVZX, MOVSX, MOVSXD */
enum insn_outcome insn_do_extend(struct insn_exec *x)
{
	unsigned bits = 8U * x->insn->operand[1].bytes;
	uint64_t value = 0;
	enum insn_outcome r = insn_read(x, 1, &value);

	if (r != INSN_DONE) {
		return r;
	}
	if (x->insn->mnemonic != INSN_MOVZX) {
		value = (uint64_t)((int64_t)(value << (64 - bits)) >> (64 - bits));
	}
	return insn_write(x, 0, value);
}

static uint64_t swap_bytes(uint64_t value, unsigned bytes)
{
	return __builtin_bswap64(value) >> (64 - 8 * bytes);
}

enum insn_outcome insn_do_movbe(struct insn_exec *x)
{
	uint64_t value = 0;
	enum insn_outcome r = insn_read(x, 1, &value);

	return r == INSN_DONE ? insn_write(x, 0, swap_bytes(value, x->insn->operand[0].bytes)) : r;
}

enum insn_outcome insn_do_xchg(struct insn_exec *x)
{
	uint64_t a = 0, b = 0;
	enum insn_outcome r = insn_read_rmw(x, 0, &a);

	if (r != INSN_DONE || (r = insn_read(x, 1, &b)) != INSN_DONE ||
	    (r = insn_write_rmw(x, 0, b)) != INSN_DONE) {
		return r;
	}
	return insn_write(x, 1, a);
}

/* Memory is read, and the upper half cleared, whether it moves or not. */
enum insn_outcome insn_do_cmov(struct insn_exec *x)
{
	uint64_t a = 0, b = 0;
	enum insn_outcome r = insn_read(x, 1, &b);

	if (r != INSN_DONE || (r = insn_read(x, 0, &a)) != INSN_DONE) {
		return r;
	}
	return insn_write(x, 0, insn_condition(x, x->insn->opcode) ? b : a);
}

enum insn_outcome insn_do_setcc(struct insn_exec *x)
{
	return insn_write(x, 0, insn_condition(x, x->insn->opcode) ? 1 : 0);
}

enum insn_outcome insn_do_xlat(struct insn_exec *x)
{
	uint64_t value = 0;
	enum insn_outcome r = insn_read(x, 0, &value);

	if (r == INSN_DONE) {
		insn_set_gpr(x, RAX, 1, value);
	}
	return r;
}

enum insn_outcome insn_do_nop(struct insn_exec *x)
{
	(void)x;
	return INSN_DONE;
}

enum insn_outcome insn_do_push(struct insn_exec *x)
{
	uint64_t value = 0;
	enum insn_outcome r = insn_read(x, 0, &value);

	return r == INSN_DONE ? insn_push(x, value) : r;
}

enum insn_outcome insn_do_pop(struct insn_exec *x)
{
	const struct insn_operand *to = &x->insn->operand[0];
	uint64_t value = 0, rsp = x->cpu->gpr[RSP];
	enum insn_outcome r = insn_peek(x, 0, &value, x->insn->op_bytes);

	if (r != INSN_DONE) {
		return r;
	}
	/* An address with RSP in it has its new value, and so has POP RSP its own. */
	insn_move_rsp(x, x->insn->op_bytes);
	if (to->kind == INSN_OP_REG && to->klass == INSN_SEG) {
		r = set_segment(x, to->reg, value);
	} else {
		r = insn_write(x, 0, value);
	}
	if (r != INSN_DONE) {
		x->cpu->gpr[RSP] = rsp;
	}
	return r;
}

#define LEVELS_MAX 31
