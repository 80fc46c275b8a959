/*
 * What is allowed in translated code:
 *
 * - the frame, through GS: fields at fixed places, and writes only to what is the guest's; of the
 *   tables behind them, reads, by R11;
 *
 * - guest memory: at R10, no more bytes than the look-up right before has found allowed, and no
 *   write unless that looked at the tags of writes; or C did so, when it was called instead;
 *
 * - the host's stack, which is the shadow stack: PUSHFQ, its top slot, POPFQ; an entry, by a PUSH
 *   where there is room for it and the CALL right behind; RET of an entry that is the one for R10;
 *
 * - jumps to the beginnings of instructions of the block, to the common code, and by the table;
 *
 * and nothing that is a system instruction, or touches memory or the stack in another way. So RSP
 * always points at an entry, whose host address is behind such a CALL; or at the stopper.
 */
#include "soft/translate/check.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/check.h"
#include "soft/translate/slow.h"
#include "soft/translate/translator.h"

const struct st_witness *st_witness;

#define FRAME(field) ((int64_t)offsetof(struct st_frame, field))
#define JUMPS_BYTES  (int64_t)(ST_JUMPS * sizeof(struct st_jump))
#define EXEC_BYTES   (int64_t)(ST_EXEC * sizeof(uint32_t))
#define MAX_CODE     65536
#define BACK	     12 /* the longest pattern */

/* What is on the host's stack besides entries. */
enum stack {
	STACK_ENTRY,
	STACK_FLAGS,
	STACK_HALF, /* the guest's part of an entry */
	STACK_WRONG,
};

struct judge {
	const struct st_translator *t;
	const struct st_block *b;
	/* Both parts, as if the cold one were behind the other: places are offsets in this. */
	const uint8_t *code, *cold;
	uint32_t hot, bytes;
	uint8_t start[MAX_CODE / 8]; /* bits: an instruction begins */
	uint8_t land[MAX_CODE / 8];  /* bits: a jump leads there, but for those of a look-up */
	uint8_t room[MAX_CODE / 8];  /* bits: behind the comparison of RSP with its limit */
	uint8_t stack[MAX_CODE];     /* enum stack before each instruction */
	/* The last instructions, the newest first. */
	struct insn last[BACK];
	uint32_t at[BACK];
	unsigned known;
	/* What R10 is good for: bytes from @low to @high. */
	int low, high;
	bool write;
	bool has_room; /* for an entry of the shadow stack */
	/* What fields of window_at are good for. */
	struct {
		int low, high;
		bool write;
	} window[ST_WINDOWS];
};

static bool has(const uint8_t *bits, uint32_t i)
{
	return (bits[i / 8] >> i % 8 & 1) != 0;
}

static void put(uint8_t *bits, uint32_t i)
{
	bits[i / 8] |= (uint8_t)(1u << i % 8);
}

/* ---- patterns ---- */

static bool is_reg(const struct insn *insn, unsigned i, unsigned reg)
{
	const struct insn_operand *o = &insn->operand[i];

	return i < insn->noperands && o->kind == INSN_OP_REG && o->klass == INSN_GPR &&
	       o->reg == reg;
}

/* Is operand @i GS:[base + index * scale + disp]? */
static bool is_mem(const struct insn *insn, unsigned i, bool gs, unsigned base, unsigned index,
		   unsigned scale, int64_t disp)
{
	const struct insn_operand *o = &insn->operand[i];
	const struct insn_mem *m = &insn->mem[0];

	return i < insn->noperands && o->kind == INSN_OP_MEM && (m->seg == INSN_GS) == gs &&
	       m->base == base && m->index == index &&
	       (index == INSN_NO_REG || m->scale == scale) && m->disp == disp;
}

static int64_t table(const struct judge *j, size_t offset)
{
	return FRAME(view) + (int64_t)(st_view_of(j->b->mode) * sizeof(struct st_view) + offset);
}

