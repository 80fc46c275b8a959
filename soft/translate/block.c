/*
 * One block: decoding, which flags matter where, and the code of each instruction that is not a
 * jump.
 */
#include <string.h>

#include "soft/translate/fast.h"
#include "soft/translate/slow.h"
#include "soft/translate/translator.h"

#define AT(field) EM_GS(offsetof(struct st_frame, field))
#define GPR(n)	  EM_GS(offsetof(struct st_frame, gpr) + 8 * (n))

#define RSP 4
#define RBP 5

enum how {
	HOW_COPY,
	HOW_NOTHING,
	HOW_LEA,
	HOW_PUSH,
	HOW_POP,
	HOW_LEAVE,
	HOW_CLD,
	HOW_STD,
	HOW_PUSHF,
	HOW_CLI,
	HOW_STI,
	HOW_PAUSE,
	HOW_BIT, /* BT and such, with a bit far away */
	HOW_STRING,
	HOW_SWAPGS,
	HOW_RDTSC,  /* and RDTSCP */
	HOW_SYSTEM, /* of fast.h, those that go on behind themselves */
	HOW_BRANCH,
	HOW_INTERPRET, /* ends the block in front of the instruction */
};

/* In 32-bit mode segments count that are not told here. */
static bool address_is_easy(const struct insn *insn)
{
	const struct insn_mem *m = &insn->mem[0];

	return insn->nmem == 0 || insn->mode == INSN_64 ||
	       (insn->adr_bytes == 4 && m->seg != INSN_FS && m->seg != INSN_GS &&
		m->seg != INSN_CS);
}

static enum how push_pop(const struct insn *insn)
{
	unsigned slot = insn->mode == INSN_64 ? 8 : 4;
	const struct insn_operand *o = &insn->operand[0];

	if (insn->op_bytes != slot || (o->kind == INSN_OP_REG && o->klass != INSN_GPR)) {
		return HOW_INTERPRET;
	}
	if (insn->mnemonic == INSN_POP) {
		return o->kind == INSN_OP_REG ? HOW_POP : HOW_INTERPRET;
	}
	return o->kind == INSN_OP_MEM && insn->mem[0].kind != INSN_MEM_MODRM ? HOW_INTERPRET
									     : HOW_PUSH;
}

static enum how string(const struct insn *insn)
{
	for (unsigned i = 0; i < insn->nmem; i++) {
		if (insn->mem[i].seg == INSN_FS || insn->mem[i].seg == INSN_GS ||
		    insn->mem[i].seg == INSN_CS) {
			return HOW_INTERPRET;
		}
	}
	return insn->adr_bytes == (insn->mode == INSN_64 ? 8 : 4) ? HOW_STRING : HOW_INTERPRET;
}

static enum how bit(const struct insn *insn)
{
	bool plain = insn->nmem == 1 && insn->mem[0].kind == INSN_MEM_MODRM &&
		     insn->op_bytes == 8 && insn->operand[1].kind == INSN_OP_REG;

	return plain && st_host_reg(insn->operand[1].reg) != EM_ABSENT ? HOW_BIT : HOW_INTERPRET;
}

static enum how how_of(const struct insn *insn, unsigned mode)
{
	uint32_t system = ST_SYSTEM_KIND(st_system_of(insn, mode));

