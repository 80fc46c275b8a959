#include "lib/insn/task.h"

#include <string.h>

#define DR6_BT BIT(15)

#define TSS_BYTES 104
#define HALF	  64 /* a TSS is read in two accesses */

#define TYPE_AT 5 /* in a descriptor: the byte with the busy bit */

/*
 * Where a TSS of 16 and one of 32 bits have registers. From rip to the segments it is what a switch
 * saves. ES, CS, SS, DS, FS, GS come in the order of enum insn_seg.
 */
static const struct layout {
	uint8_t bytes, width;
	uint8_t cr3, rip, gpr, seg, ldt, trap; /* cr3, trap: 0 is none */
	uint8_t nsegs;
} layouts[2] = {
	{44, 2, 0, 14, 18, 34, 42, 0, 4},
	{TSS_BYTES, 4, 28, 32, 40, 72, 96, 100, 6},
};

_Static_assert(INSN_ES == 0 && INSN_GS == 5, "order in the TSS");

struct tss {
	const struct layout *layout;
	struct insn_descriptor d;
	uint8_t bytes[TSS_BYTES];
};

static uint64_t get(const struct tss *t, unsigned at, unsigned bytes)
{
	uint64_t value = 0;

	memcpy(&value, t->bytes + at, bytes);
	return value;
}

static unsigned saved_bytes(const struct layout *l)
{
	return (unsigned)l->seg + (unsigned)l->nsegs * l->width - l->rip;
}

/* ---- before the switch: all that can fail ---- */

static enum insn_outcome find(struct insn_env *env, const struct insn_task *task, struct tss *t)
{
	bool back = task->how == INSN_TASK_RETURN;
	enum insn_vector vector = back ? INSN_EXC_TS : INSN_EXC_GP;
	uint32_t error = (task->selector & ~3U) | task->ext;
	unsigned type, busy = back ? SYS_BUSY : 0;
	enum insn_outcome r;

	if (insn_null(task->selector) || (task->selector & 4) != 0) {
		return insn_raise(env, vector, error);
	}
	r = insn_fetch_descriptor(env, task->selector, vector, task->ext, &t->d);
	if (r != INSN_DONE) {
		return r;
	}
	type = insn_type(t->d.attr);
	if ((t->d.attr & INSN_SEG_S) != 0 ||
	    (type != (SYS_TSS16 | busy) && type != (SYS_TSS | busy))) {
		return insn_raise(env, vector, error);
	}
	if ((t->d.attr & INSN_SEG_P) == 0) {
		return insn_raise(env, INSN_EXC_NP, error);
	}
	t->layout = &layouts[(type & 8) != 0];
	if (t->d.limit < t->layout->bytes - 1U) {
		return insn_raise(env, INSN_EXC_TS, error);
	}
	r = insn_read_system(env, t->d.base, t->bytes, MIN(t->layout->bytes, HALF));
	if (r == INSN_DONE && t->layout->bytes > HALF) {
		r = insn_read_system(env, t->d.base + HALF, t->bytes + HALF,
				     t->layout->bytes - HALF);
	}
	return r;
}

/* Can it be written to? */
static enum insn_outcome probe(struct insn_env *env, uint64_t linear, unsigned len)
{
	uint8_t data[HALF];

	return env->ops->read(env, (uint32_t)linear, data, len,
			      INSN_ACCESS_SYSTEM | INSN_ACCESS_WRITE);
}

static uint64_t type_linear(const struct insn_cpu *cpu, uint16_t selector)
{
	return cpu->gdtr.base + (selector & ~7U) + TYPE_AT;
}

static enum insn_outcome probe_all(struct insn_env *env, const struct insn_task *task,
				   const struct tss *new)
{
	const struct insn_segment *tr = &env->cpu->tr;
	const struct layout *l = &layouts[(tr->attr & 8) != 0];
	enum insn_outcome r = probe(env, tr->base + l->rip, saved_bytes(l));

	if (r == INSN_DONE && task->how != INSN_TASK_CALL) {
		r = probe(env, type_linear(env->cpu, tr->selector), 1);
	}
	if (r == INSN_DONE && task->how != INSN_TASK_RETURN) {
		r = probe(env, new->d.linear + TYPE_AT, 1);
	}
	if (r == INSN_DONE && task->how == INSN_TASK_CALL) {
		r = probe(env, new->d.base, 2);
	}
	return r;
}

/* ---- memory ---- */

/* Sets or clears the busy bit of a TSS's descriptor. */
static enum insn_outcome set_busy(struct insn_env *env, uint16_t selector, bool busy)
{
	uint64_t linear = type_linear(env->cpu, selector);
	uint8_t byte = 0;
	enum insn_outcome r = insn_read_system(env, linear, &byte, 1);