static int64_t jumps(const struct judge *j)
{
	return FRAME(jump) + (int64_t)st_view_of(j->b->mode) * JUMPS_BYTES;
}

/* rorx, and, xor, cmp, ja; the newest, add, is seen to by the caller. */
static bool look_up_dead(const struct judge *j, bool write)
{
	const struct insn *l = j->last;
	size_t tags = write ? offsetof(struct st_view, write) : offsetof(struct st_view, read);

	return j->known >= 6 && l[5].mnemonic == INSN_RORX && is_reg(&l[5], 0, EM_R11) &&
	       is_reg(&l[5], 1, EM_R10) && l[5].imm[0] == 9 && l[4].mnemonic == INSN_AND &&
	       is_reg(&l[4], 0, EM_R11) && l[4].operand[0].bytes == 4 &&
	       l[4].imm[0] == (ST_TLB - 1) << 3 && l[3].mnemonic == INSN_XOR &&
	       is_reg(&l[3], 0, EM_R10) &&
	       is_mem(&l[3], 1, true, EM_R11, INSN_NO_REG, 1, table(j, tags)) &&
	       l[2].mnemonic == INSN_CMP && is_reg(&l[2], 0, EM_R10) &&
	       l[2].operand[0].bytes == 8 && l[2].imm[0] < 4096 && l[1].mnemonic == INSN_JNBE;
}

/* mov, pext, mov, not, lea, lea, pext, jrcxz, jmp, mov, mov; then lea. */
static bool look_up_live(const struct judge *j, bool write)
{
	const struct insn *l = j->last;
	size_t tags = write ? offsetof(struct st_view, write) : offsetof(struct st_view, read);
	size_t add = offsetof(struct st_view, add);

	return j->known >= 11 && l[10].mnemonic == INSN_PEXT && is_reg(&l[10], 0, EM_R11) &&
	       is_reg(&l[10], 1, EM_R10) &&
	       is_mem(&l[10], 2, true, INSN_NO_REG, INSN_NO_REG, 1, FRAME(tlb_mask)) &&
	       l[9].mnemonic == INSN_MOV && is_reg(&l[9], 0, EM_RCX) &&
	       is_mem(&l[9], 1, true, INSN_NO_REG, EM_R11, 8, table(j, tags)) &&
	       l[8].mnemonic == INSN_NOT && is_reg(&l[8], 0, EM_RCX) && l[7].mnemonic == INSN_LEA &&
	       is_reg(&l[7], 0, EM_R10) && is_mem(&l[7], 1, false, EM_R10, EM_RCX, 1, 1) &&
	       l[6].mnemonic == INSN_LEA && is_reg(&l[6], 0, EM_RCX) &&
	       l[6].mem[0].base == EM_R10 && l[6].mem[0].index == INSN_NO_REG &&
	       l[5].mnemonic == INSN_PEXT && is_reg(&l[5], 0, EM_RCX) && is_reg(&l[5], 1, EM_RCX) &&
	       is_mem(&l[5], 2, true, INSN_NO_REG, INSN_NO_REG, 1, FRAME(page_mask)) &&
	       l[4].mnemonic == INSN_JCXZ && l[4].imm[0] == 5 && l[3].mnemonic == INSN_JMP &&
	       l[3].len == 5 && l[2].mnemonic == INSN_MOV && is_reg(&l[2], 0, EM_RCX) &&
	       l[1].mnemonic == INSN_MOV && is_reg(&l[1], 0, EM_R11) &&
	       is_mem(&l[1], 1, true, INSN_NO_REG, EM_R11, 8, table(j, add));
}

/* No jump leads between the newest instruction and the one @n before. */
static bool unbroken(const struct judge *j, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (has(j->land, j->at[i])) {
			return false;
		}
	}
	return true;
}

