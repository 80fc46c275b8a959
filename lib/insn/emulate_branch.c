/*
 * Near transfers of control.
 *
 * Spec: Intel SDM vol. 2, "Jcc", "JMP", "CALL", "RET", "LOOP/LOOPcc", "BOUND"
 */
#include <string.h>

#include "lib/insn/exec.h"

/* Where a direct or indirect branch goes. */
static enum insn_outcome target(struct insn_exec *x, uint64_t *rip)
{
	if (x->insn->operand[0].kind == INSN_OP_REL) {
		*rip = insn_target(x->insn, x->cpu->rip);
		return INSN_DONE;
	}
	return insn_read(x, 0, rip);
}

enum insn_outcome insn_do_jump(struct insn_exec *x)
{
	uint64_t rip = 0;
	enum insn_outcome r = target(x, &rip);

	return r == INSN_DONE ? insn_jump(x, rip) : r;
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

enum insn_outcome insn_do_call(struct insn_exec *x)
{
	uint64_t rip = 0, back = x->next_rip;
	enum insn_outcome r = target(x, &rip);

	if (r != INSN_DONE || (r = insn_jump(x, rip)) != INSN_DONE) {
		return r;
	}
	return insn_push(x, back);
}

enum insn_outcome insn_do_ret(struct insn_exec *x)
{
	uint64_t rip = 0;
	enum insn_outcome r = insn_peek(x, 0, &rip, x->insn->op_bytes);

	if (r != INSN_DONE || (r = insn_jump(x, rip)) != INSN_DONE) {
		return r;
	}
	insn_move_rsp(x, (int64_t)(x->insn->op_bytes + x->insn->imm[0]));
	return INSN_DONE;
}

enum insn_outcome insn_do_bound(struct insn_exec *x)
{
	const struct insn_mem *m = &x->insn->mem[0];
	unsigned bytes = x->insn->op_bytes, shift = 64 - 8 * bytes;
	uint64_t index = 0, low = 0, high = 0;
	uint8_t block[8];
	enum insn_outcome r = insn_load(x, m->seg, insn_offset(x, m), block, 2 * bytes);

	if (r != INSN_DONE || (r = insn_read(x, 0, &index)) != INSN_DONE) {
		return r;
	}
	memcpy(&low, block, bytes);
	memcpy(&high, block + bytes, bytes);
	if ((int64_t)(index << shift) < (int64_t)(low << shift) ||
	    (int64_t)(index << shift) > (int64_t)(high << shift)) {
		return insn_raise(x->env, INSN_EXC_BR, 0);
	}
	return INSN_DONE;
}
