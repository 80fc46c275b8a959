/*
 * What all families of instructions share: registers, flags, operands, segments, the stack.
 */
#include "lib/insn/exec.h"

#include <string.h>

#include "lib/insn/descriptor.h"

uint64_t insn_get_gpr(const struct insn_exec *x, unsigned reg, unsigned bytes)
{
	return x->cpu->gpr[reg] & insn_mask(bytes);
}

void insn_set_gpr(struct insn_exec *x, unsigned reg, unsigned bytes, uint64_t value)
{
	uint64_t *gpr = &x->cpu->gpr[reg];

	if (bytes >= 4) {
		*gpr = value & insn_mask(bytes);
	} else {
		*gpr = (*gpr & ~insn_mask(bytes)) | (value & insn_mask(bytes));
	}
}

void insn_set_flags(struct insn_exec *x, uint64_t which, uint64_t value)
{
	x->cpu->rflags = (x->cpu->rflags & ~which) | (value & which);
}

uint64_t insn_result_flags(uint64_t value, unsigned bytes)
{
	uint64_t flags = 0;

	value &= insn_mask(bytes);
	flags |= value == 0 ? FLAG_ZF : 0;
	flags |= (value >> (8 * bytes - 1) & 1) != 0 ? FLAG_SF : 0;
	flags |= __builtin_parity((unsigned)(value & 0xff)) == 0 ? FLAG_PF : 0;
	return flags;
}

bool insn_condition(const struct insn_exec *x, unsigned cc)
{
	uint64_t f = x->cpu->rflags;
	bool less = ((f & FLAG_SF) != 0) != ((f & FLAG_OF) != 0);
	bool holds;

	switch (cc >> 1 & 7) {
	case 0:
		holds = (f & FLAG_OF) != 0;
		break;
	case 1:
		holds = (f & FLAG_CF) != 0;
		break;
	case 2:
		holds = (f & FLAG_ZF) != 0;
		break;
	case 3:
		holds = (f & (FLAG_CF | FLAG_ZF)) != 0;
		break;
	case 4:
		holds = (f & FLAG_SF) != 0;
		break;
	case 5:
		holds = (f & FLAG_PF) != 0;
		break;
	case 6:
		holds = less;
		break;
	default:
		holds = less || (f & FLAG_ZF) != 0;
		break;
	}
	return holds != ((cc & 1) != 0);
}

uint64_t insn_offset(const struct insn_exec *x, const struct insn_mem *m)
{
	uint64_t offset = (uint64_t)m->disp;

	if (m->base == INSN_RIP) {
		offset += x->cpu->rip + x->insn->len;
	} else if (m->base != INSN_NO_REG) {
		offset += x->cpu->gpr[m->base];
	}
	if (m->kind == INSN_MEM_XLAT) {
		offset += x->cpu->gpr[RAX] & 0xff;
	} else if (m->index != INSN_NO_REG) {
		offset += x->cpu->gpr[m->index] * m->scale;
	}
	return offset & insn_mask(x->insn->adr_bytes);
}

static enum insn_outcome bad_segment(struct insn_exec *x, unsigned seg)
{
	return insn_raise(x->env, seg == INSN_SS ? INSN_EXC_SS : INSN_EXC_GP, 0);
}

/* Spec: Intel SDM vol. 3A, 5.3 "Limit Checking", 5.5; the type is not checked in real mode. */
static bool segment_allows(const struct insn_cpu *cpu, const struct insn_segment *s,
			   uint64_t offset, unsigned len, bool write)
{
	uint64_t last = offset + len - 1;
	unsigned type = s->attr & INSN_SEG_TYPE;

	if (!insn_real_mode(cpu)) {
		bool code = (type & 8) != 0;

		if ((s->attr & INSN_SEG_P) == 0 || (code && (write || (type & 2) == 0)) ||
		    (!code && write && (type & 2) == 0)) {
			return false;
		}
		if (!code && (type & 4) != 0) { /* expands down */
			return offset > s->limit &&
			       last <= ((s->attr & INSN_SEG_DB) != 0 ? 0xffffffff : 0xffff);
		}
	}
	return last <= s->limit;
}