	byte = (uint8_t)(busy ? byte | SYS_BUSY : byte & ~SYS_BUSY);
	return r == INSN_DONE ? insn_write_system(env, linear, &byte, 1) : r;
}

static enum insn_outcome save(struct insn_env *env, const struct insn_task *task)
{
	const struct insn_cpu *cpu = env->cpu;
	const struct layout *l = &layouts[(cpu->tr.attr & 8) != 0];
	uint64_t flags = task->rflags;
	uint8_t block[HALF] = {0};

	if (task->how == INSN_TASK_RETURN) {
		flags &= ~FLAG_NT;
	}
	memcpy(block, &task->rip, l->width);
	memcpy(block + l->width, &flags, l->width);
	for (unsigned i = 0; i < 8; i++) {
		memcpy(block + l->gpr - l->rip + (size_t)i * l->width, &cpu->gpr[i], l->width);
	}
	for (unsigned i = 0; i < l->nsegs; i++) {
		memcpy(block + l->seg - l->rip + (size_t)i * l->width, &cpu->seg[i].selector, 2);
	}
	return insn_write_system(env, cpu->tr.base + l->rip, block, saved_bytes(l));
}

static enum insn_outcome write_memory(struct insn_env *env, const struct insn_task *task,
				      const struct tss *new)
{
	uint16_t old = env->cpu->tr.selector;
	enum insn_outcome r = save(env, task);

	if (r == INSN_DONE && task->how != INSN_TASK_CALL) {
		r = set_busy(env, old, false);
	}
	if (r == INSN_DONE && task->how == INSN_TASK_CALL) {
		r = insn_write_system(env, new->d.base, &old, 2);
	}
	if (r == INSN_DONE && task->how != INSN_TASK_RETURN) {
		r = set_busy(env, task->selector, true);
	}
	return r;
}

/* What cannot come to its end now begins anew later; only the busy bits would be in the way. */
static void take_back(struct insn_env *env, const struct insn_task *task,
		      const struct insn_cpu *before, uint64_t cr3)
{
	if (env->ops->write_cr(env, 3, cr3) != INSN_DONE ||
	    env->ops->write_cr(env, 0, before->cr0) != INSN_DONE) {
		return;
	}
	*env->cpu = *before;
	if (task->how != INSN_TASK_CALL) {
		(void)!set_busy(env, before->tr.selector, true);
	}
	if (task->how != INSN_TASK_RETURN) {
		(void)!set_busy(env, task->selector, false);
	}
}

/* ---- registers ---- */

static enum insn_outcome load_ldt(struct insn_env *env, uint16_t selector)
{
	struct insn_descriptor d;
	enum insn_outcome r;

	env->cpu->ldtr = (struct insn_segment){.selector = selector};
	if (insn_null(selector)) {
		return INSN_DONE;
	}
	if ((selector & 4) != 0) {
		return insn_raise(env, INSN_EXC_TS, selector & ~3U);
	}
	r = insn_fetch_descriptor(env, selector, INSN_EXC_TS, 0, &d);
	if (r != INSN_DONE) {
		return r;
	}
	if ((d.attr & INSN_SEG_S) != 0 || insn_type(d.attr) != SYS_LDT ||
	    (d.attr & INSN_SEG_P) == 0) {
		return insn_raise(env, INSN_EXC_TS, selector & ~3U);
	}
	env->cpu->ldtr = insn_segment_of(&d, selector);
	return INSN_DONE;
}

static enum insn_outcome load_cs(struct insn_env *env, uint16_t selector)
{
	unsigned rpl = selector & 3, dpl;
	struct insn_descriptor d;
	enum insn_outcome r;

	if (insn_null(selector)) {
		return insn_raise(env, INSN_EXC_TS, 0);
	}
	r = insn_fetch_descriptor(env, selector, INSN_EXC_TS, 0, &d);
	if (r != INSN_DONE) {
		return r;
	}
	dpl = INSN_SEG_DPL(d.attr);
	if (!insn_is_code(d.attr) || (insn_is_conforming(d.attr) ? dpl > rpl : dpl != rpl)) {
		return insn_raise(env, INSN_EXC_TS, selector & ~3U);
	}
	if ((d.attr & INSN_SEG_P) == 0) {
		return insn_raise(env, INSN_EXC_NP, selector & ~3U);
	}
	r = insn_set_accessed(env, &d);
	if (r == INSN_DONE) {
		env->cpu->seg[INSN_CS] = insn_segment_of(&d, selector);
	}
	return r;
}

