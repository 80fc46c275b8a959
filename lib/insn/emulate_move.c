/*
 * Data movement, conversions, the flags as data, and the stack.
 *
 * Spec: Intel SDM vol. 2, the instructions' pages
 */
#include <string.h>

#include "lib/insn/descriptor.h"

static enum insn_outcome set_segment(struct insn_exec *x, unsigned seg, uint64_t selector)
{
	enum insn_outcome r = insn_load_segment(x->env, seg, (uint16_t)selector);

	x->shadow = r == INSN_DONE && seg == INSN_SS;
	x->trap_shadow = x->shadow;
	return r;
}

enum insn_outcome insn_do_mov(struct insn_exec *x)
{
	const struct insn_operand *to = &x->insn->operand[0];
	uint64_t value = 0;
	enum insn_outcome r = insn_read(x, 1, &value);

	if (r != INSN_DONE) {
		return r;
	}
	if (to->kind == INSN_OP_REG && to->klass == INSN_SEG) {
		return set_segment(x, to->reg, value);
	}
	return insn_write(x, 0, value);
}

/* MOVZX, MOVSX, MOVSXD */
enum insn_outcome insn_do_extend(struct insn_exec *x)
{
	unsigned bits = 8U * x->insn->operand[1].bytes;
	uint64_t value = 0;
	enum insn_outcome r = insn_read(x, 1, &value);

	if (r != INSN_DONE) {
		return r;
	}
	if (x->insn->mnemonic != INSN_MOVZX) {
		value = (uint64_t)((int64_t)(value << (64 - bits)) >> (64 - bits));
	}
	return insn_write(x, 0, value);
}

static uint64_t swap_bytes(uint64_t value, unsigned bytes)
{
	return __builtin_bswap64(value) >> (64 - 8 * bytes);
}

enum insn_outcome insn_do_movbe(struct insn_exec *x)
{
	uint64_t value = 0;
	enum insn_outcome r = insn_read(x, 1, &value);

	return r == INSN_DONE ? insn_write(x, 0, swap_bytes(value, x->insn->operand[0].bytes)) : r;
}

/* With 16 bits the result is undefined: zero, on all CPUs known. */
enum insn_outcome insn_do_bswap(struct insn_exec *x)
{
	unsigned bytes = x->insn->operand[0].bytes;
	uint64_t value = 0;
	enum insn_outcome r = insn_read(x, 0, &value);

	if (r != INSN_DONE) {
		return r;
	}
	return insn_write(x, 0, bytes == 2 ? 0 : swap_bytes(value, bytes));
}

enum insn_outcome insn_do_lea(struct insn_exec *x)
{
	return insn_write(x, 0, insn_offset(x, &x->insn->mem[0]));
}

enum insn_outcome insn_do_xchg(struct insn_exec *x)
{
	uint64_t a = 0, b = 0;
	enum insn_outcome r = insn_read_rmw(x, 0, &a);

	if (r != INSN_DONE || (r = insn_read(x, 1, &b)) != INSN_DONE ||
	    (r = insn_write_rmw(x, 0, b)) != INSN_DONE) {
		return r;
	}
	return insn_write(x, 1, a);
}

/* Memory is read, and the upper half cleared, whether it moves or not. */
enum insn_outcome insn_do_cmov(struct insn_exec *x)
{
	uint64_t a = 0, b = 0;
	enum insn_outcome r = insn_read(x, 1, &b);

	if (r != INSN_DONE || (r = insn_read(x, 0, &a)) != INSN_DONE) {
		return r;
	}
	return insn_write(x, 0, insn_condition(x, x->insn->opcode) ? b : a);
}

enum insn_outcome insn_do_setcc(struct insn_exec *x)
{
	return insn_write(x, 0, insn_condition(x, x->insn->opcode) ? 1 : 0);
}

/* CBW, CWDE, CDQE widen rAX; CWD, CDQ, CQO fill rDX with its sign. */
enum insn_outcome insn_do_convert(struct insn_exec *x)
{
	unsigned bytes = x->insn->op_bytes;
	uint64_t rax = x->cpu->gpr[RAX];
	unsigned shift = 64 - 8 * bytes;

