/*
 * The stack beyond PUSH and POP: all registers, the flags, procedures' frames; and BOUND.
 *
 * Spec: Intel SDM vol. 2, the instructions' pages
 */
#include <string.h>

#include "lib/insn/transfer.h"

#define LEVELS_MAX 31

enum insn_outcome insn_do_pusha(struct insn_exec *x)
{
	unsigned bytes = x->insn->op_bytes;
	uint8_t block[32];

	for (unsigned i = 0; i < 8; i++) {
		memcpy(block + (7 - i) * bytes, &x->cpu->gpr[i], bytes);
	}
	return insn_push_block(x, block, 8 * bytes);
}

enum insn_outcome insn_do_popa(struct insn_exec *x)
{
	unsigned bytes = x->insn->op_bytes;
	uint8_t block[32];
	enum insn_outcome r = insn_peek(x, 0, block, 8 * bytes);

	if (r != INSN_DONE) {
		return r;
	}
	for (unsigned i = 0; i < 8; i++) {
		uint64_t value = 0;

		memcpy(&value, block + (7 - i) * bytes, bytes);
		if (i != RSP) {
			insn_set_gpr(x, i, bytes, value);
		}
	}
	insn_move_rsp(x, 8 * bytes);
	return INSN_DONE;
}

/* A program in virtual-8086 mode that may not have IF has VIF instead; permitted() has asked for
 * VME. Spec: Intel SDM vol. 3A, 21.3.3 */
static bool virtual_flag(const struct insn_cpu *cpu)
{
	return insn_v86(cpu) && insn_iopl(cpu) < 3;
}

enum insn_outcome insn_do_pushf(struct insn_exec *x)
{
	uint64_t flags = x->cpu->rflags & ~(FLAG_VM | FLAG_RF);

	if (virtual_flag(x->cpu)) {
		flags = (flags & ~FLAG_IF) | FLAG_IOPL;
		flags |= (flags & FLAG_VIF) != 0 ? FLAG_IF : 0;
	}
	return insn_push(x, flags);
}

static enum insn_outcome pop_virtual(struct insn_exec *x, uint64_t value)
{
	if ((value & FLAG_TF) != 0 ||
	    ((value & FLAG_IF) != 0 && (x->cpu->rflags & FLAG_VIP) != 0)) {
		return insn_raise(x->env, INSN_EXC_GP, 0);
	}
	insn_move_rsp(x, x->insn->op_bytes);
	value |= (value & FLAG_IF) != 0 ? FLAG_VIF : 0;
	insn_set_flags(x, FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT | FLAG_VIF, value);
	return INSN_DONE;
}

enum insn_outcome insn_do_popf(struct insn_exec *x)
{
	uint64_t value = 0, which = FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT;
	const struct insn_cpu *cpu = x->cpu;
	enum insn_outcome r = insn_peek(x, 0, &value, x->insn->op_bytes);

	if (r != INSN_DONE) {
		return r;
	}
	if (virtual_flag(cpu)) {
		return pop_virtual(x, value);
	}
	insn_move_rsp(x, x->insn->op_bytes);
	which |= cpu->cpl <= insn_iopl(cpu) ? FLAG_IF : 0;
	which |= cpu->cpl == 0 ? FLAG_IOPL : 0;
	if (x->insn->op_bytes > 2) {
		which |= FLAG_AC | FLAG_ID | FLAG_RF;
		value &= ~FLAG_RF;
		if (cpu->cpl == 0) {
			which |= FLAG_VIF | FLAG_VIP;
			value &= ~(FLAG_VIF | FLAG_VIP);
		}
	}
	insn_set_flags(x, which, value);
	return INSN_DONE;
}

/* Could it be written to? Asked by a read, the answer of which is not looked at. */
static enum insn_outcome probe_stack(struct insn_exec *x, uint64_t offset, unsigned len)
{
	uint64_t linear, ignored = 0;
	enum insn_outcome r;

	offset &= insn_mask(insn_stack_bytes(x));
	r = insn_translate(x, INSN_SS, offset, len, true, &linear);
	return r == INSN_DONE ? x->ops->read(x->env, linear, &ignored, len, INSN_ACCESS_WRITE) : r;
}

