/*
 * How blocks begin and end. Direct jumps are linked by patching, all others look for their target
 * in a table by RIP. Who comes from another page enters by the guard, which sees that the page is
 * still the same. Indirect jumps arrive with the flags in frame.saved: most code overwrites them
 * before it reads them. Each jump backwards and each that is not direct asks whether somebody
 * waits.
 */
#include <string.h>

#include "soft/translate/translator.h"

#define AT(field) EM_GS(offsetof(struct st_frame, field))
#define GPR(n)	  EM_GS(offsetof(struct st_frame, gpr) + 8 * (n))
#define AHEAD	  8

static uint32_t look_ahead(struct st_work *w, uint64_t rip)
{
	uint32_t open = ST_FLAGS;

	for (unsigned i = 0; i < AHEAD && open != 0; i++) {
		unsigned at = (unsigned)(rip & 4095);
		struct insn insn;

		if (rip - w->linear >= 4096 ||
		    insn_decode(&insn, (w->mode & ST_MODE_INSN) | (w->amd ? INSN_AMD : 0),
				w->bytes + at, 4096 - at) != INSN_OK) {
			return open;
		}
		if ((insn.flags_read & open) != 0 || insn.klass == INSN_CLASS_FAR ||
		    insn.klass == INSN_CLASS_SYSTEM || insn.klass == INSN_CLASS_IO ||
		    insn.klass == INSN_CLASS_UD) {
			return open;
		}
		w->looked_at |= st_pieces_of(at, at + insn.len - 1);
		open &= insn.flags_maybe ? UINT32_MAX : ~insn.flags_written;
		if (insn.klass == INSN_CLASS_JUMP && insn.operand[0].kind == INSN_OP_REL) {
			rip = insn_target(&insn, rip);
		} else if (insn.klass >= INSN_CLASS_JUMP && insn.klass <= INSN_CLASS_RET) {
			return open;
		} else {
			rip += insn.len;
		}
	}
	return open;
}

uint32_t st_flags_needed(struct st_work *w, uint64_t rip)
{
	unsigned i = w->needed_next;

	if (w->t->exact) {
		return ST_FLAGS;
	}
	for (unsigned k = 0; k < ST_NEEDED; k++) {
		if (w->needed_at[k] == rip && w->needed_known[k]) {
			return w->needed[k];
		}
	}
	w->needed_next = (i + 1) % ST_NEEDED;
	w->needed_at[i] = rip;
	w->needed_known[i] = true;
	w->needed[i] = look_ahead(w, rip);
	return w->needed[i];
}

/* ---- the way in ---- */

/* To the cold part unless RCX is 0, without touching the flags. RCX waits in R11 meanwhile. */
static struct st_cold *cold_if_rcx(struct st_work *w, enum st_cold_kind kind, unsigned i)
{
	struct em *e = w->e;
	struct st_cold *c;

	em_byte(e, 0xe3); /* jrcxz over what follows */
	em_byte(e, 8);
	em_reg(e, true, 0x89, EM_R11, EM_RCX);
	em_byte(e, 0xe9);
	em_32(e, 0);
	c = st_cold(w, kind, i);
	em_reg(e, true, 0x89, EM_R11, EM_RCX);
	return c;
}

