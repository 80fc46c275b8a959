/*
 * Entry to the handlers of interrupts and exceptions, and the instructions that ask for it.
 *
 *	real mode	    vector table: FLAGS, CS, IP of two bytes
 *	protected mode	    IDT, gates of 8 bytes: [GS FS DS ES] [SS ESP] EFLAGS CS EIP [error]
 *	long mode	    IDT, gates of 16 bytes: SS RSP RFLAGS CS RIP [error], aligned to 16
 *
 * Spec: Intel SDM vol. 3A, ch. 6 "Interrupt and Exception Handling", 21.2, 21.3; vol. 2, "INT n"
 */
#include "lib/insn/task.h"

/* An event on its way. */
struct event {
	struct insn_env *env;
	unsigned vector;
	bool software, has_error;
	uint32_t error, ext;
	uint64_t rip, rflags; /* to be pushed */
};

struct gate {
	struct insn_descriptor cs;
	uint64_t rip;
	unsigned type, ist, cpl;
};

static void arrive(struct insn_cpu *cpu, const struct insn_stack *s, uint64_t rip, uint64_t clear)
{
	cpu->gpr[RSP] = s->rsp;
	cpu->seg[INSN_SS] = s->ss;
	cpu->rip = rip;
	cpu->rflags &= ~clear;
	cpu->interrupt_shadow = false;
	cpu->trap_shadow = false;
}

/* In real mode, and of INT n in virtual-8086 mode as VME redirects it. */
static enum insn_outcome deliver_real(const struct event *e, uint64_t table)
{
	struct insn_cpu *cpu = e->env->cpu;
	struct insn_stack s = insn_current_stack(cpu);
	const uint64_t slots[] = {e->rflags & 0xffff, cpu->seg[INSN_CS].selector, e->rip & 0xffff};
	uint32_t vector = 0;
	enum insn_outcome r;

	if (insn_v86(cpu)) {
		r = e->env->ops->read(e->env, table + 4UL * e->vector, &vector, 4, 0);
	} else if (4 * e->vector + 3 > cpu->idtr.limit) {
		return insn_raise(e->env, INSN_EXC_GP, e->vector * 8 + 2);
	} else {
		r = insn_read_system(e->env, table + 4UL * e->vector, &vector, 4);
	}
	if (r == INSN_DONE) {
		r = insn_stack_push(e->env, &s, slots, 3, 2);
	}
	if (r != INSN_DONE) {
		return r;
	}
	arrive(cpu, &s, vector & 0xffff,
	       FLAG_TF | FLAG_RF | (insn_v86(cpu) ? 0 : FLAG_IF | FLAG_AC));
	insn_real_segment(&cpu->seg[INSN_CS], (uint16_t)(vector >> 16));
	return INSN_DONE;
}

static bool gate_type(const struct insn_cpu *cpu, unsigned type)
{
	return type == SYS_INT_GATE || type == SYS_TRAP_GATE ||
	       (!insn_lma(cpu) && (type == SYS_INT_GATE16 || type == SYS_TRAP_GATE16));
}

/* The gate in the IDT. */
static enum insn_outcome read_gate(const struct event *e, struct gate *g, uint16_t *selector)
{
	const struct insn_cpu *cpu = e->env->cpu;
	unsigned bytes = insn_lma(cpu) ? 16 : 8, at = e->vector * bytes;
	uint32_t error = e->vector * 8 + 2 + e->ext;
	uint64_t raw[2] = {0};
	enum insn_outcome r;

	if (at + bytes - 1 > cpu->idtr.limit) {
		return insn_raise(e->env, INSN_EXC_GP, error);
	}
	r = insn_read_system(e->env, cpu->idtr.base + at, raw, bytes);
	if (r != INSN_DONE) {
		return r;
	}
	g->type = raw[0] >> 40 & 0x1f;
	if (!gate_type(cpu, g->type) && (g->type != SYS_TASK_GATE || insn_lma(cpu))) {
		return insn_raise(e->env, INSN_EXC_GP, error);
	}
	if (e->software && (raw[0] >> 45 & 3) < cpu->cpl) {
		return insn_raise(e->env, INSN_EXC_GP, error);
	}
	if ((raw[0] >> 47 & 1) == 0) {
		return insn_raise(e->env, INSN_EXC_NP, error);
	}
	*selector = (uint16_t)(raw[0] >> 16);
	g->rip = (raw[0] & 0xffff) | (raw[0] >> 32 & 0xffff0000) | raw[1] << 32;
	g->ist = insn_lma(cpu) ? raw[0] >> 32 & 7 : 0;
	if ((g->type & 8) == 0) { /* of 16 bits */
		g->rip &= 0xffff;
	}
	return INSN_DONE;
}

