/*
 * Far jumps, calls and returns.
 *
 * Spec: Intel SDM vol. 2, "JMP", "CALL", "RET"; vol. 3A, 5.8 "Privilege Level Checking When
 * Transferring Program Control Between Code Segments"
 */
#include <string.h>

#include "lib/insn/task.h"

#define GATE_PARAMETERS 31

/* What a transfer arrives at. */
struct target {
	struct insn_descriptor cs;
	uint64_t rip;
	unsigned cpl;
	unsigned slot;	     /* bytes that are pushed each */
	unsigned parameters; /* copied to an inner stack */
	bool task;	     /* it was a task switch, and is over */
};

/* The pointer that the instruction has or reads. */
static enum insn_outcome far_pointer(struct insn_exec *x, uint16_t *selector, uint64_t *rip)
{
	const struct insn_mem *m = &x->insn->mem[0];
	unsigned bytes = x->insn->op_bytes;
	uint8_t block[10] = {0};
	enum insn_outcome r;

	*rip = 0;
	if (x->insn->operand[0].kind == INSN_OP_FAR) {
		*rip = x->insn->imm[0] & insn_mask(bytes);
		*selector = (uint16_t)x->insn->imm[1];
		return INSN_DONE;
	}
	r = insn_load(x, m->seg, insn_offset(x, m), block, bytes + 2);
	memcpy(rip, block, bytes);
	memcpy(selector, block + bytes, 2);
	return r;
}

/* Real and virtual-8086 mode. */
static enum insn_outcome real_transfer(struct insn_exec *x, uint16_t selector, uint64_t rip,
				       bool call)
{
	struct insn_stack s = insn_current_stack(x->cpu);
	const uint64_t slots[] = {x->cpu->seg[INSN_CS].selector, x->next_rip};
	enum insn_outcome r;

	r = insn_check_rip(x->env, 0, x->cpu->seg[INSN_CS].limit, 0, &rip);
	if (r == INSN_DONE && call) {
		r = insn_stack_push(x->env, &s, slots, 2, x->insn->op_bytes);
	}
	if (r != INSN_DONE) {
		return r;
	}
	x->cpu->gpr[RSP] = s.rsp;
	insn_real_segment(&x->cpu->seg[INSN_CS], selector);
	x->next_rip = rip;
	return INSN_DONE;
}

/* A code segment without a gate between. */
static enum insn_outcome direct(struct insn_exec *x, struct target *t)
{
	const struct insn_cpu *cpu = x->cpu;
	uint32_t error = t->cs.selector & ~3U;
	unsigned dpl = INSN_SEG_DPL(t->cs.attr), rpl = t->cs.selector & 3;

	if (insn_is_conforming(t->cs.attr) ? dpl > cpu->cpl : rpl > cpu->cpl || dpl != cpu->cpl) {
		return insn_raise(x->env, INSN_EXC_GP, error);
	}
	if (insn_is_wide(cpu, t->cs.attr) && (t->cs.attr & INSN_SEG_DB) != 0) {
		return insn_raise(x->env, INSN_EXC_GP, error);
	}
	if ((t->cs.attr & INSN_SEG_P) == 0) {
		return insn_raise(x->env, INSN_EXC_NP, error);
	}
	t->cpl = cpu->cpl;
	return INSN_DONE;
}