	if (!address_is_easy(insn) || system >= ST_SYSTEM_ENDS) {
		return HOW_INTERPRET;
	}
	if (system != ST_SYSTEM_NONE) {
		return HOW_SYSTEM;
	}
	if (insn->klass >= INSN_CLASS_JUMP && insn->klass <= INSN_CLASS_RET) {
		return HOW_BRANCH;
	}
	switch (insn->mnemonic) {
	case INSN_NOP:
	case INSN_ENDBR64:
	case INSN_ENDBR32:
	case INSN_PREFETCHW:
	case INSN_PREFETCHNTA:
	case INSN_PREFETCHT0:
	case INSN_PREFETCHT1:
	case INSN_PREFETCHT2:
		return HOW_NOTHING;
	case INSN_LEA:
		return insn->mem[0].kind == INSN_MEM_MODRM ? HOW_LEA : HOW_INTERPRET;
	case INSN_PUSH:
	case INSN_POP:
		return push_pop(insn);
	case INSN_LEAVE:
		return insn->op_bytes == (insn->mode == INSN_64 ? 8 : 4) ? HOW_LEAVE
									 : HOW_INTERPRET;
	case INSN_CLD:
		return HOW_CLD;
	case INSN_STD:
		return HOW_STD;
	case INSN_PAUSE:
		return HOW_PAUSE;
	case INSN_PUSHF:
		return insn->mode == INSN_64 && insn->op_bytes == 8 ? HOW_PUSHF : HOW_INTERPRET;
	case INSN_CLI:
		return (mode & ST_MODE_USER) == 0 ? HOW_CLI : HOW_INTERPRET;
	case INSN_STI:
		return (mode & ST_MODE_USER) == 0 ? HOW_STI : HOW_INTERPRET;
	case INSN_SWAPGS:
		return (mode & ST_MODE_USER) == 0 ? HOW_SWAPGS : HOW_INTERPRET;
	case INSN_RDTSC:
	case INSN_RDTSCP:
		return (mode & ST_MODE_TSC) != 0 ? HOW_RDTSC : HOW_INTERPRET;
	case INSN_MOVS:
	case INSN_STOS:
		return string(insn);
	case INSN_BT:
	case INSN_BTS:
	case INSN_BTR:
	case INSN_BTC:
		if ((insn->attributes & INSN_ATTR_BITSTR) != 0 && insn->nmem != 0) {
			return bit(insn);
		}
		return st_can_copy(insn, mode) ? HOW_COPY : HOW_INTERPRET;
	default:
		return st_can_copy(insn, mode) ? HOW_COPY : HOW_INTERPRET;
	}
}

/* ---- decoding ---- */

/*
 * Only the first instruction may end in the next page.
 * Return: how the last instruction ends the block: a jump, by the interpreter, or not (NOTHING).
 */
static enum how decode(struct st_work *w, unsigned offset)
{
	unsigned mode = (w->mode & ST_MODE_INSN) | (w->amd ? INSN_AMD : 0);

	w->n = 0;
	w->at[0] = (uint16_t)offset;
	do {
		struct insn *insn = &w->insn[w->n];
		unsigned length = w->n == 0 ? w->source->length : 4096;
		enum insn_result result =
			insn_decode(insn, mode, w->bytes + offset, length - offset);
		enum how how;

		if (result == INSN_MORE && w->n != 0) {
			return HOW_NOTHING;
		}
		if (result != INSN_OK) {
			insn->len = (uint8_t)MIN(4096 - offset, 1u);
			insn->mnemonic = INSN_NONE;
			insn->flags_read = ST_FLAGS;
			how = HOW_INTERPRET;
		} else {
			how = how_of(insn, w->mode);
		}
		w->how[w->n] = (uint8_t)how;
		offset += insn->len;
		w->at[++w->n] = (uint16_t)offset;
		if (how == HOW_INTERPRET || (how == HOW_BRANCH && !st_goes_on(w, w->n - 1))) {
			return how;
		}
	} while (w->n < ST_BLOCK_INSNS && offset < 4096);
	return HOW_NOTHING;
}

static uint32_t needed_behind(struct st_work *w, enum how end)
{
	const struct insn *last = &w->insn[w->n - 1];
	uint64_t rip = w->linear + w->at[w->n - 1];

	if (end == HOW_NOTHING) {
		return st_flags_needed(w, w->linear + w->at[w->n]);
	}
	if (end == HOW_BRANCH && last->noperands > 0 && last->operand[0].kind == INSN_OP_REL) {
		uint32_t needed = st_flags_needed(w, insn_target(last, rip));

		return last->klass == INSN_CLASS_JCC ? needed | st_flags_needed(w, rip + last->len)
						     : needed;
	}
	return ST_FLAGS;
}

/* Backwards: what an instruction reads, or what is read behind it and it does not write for sure.
 */
static void liveness(struct st_work *w, enum how end)
{
	uint32_t live = needed_behind(w, end);

	w->live[w->n] = live;
	for (unsigned i = w->n; i-- > 0;) {
		const struct insn *insn = &w->insn[i];

		if (i == w->n - 1 && end == HOW_INTERPRET) {
			live = ST_FLAGS;
		} else {
			if ((i < w->n - 1 || end == HOW_NOTHING) && st_is_jcc(insn)) {
				live |= st_flags_needed(w, st_way_out(w, i));
			}
			if (!insn->flags_maybe) {
				live &= ~insn->flags_written;
			}
			live = (live | insn->flags_read) & ST_FLAGS;
		}
		w->live[i] = w->t->exact ? ST_FLAGS : live;
	}
}

/* ---- code ---- */

static bool writes(const struct insn *insn)
{
	return (insn->operand[0].kind == INSN_OP_MEM &&
		(insn->operand[0].access & INSN_WRITE) != 0) ||
	       (insn->noperands > 1 && insn->operand[1].kind == INSN_OP_MEM &&
		(insn->operand[1].access & INSN_WRITE) != 0);
}

