#include "lib/insn/descriptor.h"

#include <string.h>

#define ATTR_G 0x800

bool insn_canonical(const struct insn_cpu *cpu, uint64_t a)
{
	unsigned shift = (cpu->cr4 & CR4_LA57) != 0 ? 64 - 57 : 64 - 48;

	return (uint64_t)((int64_t)(a << shift) >> shift) == a;
}

/* Outside of long mode linear addresses have 32 bits. */
static uint64_t system_linear(const struct insn_cpu *cpu, uint64_t linear)
{
	return insn_lma(cpu) ? linear : (uint32_t)linear;
}

enum insn_outcome insn_read_system(struct insn_env *env, uint64_t linear, void *data, unsigned len)
{
	linear = system_linear(env->cpu, linear);
	if (insn_lma(env->cpu) &&
	    (!insn_canonical(env->cpu, linear) || !insn_canonical(env->cpu, linear + len - 1))) {
		return insn_raise(env, INSN_EXC_GP, 0);
	}
	return env->ops->read(env, linear, data, len, INSN_ACCESS_SYSTEM);
}

enum insn_outcome insn_write_system(struct insn_env *env, uint64_t linear, const void *data,
				    unsigned len)
{
	return env->ops->write(env, system_linear(env->cpu, linear), data, len,
			       INSN_ACCESS_SYSTEM | INSN_ACCESS_WRITE);
}

static void parse(struct insn_descriptor *d)
{
	uint64_t raw = d->raw;

	d->attr = (uint16_t)((raw >> 40 & 0xff) | (raw >> 44 & 0xf00));
	d->limit = (uint32_t)((raw & 0xffff) | (raw >> 32 & 0xf0000));
	if ((d->attr & ATTR_G) != 0) {
		d->limit = d->limit << 12 | 0xfff;
	}
	d->base = (raw >> 16 & 0xffffff) | (raw >> 32 & 0xff000000);
}

/* Does the table hold @len bytes of it? */
static bool in_table(const struct insn_cpu *cpu, uint16_t selector, unsigned len, uint64_t *linear)
{
	uint32_t last = (selector & ~7U) + len - 1;

	if ((selector & 4) != 0) {
		*linear = cpu->ldtr.base + (selector & ~7U);
		return (cpu->ldtr.attr & INSN_SEG_P) != 0 && !insn_null(cpu->ldtr.selector) &&
		       last <= cpu->ldtr.limit;
	}
	*linear = cpu->gdtr.base + (selector & ~7U);
	return last <= cpu->gdtr.limit;
}

enum insn_outcome insn_fetch_descriptor(struct insn_env *env, uint16_t selector,
					enum insn_vector vector, uint32_t ext,
					struct insn_descriptor *d)
{
	enum insn_outcome r;

	memset(d, 0, sizeof(*d));
	d->selector = selector;
	if (!in_table(env->cpu, selector, 8, &d->linear)) {
		return insn_raise(env, vector, (selector & ~3U) | ext);
	}
	r = insn_read_system(env, d->linear, &d->raw, 8);
	parse(d);
	return r;
}

enum insn_outcome insn_fetch_upper(struct insn_env *env, enum insn_vector vector, uint32_t ext,
				   struct insn_descriptor *d)
{
	enum insn_outcome r;
	uint64_t linear;

	if (!insn_lma(env->cpu)) {
		return INSN_DONE;
	}
	if (!in_table(env->cpu, d->selector, 16, &linear)) {
		return insn_raise(env, vector, (d->selector & ~3U) | ext);
	}
	r = insn_read_system(env, linear + 8, &d->upper, 8);
	d->base |= d->upper << 32;
	return r;
}

enum insn_outcome insn_set_accessed(struct insn_env *env, struct insn_descriptor *d)
{
	uint8_t byte = (uint8_t)(d->attr | SEG_ACCESSED);
	enum insn_outcome r;

	if ((d->attr & SEG_ACCESSED) != 0) {
		return INSN_DONE;
	}
	r = insn_write_system(env, d->linear + 5, &byte, 1);
	d->attr |= SEG_ACCESSED;
	return r;
}