/* The code segment that a call gate names. */
static enum insn_outcome behind_gate(struct insn_exec *x, struct target *t, uint16_t selector,
				     bool call)
{
	const struct insn_cpu *cpu = x->cpu;
	unsigned dpl;
	enum insn_outcome r;

	if (insn_null(selector)) {
		return insn_raise(x->env, INSN_EXC_GP, 0);
	}
	r = insn_fetch_descriptor(x->env, selector, INSN_EXC_GP, 0, &t->cs);
	if (r != INSN_DONE) {
		return r;
	}
	dpl = INSN_SEG_DPL(t->cs.attr);
	if (!insn_is_code(t->cs.attr) || dpl > cpu->cpl ||
	    (!call && !insn_is_conforming(t->cs.attr) && dpl != cpu->cpl) ||
	    (insn_lma(cpu) && (t->cs.attr & (INSN_SEG_L | INSN_SEG_DB)) != INSN_SEG_L)) {
		return insn_raise(x->env, INSN_EXC_GP, selector & ~3U);
	}
	if ((t->cs.attr & INSN_SEG_P) == 0) {
		return insn_raise(x->env, INSN_EXC_NP, selector & ~3U);
	}
	t->cpl = insn_is_conforming(t->cs.attr) ? cpu->cpl : dpl;
	return INSN_DONE;
}

/* Spec: Intel SDM vol. 3A, 5.8.3 "Call Gates" */
static enum insn_outcome gate(struct insn_exec *x, struct target *t, bool call)
{
	struct insn_descriptor g = t->cs;
	uint32_t error = g.selector & ~3U;
	bool narrow = insn_type(g.attr) == SYS_CALL_GATE16;
	unsigned dpl = INSN_SEG_DPL(g.attr);
	enum insn_outcome r;

	if (dpl < x->cpu->cpl || dpl < (g.selector & 3U)) {
		return insn_raise(x->env, INSN_EXC_GP, error);
	}
	r = insn_fetch_upper(x->env, INSN_EXC_GP, 0, &g);
	if (r != INSN_DONE) {
		return r;
	}
	if ((g.upper >> 40 & 0x1f) != 0) {
		return insn_raise(x->env, INSN_EXC_GP, error);
	}
	if ((g.attr & INSN_SEG_P) == 0) {
		return insn_raise(x->env, INSN_EXC_NP, error);
	}
	t->rip = (g.raw & 0xffff) | (g.raw >> 32 & 0xffff0000) | g.upper << 32;
	t->slot = insn_lma(x->cpu) ? 8 : narrow ? 2 : 4;
	t->parameters = insn_lma(x->cpu) ? 0 : g.raw >> 32 & GATE_PARAMETERS;
	if (narrow) {
		t->rip &= 0xffff;
	}
	return behind_gate(x, t, (uint16_t)(g.raw >> 16), call);
}

/* A TSS or task gate. */
static enum insn_outcome task(struct insn_exec *x, const struct insn_descriptor *d, bool call)
{
	unsigned dpl = INSN_SEG_DPL(d->attr);
	struct insn_task t = {
		.how = call ? INSN_TASK_CALL : INSN_TASK_JUMP,
		.selector = d->selector,
		.rip = x->next_rip,
		.rflags = x->cpu->rflags,
	};

	if (dpl < x->cpu->cpl || dpl < (d->selector & 3U)) {
		return insn_raise(x->env, INSN_EXC_GP, d->selector & ~3U);
	}
	if ((d->attr & INSN_SEG_P) == 0) {
		return insn_raise(x->env, INSN_EXC_NP, d->selector & ~3U);
	}
	if (insn_type(d->attr) == SYS_TASK_GATE) {
		t.selector = (uint16_t)(d->raw >> 16);
	}
	return insn_do_task(x, &t);
}

/* All but the stack. */
static enum insn_outcome find_target(struct insn_exec *x, uint16_t selector, bool call,
				     struct target *t)
{
	unsigned type;
	enum insn_outcome r;

	if (insn_null(selector)) {
		return insn_raise(x->env, INSN_EXC_GP, 0);
	}
	r = insn_fetch_descriptor(x->env, selector, INSN_EXC_GP, 0, &t->cs);
	if (r != INSN_DONE) {
		return r;
	}
	type = insn_type(t->cs.attr);
	if (insn_is_code(t->cs.attr)) {
		r = direct(x, t);
	} else if ((t->cs.attr & INSN_SEG_S) == 0 &&
		   (type == SYS_CALL_GATE || (type == SYS_CALL_GATE16 && !insn_lma(x->cpu)))) {
		r = gate(x, t, call);
	} else if ((t->cs.attr & INSN_SEG_S) == 0 && !insn_lma(x->cpu) &&
		   (type == SYS_TASK_GATE || type == SYS_TSS || type == SYS_TSS16)) {
		t->task = true;
		return task(x, &t->cs, call);
	} else {
		return insn_raise(x->env, INSN_EXC_GP, selector & ~3U);
	}
	if (r != INSN_DONE) {
		return r;
	}
	return insn_check_rip(x->env, t->cs.attr, t->cs.limit, 0, &t->rip);
}