/* Operands with displacements beyond are in no window: their differences are to fit 32 bits. */
#define FAR (INT64_C(1) << 24)

/* Which memory operands may be in a window. */
static void find_place(struct st_work *w, unsigned i)
{
	const struct insn *insn = &w->insn[i];
	const struct insn_mem *m = &insn->mem[0];
	struct st_place *p = &w->place[i];

	*p = (struct st_place){0};
	switch (insn->mode == INSN_64 ? w->how[i] : HOW_INTERPRET) {
	case HOW_COPY:
		if (insn->nmem == 1 && m->kind == INSN_MEM_MODRM && insn->adr_bytes == 8 &&
		    m->base < 16 && m->seg != INSN_FS && m->seg != INSN_GS && m->bytes <= 64 &&
		    (int64_t)m->disp > -FAR && (int64_t)m->disp < FAR) {
			*p = (struct st_place){.base = m->base,
					       .index = m->index,
					       .scale = m->index == INSN_NO_REG ? 0 : m->scale,
					       .size = (uint16_t)m->bytes,
					       .disp = (int32_t)m->disp,
					       .write = writes(insn)};
		}
		break;
	case HOW_PUSH:
		*p = (struct st_place){
			.base = RSP, .index = INSN_NO_REG, .write = true, .disp = -8, .shift = -8};
		p->size = insn->operand[0].kind == INSN_OP_MEM ? 0 : 8;
		break;
	case HOW_POP:
		*p = (struct st_place){.base = RSP, .index = INSN_NO_REG, .size = 8, .shift = 8};
		p->barrier = insn->operand[0].reg == RSP;
		break;
	case HOW_BRANCH:
		if (insn->klass == INSN_CLASS_RET) {
			*p = (struct st_place){.base = RSP, .index = INSN_NO_REG, .size = 8};
		} else if (insn->klass == INSN_CLASS_CALL) {
			*p = (struct st_place){.base = RSP,
					       .index = INSN_NO_REG,
					       .size = 8,
					       .disp = -8,
					       .write = true};
		}
		break;
	case HOW_NOTHING:
	case HOW_LEA:
	case HOW_CLD:
	case HOW_STD:
	case HOW_BIT:
		break;
	default:
		p->barrier = true;
		break;
	}
}

/* R10 or R11 for the guest's @gpr; @used: bits of registers that the instruction has already. */
static unsigned take(struct st_work *w, unsigned gpr, bool read, uint16_t used)
{
	unsigned reg = st_held_in(w, gpr);

	if (reg == EM_ABSENT) {
		bool r11 = (used & BIT(EM_R11)) == 0 &&
			   (!w->held[1].there || (used & BIT(EM_R10)) != 0);

		reg = r11 ? EM_R11 : EM_R10;
		st_drop_held(w, reg);
		if (read) {
			em_load(w->e, reg, GPR(gpr));
		}
		st_hold(w, reg, gpr, false);
	}
	return reg;
}

static void copy(struct st_work *w, unsigned i)
{
	const struct insn *insn = &w->insn[i];
	bool memory = insn->nmem != 0;
	uint16_t used = memory ? (uint16_t)BIT(EM_R10) : 0;
	uint8_t map[16];
	int32_t disp = 0;

	if (memory && !st_reach(w, i, &disp)) {
		st_address(w, i);
		st_check(w, i, insn->mem[0].bytes, writes(insn));
	}
	for (unsigned g = 0; g < 16; g++) {
		map[g] = (uint8_t)st_host_reg(g);
	}
	for (unsigned n = 0; n < insn->noperands; n++) {
		const struct insn_operand *o = &insn->operand[n];

		if (o->kind == INSN_OP_REG && o->klass == INSN_GPR && map[o->reg] == EM_ABSENT) {
			map[o->reg] =
				(uint8_t)take(w, o->reg, (insn->gpr_read & BIT(o->reg)) != 0, used);
			used |= (uint16_t)BIT(map[o->reg]);
		}
	}
	st_copy(w->e, insn, map, memory, disp);
	for (unsigned g = 9; g <= 11; g++) {
		if (map[g] != EM_ABSENT && (insn->gpr_write & BIT(g)) != 0) {
			st_hold(w, map[g], g, true);
		}
	}
}