static bool is_window(const struct insn *insn, unsigned operand, unsigned n)
{
	return insn->mnemonic == INSN_MOV && insn->operand[operand].bytes == 8 &&
	       is_mem(insn, operand, true, INSN_NO_REG, INSN_NO_REG, 1,
		      FRAME(window_at) + 8 * (int64_t)n);
}

static bool writes(const struct insn *insn);

/* Is a field of window_at written? That of R10, or of R11 if that was just made of R10. */
static void see_window(struct judge *j)
{
	const struct insn *now = &j->last[0], *before = &j->last[1];
	const struct insn_mem *m = &now->mem[0];
	int by = 0;
	bool right = is_reg(now, 1, EM_R10);

	if (now->nmem == 0 || m->seg != INSN_GS || !writes(now) ||
	    m->disp + m->bytes <= FRAME(window_at) ||
	    m->disp >= FRAME(window_at) + 8 * (int64_t)ST_WINDOWS) {
		return;
	}
	if (is_reg(now, 1, EM_R11) && j->known > 1 && before->mnemonic == INSN_LEA &&
	    is_reg(before, 0, EM_R11) && before->operand[0].bytes == 8 &&
	    before->mem[0].base == EM_R10 && before->mem[0].index == INSN_NO_REG) {
		by = (int)before->mem[0].disp;
		right = true;
	}
	for (unsigned n = 0; n < ST_WINDOWS; n++) {
		int64_t at = FRAME(window_at) + 8 * (int64_t)n;

		if (m->disp + m->bytes > at && m->disp < at + 8) {
			j->window[n].low = j->window[n].high = 0;
		}
		if (right && is_window(now, 0, n)) {
			j->window[n].low = j->low - by;
			j->window[n].high = j->high - by;
			j->window[n].write = j->write;
		}
	}
}

/* After the newest instruction: is R10 an address of the host? Return: was it looked up? */
static bool see_look_up(struct judge *j)
{
	const struct insn *now = &j->last[0];
	unsigned add = now->mnemonic == INSN_ADD;
	int room = 0;

	if ((now->gpr_write & BIT(EM_R10)) == 0) {
		return false;
	}
	j->low = j->high = 0;
	for (unsigned n = 0; n < ST_WINDOWS && is_reg(now, 0, EM_R10); n++) {
		if (is_window(now, 1, n)) {
			j->low = j->window[n].low;
			j->high = j->window[n].high;
			j->write = j->window[n].write;
		}
	}
	if (add && is_reg(now, 0, EM_R10) &&
	    is_mem(now, 1, true, EM_R11, INSN_NO_REG, 1, table(j, offsetof(struct st_view, add)))) {
		for (unsigned write = 0; write < 2; write++) {
			if (look_up_dead(j, write != 0) && unbroken(j, 5)) {
				room = (int)(4096 - j->last[2].imm[0]);
				j->write = write != 0;
			}
		}
	} else if (now->mnemonic == INSN_LEA && is_mem(now, 1, false, EM_R10, EM_R11, 1, 0)) {
		for (unsigned write = 0; write < 2; write++) {
			if (look_up_live(j, write != 0) && unbroken(j, 10)) {
				room = (int)(j->last[6].mem[0].disp + 1);
				j->write = write != 0;
			}
		}
	}
	j->high = room != 0 ? room : j->high;
	return room != 0;
}

/* ---- jumps ---- */

static const uint8_t *address(const struct judge *j, uint32_t at)
{
	return at < j->hot ? j->code + at : j->cold + (at - j->hot);
}

/* Where @to is in the block; UINT32_MAX: nowhere. */
static uint32_t place(const struct judge *j, const uint8_t *to)
{
	if (to >= j->code && to < j->code + j->hot) {
		return (uint32_t)(to - j->code);
	}
	return to >= j->cold && to < j->cold + (j->bytes - j->hot)
		       ? j->hot + (uint32_t)(to - j->cold)
		       : UINT32_MAX;
}

static const uint8_t *target_of(const struct judge *j, const struct insn *insn, uint32_t at)
{
	return address(j, at) + insn->len + (int64_t)insn->imm[0];
}