void st_guard(struct st_work *w, enum st_cold_kind kind)
{
	bool next = kind == ST_COLD_INSN;
	uint32_t map = next ? w->source->next_map : w->source->map;
	size_t exec = offsetof(struct st_frame, view) +
		      (size_t)st_exec_of(st_view_of(w->mode)) * sizeof(struct st_view) +
		      offsetof(struct st_view, exec) +
		      ((w->linear >> 12) + next) % ST_EXEC * sizeof(uint32_t);
	struct em *e = w->e;
	struct st_cold *c;

	if (w->live[0] == 0 || w->saved) {
		em_mem(e, false, 0, 0x81, 7, EM_GS(exec)); /* cmpl */
		em_mark(e, ST_MARK_EXEC, e->at - 4);
		em_mark(e, ST_MARK_MAP, e->at);
		em_32(e, map);
		em_jcc_open(e, EM_CC_NE);
		c = st_cold(w, kind, 0);
	} else {
		em_reg(e, true, 0x89, EM_RCX, EM_R11);
		em_mem(e, false, 0, 0x8b, EM_RCX, EM_GS(exec));
		em_mark(e, ST_MARK_EXEC, e->at - 4);
		em_lea(e, true, EM_RCX, EM_AT(EM_RCX, -(int32_t)map));
		if (map > 128) {
			em_mark(e, ST_MARK_LESS_MAP, e->at - 4);
		} else {
			w->fixed = true;
		}
		c = cold_if_rcx(w, kind, 0);
	}
	c->rip = w->linear + w->at[0];
}

/* ---- jumps by the table ---- */

static unsigned slot_bytes(const struct st_work *w)
{
	return (w->mode & ST_MODE_INSN) == INSN_64 ? 8 : 4;
}

/* R11 is the place of the entry. */
static struct em_mem jump_entry(enum st_view_kind kind, size_t field)
{
	size_t table = offsetof(struct st_frame, jump) + kind * ST_JUMPS * sizeof(struct st_jump);

	return (struct em_mem){.gs = true,
			       .base = EM_R11,
			       .index = EM_ABSENT,
			       .scale = 1,
			       .disp = (int32_t)(table + field)};
}

/* A jump of two bytes. Return: where its distance is. */
static uint8_t *short_jcc(struct em *e, unsigned cc)
{
	em_byte(e, 0x70 | cc);
	em_byte(e, 0);
	return e->at - 1;
}

static void short_to_here(const struct em *e, uint8_t *distance)
{
	if (!e->full) {
		*distance = (uint8_t)(e->at - distance - 1);
	}
}

/* The flags are in frame.saved from here on. */
static void put_flags_away(struct st_work *w, unsigned i)
{
	if (!w->saved) {
		st_save(w);
		st_record(w, w->at[i] | ST_SAVED);
	}
}

/* R11 is where the entry of the linear address in R10 is; if not, or somebody waits: @miss. */
static void find_entry(struct em *e, enum st_view_kind kind, uint8_t *miss[2])
{
	static const uint8_t rorx[] = {0xc4, 0x43, 0xfb, 0xf0, 0xda, 4};
	static const uint8_t and_slot[] = {0x41, 0x81, 0xe3};

	em_bytes(e, rorx, sizeof(rorx)); /* rorx $4, %r10, %r11 */
	em_lea(e, true, EM_R11, (struct em_mem){.base = EM_R11, .index = EM_R10, .scale = 8});
	em_bytes(e, and_slot, sizeof(and_slot)); /* and $.., %r11d */
	em_32(e, (ST_JUMPS - 1) * sizeof(struct st_jump));
	em_mem(e, true, 0, 0x3b, EM_R10, jump_entry(kind, offsetof(struct st_jump, rip)));
	miss[0] = short_jcc(e, EM_CC_NE);
	em_mem(e, false, 0, 0x83, 7, AT(kick)); /* cmpl $0 */
	em_byte(e, 0);
	miss[1] = short_jcc(e, EM_CC_NE);
}

/* RSP moves by frame.temp. Uses @reg. */
static void move_rsp(struct em *e, unsigned reg)
{
	em_load(e, reg, AT(temp));
	em_lea(e, true, EM_R9, (struct em_mem){.base = EM_R9, .index = (uint8_t)reg, .scale = 1});
}

