#include "lib/insn/transfer.h"

#include <string.h>

#define CHUNK 64

enum step {
	STEP_PROBE,
	STEP_WRITE,
	STEP_READ
};

/* ENTER at its deepest: 33 slots of 8 bytes. A call gate with all parameters: 35 of 4. */
#define BLOCK_MAX 264

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