static bool common_exit(const struct judge *j, const uint8_t *to)
{
	return to == j->t->exit_lookup || to == j->t->exit_kick || to == j->t->exit_moved;
}

static bool common_call(const struct judge *j, const uint8_t *to)
{
	return to == j->t->exit_link || to == j->t->exit_insn || to == j->t->exit_target ||
	       to == j->t->lookup[st_view_of(j->b->mode)] || to == j->t->slow ||
	       to == j->t->string || to == j->t->load_fpu || to == j->t->attempt ||
	       to == j->t->system;
}

static bool inside(const struct judge *j, const uint8_t *to)
{
	uint32_t at = place(j, to);

	return at != UINT32_MAX && has(j->start, at);
}

static bool decode_at(const struct judge *j, uint32_t at, struct insn *insn)
{
	uint32_t end = at < j->hot ? j->hot : j->bytes;

	return at < end && insn_decode(insn, INSN_64, address(j, at), end - at) == INSN_OK;
}

/* The way out of a jump that is not linked. */
static bool is_stub(const struct judge *j, const uint8_t *to)
{
	struct insn insn;
	uint32_t at = place(j, to);

	return inside(j, to) && decode_at(j, at, &insn) && insn.klass == INSN_CLASS_CALL &&
	       insn.operand[0].kind == INSN_OP_REL && target_of(j, &insn, at) == j->t->exit_link;
}

/* Is R11 the offset of an entry of the jumps' table? AND has seen to it not long ago. */
static bool is_slot(const struct judge *j)
{
	for (unsigned i = 0; i < j->known && !has(j->land, j->at[i]); i++) {
		const struct insn *insn = &j->last[i];

		if ((insn->gpr_write & BIT(EM_R11)) != 0) {
			return insn->mnemonic == INSN_AND && is_reg(insn, 0, EM_R11) &&
			       insn->operand[0].bytes == 4 &&
			       insn->imm[0] == (ST_JUMPS - 1) * sizeof(struct st_jump);
		}
	}
	return false;
}

static bool is_full(const struct insn *insn)
{
	return insn->mnemonic == INSN_MOV && is_reg(insn, 0, EM_RSP) &&
	       insn->operand[0].bytes == 8 &&
	       is_mem(insn, 1, true, INSN_NO_REG, INSN_NO_REG, 1, FRAME(shadow_base));
}

/*
 * cmp, jne, cmp, jne, perhaps lea: R10 is the guest's address of the entry, and nobody waits.
 */
static bool return_allowed(const struct judge *j, const struct insn *insn)
{
	unsigned by = j->last[0].mnemonic == INSN_LEA && is_reg(&j->last[0], 0, EM_R9);
	const struct insn *l = j->last + by;

	return insn->opcode == 0xc2 && insn->imm[0] == 8 && insn->op_bytes == 8 &&
	       j->known >= 4 + by && unbroken(j, 3 + by) && l[0].mnemonic == INSN_JNZ &&
	       l[1].mnemonic == INSN_CMP && l[1].imm[0] == 0 &&
	       is_mem(&l[1], 0, true, INSN_NO_REG, INSN_NO_REG, 1, FRAME(kick)) &&
	       l[2].mnemonic == INSN_JNZ && l[3].mnemonic == INSN_CMP && is_reg(&l[3], 0, EM_R10) &&
	       l[3].operand[0].bytes == 8 && l[3].mem[0].base == EM_RSP;
}