/* To the address in R10, if the shadow stack has it on top and nobody waits. */
static void return_or(struct em *e, const int32_t *by, uint8_t *miss[2])
{
	em_mem(e, true, 0, 0x3b, EM_R10, EM_AT(EM_RSP, 8)); /* cmp */
	miss[0] = short_jcc(e, EM_CC_NE);
	em_mem(e, false, 0, 0x83, 7, AT(kick)); /* cmpl $0 */
	em_byte(e, 0);
	miss[1] = short_jcc(e, EM_CC_NE);
	if (by == NULL) {
		move_rsp(e, EM_R11);
	} else if (*by != 0) {
		em_lea(e, true, EM_R9, EM_AT(EM_R9, *by));
	}
	em_byte(e, 0xc2); /* ret $8 */
	em_byte(e, 8);
	em_byte(e, 0);
	short_to_here(e, miss[0]);
	short_to_here(e, miss[1]);
}

void st_emit_lookup(struct em *e, enum st_view_kind kind)
{
	uint8_t *miss[2];

	return_or(e, NULL, miss);
	st_emit_table(e, kind);
}

void st_emit_table(struct em *e, enum st_view_kind kind)
{
	uint8_t *miss[2];

	find_entry(e, kind, miss);
	move_rsp(e, EM_R10);
	em_mem(e, false, 0, 0xff, 4, jump_entry(kind, offsetof(struct st_jump, code)));
	short_to_here(e, miss[0]);
	short_to_here(e, miss[1]);
}

/* To the linear address in R10. Where nothing can be, the instruction fails: the table has no such
 * entries, and who looks further sees to it. */
static void indirect(struct st_work *w, unsigned i)
{
	enum st_view_kind kind = st_view_of(w->mode);
	struct em *e = w->e;
	uint8_t *miss[2];

	put_flags_away(w, i);
	find_entry(e, kind, miss);
	em_mem(e, false, 0, 0xff, 4, jump_entry(kind, offsetof(struct st_jump, code)));
	short_to_here(e, miss[0]);
	short_to_here(e, miss[1]);
	em_mov_imm(e, EM_R11, 0);
	em_call(e, w->t->exit_target);
}

/* ---- direct jumps ---- */

/* Leaves if somebody waits. */
static void ask(struct st_work *w, unsigned i, uint64_t rip)
{
	struct em *e = w->e;
	struct st_cold *c;

	if (w->saved) {
		em_mem(e, false, 0, 0x83, 7, AT(kick)); /* cmpl $0 */
		em_byte(e, 0);
		em_jcc_open(e, EM_CC_NE);
		c = st_cold(w, ST_COLD_KICK, i);
		c->rip = rip;
		return;
	}
	em_reg(e, true, 0x89, EM_RCX, EM_R11);
	em_mem(e, false, 0, 0x8b, EM_RCX, AT(kick));
	cold_if_rcx(w, ST_COLD_KICK, i)->rip = rip;
}

void st_goto(struct st_work *w, unsigned i, uint64_t rip)
{
	bool saved = w->saved;

	/* What nobody reads may as well be there. */
	w->saved = saved || st_flags_needed(w, rip) == 0;
	if (rip <= w->linear + w->at[i]) {
		ask(w, i, rip);
	}
	em_byte(w->e, 0xe9);
	em_32(w->e, 0);
	st_cold(w, ST_COLD_LINK, i)->rip = rip;
	w->saved = saved;
}

/* ---- instructions ---- */

bool st_is_jcc(const struct insn *insn)
{
	return insn->klass == INSN_CLASS_JCC && insn->op_bytes == (insn->mode == INSN_64 ? 8 : 4) &&
	       ((insn->map == 0 && (insn->opcode & 0xf0) == 0x70) ||
		(insn->map == 1 && (insn->opcode & 0xf0) == 0x80));
}

/* The target of a direct jump that fails, or of CALL, which is to push nothing then. */
static bool nowhere(const struct st_work *w, uint64_t rip)
{
	return (w->mode & ST_MODE_INSN) == INSN_64 && (uint64_t)((int64_t)(rip << 16) >> 16) != rip;
}

bool st_goes_on(const struct st_work *w, unsigned i)
{
	uint64_t rip = w->linear + w->at[i], taken = insn_target(&w->insn[i], rip);

	return st_is_jcc(&w->insn[i]) && taken > rip && !nowhere(w, taken);
}

