#include "lib/insn/descriptor.h"

#include <string.h>

#define CR4_LA57 BIT(12)

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

bool insn_is_wide(const struct insn_cpu *cpu, uint16_t attr)
{
	return insn_lma(cpu) && (attr & INSN_SEG_L) != 0;
}

static unsigned stack_bytes(const struct insn_segment *ss)
{
	return (ss->attr & INSN_SEG_DB) != 0 ? 4 : 2;
}

struct insn_stack insn_current_stack(const struct insn_cpu *cpu)
{
	bool wide = insn_mode(cpu) == INSN_64;

	return (struct insn_stack){
		.ss = cpu->seg[INSN_SS],
		.rsp = cpu->gpr[RSP],
		.bytes = wide ? 8 : stack_bytes(&cpu->seg[INSN_SS]),
		.cpl = cpu->cpl,
		.flat = wide,
		.real = insn_real_mode(cpu),
	};
}

/* Spec: Intel SDM vol. 3A, figure 8-11 "64-Bit TSS Format" */
static enum insn_outcome inner_stack_64(struct insn_env *env, unsigned cpl, unsigned ist,
					uint32_t ext, struct insn_stack *s)
{
	const struct insn_segment *tr = &env->cpu->tr;
	unsigned at = ist != 0 ? 28 + 8 * ist : 4 + 8 * cpl;
	enum insn_outcome r;

	if (at + 7 > tr->limit) {
		return insn_raise(env, INSN_EXC_TS, (tr->selector & ~3U) | ext);
	}
	*s = (struct insn_stack){
		.ss = insn_null_ss(cpl), .bytes = 8, .cpl = cpl, .flat = true, .error = ext};
	r = insn_read_system(env, tr->base + at, &s->rsp, 8);
	if (r == INSN_DONE && !insn_canonical(env->cpu, s->rsp)) {
		return insn_raise(env, INSN_EXC_SS, ext);
	}
	return r;
}

enum insn_outcome insn_inner_stack(struct insn_env *env, unsigned cpl, unsigned ist, uint32_t ext,
				   struct insn_stack *s)
{
	const struct insn_segment *tr = &env->cpu->tr;
	bool narrow = (insn_type(tr->attr) & ~(unsigned)SYS_BUSY) == SYS_TSS16;
	unsigned at = narrow ? 2 + 4 * cpl : 4 + 8 * cpl, bytes = narrow ? 2 : 4;
	enum insn_outcome r;
	uint16_t selector = 0;
	uint64_t slot = 0;

	if (insn_lma(env->cpu)) {
		return inner_stack_64(env, cpl, ist, ext, s);
	}
	if (at + bytes + 1 > tr->limit) {
		return insn_raise(env, INSN_EXC_TS, (tr->selector & ~3U) | ext);
	}
	*s = (struct insn_stack){.cpl = cpl};
	r = insn_read_system(env, tr->base + at, &slot, bytes + 2);
	if (r != INSN_DONE) {
		return r;
	}
	s->rsp = slot & insn_mask(bytes);
	selector = (uint16_t)(slot >> 8 * bytes);
	s->error = (selector & ~3U) | ext;
	r = insn_fetch_ss(env, selector, cpl, INSN_EXC_TS, ext, &s->ss);
	s->bytes = stack_bytes(&s->ss);
	return r;
}

/* Is @len at @offset inside of the segment? */
static bool stack_allows(const struct insn_stack *s, uint64_t offset, unsigned len, bool write)
{
	uint64_t last = offset + len - 1;

	if (!s->real) {
		if ((s->ss.attr & INSN_SEG_P) == 0 || (write && !insn_is_writable(s->ss.attr))) {
			return false;
		}
		if ((s->ss.attr & 4) != 0) { /* expands down */
			return offset > s->ss.limit &&
			       last <= ((s->ss.attr & INSN_SEG_DB) != 0 ? 0xffffffff : 0xffff);
		}
	}
	return last <= s->ss.limit;
}

static enum insn_outcome stack_linear(struct insn_env *env, const struct insn_stack *s,
				      uint64_t offset, unsigned len, bool write, uint64_t *linear)
{
	if (s->flat) {
		*linear = offset;
		if (!insn_canonical(env->cpu, offset) ||
		    !insn_canonical(env->cpu, offset + len - 1)) {
			return insn_raise(env, INSN_EXC_SS, s->error);
		}
		return INSN_DONE;
	}
	if (!stack_allows(s, offset, len, write)) {
		return insn_raise(env, INSN_EXC_SS, s->error);
	}
	*linear = (uint32_t)(s->ss.base + offset);
	return INSN_DONE;
}

#define CHUNK 64

enum step {
	STEP_PROBE,
	STEP_WRITE,
	STEP_READ
};

/* A block may wrap at the end of the stack, where no slot crosses; so it goes in pieces. */
static enum insn_outcome each_piece(struct insn_env *env, const struct insn_stack *s, uint64_t rsp,
				    uint8_t *block, unsigned len, unsigned slot, enum step step)
{
	enum insn_outcome r = INSN_DONE;
	uint64_t linear = 0;

	for (unsigned done = 0, piece; done < len && r == INSN_DONE; done += piece) {
		uint64_t offset = (rsp + done) & insn_mask(s->bytes);

		piece = MIN(len - done, CHUNK);
		if (offset + piece - 1 > insn_mask(s->bytes)) {
			piece = slot;
		}
		r = stack_linear(env, s, offset, piece, step != STEP_READ, &linear);
		if (r != INSN_DONE) {
			return r;
		}
		if (step == STEP_PROBE) {
			r = env->ops->probe == NULL ? INSN_DONE
						    : env->ops->probe(env, linear, piece);
		} else if (step == STEP_WRITE) {
			r = env->ops->write(env, linear, block + done, piece, INSN_ACCESS_WRITE);
		} else {
			r = env->ops->read(env, linear, block + done, piece, 0);
		}
	}
	return r;
}