static bool jump_allowed(const struct judge *j, const struct insn *insn, uint32_t at)
{
	bool call = insn->klass == INSN_CLASS_CALL, half = j->stack[at] == STACK_HALF;
	const uint8_t *to;

	if (insn->klass == INSN_CLASS_RET) {
		return return_allowed(j, insn);
	}
	if (insn->operand[0].kind != INSN_OP_REL) {
		return (insn->mnemonic == INSN_JMP || half) && is_slot(j) &&
		       is_mem(insn, 0, true, EM_R11, INSN_NO_REG, 1,
			      jumps(j) + (int64_t)offsetof(struct st_jump, code));
	}
	to = target_of(j, insn, at);
	if (call) {
		return half ? is_stub(j, to) : common_call(j, to);
	}
	if (!inside(j, to)) {
		return insn->mnemonic == INSN_JMP && common_exit(j, to);
	}
	return j->stack[place(j, to)] == j->stack[at] &&
	       has(j->room, place(j, to)) == (j->known > 0 && is_full(&j->last[0]));
}

/* ---- memory ---- */

static bool frame_allowed(const struct judge *j, const struct insn *insn, bool write)
{
	const struct insn_mem *m = &insn->mem[0];
	int64_t exec = FRAME(view) + (int64_t)offsetof(struct st_view, exec) +
		       (int64_t)(st_exec_of(st_view_of(j->b->mode)) * sizeof(struct st_view));

	if (m->index == INSN_NO_REG && m->base == INSN_NO_REG) {
		return (m->disp >= 0 && m->disp + m->bytes <= (write ? FRAME(fpu) : FRAME(view))) ||
		       (!write && m->bytes == sizeof(uint32_t) && m->disp >= exec &&
			m->disp + m->bytes <= exec + EXEC_BYTES);
	}
	return !write && (m->base == INSN_NO_REG || m->base == EM_R11) &&
	       (m->index == INSN_NO_REG || m->index == EM_R11) &&
	       ((m->disp >= table(j, 0) && m->disp < table(j, sizeof(struct st_view))) ||
		(m->disp >= jumps(j) && m->disp < jumps(j) + JUMPS_BYTES));
}

static bool writes(const struct insn *insn)
{
	for (unsigned i = 0; i < insn->noperands; i++) {
		if (insn->operand[i].kind == INSN_OP_MEM &&
		    (insn->operand[i].access & INSN_WRITE) != 0) {
			return true;
		}
	}
	return false;
}

/* The bit is one of the first 64. */
static bool bit_allowed(const struct judge *j, const struct insn *insn)
{
	const struct insn *before = &j->last[0];

	return (insn->attributes & INSN_ATTR_BITSTR) == 0 ||
	       (j->known > 0 && before->mnemonic == INSN_PEXT && is_reg(before, 0, EM_R11) &&
		is_mem(before, 2, true, INSN_NO_REG, INSN_NO_REG, 1, FRAME(bit_mask)) &&
		is_reg(insn, 1, EM_R11));
}

static bool memory_allowed(const struct judge *j, const struct insn *insn, enum stack stack)
{
	const struct insn_mem *m = &insn->mem[0];

	if (insn->nmem == 0 || insn->mnemonic == INSN_LEA) {
		return true;
	}
	if (insn->nmem != 1 || m->kind != INSN_MEM_MODRM || m->bytes == 0 || m->seg == INSN_FS) {
		return false;
	}
	if (m->seg == INSN_GS) {
		return frame_allowed(j, insn, writes(insn));
	}
	if (m->base == EM_RSP) {
		bool flags = stack == STACK_FLAGS;

		return insn->mnemonic == (flags ? INSN_MOV : INSN_CMP) && !writes(insn) &&
		       m->index == INSN_NO_REG && m->disp == (flags ? 0 : 8) && m->bytes == 8;
	}
	return m->base == EM_R10 && m->index == INSN_NO_REG && m->disp >= j->low &&
	       m->disp + m->bytes <= j->high && (!writes(insn) || j->write) && bit_allowed(j, insn);
}

/* ---- instructions ---- */

static bool is_push(const struct insn *insn)
{
	return insn->mnemonic == INSN_PUSH && insn->op_bytes == 8 &&
	       (is_reg(insn, 0, EM_R10) || is_reg(insn, 0, EM_R11));
}