static bool misaligned(const struct insn_exec *x, uint64_t linear, unsigned len)
{
	return x->cpu->cpl == 3 && (x->cpu->rflags & FLAG_AC) != 0 && (x->cpu->cr0 & CR0_AM) != 0 &&
	       len <= 8 && (linear & (len - 1)) != 0;
}

enum insn_outcome insn_translate(struct insn_exec *x, unsigned seg, uint64_t offset, unsigned len,
				 bool write, uint64_t *linear)
{
	const struct insn_segment *s = &x->cpu->seg[seg];

	if (insn_long_mode(x)) {
		*linear = offset + (seg >= INSN_FS ? s->base : 0);
		if (!insn_canonical(x->cpu, *linear) ||
		    !insn_canonical(x->cpu, *linear + len - 1)) {
			return bad_segment(x, seg);
		}
	} else {
		if (!segment_allows(x->cpu, s, offset, len, write)) {
			return bad_segment(x, seg);
		}
		*linear = (uint32_t)(s->base + offset);
	}
	if (misaligned(x, *linear, len)) {
		return insn_raise(x->env, INSN_EXC_AC, 0);
	}
	return INSN_DONE;
}

static enum insn_outcome load(struct insn_exec *x, unsigned seg, uint64_t offset, void *data,
			      unsigned len, bool write, uint64_t *linear)
{
	enum insn_outcome r = insn_translate(x, seg, offset, len, write, linear);

	if (r != INSN_DONE) {
		return r;
	}
	return x->ops->read(x->env, *linear, data, len, write ? INSN_ACCESS_WRITE : 0);
}

enum insn_outcome insn_load(struct insn_exec *x, unsigned seg, uint64_t offset, void *data,
			    unsigned len)
{
	uint64_t linear = 0;

	return load(x, seg, offset, data, len, false, &linear);
}

enum insn_outcome insn_store(struct insn_exec *x, unsigned seg, uint64_t offset, const void *data,
			     unsigned len)
{
	uint64_t linear = 0;
	enum insn_outcome r = insn_translate(x, seg, offset, len, true, &linear);

	return r == INSN_DONE ? x->ops->write(x->env, linear, data, len, INSN_ACCESS_WRITE) : r;
}

static enum insn_outcome read_operand(struct insn_exec *x, unsigned i, uint64_t *value, bool rmw)
{
	const struct insn_operand *o = &x->insn->operand[i];
	const struct insn_mem *m;

	switch (o->kind) {
	case INSN_OP_REG:
		if (o->klass == INSN_GPR_HIGH) {
			*value = x->cpu->gpr[o->reg] >> 8 & 0xff;
		} else if (o->klass == INSN_SEG) {
			*value = x->cpu->seg[o->reg].selector;
		} else {
			*value = insn_get_gpr(x, o->reg, o->bytes);
		}
		return INSN_DONE;
	case INSN_OP_MEM:
		m = &x->insn->mem[o->reg];
		*value = 0;
		return load(x, m->seg, insn_offset(x, m), value, m->bytes, rmw, &x->linear);
	default:
		*value = x->insn->imm[o->reg];
		return INSN_DONE;
	}
}

enum insn_outcome insn_read(struct insn_exec *x, unsigned i, uint64_t *value)
{
	return read_operand(x, i, value, false);
}

enum insn_outcome insn_read_rmw(struct insn_exec *x, unsigned i, uint64_t *value)
{
	enum insn_outcome r = read_operand(x, i, value, true);

	x->old = *value;
	return r;
}

static void write_reg(struct insn_exec *x, const struct insn_operand *o, uint64_t value)
{
	if (o->klass == INSN_GPR_HIGH) {
		uint64_t *gpr = &x->cpu->gpr[o->reg];

		*gpr = (*gpr & ~UINT64_C(0xff00)) | (value & 0xff) << 8;
	} else {
		insn_set_gpr(x, o->reg, o->bytes, value);
	}
}

enum insn_outcome insn_write(struct insn_exec *x, unsigned i, uint64_t value)
{
	const struct insn_operand *o = &x->insn->operand[i];
	const struct insn_mem *m = &x->insn->mem[o->reg & 1];

	if (o->kind == INSN_OP_MEM) {
		return insn_store(x, m->seg, insn_offset(x, m), &value, m->bytes);
	}
	write_reg(x, o, value);
	return INSN_DONE;
}