/* Without segment base and check. */
static void lea(struct st_work *w, unsigned i)
{
	unsigned gpr = w->insn[i].operand[0].reg, reg = st_host_reg(gpr);

	if (w->insn[i].op_bytes == 2) {
		st_hold_none(w);
	}
	if (reg == EM_ABSENT || w->insn[i].op_bytes == 2) {
		/* The sum may be of what R10 has. */
		st_write_back(w);
		st_keep_window(w);
		st_lea(w, i, EM_R10);
		w->held[0].there = false;
	} else {
		st_lea(w, i, reg);
	}
	if (w->insn[i].op_bytes == 2) {
		em_byte(w->e, 0x66);
		if (reg == EM_ABSENT) {
			em_mem(w->e, false, 0, 0x89, EM_R10, GPR(gpr));
		} else {
			em_reg(w->e, false, 0x89, EM_R10, reg);
		}
	} else if (reg == EM_ABSENT) {
		st_hold(w, EM_R10, gpr, true);
	}
}

static void push(struct st_work *w, unsigned i)
{
	const struct insn *insn = &w->insn[i];
	const struct insn_operand *o = &insn->operand[0];
	struct em *e = w->e;
	bool wide = insn->mode == INSN_64;
	int slot = wide ? 8 : 4;
	unsigned reg = EM_ABSENT;
	int32_t disp = 0;

	if (o->kind == INSN_OP_MEM) {
		st_address(w, i);
		st_check(w, i, (unsigned)slot, false);
		em_mem(e, wide, 0, 0x8b, EM_R10, EM_AT(EM_R10, 0));
		em_store(e, EM_R10, AT(temp));
	} else if (o->kind == INSN_OP_REG) {
		reg = st_host_reg(o->reg);
	}
	if (!st_reach(w, i, &disp)) {
		em_lea(e, wide, EM_R10, EM_AT(EM_R9, -slot));
		st_check(w, i, (unsigned)slot, true);
	}
	if (reg == EM_ABSENT) {
		reg = EM_R11;
		if (o->kind == INSN_OP_MEM) {
			em_load(e, reg, AT(temp));
		} else if (o->kind == INSN_OP_REG) {
			em_load(e, reg, GPR(o->reg));
		} else {
			em_mov_imm(e, reg, wide ? insn->imm[0] : (uint32_t)insn->imm[0]);
		}
	}
	em_mem(e, wide, 0, 0x89, reg, EM_AT(EM_R10, disp));
	em_lea(e, wide, EM_R9, EM_AT(EM_R9, -slot));
}

static void pop(struct st_work *w, unsigned i)
{
	const struct insn *insn = &w->insn[i];
	unsigned gpr = insn->operand[0].reg, reg = st_host_reg(gpr);
	struct em *e = w->e;
	bool wide = insn->mode == INSN_64;
	int slot = wide ? 8 : 4;
	int32_t disp = 0;

	if (!st_reach(w, i, &disp)) {
		em_reg(e, wide, 0x89, EM_R9, EM_R10);
		st_check(w, i, (unsigned)slot, false);
	}
	if (gpr == RSP) {
		em_mem(e, wide, 0, 0x8b, EM_R9, EM_AT(EM_R10, disp));
		return;
	}
	em_mem(e, wide, 0, 0x8b, reg == EM_ABSENT ? EM_R11 : reg, EM_AT(EM_R10, disp));
	if (reg == EM_ABSENT) {
		em_store(e, EM_R11, GPR(gpr));
	}
	em_lea(e, wide, EM_R9, EM_AT(EM_R9, slot));
}

static void leave(struct st_work *w, unsigned i)
{
	struct em *e = w->e;
	bool wide = w->insn[i].mode == INSN_64;
	int slot = wide ? 8 : 4;

	em_reg(e, wide, 0x89, RBP, EM_R10);
	st_check(w, i, (unsigned)slot, false);
	/* What is read may fault on the host: before RSP changes. */
	em_mem(e, wide, 0, 0x8b, EM_R10, EM_AT(EM_R10, 0));
	em_lea(e, wide, EM_R9, EM_AT(RBP, slot));
	em_reg(e, wide, 0x89, EM_R10, RBP);
}

static void set_df(struct st_work *w, unsigned value)
{
	em_mem(w->e, false, 0, 0xc6, 0, AT(df));
	em_byte(w->e, value);
}