static bool drops_flags(const struct insn *insn)
{
	return insn->mnemonic == INSN_POPF ||
	       (insn->mnemonic == INSN_LEA && is_reg(insn, 0, EM_RSP) &&
		insn->operand[0].bytes == 8 && insn->mem[0].base == EM_RSP &&
		insn->mem[0].index == INSN_NO_REG && insn->mem[0].disp == 8);
}

/* What is on the stack behind @insn. */
static enum stack behind(const struct insn *insn, enum stack before)
{
	if (insn->mnemonic == INSN_PUSHF) {
		return before == STACK_ENTRY ? STACK_FLAGS : STACK_WRONG;
	}
	if (drops_flags(insn)) {
		return before == STACK_FLAGS ? STACK_ENTRY : STACK_WRONG;
	}
	if (is_push(insn)) {
		return before == STACK_ENTRY ? STACK_HALF : STACK_WRONG;
	}
	if (insn->klass == INSN_CLASS_CALL) {
		return before == STACK_FLAGS ? STACK_WRONG : STACK_ENTRY;
	}
	if (insn->klass == INSN_CLASS_RET || insn->mnemonic == INSN_JMP || is_full(insn)) {
		return before == STACK_ENTRY ? STACK_ENTRY : STACK_WRONG;
	}
	return before == STACK_HALF ? STACK_WRONG : before;
}

static bool kind_allowed(const struct insn *insn)
{
	if (insn->mnemonic == INSN_RDTSC || insn->mnemonic == INSN_LFENCE) {
		return true;
	}
	switch (insn->klass) {
	case INSN_CLASS_JUMP:
	case INSN_CLASS_CALL:
	case INSN_CLASS_RET:
		return true;
	case INSN_CLASS_JCC:
		return insn->mnemonic == INSN_JCXZ || (insn->map == 0 && insn->opcode >> 4 == 7) ||
		       (insn->map == 1 && insn->opcode >> 4 == 8);
	case INSN_CLASS_INTEGER:
	case INSN_CLASS_NOP:
		break;
	default:
		return insn->klass >= INSN_CLASS_X87;
	}
	if (insn->mnemonic == INSN_PUSHF || insn->mnemonic == INSN_POPF) {
		return insn->op_bytes == 8;
	}
	if (is_push(insn) || is_full(insn) || drops_flags(insn)) {
		return true;
	}
	return (insn->attributes & (INSN_ATTR_PUSH | INSN_ATTR_POP)) == 0 &&
	       (insn->gpr_write & BIT(EM_RSP)) == 0 && insn->mnemonic != INSN_STD &&
	       insn->mnemonic != INSN_CLD;
}

/* What R10 is when the slow part comes back to @at: what it was asked for. */
static bool returns_right(const struct judge *j, const uint8_t *to, unsigned room, bool write);

/* From @at to @to, is there one instruction, that leaves R10 alone? */
static bool skips_one(const struct judge *j, uint32_t at, const uint8_t *to)
{
	struct insn insn;

	return decode_at(j, at, &insn) && address(j, at) + insn.len == to &&
	       insn.klass == INSN_CLASS_INTEGER && (insn.gpr_write & BIT(EM_R10)) == 0;
}

/* The comparison of RSP with its limit. */
static bool asks_for_room(const struct insn *insn)
{
	return insn->mnemonic == INSN_CMP && is_reg(insn, 0, EM_RSP) &&
	       insn->operand[0].bytes == 8 &&
	       is_mem(insn, 1, true, INSN_NO_REG, INSN_NO_REG, 1, FRAME(shadow_limit));
}

/* Does nothing go on behind @insn, the last one of a part? */
static bool ends(const struct insn *insn)
{
	return insn->mnemonic == INSN_JMP || insn->klass == INSN_CLASS_CALL;
}