/* What of @value, read at @at, has just been pushed: @n slots below @top. */
static uint64_t with_pushed(const struct insn_stack *s, uint64_t top, uint64_t at, uint64_t value,
			    const uint64_t *slots, unsigned n, unsigned bytes)
{
	for (unsigned b = 0; b < bytes; b++) {
		uint64_t below = (top - 1 - (at + b)) & insn_mask(s->bytes);
		uint64_t byte;

		if (below < (uint64_t)n * bytes) {
			byte = slots[below / bytes] >> 8 * (bytes - 1 - below % bytes) & 0xff;
			value = (value & ~(UINT64_C(0xff) << 8 * b)) | byte << 8 * b;
		}
	}
	return value;
}

/* The frame pointers of the outer procedures, @level - 1 of them behind slots[0]: copied from below
 * the old frame pointer, where what is pushed meanwhile may lie. */
static enum insn_outcome outer_frames(struct insn_exec *x, unsigned level, uint64_t *slots)
{
	struct insn_stack s = insn_current_stack(x->cpu);
	unsigned bytes = x->insn->op_bytes;
	uint64_t top = s.rsp;
	enum insn_outcome r = INSN_DONE;

	s.rsp = x->cpu->gpr[RBP];
	for (unsigned i = 1; i < level && r == INSN_DONE; i++) {
		s.rsp -= bytes;
		r = insn_stack_peek(x->env, &s, 0, &slots[i], 1, bytes);
		slots[i] = with_pushed(&s, top, s.rsp, slots[i], slots, i, bytes);
	}
	return r;
}

/*
 * The old frame pointer is pushed, those of the outer procedures, and the new one; the end of the
 * frame has to be writable.
 */
enum insn_outcome insn_do_enter(struct insn_exec *x)
{
	unsigned bytes = x->insn->op_bytes, level = x->insn->imm[1] & LEVELS_MAX, n = 1 + level;
	struct insn_stack s = insn_current_stack(x->cpu);
	uint64_t slots[LEVELS_MAX + 1] = {x->cpu->gpr[RBP]};
	uint64_t frame = insn_merge_rsp(s.rsp, s.rsp - bytes, s.bytes);
	enum insn_outcome r = INSN_DONE;

	for (unsigned i = 1; i <= n && r == INSN_DONE; i++) {
		r = probe_stack(x, s.rsp - (uint64_t)i * bytes, bytes);
	}
	if (level > 1 && r == INSN_DONE) {
		r = outer_frames(x, level, slots);
	}
	if (level > 0) {
		slots[level] = frame;
	}
	if (r == INSN_DONE) {
		r = probe_stack(x, s.rsp - (uint64_t)n * bytes - x->insn->imm[0], 1);
	}
	if (r == INSN_DONE) {
		r = insn_stack_push(x->env, &s, slots, n, bytes);
	}
	if (r != INSN_DONE) {
		return r;
	}
	x->cpu->gpr[RSP] = s.rsp;
	insn_set_gpr(x, RBP, bytes, frame);
	insn_move_rsp(x, -(int64_t)x->insn->imm[0]);
	return INSN_DONE;
}

enum insn_outcome insn_do_leave(struct insn_exec *x)
{
	unsigned stack = insn_stack_bytes(x);
	uint64_t rsp = x->cpu->gpr[RSP], value = 0;
	enum insn_outcome r;

	insn_set_gpr(x, RSP, stack, x->cpu->gpr[RBP]);
	r = insn_peek(x, 0, &value, x->insn->op_bytes);
	if (r != INSN_DONE) {
		x->cpu->gpr[RSP] = rsp;
		return r;
	}
	insn_move_rsp(x, x->insn->op_bytes);
	insn_set_gpr(x, RBP, x->insn->op_bytes, value);
	return INSN_DONE;
}

enum insn_outcome insn_do_bound(struct insn_exec *x)
{
	const struct insn_mem *m = &x->insn->mem[0];
	unsigned bytes = x->insn->op_bytes, shift = 64 - 8 * bytes;
	uint64_t index = 0, low = 0, high = 0;
	uint8_t block[8];
	enum insn_outcome r = insn_load(x, m->seg, insn_offset(x, m), block, 2 * bytes);

	if (r != INSN_DONE || (r = insn_read(x, 0, &index)) != INSN_DONE) {
		return r;
	}
	memcpy(&low, block, bytes);
	memcpy(&high, block + bytes, bytes);
	if ((int64_t)(index << shift) < (int64_t)(low << shift) ||
	    (int64_t)(index << shift) > (int64_t)(high << shift)) {
		return insn_raise(x->env, INSN_EXC_BR, 0);
	}
	return INSN_DONE;
}