/* The handler's code segment and privilege. */
static enum insn_outcome check_code(const struct event *e, struct gate *g, uint16_t selector)
{
	const struct insn_cpu *cpu = e->env->cpu;
	uint32_t error = (selector & ~3U) | e->ext;
	unsigned dpl;
	enum insn_outcome r;

	if (insn_null(selector)) {
		return insn_raise(e->env, INSN_EXC_GP, e->ext);
	}
	r = insn_fetch_descriptor(e->env, selector, INSN_EXC_GP, e->ext, &g->cs);
	if (r != INSN_DONE) {
		return r;
	}
	dpl = INSN_SEG_DPL(g->cs.attr);
	if (!insn_is_code(g->cs.attr) || dpl > cpu->cpl ||
	    (insn_lma(cpu) && (g->cs.attr & (INSN_SEG_L | INSN_SEG_DB)) != INSN_SEG_L)) {
		return insn_raise(e->env, INSN_EXC_GP, error);
	}
	if ((g->cs.attr & INSN_SEG_P) == 0) {
		return insn_raise(e->env, INSN_EXC_NP, error);
	}
	g->cpl = insn_is_conforming(g->cs.attr) ? cpu->cpl : dpl;
	if (insn_v86(cpu) && g->cpl != 0) {
		return insn_raise(e->env, INSN_EXC_GP, error);
	}
	return INSN_DONE;
}

/* Which stack, and does it have to be pushed itself? */
static enum insn_outcome choose_stack(const struct event *e, const struct gate *g,
				      struct insn_stack *s, bool *with_old)
{
	const struct insn_cpu *cpu = e->env->cpu;
	bool inner = g->cpl != cpu->cpl;
	enum insn_outcome r = INSN_DONE;

	*with_old = inner || insn_lma(cpu);
	*s = insn_current_stack(cpu);
	s->error = e->ext;
	if (inner || g->ist != 0) {
		r = insn_inner_stack(e->env, g->cpl, g->ist, e->ext, s);
	}
	if (insn_lma(cpu)) {
		s->flat = true; /* out of compatibility mode, too */
		s->bytes = 8;
		s->rsp &= ~UINT64_C(15);
		if (!inner) {
			s->ss = cpu->seg[INSN_SS]; /* with an IST */
		}
	}
	return r;
}

static enum insn_outcome push_frame(const struct event *e, const struct gate *g,
				    struct insn_stack *s, bool with_old)
{
	static const uint8_t data[] = {INSN_GS, INSN_FS, INSN_DS, INSN_ES};
	const struct insn_cpu *cpu = e->env->cpu;
	unsigned slot = insn_lma(cpu) ? 8 : (g->type & 8) != 0 ? 4 : 2, n = 0;
	uint64_t slots[10];

	for (unsigned i = 0; i < ARRAY_SIZE(data) && insn_v86(cpu); i++) {
		slots[n++] = cpu->seg[data[i]].selector;
	}
	if (with_old) {
		slots[n++] = cpu->seg[INSN_SS].selector;
		slots[n++] = cpu->gpr[RSP];
	}
	slots[n++] = e->rflags;
	slots[n++] = cpu->seg[INSN_CS].selector;
	slots[n++] = e->rip;
	if (e->has_error) {
		slots[n++] = e->error;
	}
	return insn_stack_push(e->env, s, slots, n, slot);
}

static enum insn_outcome deliver_to_task(const struct event *e, uint16_t selector)
{
	const struct insn_task task = {
		.how = INSN_TASK_CALL,
		.selector = selector,
		.rip = e->rip,
		.rflags = e->rflags,
		.ext = e->ext,
		.has_error = e->has_error,
		.error = e->error,
	};

	return insn_task_switch(e->env, &task);
}

static enum insn_outcome deliver_protected(const struct event *e)
{
	static const uint8_t data[] = {INSN_ES, INSN_DS, INSN_FS, INSN_GS};
	struct insn_cpu *cpu = e->env->cpu;
	struct gate g = {0};
	struct insn_stack s;
	uint16_t selector = 0;
	bool with_old, v86 = insn_v86(cpu);
	enum insn_outcome r;

	r = read_gate(e, &g, &selector);
	if (r == INSN_DONE && g.type == SYS_TASK_GATE) {
		return deliver_to_task(e, selector);
	}
	if (r != INSN_DONE || (r = check_code(e, &g, selector)) != INSN_DONE ||
	    (r = choose_stack(e, &g, &s, &with_old)) != INSN_DONE ||
	    (r = insn_check_rip(e->env, g.cs.attr, g.cs.limit, e->ext, &g.rip)) != INSN_DONE ||
	    (r = insn_set_accessed(e->env, &g.cs)) != INSN_DONE ||
	    (r = push_frame(e, &g, &s, with_old)) != INSN_DONE) {
		return r;
	}
	arrive(cpu, &s, g.rip,
	       FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM | ((g.type & 1) == 0 ? FLAG_IF : 0));
	for (unsigned i = 0; i < ARRAY_SIZE(data) && v86; i++) {
		cpu->seg[data[i]] = (struct insn_segment){0};
	}
	cpu->seg[INSN_CS] = insn_segment_of(&g.cs, (uint16_t)((selector & ~3U) | g.cpl));
	cpu->cpl = (uint8_t)g.cpl;
	return INSN_DONE;
}

