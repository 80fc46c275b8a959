/*
 * Instructions about selectors and descriptors.
 *
 * Spec: Intel SDM vol. 2, the instructions' pages; vol. 3A, 5.10 "Pointer Validation"
 */
#include <string.h>

#include "lib/insn/descriptor.h"

/* LES, LDS, LSS, LFS, LGS: an offset, and behind it the selector. */
enum insn_outcome insn_do_load_pointer(struct insn_exec *x)
{
	const struct insn_mem *m = &x->insn->mem[0];
	unsigned bytes = x->insn->op_bytes, seg = x->insn->operand[2].reg;
	uint8_t block[10];
	uint64_t offset = 0;
	uint16_t selector;
	enum insn_outcome r = insn_load(x, m->seg, insn_offset(x, m), block, bytes + 2);

	if (r != INSN_DONE) {
		return r;
	}
	memcpy(&offset, block, bytes);
	memcpy(&selector, block + bytes, 2);
	r = insn_load_segment(x->env, seg, selector);
	if (r == INSN_DONE) {
		insn_set_gpr(x, x->insn->operand[0].reg, bytes, offset);
	}
	return r;
}

/* SLDT, STR */
enum insn_outcome insn_do_selector(struct insn_exec *x)
{
	bool ldt = x->insn->mnemonic == INSN_SLDT;

	return insn_write(x, 0, ldt ? x->cpu->ldtr.selector : x->cpu->tr.selector);
}

/* A system descriptor in the GDT, of 16 bytes in long mode. */
static enum insn_outcome system_descriptor(struct insn_exec *x, uint16_t selector,
					   struct insn_descriptor *d)
{
	uint32_t error = selector & ~3U;
	enum insn_outcome r;

	if ((selector & 4) != 0) {
		return insn_raise(x->env, INSN_EXC_GP, error);
	}
	r = insn_fetch_descriptor(x->env, selector, INSN_EXC_GP, 0, d);
	return r == INSN_DONE ? insn_fetch_upper(x->env, INSN_EXC_GP, 0, d) : r;
}

static enum insn_outcome check_system(struct insn_exec *x, const struct insn_descriptor *d,
				      bool right_type)
{
	uint32_t error = d->selector & ~3U;

	if ((d->attr & INSN_SEG_S) != 0 || !right_type || (d->upper >> 40 & 0x1f) != 0) {
		return insn_raise(x->env, INSN_EXC_GP, error);
	}
	if ((d->attr & INSN_SEG_P) == 0) {
		return insn_raise(x->env, INSN_EXC_NP, error);
	}
	if (insn_lma(x->cpu) && !insn_canonical(x->cpu, d->base)) {
		return insn_raise(x->env, INSN_EXC_GP, error);
	}
	return INSN_DONE;
}

enum insn_outcome insn_do_lldt(struct insn_exec *x)
{
	struct insn_descriptor d = {0};
	uint64_t selector = 0;
	enum insn_outcome r = insn_read(x, 0, &selector);

	if (r != INSN_DONE) {
		return r;
	}
	if (insn_null((uint16_t)selector)) {
		x->cpu->ldtr = (struct insn_segment){.selector = (uint16_t)selector};
		return INSN_DONE;
	}
	r = system_descriptor(x, (uint16_t)selector, &d);
	if (r == INSN_DONE) {
		r = check_system(x, &d, insn_type(d.attr) == SYS_LDT);
	}
	if (r == INSN_DONE) {
		x->cpu->ldtr = insn_segment_of(&d, (uint16_t)selector);
	}
	return r;
}

enum insn_outcome insn_do_ltr(struct insn_exec *x)
{
	struct insn_descriptor d = {0};
	uint64_t selector = 0;
	unsigned type;
	uint8_t byte;
	enum insn_outcome r = insn_read(x, 0, &selector);

	if (r != INSN_DONE) {
		return r;
	}
	if (insn_null((uint16_t)selector)) {
		return insn_raise(x->env, INSN_EXC_GP, 0);
	}
	r = system_descriptor(x, (uint16_t)selector, &d);
	if (r != INSN_DONE) {
		return r;
	}
	type = insn_type(d.attr);
	r = check_system(x, &d, type == SYS_TSS || (type == SYS_TSS16 && !insn_lma(x->cpu)));
	if (r != INSN_DONE) {
		return r;
	}
	d.attr |= SYS_BUSY;
	byte = (uint8_t)d.attr;
	r = insn_write_system(x->env, d.linear + 5, &byte, 1);
	if (r == INSN_DONE) {
		x->cpu->tr = insn_segment_of(&d, (uint16_t)selector);
	}
	return r;
}