static enum insn_outcome load_segments(struct insn_env *env, const uint16_t *selector)
{
	static const uint8_t data[] = {INSN_ES, INSN_DS, INSN_FS, INSN_GS};
	struct insn_cpu *cpu = env->cpu;
	enum insn_outcome r = load_cs(env, selector[INSN_CS]);

	if (r == INSN_DONE) {
		r = insn_fetch_ss(env, selector[INSN_SS], cpu->cpl, INSN_EXC_TS, 0,
				  &cpu->seg[INSN_SS]);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(data) && r == INSN_DONE; i++) {
		r = insn_load_segment(env, data[i], selector[data[i]]);
		if (r == INSN_FAULT && env->fault.vector == INSN_EXC_GP) {
			env->fault.vector = INSN_EXC_TS;
		}
	}
	return r;
}

static enum insn_outcome load_registers(struct insn_env *env, const struct insn_task *task,
					const struct tss *t)
{
	const struct layout *l = t->layout;
	struct insn_cpu *cpu = env->cpu;
	uint16_t selector[INSN_NSEGS] = {0};
	enum insn_outcome r;

	cpu->rip = get(t, l->rip, l->width);
	cpu->rflags = get(t, (unsigned)l->rip + l->width, l->width) | FLAG_ONE;
	if (task->how == INSN_TASK_CALL) {
		cpu->rflags |= FLAG_NT;
	}
	cpu->interrupt_shadow = false;
	cpu->trap_shadow = false;
	for (unsigned i = 0; i < 8; i++) {
		cpu->gpr[i] = get(t, l->gpr + i * l->width, l->width);
	}
	for (unsigned i = 0; i < l->nsegs; i++) {
		selector[i] = (uint16_t)get(t, l->seg + i * l->width, 2);
	}
	for (unsigned i = 0; i < INSN_NSEGS; i++) {
		cpu->seg[i] = insn_v86(cpu) ? insn_v86_segment(selector[i])
					    : (struct insn_segment){.selector = selector[i]};
	}
	cpu->cpl = insn_v86(cpu) ? 3 : selector[INSN_CS] & 3;
	cpu->tr = insn_segment_of(&t->d, task->selector);
	cpu->tr.attr |= SYS_BUSY;
	if (l->cr3 != 0 && (cpu->cr0 & CR0_PG) != 0) {
		r = env->ops->write_cr(env, 3, get(t, l->cr3, 4));
		if (r != INSN_DONE) {
			return r;
		}
	}
	r = load_ldt(env, (uint16_t)get(t, l->ldt, 2));
	return r == INSN_DONE && !insn_v86(cpu) ? load_segments(env, selector) : r;
}

static enum insn_outcome push_error(struct insn_env *env, const struct insn_task *task,
				    unsigned width)
{
	struct insn_stack s = insn_current_stack(env->cpu);
	uint64_t error = task->error;
	enum insn_outcome r;

	if (!task->has_error) {
		return INSN_DONE;
	}
	r = insn_stack_push(env, &s, &error, 1, width);
	if (r == INSN_DONE) {
		env->cpu->gpr[RSP] = s.rsp;
	}
	return r;
}

enum insn_outcome insn_task_switch(struct insn_env *env, const struct insn_task *task)
{
	const struct insn_cpu before = *env->cpu;
	struct tss new = {.layout = &layouts[0]};
	uint64_t cr3 = 0;
	enum insn_outcome r;

	if (insn_lma(env->cpu) || env->ops->write_cr == NULL || env->ops->read_cr == NULL) {
		return INSN_UNSUPPORTED;
	}
	if ((r = find(env, task, &new)) != INSN_DONE ||
	    (r = probe_all(env, task, &new)) != INSN_DONE ||
	    (r = env->ops->read_cr(env, 3, &cr3)) != INSN_DONE ||
	    (r = env->ops->write_cr(env, 0, before.cr0 | CR0_TS)) != INSN_DONE ||
	    (r = write_memory(env, task, &new)) != INSN_DONE) {
		return r;
	}
	r = load_registers(env, task, &new);
	if (r == INSN_DONE) {
		r = push_error(env, task, new.layout->width);
	}
	if (r != INSN_DONE && r != INSN_FAULT) {
		take_back(env, task, &before, cr3);
		return r;
	}
	if (r == INSN_DONE && new.layout->trap != 0 && (get(&new, new.layout->trap, 1) & 1) != 0) {
		r = insn_raise(env, INSN_EXC_DB, 0);
		env->fault.dr6 = DR6_BT;
	}
	return r;
}

enum insn_outcome insn_do_task(struct insn_exec *x, const struct insn_task *task)
{
	enum insn_outcome r = insn_task_switch(x->env, task);

	x->next_rip = x->cpu->rip;
	x->keep_rf = true;
	return r;
}