/* The host's arithmetic flags, and the rest from the frame. */
static void pushf(struct st_work *w, unsigned i)
{
	static const uint8_t and_flags[] = {0x49, 0x81, 0xe3, 0xd5, 0x08, 0, 0}; /* .., %r11 */
	static const uint8_t or_df[] = {0x49, 0x81, 0xcb, 0, 0x04, 0, 0};
	static const uint8_t or_if[] = {0x49, 0x81, 0xcb, 0, 0x02, 0, 0};
	struct em *e = w->e;

	em_lea(e, true, EM_R10, EM_AT(EM_R9, -8));
	st_check(w, i, 8, true);
	em_byte(e, 0x9c); /* pushfq */
	em_load(e, EM_R11, EM_AT(EM_RSP, 0));
	em_bytes(e, and_flags, sizeof(and_flags));
	em_mem(e, true, 0, 0x0b, EM_R11, AT(system));
	em_mem(e, false, 0, 0x80, 7, AT(df)); /* cmpb $0; je */
	em_byte(e, 0);
	em_byte(e, 0x74);
	em_byte(e, sizeof(or_df));
	em_bytes(e, or_df, sizeof(or_df));
	em_mem(e, false, 0, 0x80, 7, AT(interrupts));
	em_byte(e, 0);
	em_byte(e, 0x74);
	em_byte(e, sizeof(or_if));
	em_bytes(e, or_if, sizeof(or_if));
	em_store(e, EM_R11, EM_AT(EM_R10, 0));
	if (w->live[i + 1] != 0) {
		em_byte(e, 0x9d);
	} else {
		em_lea(e, true, EM_RSP, EM_AT(EM_RSP, 8));
	}
	em_lea(e, true, EM_R9, EM_AT(EM_R9, -8));
}

/* If somebody waits for it, the interpreter does it, and sees to the instruction behind. */
static void sti(struct st_work *w)
{
	struct em *e = w->e;

	em_reg(e, true, 0x89, EM_RCX, EM_R11);
	em_mem(e, false, 1, 0xb6, EM_RCX, AT(window)); /* movzbl */
	em_byte(e, 0xe3);
	em_byte(e, 8);
	em_reg(e, true, 0x89, EM_R11, EM_RCX);
	em_call(e, w->t->exit_insn);
	em_reg(e, true, 0x89, EM_R11, EM_RCX);
	em_mem(e, false, 0, 0xc6, 0, AT(interrupts));
	em_byte(e, 1);
}

/* The bit's offset moves the operand by multiples of 8 bytes. */
static void bit_string(struct st_work *w, unsigned i)
{
	const struct insn *insn = &w->insn[i];
	unsigned reg = st_host_reg(insn->operand[1].reg);
	struct em *e = w->e;

	st_address(w, i);
	em_mov_imm(e, EM_R11, 6);
	/* sarx %r11, reg, %r11 */
	em_byte(e, 0xc4);
	em_byte(e, 0x40 | (reg >= 8 ? 0 : 0x20) | 2);
	em_byte(e, 0x80 | (~EM_R11 & 15) << 3 | 2);
	em_byte(e, 0xf7);
	em_byte(e, 0xc0 | (EM_R11 & 7) << 3 | (reg & 7));
	em_lea(e, true, EM_R10, (struct em_mem){.base = EM_R10, .index = EM_R11, .scale = 8});
	st_check(w, i, 8, insn->mnemonic != INSN_BT);
	em_pext(e, EM_R11, reg, AT(bit_mask));
	if ((insn->prefixes & INSN_PREFIX_LOCK) != 0) {
		em_byte(e, 0xf0);
	}
	em_mem(e, true, 1, insn->opcode, EM_R11, EM_AT(EM_R10, 0));
}

static void string_insn(struct st_work *w, unsigned i)
{
	const struct insn *insn = &w->insn[i];
	uint32_t what = insn->mem[0].bytes;

	what |= insn->mnemonic == INSN_MOVS ? ST_STRING_MOVS : 0;
	what |= (insn->prefixes & (INSN_PREFIX_REP | INSN_PREFIX_REPNE)) != 0 ? ST_STRING_REP : 0;
	em_mov_imm(w->e, EM_R11, what);
	em_call(w->e, w->t->string);
}

static void swapgs(struct st_work *w)
{
	em_load(w->e, EM_R10, AT(gs_base));
	em_load(w->e, EM_R11, AT(kernel_gs));
	em_store(w->e, EM_R11, AT(gs_base));
	em_store(w->e, EM_R10, AT(kernel_gs));
}

