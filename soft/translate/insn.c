/*
 * The code of each instruction that is not a jump.
 */
#include "soft/translate/fast.h"
#include "soft/translate/slow.h"
#include "soft/translate/translator.h"

#define AT(field) EM_GS(offsetof(struct st_frame, field))
#define GPR(n)	  EM_GS(offsetof(struct st_frame, gpr) + 8 * (n))

#define RSP 4
#define RBP 5

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
		st_check(w, i, insn->mem[0].bytes, st_writes(insn));
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

bool st_asks_place(const struct st_work *w, unsigned i)
{
	return (w->insn[i].mnemonic == INSN_FNSTENV || w->insn[i].mnemonic == INSN_FNSAVE) &&
	       (w->mode & ST_MODE_X87) != 0;
}

void st_interpret(struct st_work *w, unsigned i)
{
	const struct insn *insn = &w->insn[i];
	uint32_t what = insn->mnemonic == INSN_NONE ? 0 : st_system_of(insn, w->mode);

	if (st_asks_place(w, i)) {
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

void st_insn(struct st_work *w, unsigned i)
{
	switch (w->how[i]) {
	case ST_HOW_COPY:
		copy(w, i);
		break;
	case ST_HOW_LEA:
		lea(w, i);
		break;
	case ST_HOW_PUSH:
		push(w, i);
		break;
	case ST_HOW_POP:
		pop(w, i);
		break;
	case ST_HOW_LEAVE:
		leave(w, i);
		break;
	case ST_HOW_CLD:
		set_df(w, 0);
		break;
	case ST_HOW_STD:
		set_df(w, 1);
		break;
	case ST_HOW_PUSHF:
		pushf(w, i);
		break;
	case ST_HOW_CLI:
		em_mem(w->e, false, 0, 0xc6, 0, AT(interrupts));
		em_byte(w->e, 0);
		break;
	case ST_HOW_STI:
		sti(w);
		break;
	case ST_HOW_BIT:
		bit_string(w, i);
		break;
	case ST_HOW_STRING:
		string_insn(w, i);
		break;
	case ST_HOW_SWAPGS:
		swapgs(w);
		break;
	case ST_HOW_RDTSC:
		rdtsc(w, i);
		break;
	case ST_HOW_SYSTEM:
		system_insn(w, i, st_system_of(&w->insn[i], w->mode));
		break;
	case ST_HOW_BRANCH:
		/* JMP to the next round (st_repeat()) is nothing. */
		if (st_is_jcc(&w->insn[i])) {
			st_jump_aside(w, i);
		}
		break;
	default:
		break;
	}
}