static enum insn_outcome deliver(const struct event *e)
{
	const struct insn_cpu *cpu = e->env->cpu;

	return (cpu->cr0 & CR0_PE) == 0 ? deliver_real(e, cpu->idtr.base) : deliver_protected(e);
}

enum insn_outcome insn_deliver(struct insn_env *env, unsigned vector, uint32_t error,
			       enum insn_event event)
{
	bool exception = event == INSN_EVENT_FAULT || event == INSN_EVENT_TRAP;
	struct event e = {
		.env = env,
		.vector = vector & 0xff,
		.software = event == INSN_EVENT_SOFTWARE,
		.has_error = exception && insn_vector_has_error(vector),
		.error = error,
		.ext = event != INSN_EVENT_SOFTWARE,
		.rip = env->cpu->rip,
		.rflags = env->cpu->rflags | (event == INSN_EVENT_FAULT ? FLAG_RF : 0),
	};

	return deliver(&e);
}

/* Does the map in front of the I/O permission map redirect INT n to the program's own handlers? */
static enum insn_outcome redirected(struct insn_exec *x, unsigned vector, bool *own)
{
	const struct insn_segment *tr = &x->cpu->tr;
	uint16_t base = 0;
	uint8_t map = 0;
	uint64_t at;
	enum insn_outcome r;

	*own = false;
	if (tr->limit < 103) {
		return insn_raise(x->env, INSN_EXC_GP, 0);
	}
	r = insn_read_system(x->env, tr->base + 102, &base, 2);
	if (r != INSN_DONE) {
		return r;
	}
	at = (uint64_t)base - 32 + vector / 8;
	if (base < 32 || at > tr->limit) {
		return insn_raise(x->env, INSN_EXC_GP, 0);
	}
	r = insn_read_system(x->env, tr->base + at, &map, 1);
	*own = (map >> vector % 8 & 1) == 0;
	return r;
}

/* INT n in virtual-8086 mode. Spec: Intel SDM vol. 3A, 21.3 "Interrupt and Exception Handling in
 * Virtual-8086 Mode", table 21-2 */
static enum insn_outcome virtual_int(struct insn_exec *x, struct event *e)
{
	struct insn_cpu *cpu = x->cpu;
	bool own = false;
	enum insn_outcome r = INSN_DONE;

	if ((cpu->cr4 & CR4_VME) != 0) {
		r = redirected(x, e->vector, &own);
	}
	if (r != INSN_DONE) {
		return r;
	}
	if (!own) {
		return insn_iopl(cpu) < 3 ? insn_raise(x->env, INSN_EXC_GP, 0) : deliver(e);
	}
	if (insn_iopl(cpu) < 3) {
		bool vif = (e->rflags & FLAG_VIF) != 0;

		e->rflags = (e->rflags & ~FLAG_IF) | FLAG_IOPL | (vif ? FLAG_IF : 0);
	}
	r = deliver_real(e, 0);
	if (r == INSN_DONE) {
		insn_set_flags(x, insn_iopl(cpu) < 3 ? FLAG_VIF : FLAG_IF, 0);
	}
	return r;
}

/* INT n, INT3, INTO, INT1 */
enum insn_outcome insn_do_int(struct insn_exec *x)
{
	unsigned mnemonic = x->insn->mnemonic;
	struct event e = {
		.env = x->env,
		.vector = mnemonic == INSN_INT	  ? (unsigned)x->insn->imm[0] & 0xff
			  : mnemonic == INSN_INT3 ? INSN_EXC_BP
			  : mnemonic == INSN_INTO ? INSN_EXC_OF
						  : INSN_EXC_DB,
		.software = mnemonic != INSN_INT1,
		.ext = mnemonic == INSN_INT1,
		.rip = x->next_rip,
		.rflags = x->cpu->rflags & ~FLAG_RF,
	};
	enum insn_outcome r;

	if (mnemonic == INSN_INTO && (x->cpu->rflags & FLAG_OF) == 0) {
		return INSN_DONE;
	}
	if (mnemonic == INSN_INT && insn_v86(x->cpu)) {
		r = virtual_int(x, &e);
	} else {
		r = deliver(&e);
	}
	if (r == INSN_DONE) {
		x->next_rip = x->cpu->rip;
	}
	return r;
}