/* EDX:EAX = the host's and an offset, with the flags as they were. */
static void rdtsc(struct st_work *w, unsigned i)
{
	static const uint8_t lfence[] = {0x0f, 0xae, 0xe8};
	static const uint8_t read[] = {0x0f, 0x31};
	static const uint8_t rorx_32[] = {0xc4, 0xe3, 0xfb, 0xf0, 0xd2, 32}; /* $32, %rdx, %rdx */
	static const uint8_t high[] = {0xc4, 0xe3, 0xfb, 0xf0, 0xd0, 32};    /* $32, %rax, %rdx */
	struct em *e = w->e;

	if (w->insn[i].mnemonic == INSN_RDTSCP) {
		em_bytes(e, lfence, sizeof(lfence));
		em_load(e, EM_RCX, AT(tsc_aux));
	}
	em_bytes(e, read, sizeof(read));
	em_bytes(e, rorx_32, sizeof(rorx_32));
	em_lea(e, true, EM_RAX, (struct em_mem){.base = EM_RAX, .index = EM_RDX, .scale = 1});
	em_load(e, EM_R10, AT(tsc_offset));
	em_lea(e, true, EM_RAX, (struct em_mem){.base = EM_RAX, .index = EM_R10, .scale = 1});
	em_bytes(e, high, sizeof(high));
	em_reg(e, false, 0x89, EM_RDX, EM_RDX);
	em_reg(e, false, 0x89, EM_RAX, EM_RAX);
}

/* The selector is in frame.temp. */
static void store_seg(struct st_work *w, unsigned i)
{
	const struct insn_operand *to = &w->insn[i].operand[0];
	struct em *e = w->e;
	unsigned reg;

	if (to->kind == INSN_OP_MEM) {
		st_address(w, i);
		st_check(w, i, 2, true);
		em_load(e, EM_R11, AT(temp));
		em_byte(e, 0x66);
		em_mem(e, false, 0, 0x89, EM_R11, EM_AT(EM_R10, 0));
		return;
	}
	em_load(e, EM_R11, AT(temp));
	reg = st_host_reg(to->reg);
	em_byte(e, 0x66);
	if (reg == EM_ABSENT) {
		em_mem(e, false, 0, 0x89, EM_R11, GPR(to->reg));
	} else {
		em_reg(e, false, 0x89, EM_R11, reg);
	}
}

static void system_insn(struct st_work *w, unsigned i, uint32_t what)
{
	if (ST_SYSTEM_KIND(what) == ST_SYSTEM_XSAVEC || ST_SYSTEM_KIND(what) == ST_SYSTEM_XRSTOR) {
		st_address(w, i);
	} else {
		st_mov_linear(w, EM_R10, w->linear + w->at[i] + w->insn[i].len);
	}
	em_mov_imm(w->e, EM_R11, what);
	em_call(w->e, w->t->system);
	if (ST_SYSTEM_KIND(what) == ST_SYSTEM_STORE_SEG) {
		store_seg(w, i);
	}
}

/* Does the interpreter ask where the last x87 instruction was? Saving the registers forgets that.
 */
static bool asks_place(const struct st_work *w, unsigned i)
{
	return (w->insn[i].mnemonic == INSN_FNSTENV || w->insn[i].mnemonic == INSN_FNSAVE) &&
	       (w->mode & ST_MODE_X87) != 0;
}

static void interpret(struct st_work *w, unsigned i)
{
	const struct insn *insn = &w->insn[i];
	uint32_t what = insn->mnemonic == INSN_NONE ? 0 : st_system_of(insn, w->mode);

	if (asks_place(w, i)) {
		/* FNSTENV masks all exceptions. */
		em_mem(w->e, false, 0, 0xd9, 6, AT(x87_env));
		em_mem(w->e, false, 0, 0xd9, 5, AT(x87_env));
	}
	if (what != 0) {
		system_insn(w, i, what);
	} else {
		em_call(w->e, w->t->exit_insn);
	}
}

static void one(struct st_work *w, unsigned i)
{
	switch (w->how[i]) {
	case HOW_COPY:
		copy(w, i);
		break;
	case HOW_LEA:
		lea(w, i);
		break;
	case HOW_PUSH:
		push(w, i);
		break;
	case HOW_POP:
		pop(w, i);
		break;
	case HOW_LEAVE:
		leave(w, i);
		break;
	case HOW_CLD:
		set_df(w, 0);
		break;
	case HOW_STD:
		set_df(w, 1);
		break;
	case HOW_PUSHF:
		pushf(w, i);
		break;
	case HOW_CLI:
		em_mem(w->e, false, 0, 0xc6, 0, AT(interrupts));
		em_byte(w->e, 0);
		break;
	case HOW_STI:
		sti(w);
		break;
	case HOW_PAUSE:
		em_byte(w->e, 0xf3);
		em_byte(w->e, 0x90);
		break;
	case HOW_BIT:
		bit_string(w, i);
		break;
	case HOW_STRING:
		string_insn(w, i);
		break;
	case HOW_SWAPGS:
		swapgs(w);
		break;
	case HOW_RDTSC:
		rdtsc(w, i);
		break;
	case HOW_SYSTEM:
		system_insn(w, i, st_system_of(&w->insn[i], w->mode));
		break;
	case HOW_BRANCH:
		/* JMP to the next round (st_repeat()) is nothing. */
		if (st_is_jcc(&w->insn[i])) {
			st_jump_aside(w, i);
		}
		break;
	default:
		break;
	}
}