bool insn_locked(const struct insn_exec *x)
{
	return (x->insn->prefixes & INSN_PREFIX_LOCK) != 0 || x->insn->mnemonic == INSN_XCHG;
}

enum insn_outcome insn_write_rmw(struct insn_exec *x, unsigned i, uint64_t value)
{
	const struct insn_operand *o = &x->insn->operand[i];

	if (o->kind != INSN_OP_MEM) {
		write_reg(x, o, value);
		return INSN_DONE;
	}
	if (insn_locked(x)) {
		if (x->ops->cmpxchg == NULL) {
			return INSN_UNSUPPORTED;
		}
		return x->ops->cmpxchg(x->env, x->linear, &x->old, &value, o->bytes);
	}
	return x->ops->write(x->env, x->linear, &value, o->bytes, INSN_ACCESS_WRITE);
}

unsigned insn_stack_bytes(const struct insn_exec *x)
{
	if (insn_long_mode(x)) {
		return 8;
	}
	return (x->cpu->seg[INSN_SS].attr & INSN_SEG_DB) != 0 ? 4 : 2;
}

void insn_move_rsp(struct insn_exec *x, int64_t by)
{
	insn_set_gpr(x, RSP, insn_stack_bytes(x), x->cpu->gpr[RSP] + (uint64_t)by);
}

enum insn_outcome insn_push_block(struct insn_exec *x, const void *data, unsigned len)
{
	uint64_t rsp = (x->cpu->gpr[RSP] - len) & insn_mask(insn_stack_bytes(x));
	enum insn_outcome r = insn_store(x, INSN_SS, rsp, data, len);

	if (r == INSN_DONE) {
		insn_move_rsp(x, -(int64_t)len);
	}
	return r;
}

enum insn_outcome insn_push(struct insn_exec *x, uint64_t value)
{
	return insn_push_block(x, &value, x->insn->op_bytes);
}

enum insn_outcome insn_peek(struct insn_exec *x, unsigned skip, void *data, unsigned len)
{
	uint64_t rsp = (x->cpu->gpr[RSP] + skip) & insn_mask(insn_stack_bytes(x));

	return insn_load(x, INSN_SS, rsp, data, len);
}

enum insn_outcome insn_jump(struct insn_exec *x, uint64_t rip)
{
	rip &= insn_mask(x->insn->op_bytes);
	if (insn_long_mode(x) ? !insn_canonical(x->cpu, rip) : rip > x->cpu->seg[INSN_CS].limit) {
		return insn_raise(x->env, INSN_EXC_GP, 0);
	}
	x->next_rip = rip;
	return INSN_DONE;
}

/* Spec: Intel SDM vol. 1, 19.5 "I/O Protection" */
enum insn_outcome insn_io_allowed(struct insn_exec *x, uint16_t port, unsigned bytes)
{
	const struct insn_segment *tr = &x->cpu->tr;
	bool v86 = (x->cpu->rflags & FLAG_VM) != 0;
	uint16_t base = 0, map = 0;
	enum insn_outcome r;
	uint64_t at;

	if ((x->cpu->cr0 & 1) == 0 || (!v86 && x->cpu->cpl <= (x->cpu->rflags & FLAG_IOPL) >> 12)) {
		return INSN_DONE;
	}
	if ((tr->attr & INSN_SEG_P) == 0 || (tr->attr & 8) == 0 || tr->limit < 103) {
		return insn_raise(x->env, INSN_EXC_GP, 0);
	}
	r = x->ops->read(x->env, tr->base + 102, &base, 2, INSN_ACCESS_SYSTEM);
	if (r != INSN_DONE) {
		return r;
	}
	/* Two bytes are read always, for ports that span them. */
	at = (uint64_t)base + port / 8;
	if (at + 1 > tr->limit) {
		return insn_raise(x->env, INSN_EXC_GP, 0);
	}
	r = x->ops->read(x->env, tr->base + at, &map, 2, INSN_ACCESS_SYSTEM);
	if (r != INSN_DONE) {
		return r;
	}
	if ((map >> port % 8 & ((1U << bytes) - 1)) != 0) {
		return insn_raise(x->env, INSN_EXC_GP, 0);
	}
	return INSN_DONE;
}