/* All beginnings, and what is on the stack there. */
static bool survey_beginnings(struct judge *j, uint32_t *at)
{
	enum stack stack = STACK_ENTRY;
	struct insn insn, before = {0};

	for (*at = 0; *at < j->bytes; *at += insn.len) {
		if (!decode_at(j, *at, &insn) || stack == STACK_WRONG ||
		    (*at == j->hot && (stack != STACK_ENTRY || !ends(&before)))) {
			return false;
		}
		put(j->start, *at);
		j->stack[*at] = (uint8_t)stack;
		stack = behind(&insn, stack);
		if (asks_for_room(&before) && insn.mnemonic == INSN_JB && *at + insn.len < j->hot) {
			put(j->room, *at + insn.len);
		}
		before = insn;
	}
	return stack == STACK_ENTRY && ends(&before);
}

/* And where jumps lead: the slow part's way back is told apart. */
static bool survey(struct judge *j, uint32_t *at)
{
	struct insn insn;

	if (!survey_beginnings(j, at)) {
		return false;
	}
	for (*at = 0; *at < j->bytes; *at += insn.len) {
		const uint8_t *to;

		(void)decode_at(j, *at, &insn);
		if (insn.noperands == 0 || insn.operand[0].kind != INSN_OP_REL) {
			continue;
		}
		to = target_of(j, &insn, *at);
		if (insn.mnemonic == INSN_JCXZ && insn.imm[0] == 5) {
			continue; /* in a look-up, or of no consequence to R10 */
		}
		if (insn.klass == INSN_CLASS_JCC && skips_one(j, *at + insn.len, to)) {
			continue;
		}
		if (inside(j, to) && !returns_right(j, to, 0, false)) {
			put(j->land, place(j, to));
		}
	}
	return true;
}

/*
 * Does a jump behind a call of C lead to @to? With @room: are all such calls for as many bytes, and
 * for a write if @write is told?
 */
static bool returns_right(const struct judge *j, const uint8_t *to, unsigned room, bool write)
{
	struct insn insn, call = {0}, imm = {0};
	uint32_t call_at = 0;
	bool found = false;

	for (uint32_t at = 0; at < j->bytes; at += insn.len) {
		if (!decode_at(j, at, &insn)) {
			return false;
		}
		if (insn.mnemonic == INSN_JMP && insn.operand[0].kind == INSN_OP_REL &&
		    target_of(j, &insn, at) == to) {
			bool slow = call.klass == INSN_CLASS_CALL &&
				    (target_of(j, &call, call_at) == j->t->slow ||
				     target_of(j, &call, call_at) == j->t->attempt) &&
				    imm.mnemonic == INSN_MOV && is_reg(&imm, 0, EM_R11);

			if (!slow ||
			    (room != 0 && ((imm.imm[0] & 0xffff) != room ||
					   ((imm.imm[0] & ST_SLOW_WRITE) != 0) != write))) {
				return false;
			}
			found = true;
		}
		imm = call;
		call = insn;
		call_at = at;
	}
	return found;
}

static void forget(struct judge *j)
{
	j->low = j->high = 0;
	memset(j->window, 0, sizeof(j->window));
}

static bool judge_one(struct judge *j, uint32_t at, const struct insn *insn)
{
	bool looked_up, jump = insn->klass >= INSN_CLASS_JUMP && insn->klass <= INSN_CLASS_RET;

	if (has(j->land, at)) {
		forget(j);
	}
	j->has_room = has(j->room, at) || (j->has_room && !has(j->land, at));
	if (!kind_allowed(insn) || (jump && !jump_allowed(j, insn, at)) ||
	    (!(jump && insn->nmem != 0) && !memory_allowed(j, insn, j->stack[at])) ||
	    (is_push(insn) && !j->has_room) ||
	    (j->known > 0 && is_full(&j->last[0]) && insn->mnemonic != INSN_JMP)) {
		return false;
	}
	j->has_room = j->has_room && !is_push(insn);
	memmove(&j->last[1], &j->last[0], (BACK - 1) * sizeof(j->last[0]));
	memmove(&j->at[1], &j->at[0], (BACK - 1) * sizeof(j->at[0]));
	j->last[0] = *insn;
	j->at[0] = at;
	j->known += j->known < BACK;
	looked_up = see_look_up(j);
	see_window(j);
	if (insn->mnemonic == INSN_JMP && insn->len == 5 && j->last[1].mnemonic == INSN_JCXZ &&
	    j->last[1].imm[0] == 5) {
		/* Behind it one comes by the jump before it. */
		j->low = j->high = 0;
	} else if (insn->klass == INSN_CLASS_CALL || insn->mnemonic == INSN_JMP ||
		   insn->klass == INSN_CLASS_RET) {
		forget(j);
		j->has_room = false;
	}
	return !looked_up ||
	       returns_right(j, address(j, at) + insn->len, (unsigned)j->high, j->write);
}