static bool uses_fpu(const struct st_work *w, enum how end)
{
	for (unsigned i = 0; i < w->n; i++) {
		bool interpreted = i == w->n - 1 && end == HOW_INTERPRET;

		if (w->insn[i].mnemonic != INSN_NONE && w->insn[i].klass >= INSN_CLASS_X87 &&
		    (!interpreted || asks_place(w, i))) {
			return true;
		}
	}
	return false;
}

/* The guest's registers have to be in the host's. */
static void want_fpu(struct st_work *w)
{
	struct em *e = w->e;
	struct st_cold *c;

	if (w->live[0] == 0 || w->saved) {
		em_mem(e, false, 0, 0x80, 7, AT(fpu)); /* cmpb $0 */
		em_byte(e, 0);
		em_jcc_open(e, EM_CC_E);
		st_cold(w, ST_COLD_FPU, 0)->resume = em_here(e);
		return;
	}
	em_reg(e, true, 0x89, EM_RCX, EM_R11);
	em_mem(e, false, 1, 0xb6, EM_RCX, AT(fpu)); /* movzbl */
	em_byte(e, 0xe3);
	em_byte(e, 2);
	em_byte(e, 0xeb);
	em_byte(e, 8);
	em_reg(e, true, 0x89, EM_R11, EM_RCX);
	em_byte(e, 0xe9);
	em_32(e, 0);
	c = st_cold(w, ST_COLD_FPU, 0);
	em_reg(e, true, 0x89, EM_R11, EM_RCX);
	c->resume = em_here(e);
}

/* Does the code for it look at the TLB? */
static bool accesses(const struct insn *insn, enum how how)
{
	switch (how) {
	case HOW_COPY:
		return insn->nmem != 0;
	case HOW_PUSH:
	case HOW_POP:
	case HOW_LEAVE:
	case HOW_PUSHF:
	case HOW_BIT:
		return true;
	case HOW_BRANCH:
		return insn->klass != INSN_CLASS_JCC &&
		       (insn->klass != INSN_CLASS_JUMP || insn->nmem != 0);
	default:
		return false;
	}
}

/* Are the flags before instruction @i what it reads, or what it leaves in part to those behind? */
static bool reads_flags(const struct st_work *w, unsigned i, enum how how)
{
	const struct insn *insn = &w->insn[i];
	uint32_t kept = w->live[i + 1] & ~(insn->flags_maybe ? 0 : insn->flags_written);

	if (how == HOW_INTERPRET) {
		return insn->mnemonic != INSN_NONE && st_system_of(insn, w->mode) != 0;
	}
	return how == HOW_PUSHF || how == HOW_SYSTEM || (insn->flags_read & ST_FLAGS) != 0 ||
	       (((insn->flags_written & ST_FLAGS) != 0 || insn->flags_maybe) && kept != 0);
}

/* Is the next of the block's instructions that has to do with flags one that needs them? */
static bool soon_read(const struct st_work *w, unsigned i)
{
	for (; i < w->n; i++) {
		if (reads_flags(w, i, w->how[i])) {
			return true;
		}
		if ((w->insn[i].flags_written & ST_FLAGS) != 0) {
			return false;
		}
	}
	return false;
}

/* The flags go where the instruction is best served. */
static void place_flags(struct st_work *w, unsigned i, enum how how)
{
	if (w->saved) {
		if (reads_flags(w, i, how)) {
			st_restore(w);
		}
	} else if (w->live[i] != 0 && accesses(&w->insn[i], how) && st_in_window(w, i) == NULL &&
		   !soon_read(w, i)) {
		st_save(w);
	}
	st_record(w, w->at[i] | (w->saved && w->live[i] != 0 ? ST_SAVED : 0));
}

/* Or it sees to it itself that the window there is kept. */
static bool keeps_r10(struct st_work *w, unsigned i)
{
	const struct insn *insn = &w->insn[i];

	return w->how[i] == HOW_BRANCH || w->how[i] == HOW_NOTHING || w->how[i] == HOW_LEA ||
	       (w->how[i] == HOW_COPY && insn->nmem == 0) ||
	       (w->in_r10 != NULL && st_in_window(w, i) == w->in_r10);
}

