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