uint64_t st_way_out(const struct st_work *w, unsigned i)
{
	uint64_t rip = w->linear + w->at[i], taken = insn_target(&w->insn[i], rip);

	return taken > rip ? taken : rip + w->insn[i].len;
}

void st_jump_aside(struct st_work *w, unsigned i)
{
	uint64_t rip = w->linear + w->at[i], out = st_way_out(w, i);
	bool inverse = out != insn_target(&w->insn[i], rip);
	struct st_cold *c;

	em_jcc_open(w->e, (w->insn[i].opcode & 15u) ^ inverse);
	c = st_cold(w, ST_COLD_LINK, i);
	c->rip = out;
	c->saved = st_flags_needed(w, out) == 0;
}

static void jcc(struct st_work *w, unsigned i)
{
	const struct insn *insn = &w->insn[i];
	uint64_t rip = w->linear + w->at[i];
	uint64_t taken = insn_target(insn, rip);
	unsigned cc = insn->opcode & 15;
	struct em *e = w->e;

	if (taken > rip) {
		st_jump_aside(w, i);
	} else {
		uint8_t *over;

		over = em_jcc_open(e, cc ^ 1);
		st_goto(w, i, taken);
		em_patch(e, over, em_here(e));
	}
	st_goto(w, i, rip + insn->len);
}

static uint64_t return_address(const struct st_work *w, unsigned i)
{
	uint64_t back = w->linear + w->at[i] + w->insn[i].len;

	return slot_bytes(w) == 8 ? back : (uint32_t)back;
}

/* R11 is the return address, and pushed; what fails, fails before anything has changed. */
static void push_return(struct st_work *w, unsigned i)
{
	struct em *e = w->e;
	unsigned slot = slot_bytes(w);
	int32_t disp = 0;

	if (!st_reach(w, i, &disp)) {
		em_lea(e, slot == 8, EM_R10, EM_AT(EM_R9, -(int)slot));
		st_check(w, i, slot, true);
	}
	st_mov_linear(w, EM_R11, return_address(w, i));
	em_mem(e, slot == 8, 0, 0x89, EM_R11, EM_AT(EM_R10, disp));
	em_lea(e, slot == 8, EM_R9, EM_AT(EM_R9, -(int)slot));
}

/* The flags are in frame.saved, or nobody reads them. */
static void flags_away(struct st_work *w, unsigned i)
{
	if (!w->saved && w->live[i] != 0) {
		st_save(w);
		st_record(w, w->at[i] | ST_SAVED);
	}
	w->saved = true;
}

static void room_for_entry(struct st_work *w, unsigned i)
{
	struct em *e = w->e;

	em_mem(e, true, 0, 0x3b, EM_RSP, AT(shadow_limit)); /* cmp */
	em_jcc_open(e, EM_CC_B);
	st_cold(w, ST_COLD_FULL, i)->resume = em_here(e);
}

/* Behind the CALL: the RET has found its address on the shadow stack. */
static void come_back(struct st_work *w, unsigned i)
{
	struct st_cold *c;

	em_byte(w->e, 0xe9);
	em_32(w->e, 0);
	c = st_cold(w, ST_COLD_LINK, i);
	c->rip = return_address(w, i);
	c->guard = true;
}

static void call_direct(struct st_work *w, unsigned i)
{
	uint64_t rip = w->linear + w->at[i], to = insn_target(&w->insn[i], rip);
	struct em *e = w->e;

	flags_away(w, i);
	push_return(w, i);
	if (to <= rip) {
		ask(w, i, to);
	}
	room_for_entry(w, i);
	em_push(e, EM_R11);
	em_byte(e, 0xe8);
	em_32(e, 0);
	st_cold(w, ST_COLD_LINK, i)->rip = to;
	come_back(w, i);
}

