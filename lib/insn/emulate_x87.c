/*
 * What is emulated of x87 and MMX where there is no ops->native: the two words of state that
 * programs store, and moves of whole MMX registers, all that makes sense with device memory.
 *
 * Spec: Intel SDM vol. 2, the instructions' pages; vol. 3A, 12.2, 12.5 "The MMX State"
 */
#include <string.h>

#include "lib/insn/exec.h"

#define CR0_EM BIT(2)
#define CR0_TS BIT(3)

#define FSW_ES 0x80 /* an exception waits, unmasked */

/* FNSTCW, FNSTSW. */
enum insn_outcome insn_do_x87_word(struct insn_exec *x)
{
	unsigned what = x->insn->mnemonic == INSN_FNSTCW ? INSN_X87_CONTROL : INSN_X87_STATUS;
	uint64_t value = 0;
	enum insn_outcome r;

	if (x->ops->read_x87 == NULL) {
		return INSN_UNSUPPORTED;
	}
	if ((x->cpu->cr0 & (CR0_EM | CR0_TS)) != 0) {
		return insn_raise(x->env, INSN_EXC_NM, 0);
	}
	r = x->ops->read_x87(x->env, what, &value);
	return r == INSN_DONE ? insn_write(x, 0, value) : r;
}

static enum insn_outcome mmx_usable(struct insn_exec *x)
{
	uint64_t status = 0;
	enum insn_outcome r;

	if (x->ops->read_x87 == NULL || x->ops->write_mm == NULL) {
		return INSN_UNSUPPORTED;
	}
	if ((x->cpu->cr0 & CR0_EM) != 0) {
		return insn_raise(x->env, INSN_EXC_UD, 0);
	}
	if ((x->cpu->cr0 & CR0_TS) != 0) {
		return insn_raise(x->env, INSN_EXC_NM, 0);
	}
	r = x->ops->read_x87(x->env, INSN_X87_STATUS, &status);
	if (r == INSN_DONE && (status & FSW_ES) != 0) {
		return insn_raise(x->env, INSN_EXC_MF, 0);
	}
	return r;
}

enum insn_outcome insn_do_mmx_move(struct insn_exec *x)
{
	const struct insn_operand *to = &x->insn->operand[0], *from = &x->insn->operand[1];
	const struct insn_mem *m = &x->insn->mem[0];
	uint64_t value = 0;
	enum insn_outcome r = mmx_usable(x);

	if (r != INSN_DONE) {
		return r;
	}
	if (from->kind == INSN_OP_MEM) {
		r = insn_load(x, m->seg, insn_offset(x, m), &value, sizeof(value));
	} else {
		r = x->ops->read_x87(x->env, INSN_X87_MM + from->reg, &value);
	}
	if (r != INSN_DONE) {
		return r;
	}
	if (to->kind == INSN_OP_MEM) {
		return insn_store(x, m->seg, insn_offset(x, m), &value, sizeof(value));
	}
	return x->ops->write_mm(x->env, to->reg, value);
}