struct insn_segment insn_segment_of(const struct insn_descriptor *d, uint16_t selector)
{
	return (struct insn_segment){
		.selector = selector,
		.attr = d->attr,
		.limit = d->limit,
		.base = d->base,
	};
}

void insn_real_segment(struct insn_segment *s, uint16_t selector)
{
	s->selector = selector;
	s->base = (uint64_t)selector << 4;
}

struct insn_segment insn_v86_segment(uint16_t selector)
{
	return (struct insn_segment){
		.selector = selector,
		.attr = 0xf3,
		.limit = 0xffff,
		.base = (uint64_t)selector << 4,
	};
}

enum insn_outcome insn_fetch_ss(struct insn_env *env, uint16_t selector, unsigned cpl,
				enum insn_vector vector, uint32_t ext, struct insn_segment *ss)
{
	uint32_t error = (selector & ~3U) | ext;
	struct insn_descriptor d;
	enum insn_outcome r;

	if (insn_null(selector)) {
		return insn_raise(env, vector, error);
	}
	r = insn_fetch_descriptor(env, selector, vector, ext, &d);
	if (r != INSN_DONE) {
		return r;
	}
	if ((selector & 3) != cpl || INSN_SEG_DPL(d.attr) != cpl || !insn_is_writable(d.attr)) {
		return insn_raise(env, vector, error);
	}
	if ((d.attr & INSN_SEG_P) == 0) {
		return insn_raise(env, INSN_EXC_SS, error);
	}
	r = insn_set_accessed(env, &d);
	*ss = insn_segment_of(&d, selector);
	return r;
}

struct insn_segment insn_null_ss(unsigned cpl)
{
	return (struct insn_segment){.selector = (uint16_t)cpl, .attr = (uint16_t)(cpl << 5)};
}

static enum insn_outcome load_ss(struct insn_env *env, uint16_t selector)
{
	struct insn_cpu *cpu = env->cpu;
	struct insn_segment ss;
	enum insn_outcome r;

	if (insn_null(selector) && insn_mode(cpu) == INSN_64 && cpu->cpl != 3 &&
	    selector == cpu->cpl) {
		cpu->seg[INSN_SS] = insn_null_ss(cpu->cpl);
		return INSN_DONE;
	}
	r = insn_fetch_ss(env, selector, cpu->cpl, INSN_EXC_GP, 0, &ss);
	if (r == INSN_DONE) {
		cpu->seg[INSN_SS] = ss;
	}
	return r;
}

/* DS, ES, FS, GS */
static enum insn_outcome load_data(struct insn_env *env, unsigned seg, uint16_t selector)
{
	struct insn_cpu *cpu = env->cpu;
	struct insn_descriptor d;
	enum insn_outcome r;
	bool code;

	if (insn_null(selector)) {
		cpu->seg[seg] = (struct insn_segment){.selector = selector};
		return INSN_DONE;
	}
	r = insn_fetch_descriptor(env, selector, INSN_EXC_GP, 0, &d);
	if (r != INSN_DONE) {
		return r;
	}
	code = insn_is_code(d.attr);
	if ((d.attr & INSN_SEG_S) == 0 || (code && (d.attr & SEG_READ_WRITE) == 0) ||
	    (!insn_is_conforming(d.attr) &&
	     (INSN_SEG_DPL(d.attr) < (selector & 3U) || INSN_SEG_DPL(d.attr) < cpu->cpl))) {
		return insn_raise(env, INSN_EXC_GP, selector & ~3U);
	}
	if ((d.attr & INSN_SEG_P) == 0) {
		return insn_raise(env, INSN_EXC_NP, selector & ~3U);
	}
	r = insn_set_accessed(env, &d);
	if (r == INSN_DONE) {
		cpu->seg[seg] = insn_segment_of(&d, selector);
	}
	return r;
}

enum insn_outcome insn_load_segment(struct insn_env *env, unsigned seg, uint16_t selector)
{
	if (insn_v86(env->cpu)) {
		env->cpu->seg[seg] = insn_v86_segment(selector);
		return INSN_DONE;
	}
	if (insn_real_mode(env->cpu)) {
		insn_real_segment(&env->cpu->seg[seg], selector);
		return INSN_DONE;
	}
	return seg == INSN_SS ? load_ss(env, selector) : load_data(env, seg, selector);
}