/* R10 = where JMP and CALL by register or memory lead. */
static void target(struct st_work *w, unsigned i)
{
	const struct insn_operand *o = &w->insn[i].operand[0];
	bool wide = slot_bytes(w) == 8;
	unsigned reg;

	st_keep_window(w);
	if (o->kind == INSN_OP_MEM) {
		st_address(w, i);
		st_check(w, i, slot_bytes(w), false);
		em_mem(w->e, wide, 0, 0x8b, EM_R10, EM_AT(EM_R10, 0));
		return;
	}
	reg = st_host_reg(o->reg);
	if (reg == EM_ABSENT) {
		em_load(w->e, EM_R10, GPR(o->reg));
	} else {
		em_reg(w->e, wide, 0x89, reg, EM_R10);
	}
}

/* Is the address in R10 one? Else the interpreter says that it is not, before anything changes. */
static void check_target(struct st_work *w, unsigned i)
{
	if (slot_bytes(w) == 8) {
		st_emit_is_canonical(w->e, EM_R11);
		em_jcc_open(w->e, EM_CC_NE);
		st_cold(w, ST_COLD_INSN, i);
	}
}

static void call_indirect(struct st_work *w, unsigned i)
{
	enum st_view_kind kind = st_view_of(w->mode);
	struct em *e = w->e;
	uint8_t *miss[2];

	target(w, i);
	em_store(e, EM_R10, AT(temp));
	put_flags_away(w, i);
	check_target(w, i);
	push_return(w, i);
	em_load(e, EM_R10, AT(temp));
	room_for_entry(w, i);
	find_entry(e, kind, miss);
	st_mov_linear(w, EM_R10, return_address(w, i));
	em_push(e, EM_R10);
	em_mem(e, false, 0, 0xff, 2, jump_entry(kind, offsetof(struct st_jump, code)));
	come_back(w, i);
	short_to_here(e, miss[0]);
	short_to_here(e, miss[1]);
	em_store(e, EM_R10, AT(rip));
	em_jmp(e, w->t->exit_lookup);
}

static void ret(struct st_work *w, unsigned i)
{
	unsigned slot = slot_bytes(w);
	const struct insn *insn = &w->insn[i];
	int32_t by = (int32_t)(slot + (insn->noperands > 0 ? (uint16_t)insn->imm[0] : 0));
	uint8_t *miss[2];
	int32_t disp = 0;

	if (!st_reach(w, i, &disp)) {
		em_reg(w->e, slot == 8, 0x89, EM_R9, EM_R10);
		st_check(w, i, slot, false);
	}
	em_mem(w->e, slot == 8, 0, 0x8b, EM_R10, EM_AT(EM_R10, disp));
	put_flags_away(w, i);
	if (slot == 4) {
		em_lea(w->e, false, EM_R9, EM_AT(EM_R9, by));
		by = 0;
	}
	return_or(w->e, &by, miss);
	em_mov_imm(w->e, EM_R11, (uint32_t)by);
	em_call(w->e, w->t->lookup[st_view_of(w->mode)]);
}

bool st_branch(struct st_work *w, unsigned i)
{
	const struct insn *insn = &w->insn[i];
	uint64_t rip = w->linear + w->at[i];
	bool direct = insn->noperands > 0 && insn->operand[0].kind == INSN_OP_REL;

	if (insn->op_bytes != slot_bytes(w) ||
	    (insn->nmem != 0 && insn->mem[0].kind != INSN_MEM_MODRM) ||
	    (direct && nowhere(w, insn_target(insn, rip)))) {
		return false;
	}
	switch (insn->klass) {
	case INSN_CLASS_JUMP:
		if (direct) {
			st_goto(w, i, insn_target(insn, rip));
		} else {
			target(w, i);
			indirect(w, i);
		}
		return true;
	case INSN_CLASS_JCC:
		if (!st_is_jcc(insn)) {
			return false;
		}
		jcc(w, i);
		return true;
	case INSN_CLASS_CALL:
		if (direct) {
			call_direct(w, i);
		} else {
			call_indirect(w, i);
		}
		return true;
	case INSN_CLASS_RET:
		ret(w, i);
		return true;
	default:
		return false;
	}
}