/* Which system descriptors LAR (@gates: also those without a limit) and LSL know. */
static bool known_system(const struct insn_cpu *cpu, unsigned type, bool gates)
{
	const uint32_t legacy = BIT(SYS_TSS16) | BIT(SYS_LDT) | BIT(SYS_TSS16 | SYS_BUSY) |
				BIT(SYS_TSS) | BIT(SYS_TSS | SYS_BUSY);
	const uint32_t wide = BIT(SYS_LDT) | BIT(SYS_TSS) | BIT(SYS_TSS | SYS_BUSY);
	uint32_t set = insn_lma(cpu) ? wide : legacy;

	if (gates) {
		set |= BIT(SYS_CALL_GATE);
		set |= insn_lma(cpu) ? 0 : BIT(SYS_CALL_GATE16) | BIT(SYS_TASK_GATE);
	}
	return (set >> type & 1) != 0;
}

/*
 * Reads the descriptor that an instruction asks about, as far as it may. Errors of the selector
 * are not exceptions, but clear *@visible.
 */
static enum insn_outcome look(struct insn_exec *x, uint16_t selector, struct insn_descriptor *d,
			      bool *visible)
{
	const struct insn_cpu *cpu = x->cpu;
	unsigned dpl;
	enum insn_outcome r;

	*visible = false;
	if (insn_null(selector)) {
		return INSN_DONE;
	}
	r = insn_fetch_descriptor(x->env, selector, INSN_EXC_GP, 0, d);
	if (r != INSN_DONE) {
		bool beyond = r == INSN_FAULT && x->env->fault.vector == INSN_EXC_GP;

		return beyond ? INSN_DONE : r;
	}
	dpl = INSN_SEG_DPL(d->attr);
	*visible = insn_is_conforming(d->attr) || (dpl >= cpu->cpl && dpl >= (selector & 3U));
	return INSN_DONE;
}

/* LAR, LSL */
enum insn_outcome insn_do_look(struct insn_exec *x)
{
	bool lar = x->insn->mnemonic == INSN_LAR, visible = false;
	struct insn_descriptor d = {0};
	uint64_t selector = 0, value;
	enum insn_outcome r = insn_read(x, 1, &selector);

	if (r == INSN_DONE) {
		r = look(x, (uint16_t)selector, &d, &visible);
	}
	if (r != INSN_DONE) {
		return r;
	}
	if (visible && (d.attr & INSN_SEG_S) == 0) {
		visible = known_system(x->cpu, insn_type(d.attr), lar);
	}
	insn_set_flags(x, FLAG_ZF, visible ? FLAG_ZF : 0);
	if (!visible) {
		return INSN_DONE;
	}
	/* With the limit's bits 19:16: AMD's manual has them, and Intel's CPUs show them too. */
	value = lar ? d.raw >> 32 & 0xffff00 : d.limit;
	return insn_write(x, 0, value);
}

/* VERR, VERW */
enum insn_outcome insn_do_verify(struct insn_exec *x)
{
	bool visible = false;
	struct insn_descriptor d = {0};
	uint64_t selector = 0;
	enum insn_outcome r = insn_read(x, 0, &selector);

	if (r == INSN_DONE) {
		r = look(x, (uint16_t)selector, &d, &visible);
	}
	if (r != INSN_DONE) {
		return r;
	}
	if (visible && x->insn->mnemonic == INSN_VERW) {
		visible = insn_is_writable(d.attr);
	} else if (visible) {
		visible = (d.attr & INSN_SEG_S) != 0 &&
			  (!insn_is_code(d.attr) || (d.attr & SEG_READ_WRITE) != 0);
	}
	insn_set_flags(x, FLAG_ZF, visible ? FLAG_ZF : 0);
	return INSN_DONE;
}

/* What is not adjusted is not written, and may be read-only: so it is on the host's CPU. */
enum insn_outcome insn_do_arpl(struct insn_exec *x)
{
	uint64_t to = 0, from = 0;
	bool adjust;
	enum insn_outcome r = insn_read(x, 0, &to);

	if (r != INSN_DONE || (r = insn_read(x, 1, &from)) != INSN_DONE) {
		return r;
	}
	adjust = (to & 3) < (from & 3);
	if (adjust) {
		r = insn_write(x, 0, (to & ~UINT64_C(3)) | (from & 3));
	}
	if (r == INSN_DONE) {
		insn_set_flags(x, FLAG_ZF, adjust ? FLAG_ZF : 0);
	}
	return r;
}