	if (x->insn->opcode == 0x98) {
		shift = 64 - 4 * bytes;
		insn_set_gpr(x, RAX, bytes, (uint64_t)((int64_t)(rax << shift) >> shift));
	} else {
		insn_set_gpr(x, RDX, bytes, (rax << shift & BIT(63)) != 0 ? UINT64_MAX : 0);
	}
	return INSN_DONE;
}

enum insn_outcome insn_do_xlat(struct insn_exec *x)
{
	uint64_t value = 0;
	enum insn_outcome r = insn_read(x, 0, &value);

	if (r == INSN_DONE) {
		insn_set_gpr(x, RAX, 1, value);
	}
	return r;
}

enum insn_outcome insn_do_nop(struct insn_exec *x)
{
	(void)x;
	return INSN_DONE;
}

enum insn_outcome insn_do_flags(struct insn_exec *x)
{
	const uint64_t low = FLAGS_ARITH & ~FLAG_OF;
	uint64_t f = x->cpu->rflags;

	switch (x->insn->mnemonic) {
	case INSN_CLC:
		insn_set_flags(x, FLAG_CF, 0);
		break;
	case INSN_STC:
		insn_set_flags(x, FLAG_CF, FLAG_CF);
		break;
	case INSN_CMC:
		insn_set_flags(x, FLAG_CF, ~f);
		break;
	case INSN_CLD:
		insn_set_flags(x, FLAG_DF, 0);
		break;
	case INSN_STD:
		insn_set_flags(x, FLAG_DF, FLAG_DF);
		break;
	case INSN_CLAC:
		insn_set_flags(x, FLAG_AC, 0);
		break;
	case INSN_STAC:
		insn_set_flags(x, FLAG_AC, FLAG_AC);
		break;
	case INSN_LAHF:
		insn_set_gpr(x, RAX, 2, ((f & low) | FLAG_ONE) << 8 | (x->cpu->gpr[RAX] & 0xff));
		break;
	case INSN_SAHF:
		insn_set_flags(x, low, x->cpu->gpr[RAX] >> 8);
		break;
	default: /* SALC */
		insn_set_gpr(x, RAX, 1, (f & FLAG_CF) != 0 ? 0xff : 0);
		break;
	}
	return INSN_DONE;
}

enum insn_outcome insn_do_push(struct insn_exec *x)
{
	uint64_t value = 0;
	enum insn_outcome r = insn_read(x, 0, &value);

	return r == INSN_DONE ? insn_push(x, value) : r;
}

enum insn_outcome insn_do_pop(struct insn_exec *x)
{
	const struct insn_operand *to = &x->insn->operand[0];
	uint64_t value = 0, rsp = x->cpu->gpr[RSP];
	enum insn_outcome r = insn_peek(x, 0, &value, x->insn->op_bytes);

	if (r != INSN_DONE) {
		return r;
	}
	/* An address with RSP in it has its new value, and so has POP RSP its own. */
	insn_move_rsp(x, x->insn->op_bytes);
	if (to->kind == INSN_OP_REG && to->klass == INSN_SEG) {
		r = set_segment(x, to->reg, value);
	} else {
		r = insn_write(x, 0, value);
	}
	if (r != INSN_DONE) {
		x->cpu->gpr[RSP] = rsp;
	}
	return r;
}

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

#define LEVELS_MAX 31

/* The frame pointers of the outer procedures: copied from below the old frame pointer. */
static enum insn_outcome outer_frames(struct insn_exec *x, unsigned n, uint64_t *slots)
{
	struct insn_stack s = insn_current_stack(x->cpu);
	unsigned bytes = x->insn->op_bytes;
	enum insn_outcome r = INSN_DONE;

	s.rsp = x->cpu->gpr[RBP];
	for (unsigned i = 0; i < n && r == INSN_DONE; i++) {
		s.rsp -= bytes;
		r = insn_stack_peek(x->env, &s, 0, &slots[i], 1, bytes);
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
		r = outer_frames(x, level - 1, slots + 1);
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
