/*
 * Moves between vector registers and memory or general registers: what drivers do to device memory.
 *
 * Spec: Intel SDM vol. 2, the instructions' pages; vol. 3A, 13.1 "Providing Operating System
 * Support for SSE"
 */
#include <string.h>

#include "lib/insn/exec.h"

/* Legacy SSE only: VEX is not emulated. */
static enum insn_outcome usable(struct insn_exec *x)
{
	if (x->insn->klass != INSN_CLASS_SSE || x->ops->read_xmm == NULL ||
	    x->ops->write_xmm == NULL) {
		return INSN_UNSUPPORTED;
	}
	if ((x->cpu->cr0 & CR0_EM) != 0 || (x->cpu->cr4 & CR4_OSFXSR) == 0) {
		return insn_raise(x->env, INSN_EXC_UD, 0);
	}
	if ((x->cpu->cr0 & CR0_TS) != 0) {
		return insn_raise(x->env, INSN_EXC_NM, 0);
	}
	return INSN_DONE;
}

static bool unaligned_allowed(unsigned mnemonic)
{
	return mnemonic == INSN_MOVUPS || mnemonic == INSN_MOVUPD || mnemonic == INSN_MOVDQU ||
	       mnemonic == INSN_LDDQU;
}

/* Reads or writes the low @bytes of operand @i, memory or vector register. */
static enum insn_outcome get(struct insn_exec *x, unsigned i, uint8_t *data, unsigned bytes)
{
	const struct insn_operand *o = &x->insn->operand[i];
	const struct insn_mem *m = &x->insn->mem[0];

	if (o->kind == INSN_OP_MEM) {
		return insn_load(x, m->seg, insn_offset(x, m), data, bytes);
	}
	return x->ops->read_xmm(x->env, o->reg, data);
}

enum insn_outcome insn_do_xmm_move(struct insn_exec *x)
{
	const struct insn_operand *to = &x->insn->operand[0];
	const struct insn_mem *m = &x->insn->mem[0];
	uint8_t data[16];
	uint64_t linear = 0;
	enum insn_outcome r = usable(x);

	if (r != INSN_DONE) {
		return r;
	}
	if (x->insn->nmem > 0 && !unaligned_allowed(x->insn->mnemonic)) {
		r = insn_translate(x, m->seg, insn_offset(x, m), 16, to->kind == INSN_OP_MEM,
				   &linear);
		if (linear % 16 != 0) { /* comes before an address that is not canonical */
			return insn_raise(x->env, INSN_EXC_GP, 0);
		}
		if (r != INSN_DONE) {
			return r;
		}
	}
	r = get(x, 1, data, 16);
	if (r != INSN_DONE) {
		return r;
	}
	if (to->kind == INSN_OP_MEM) {
		return insn_store(x, m->seg, insn_offset(x, m), data, 16);
	}
	return x->ops->write_xmm(x->env, to->reg, data, false);
}

/* How much moves, and where it lies in the vector register. */
static void part(const struct insn *insn, unsigned *bytes, unsigned *at)
{
	*at = 0;
	switch (insn->mnemonic) {
	case INSN_MOVSS:
		*bytes = 4;
		break;
	case INSN_MOVD:
		*bytes = insn->op_bytes == 8 ? 8 : 4;
		break;
	case INSN_MOVHPS:
	case INSN_MOVHPD:
		*at = 8;
		*bytes = 8;
		break;
	default:
		*bytes = 8;
		break;
	}
}

/* Does a load leave the rest of the register, or clear it? */
static bool load_merges(const struct insn *insn)
{
	switch (insn->mnemonic) {
	case INSN_MOVSS:
	case INSN_MOVSD:
		return insn->nmem == 0;
	case INSN_MOVD:
	case INSN_MOVQ:
		return false;
	default:
		return true;
	}
}

static enum insn_outcome store_part(struct insn_exec *x, const uint8_t *data, unsigned bytes)
{
	const struct insn_mem *m = &x->insn->mem[0];
	uint64_t value = 0;

	if (x->insn->operand[0].kind == INSN_OP_MEM) {
		return insn_store(x, m->seg, insn_offset(x, m), data, bytes);
	}
	memcpy(&value, data, bytes);
	return insn_write(x, 0, value);
}

enum insn_outcome insn_do_xmm_scalar(struct insn_exec *x)
{
	const struct insn_operand *to = &x->insn->operand[0], *from = &x->insn->operand[1];
	bool to_vector = to->kind == INSN_OP_REG && to->klass == INSN_VEC;
	uint8_t old[16] = {0}, data[16] = {0};
	unsigned bytes, at;
	enum insn_outcome r;

	if (x->insn->klass == INSN_CLASS_MMX) {
		return insn_do_mmx_move(x);
	}
	r = usable(x);
	if (r != INSN_DONE) {
		return r;
	}
	part(x->insn, &bytes, &at);
	if (from->kind == INSN_OP_REG && from->klass == INSN_GPR) {
		memcpy(data, &x->cpu->gpr[from->reg], bytes);
	} else {
		r = get(x, 1, data, bytes);
	}
	if (r != INSN_DONE) {
		return r;
	}
	if (!to_vector) {
		return store_part(x, data + at, bytes);
	}
	if (load_merges(x->insn)) {
		r = x->ops->read_xmm(x->env, to->reg, old);
		if (r != INSN_DONE) {
			return r;
		}
	}
	memcpy(old + at, data, bytes);
	return x->ops->write_xmm(x->env, to->reg, old, false);
}