bool st_check_block(const struct st_translator *t, const struct st_block *b, uint32_t *at)
{
	struct judge *j = calloc(1, sizeof(*j));
	uint32_t here = 0;
	struct insn insn;
	bool right;

	if (j == NULL) {
		return false; /* what was not judged is not executed */
	}
	j->t = t;
	j->b = b;
	j->code = t->rx + b->code;
	j->cold = t->rx + b->cold;
	j->hot = b->code_end - b->code;
	j->bytes = j->hot + (b->cold_end - b->cold);
	right = j->bytes <= MAX_CODE && survey(j, &here);
	for (uint32_t i = 0; right && i < j->bytes; i += insn.len) {
		here = i;
		(void)decode_at(j, i, &insn);
		right = judge_one(j, i, &insn);
	}
	if (!right && at != NULL) {
		*at = here < j->hot ? b->code + here : b->cold + (here - j->hot);
	}
	free(j);
	return right;
}

/* ---- jumps that are linked ---- */

/* The direct jump of the block that ends at @behind. Return: where it leads; NULL: there is none.
 */
static const uint8_t *jump_before(const struct st_translator *t, const struct st_block *b,
				  uint32_t behind)
{
	bool cold = behind > ST_HOT_BYTES;
	uint32_t at = cold ? b->cold : b->code, end = cold ? b->cold_end : b->code_end;
	struct insn insn = {0};

	if (behind <= at || behind > end) {
		return NULL;
	}
	for (; at < behind; at += insn.len) {
		if (insn_decode(&insn, INSN_64, t->rx + at, end - at) != INSN_OK) {
			return NULL;
		}
	}
	if (at != behind || insn.noperands == 0 || insn.operand[0].kind != INSN_OP_REL ||
	    insn.len < 5) {
		return NULL;
	}
	return t->rx + behind + (int64_t)insn.imm[0];
}

bool st_check_link(const struct st_translator *t, const struct st_block *source,
		   const struct st_link *link)
{
	const uint8_t *to = jump_before(t, source, link->behind);
	const struct st_block *b;

	if (to == NULL || link->target >= t->nblocks || t->blocks[link->target].dead ||
	    source->dead) {
		return false;
	}
	b = &t->blocks[link->target];
	return b->linear + b->offset == link->rip &&
	       b->mode == ((source->mode & ~(ST_MODE_SAVED | ST_MODE_PLAIN)) | link->how) &&
	       (to == t->rx + b->code || (to == t->rx + b->entry && !link->guard &&
					  b->page == source->page && b->linear == source->linear));
}

/* ---- in the translator ---- */

void st_judge_block(const struct st_translator *t, const struct st_block *b)
{
	if (!t->checked) {
		return;
	}
	check(st_check_block(t, b, NULL));
	if (st_witness != NULL) {
		st_witness->block(t, b);
	}
}

void st_judge_link(const struct st_translator *t, const struct st_block *source,
		   const struct st_link *link)
{
	if (!t->checked) {
		return;
	}
	check(st_check_link(t, source, link));
	if (st_witness != NULL) {
		st_witness->link(t, source, link);
	}
}