/* What R10 and R11 have is in the frame before whatever may leave the block, or uses them. */
static void place_held(struct st_work *w, unsigned i)
{
	const struct insn *insn = &w->insn[i];

	switch (w->how[i]) {
	case HOW_NOTHING:
	case HOW_LEA:
		return;
	case HOW_COPY:
		if (insn->nmem != 0 || insn->klass != INSN_CLASS_INTEGER ||
		    insn->mnemonic == INSN_DIV || insn->mnemonic == INSN_IDIV) {
			st_write_back(w);
		}
		return;
	case HOW_BRANCH:
		if (st_is_jcc(insn)) {
			st_write_back(w);
			return;
		}
		break;
	default:
		break;
	}
	st_hold_none(w);
}

static void code(struct st_work *w, struct st_block *b, enum how end)
{
	b->fpu = uses_fpu(w, end);
	st_record(w, w->at[0] | (w->saved ? ST_SAVED : 0));
	st_guard(w, ST_COLD_MOVED);
	b->entry = (uint32_t)(em_here(w->e) - w->t->rx);
	if (w->at[1] > 4096 && !(w->n == 1 && end == HOW_INTERPRET)) {
		st_guard(w, ST_COLD_INSN);
	}
	if (b->fpu) {
		want_fpu(w);
	}
	for (unsigned i = 0; i < w->n && !w->e->full; i++) {
		bool last = i == w->n - 1;

		place_held(w, i);
		place_flags(w, i, last && end == HOW_INTERPRET ? end : w->how[i]);
		if (!keeps_r10(w, i)) {
			st_keep_window(w);
		}
		if (last && (end == HOW_INTERPRET || (end == HOW_BRANCH && !st_branch(w, i)))) {
			interpret(w, i);
		} else if (!last || end == HOW_NOTHING) {
			one(w, i);
		}
		if ((w->insn[i].flags_written & ST_FLAGS) != 0 || w->insn[i].flags_maybe) {
			w->saved = false;
		}
		st_windows_behind(w, i);
	}
	if (end == HOW_NOTHING) {
		st_hold_none(w);
		st_goto(w, w->n - 1, w->linear + w->at[w->n]);
	}
	b->code_end = (uint32_t)(em_here(w->e) - w->t->rx);
	st_cold_parts(w, b);
}

uint32_t st_translate(struct st_translator *t, const struct st_source *source, unsigned offset,
		      unsigned mode)
{
	struct st_work w;
	struct st_block *b = &t->blocks[t->nblocks];
	enum how end;

	if (t->nblocks == ST_MAX_BLOCKS) {
		return ST_NONE;
	}
	w.t = t;
	w.e = &t->em;
	w.mode = mode;
	w.saved = (mode & ST_MODE_SAVED) != 0;
	w.linear = source->linear;
	w.source = source;
	w.bytes = source->bytes;
	w.amd = source->amd;
	w.ncold = 0;
	memset(w.window, 0, sizeof(w.window));
	w.in_r10 = NULL;
	memset(w.held, 0, sizeof(w.held));
	w.fixed = (mode & ST_MODE_INSN) != INSN_64;
	memset(w.needed_known, 0, sizeof(w.needed_known));
	w.needed_next = 0;
	w.looked_at = 0;
	*b = (struct st_block){
		.page = source->page,
		.linear = source->linear,
		.offset = (uint16_t)offset,
		.mode = (uint16_t)mode,
		.first_record = t->nrecords,
		.first_link = t->nlinks,
		.first_mark = t->em.nmarks,
		.incoming = ST_NONE,
		.code = (uint32_t)(em_here(&t->em) - t->rx),
	};
	end = decode(&w, offset);
	for (unsigned i = 0; i < w.n; i++) {
		find_place(&w, i);
	}
	if (end == HOW_BRANCH) {
		st_repeat(&w);
	}
	liveness(&w, end);
	code(&w, b, end);
	if (t->em.full) {
		return ST_NONE;
	}
	b->bytes = (uint16_t)(MIN(w.at[w.n], 4096) - offset);
	b->pieces = st_pieces_of(offset, offset + b->bytes - 1u) | w.looked_at;
	b->records = t->nrecords - b->first_record;
	b->links = t->nlinks - b->first_link;
	b->marks = t->em.nmarks - b->first_mark;
	/* What ends in the next page depends on that one's mapping, too. */
	b->fixed = w.fixed || w.at[1] > 4096;
	return t->nblocks++;
}
