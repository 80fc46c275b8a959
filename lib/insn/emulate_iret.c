/*
 * IRET, in all modes.
 *
 * Spec: Intel SDM vol. 2, "IRET/IRETD/IRETQ"; vol. 3A, 21.2.2 "Leaving Virtual-8086 Mode", 21.3.3
 */
#include "lib/insn/task.h"

/* The flags that IRET pops, with the rights of the CPL before. */
static void pop_flags(struct insn_exec *x, uint64_t value, unsigned cpl)
{
	uint64_t which = FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT;
	bool v86 = insn_v86(x->cpu);

	which |= cpl <= insn_iopl(x->cpu) ? FLAG_IF : 0;
	which |= cpl == 0 ? FLAG_IOPL : 0;
	if (x->insn->op_bytes > 2) {
		which |= FLAG_RF | FLAG_AC | FLAG_ID;
		which |= cpl == 0 && !v86 && !insn_real_mode(x->cpu) ? FLAG_VIF | FLAG_VIP : 0;
	}
	x->cpu->rflags &= ~FLAG_RF;
	insn_set_flags(x, which, value);
	x->keep_rf = true;
}

/* Real and virtual-8086 mode: slots are IP, CS, FLAGS. */
static enum insn_outcome near_top(struct insn_exec *x, const uint64_t slots[3])
{
	struct insn_cpu *cpu = x->cpu;
	uint64_t rip = slots[0], flags = slots[2];
	bool virtual = insn_v86(cpu) && insn_iopl(cpu) < 3;
	enum insn_outcome r = insn_check_rip(x->env, 0, cpu->seg[INSN_CS].limit, 0, &rip);

	if (r != INSN_DONE) {
		return r;
	}
	if (virtual &&
	    ((flags & FLAG_TF) != 0 || ((flags & FLAG_IF) != 0 && (cpu->rflags & FLAG_VIP) != 0))) {
		return insn_raise(x->env, INSN_EXC_GP, 0);
	}
	insn_move_rsp(x, 3 * (int64_t)x->insn->op_bytes);
	insn_real_segment(&cpu->seg[INSN_CS], (uint16_t)slots[1]);
	x->next_rip = rip;
	pop_flags(x, flags, cpu->cpl);
	if (virtual) {
		insn_set_flags(x, FLAG_VIF, (flags & FLAG_IF) != 0 ? FLAG_VIF : 0);
	}
	return INSN_DONE;
}

/* To virtual-8086 mode: ESP, SS, ES, DS, FS, GS follow. */
static enum insn_outcome to_v86(struct insn_exec *x, const struct insn_stack *s,
				const uint64_t slots[3])
{
	static const uint8_t order[] = {INSN_SS, INSN_ES, INSN_DS, INSN_FS, INSN_GS};
	struct insn_cpu *cpu = x->cpu;
	uint64_t more[6];
	enum insn_outcome r = insn_stack_peek(x->env, s, 12, more, 6, 4);

	if (r != INSN_DONE) {
		return r;
	}
	if ((slots[0] & 0xffffffff) > 0xffff) {
		return insn_raise(x->env, INSN_EXC_GP, 0);
	}
	pop_flags(x, slots[2], 0);
	cpu->rflags |= FLAG_VM;
	cpu->gpr[RSP] = more[0];
	for (unsigned i = 0; i < ARRAY_SIZE(order); i++) {
		cpu->seg[order[i]] = insn_v86_segment((uint16_t)more[1 + i]);
	}
	cpu->seg[INSN_CS] = insn_v86_segment((uint16_t)slots[1]);
	cpu->cpl = 3;
	x->next_rip = slots[0];
	return INSN_DONE;
}

static enum insn_outcome to_protected(struct insn_exec *x, const struct insn_stack *s,
				      const uint64_t slots[3])
{
	struct insn_cpu *cpu = x->cpu;
	unsigned slot = x->insn->op_bytes, cpl = cpu->cpl;
	struct insn_segment ss = cpu->seg[INSN_SS];
	struct insn_descriptor cs;
	uint64_t rip = slots[0], outer[2] = {0};
	bool with_stack;
	enum insn_outcome r = insn_fetch_return_cs(x->env, (uint16_t)slots[1], &cs);

	if (r != INSN_DONE) {
		return r;
	}
	with_stack = cs.selector % 4U != cpl || insn_long_mode(x);
	if (with_stack) {
		r = insn_stack_peek(x->env, s, 3 * slot, outer, 2, slot);
		if (r == INSN_DONE) {
			r = insn_outer_stack(x->env, &cs, (uint16_t)outer[1], &ss);
		}
	}
	if (r != INSN_DONE ||
	    (r = insn_check_rip(x->env, cs.attr, cs.limit, 0, &rip)) != INSN_DONE ||
	    (r = insn_set_accessed(x->env, &cs)) != INSN_DONE) {
		return r;
	}
	pop_flags(x, slots[2], cpl);
	if (with_stack) {
		insn_return_to(x, &cs, &ss, outer[0], rip);
		return INSN_DONE;
	}
	insn_move_rsp(x, 3 * (int64_t)slot);
	cpu->seg[INSN_CS] = insn_segment_of(&cs, cs.selector);
	x->next_rip = rip;
	return INSN_DONE;
}

/* Back from a nested task. */
static enum insn_outcome to_old_task(struct insn_exec *x)
{
	struct insn_task t = {
		.how = INSN_TASK_RETURN,
		.rip = x->next_rip,
		.rflags = x->cpu->rflags,
	};
	enum insn_outcome r = insn_read_system(x->env, x->cpu->tr.base, &t.selector, 2);

	return r == INSN_DONE ? insn_do_task(x, &t) : r;
}

enum insn_outcome insn_do_iret(struct insn_exec *x)
{
	const struct insn_cpu *cpu = x->cpu;
	struct insn_stack s = insn_current_stack(cpu);
	bool protected = !insn_real_mode(cpu);
	uint64_t slots[3] = {0};
	enum insn_outcome r;

	if (protected && (cpu->rflags & FLAG_NT) != 0) {
		return insn_lma(cpu) ? insn_raise(x->env, INSN_EXC_GP, 0) : to_old_task(x);
	}
	r = insn_stack_peek(x->env, &s, 0, slots, 3, x->insn->op_bytes);
	if (r != INSN_DONE) {
		return r;
	}
	if (!protected) {
		return near_top(x, slots);
	}
	if ((slots[2] & FLAG_VM) != 0 && cpu->cpl == 0 && !insn_lma(cpu)) {
		return to_v86(x, &s, slots);
	}
	return to_protected(x, &s, slots);
}