static void enter(struct insn_exec *x, const struct target *t)
{
	x->cpu->seg[INSN_CS] = insn_segment_of(&t->cs, (uint16_t)((t->cs.selector & ~3U) | t->cpl));
	x->cpu->cpl = (uint8_t)t->cpl;
	x->next_rip = t->rip;
}

enum insn_outcome insn_do_jmpf(struct insn_exec *x)
{
	struct target t = {.slot = x->insn->op_bytes};
	uint16_t selector = 0;
	enum insn_outcome r = far_pointer(x, &selector, &t.rip);

	if (r != INSN_DONE) {
		return r;
	}
	if (insn_real_mode(x->cpu)) {
		return real_transfer(x, selector, t.rip, false);
	}
	r = find_target(x, selector, false, &t);
	if (r == INSN_DONE && !t.task) {
		r = insn_set_accessed(x->env, &t.cs);
	}
	if (r == INSN_DONE && !t.task) {
		enter(x, &t);
	}
	return r;
}

/* The frame on a stack of a more privileged level: old stack, parameters, return address. */
static enum insn_outcome inner_frame(struct insn_exec *x, const struct target *t,
				     struct insn_stack *s)
{
	struct insn_stack old = insn_current_stack(x->cpu);
	uint64_t slots[GATE_PARAMETERS + 4], parameters[GATE_PARAMETERS];
	unsigned n = 0;
	enum insn_outcome r = insn_inner_stack(x->env, t->cpl, 0, 0, s);

	if (r == INSN_DONE) {
		r = insn_stack_peek(x->env, &old, 0, parameters, t->parameters, t->slot);
	}
	if (r != INSN_DONE) {
		return r;
	}
	slots[n++] = old.ss.selector;
	slots[n++] = old.rsp;
	for (unsigned i = t->parameters; i-- > 0;) {
		slots[n++] = parameters[i];
	}
	slots[n++] = x->cpu->seg[INSN_CS].selector;
	slots[n++] = x->next_rip;
	return insn_stack_push(x->env, s, slots, n, t->slot);
}

enum insn_outcome insn_do_callf(struct insn_exec *x)
{
	struct target t = {.slot = x->insn->op_bytes};
	struct insn_stack s = insn_current_stack(x->cpu);
	const uint64_t slots[] = {x->cpu->seg[INSN_CS].selector, x->next_rip};
	uint16_t selector = 0;
	enum insn_outcome r = far_pointer(x, &selector, &t.rip);

	if (r != INSN_DONE) {
		return r;
	}
	if (insn_real_mode(x->cpu)) {
		return real_transfer(x, selector, t.rip, true);
	}
	r = find_target(x, selector, true, &t);
	if (r == INSN_DONE && !t.task) {
		r = insn_set_accessed(x->env, &t.cs);
	}
	if (r != INSN_DONE || t.task) {
		return r;
	}
	if (t.cpl != x->cpu->cpl) {
		r = inner_frame(x, &t, &s);
	} else {
		if (insn_is_wide(x->cpu, t.cs.attr)) { /* out of compatibility mode, too */
			s.bytes = 8;
			s.flat = true;
		}
		r = insn_stack_push(x->env, &s, slots, 2, t.slot);
	}
	if (r != INSN_DONE) {
		return r;
	}
	x->cpu->gpr[RSP] = s.rsp;
	x->cpu->seg[INSN_SS] = s.ss;
	enter(x, &t);
	return INSN_DONE;
}