/* ENTER at its deepest: 33 slots of 8 bytes. A call gate with all parameters: 35 of 4. */
#define BLOCK_MAX 264

/*
 * A page fault among several slots is that of the first that the CPU pushes to the missing page,
 * the uppermost; what it pushed before stays below RSP.
 */
static enum insn_outcome push_each(struct insn_env *env, const struct insn_stack *s,
				   const uint64_t *slots, unsigned count, unsigned slot)
{
	enum insn_outcome r = INSN_DONE;
	uint8_t block[sizeof(*slots)];

	for (unsigned i = 0; i < count && r == INSN_DONE; i++) {
		memcpy(block, &slots[i], sizeof(block));
		r = each_piece(env, s, s->rsp - ((uint64_t)i + 1) * slot, block, slot, slot,
			       STEP_WRITE);
	}
	return r;
}

enum insn_outcome insn_stack_push(struct insn_env *env, struct insn_stack *s, const uint64_t *slots,
				  unsigned count, unsigned slot)
{
	uint64_t rsp = s->rsp - (uint64_t)count * slot;
	uint8_t block[BLOCK_MAX], cpl = env->cpu->cpl;
	unsigned len = count * slot;
	enum insn_outcome r = INSN_DONE;

	for (unsigned i = 0; i < count; i++) {
		memcpy(block + (size_t)(count - 1 - i) * slot, &slots[i], slot);
	}
	env->cpu->cpl = (uint8_t)s->cpl; /* with whose rights it is written */
	if (len > CHUNK || (rsp & insn_mask(s->bytes)) + len - 1 > insn_mask(s->bytes)) {
		r = each_piece(env, s, rsp, block, len, slot, STEP_PROBE);
	}
	if (r == INSN_DONE) {
		r = each_piece(env, s, rsp, block, len, slot, STEP_WRITE);
	}
	if (r == INSN_FAULT && env->fault.vector == INSN_EXC_PF) {
		r = push_each(env, s, slots, count, slot);
	}
	env->cpu->cpl = cpl;
	if (r == INSN_DONE) {
		s->rsp = insn_merge_rsp(s->rsp, rsp, s->bytes);
	}
	return r;
}

enum insn_outcome insn_stack_peek(struct insn_env *env, const struct insn_stack *s, unsigned skip,
				  uint64_t *slots, unsigned count, unsigned slot)
{
	uint8_t block[BLOCK_MAX];
	enum insn_outcome r =
		each_piece(env, s, s->rsp + skip, block, count * slot, slot, STEP_READ);

	for (unsigned i = 0; i < count && r == INSN_DONE; i++) {
		slots[i] = 0;
		memcpy(&slots[i], block + (size_t)i * slot, slot);
	}
	return r;
}

uint64_t insn_merge_rsp(uint64_t old, uint64_t rsp, unsigned bytes)
{
	return bytes == 2 ? (old & ~UINT64_C(0xffff)) | (rsp & 0xffff) : rsp & insn_mask(bytes);
}

enum insn_outcome insn_check_rip(struct insn_env *env, uint16_t attr, uint32_t limit, uint32_t ext,
				 uint64_t *rip)
{
	if (insn_is_wide(env->cpu, attr)) {
		return insn_canonical(env->cpu, *rip) ? INSN_DONE
						      : insn_raise(env, INSN_EXC_GP, ext);
	}
	*rip &= 0xffffffff;
	return *rip <= limit ? INSN_DONE : insn_raise(env, INSN_EXC_GP, ext);
}

enum insn_outcome insn_fetch_return_cs(struct insn_env *env, uint16_t selector,
				       struct insn_descriptor *d)
{
	unsigned rpl = selector & 3;
	enum insn_outcome r;

	if (insn_null(selector)) {
		return insn_raise(env, INSN_EXC_GP, 0);
	}
	r = insn_fetch_descriptor(env, selector, INSN_EXC_GP, 0, d);
	if (r != INSN_DONE) {
		return r;
	}
	if (!insn_is_code(d->attr) || rpl < env->cpu->cpl ||
	    (insn_is_conforming(d->attr) ? INSN_SEG_DPL(d->attr) > rpl
					 : INSN_SEG_DPL(d->attr) != rpl) ||
	    (insn_is_wide(env->cpu, d->attr) && (d->attr & INSN_SEG_DB) != 0)) {
		return insn_raise(env, INSN_EXC_GP, selector & ~3U);
	}
	if ((d->attr & INSN_SEG_P) == 0) {
		return insn_raise(env, INSN_EXC_NP, selector & ~3U);
	}
	return INSN_DONE;
}

void insn_drop_segments(struct insn_cpu *cpu)
{
	static const uint8_t data[] = {INSN_ES, INSN_FS, INSN_GS, INSN_DS};

	for (unsigned i = 0; i < ARRAY_SIZE(data); i++) {
		struct insn_segment *s = &cpu->seg[data[i]];

		if (!insn_null(s->selector) && !insn_is_conforming(s->attr) &&
		    INSN_SEG_DPL(s->attr) < cpu->cpl) {
			*s = (struct insn_segment){0};
		}
	}
}
