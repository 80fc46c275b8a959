/*
 * Control and debug registers.
 *
 * Spec: Intel SDM vol. 2, the instructions' pages; vol. 3A, 2.8 "System Instruction Summary"
 */
#include "lib/insn/exec.h"

#define CR0_LOW UINT64_C(0xf) /* PE, MP, EM, TS */

#define DR6_BD BIT(13)

static enum insn_outcome move_cr(struct insn_exec *x, bool to, unsigned cr, unsigned gpr)
{
	unsigned bytes = insn_long_mode(x) ? 8 : 4;
	uint64_t value = 0;
	enum insn_outcome r;

	if (to) {
		return INSN_CALL(x, write_cr, cr, insn_get_gpr(x, gpr, bytes));
	}
	r = INSN_CALL(x, read_cr, cr, &value);
	if (r == INSN_DONE) {
		insn_set_gpr(x, gpr, bytes, value);
	}
	return r;
}

/* General detect: a debugger protects its registers. Spec: Intel SDM vol. 3B, 17.2.4 */
static enum insn_outcome guarded(struct insn_exec *x)
{
	uint64_t dr7 = 0;
	enum insn_outcome r = INSN_CALL(x, read_dr, 7, &dr7);

	if (r == INSN_DONE && (dr7 & DR7_GD) != 0) {
		r = insn_raise(x->env, INSN_EXC_DB, 0);
		x->env->fault.dr6 = DR6_BD;
	}
	return r;
}

static enum insn_outcome move_dr(struct insn_exec *x, bool to, unsigned dr, unsigned gpr)
{
	unsigned bytes = insn_long_mode(x) ? 8 : 4;
	uint64_t value = 0;
	enum insn_outcome r;

	if (dr == 4 || dr == 5) {
		if ((x->cpu->cr4 & CR4_DE) != 0) {
			return insn_raise(x->env, INSN_EXC_UD, 0);
		}
		dr += 2;
	}
	r = guarded(x);
	if (r != INSN_DONE) {
		return r;
	}
	if (to && dr >= 6 && insn_get_gpr(x, gpr, bytes) >> 32 != 0) {
		return insn_raise(x->env, INSN_EXC_GP, 0);
	}
	if (to) {
		return INSN_CALL(x, write_dr, dr, insn_get_gpr(x, gpr, bytes));
	}
	r = INSN_CALL(x, read_dr, dr, &value);
	if (r == INSN_DONE) {
		insn_set_gpr(x, gpr, bytes, value);
	}
	return r;
}

enum insn_outcome insn_do_mov_crdr(struct insn_exec *x)
{
	const struct insn_operand *o = x->insn->operand;
	bool to = o[0].klass == INSN_CR || o[0].klass == INSN_DR;
	unsigned reg = o[to ? 0 : 1].reg, gpr = o[to ? 1 : 0].reg;

	return o[to ? 0 : 1].klass == INSN_CR ? move_cr(x, to, reg, gpr) : move_dr(x, to, reg, gpr);
}

enum insn_outcome insn_do_msw(struct insn_exec *x)
{
	uint64_t cr0 = 0, value = 0;
	enum insn_outcome r = INSN_CALL(x, read_cr, 0, &cr0);

	if (r != INSN_DONE) {
		return r;
	}
	switch (x->insn->mnemonic) {
	case INSN_SMSW:
		return insn_write(x, 0, cr0);
	case INSN_LMSW:
		r = insn_read(x, 0, &value);
		if (r != INSN_DONE) {
			return r;
		}
		/* It sets PE, but cannot clear it. */
		value = (cr0 & ~CR0_LOW) | (value & CR0_LOW) | (cr0 & CR0_PE);
		break;
	default: /* CLTS */
		value = cr0 & ~CR0_TS;
		break;
	}
	return INSN_CALL(x, write_cr, 0, value);
}