static enum insn_outcome real_return(struct insn_exec *x)
{
	unsigned slot = x->insn->op_bytes;
	struct insn_stack s = insn_current_stack(x->cpu);
	uint64_t slots[2] = {0};
	enum insn_outcome r = insn_stack_peek(x->env, &s, 0, slots, 2, slot);

	if (r == INSN_DONE) {
		r = insn_check_rip(x->env, 0, x->cpu->seg[INSN_CS].limit, 0, &slots[0]);
	}
	if (r != INSN_DONE) {
		return r;
	}
	insn_move_rsp(x, (int64_t)(2 * (uint64_t)slot + x->insn->imm[0]));
	insn_real_segment(&x->cpu->seg[INSN_CS], (uint16_t)slots[1]);
	x->next_rip = slots[0];
	return INSN_DONE;
}

enum insn_outcome insn_outer_stack(struct insn_env *env, const struct insn_descriptor *cs,
				   uint16_t selector, struct insn_segment *ss)
{
	unsigned cpl = cs->selector & 3;

	if (insn_null(selector) && insn_is_wide(env->cpu, cs->attr) && cpl != 3 &&
	    (selector & 3U) == cpl) {
		*ss = insn_null_ss(cpl);
		return INSN_DONE;
	}
	return insn_fetch_ss(env, selector, cpl, INSN_EXC_GP, 0, ss);
}

void insn_return_to(struct insn_exec *x, const struct insn_descriptor *cs,
		    const struct insn_segment *ss, uint64_t rsp, uint64_t rip)
{
	struct insn_cpu *cpu = x->cpu;
	unsigned bytes = insn_is_wide(cpu, cs->attr) ? 8 : (ss->attr & INSN_SEG_DB) != 0 ? 4 : 2;

	cpu->gpr[RSP] = insn_merge_rsp(cpu->gpr[RSP], rsp, bytes);
	cpu->seg[INSN_SS] = *ss;
	cpu->seg[INSN_CS] = insn_segment_of(cs, cs->selector);
	cpu->cpl = cs->selector & 3;
	insn_drop_segments(cpu);
	x->next_rip = rip;
}

enum insn_outcome insn_do_retf(struct insn_exec *x)
{
	unsigned slot = x->insn->op_bytes, release = (unsigned)x->insn->imm[0];
	struct insn_stack s = insn_current_stack(x->cpu);
	struct insn_segment ss = s.ss;
	struct insn_descriptor cs;
	uint64_t slots[2] = {0}, outer[2] = {0};
	enum insn_outcome r;

	if (insn_real_mode(x->cpu)) {
		return real_return(x);
	}
	r = insn_stack_peek(x->env, &s, 0, slots, 2, slot);
	if (r != INSN_DONE ||
	    (r = insn_fetch_return_cs(x->env, (uint16_t)slots[1], &cs)) != INSN_DONE) {
		return r;
	}
	if (cs.selector % 4U != x->cpu->cpl) {
		r = insn_stack_peek(x->env, &s, 2 * slot + release, outer, 2, slot);
		if (r == INSN_DONE) {
			r = insn_outer_stack(x->env, &cs, (uint16_t)outer[1], &ss);
		}
	}
	if (r != INSN_DONE ||
	    (r = insn_check_rip(x->env, cs.attr, cs.limit, 0, &slots[0])) != INSN_DONE ||
	    (r = insn_set_accessed(x->env, &cs)) != INSN_DONE) {
		return r;
	}
	if (cs.selector % 4U != x->cpu->cpl) {
		insn_return_to(x, &cs, &ss, outer[0] + release, slots[0]);
		return INSN_DONE;
	}
	insn_move_rsp(x, (int64_t)(2 * (uint64_t)slot + release));
	x->cpu->seg[INSN_CS] = insn_segment_of(&cs, cs.selector);
	x->next_rip = slots[0];
	return INSN_DONE;
}
