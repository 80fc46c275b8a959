/*
 * What a block is: its instructions, which code each will get, which flags matter where, and what
 * of its memory operands may be looked up together.
 */
#include "soft/translate/fast.h"
#include "soft/translate/translator.h"

#define RSP 4

/* In 32-bit mode segments count that are not told here. */
static bool address_is_easy(const struct insn *insn)
{
	const struct insn_mem *m = &insn->mem[0];

	return insn->nmem == 0 || insn->mode == INSN_64 ||
	       (insn->adr_bytes == 4 && m->seg != INSN_FS && m->seg != INSN_GS &&
		m->seg != INSN_CS);
}

static enum st_how push_pop(const struct insn *insn)
{
	unsigned slot = insn->mode == INSN_64 ? 8 : 4;
	const struct insn_operand *o = &insn->operand[0];

	if (insn->op_bytes != slot || (o->kind == INSN_OP_REG && o->klass != INSN_GPR)) {
		return ST_HOW_INTERPRET;
	}
	if (insn->mnemonic == INSN_POP) {
		return o->kind == INSN_OP_REG ? ST_HOW_POP : ST_HOW_INTERPRET;
	}
	return o->kind == INSN_OP_MEM && insn->mem[0].kind != INSN_MEM_MODRM ? ST_HOW_INTERPRET
									     : ST_HOW_PUSH;
}

static enum st_how string(const struct insn *insn)
{
	for (unsigned i = 0; i < insn->nmem; i++) {
		if (insn->mem[i].seg == INSN_FS || insn->mem[i].seg == INSN_GS ||
		    insn->mem[i].seg == INSN_CS) {
			return ST_HOW_INTERPRET;
		}
	}
	return insn->adr_bytes == (insn->mode == INSN_64 ? 8 : 4) ? ST_HOW_STRING
								  : ST_HOW_INTERPRET;
}

static enum st_how bit(const struct insn *insn)
{
	bool plain = insn->nmem == 1 && insn->mem[0].kind == INSN_MEM_MODRM &&
		     insn->op_bytes == 8 && insn->operand[1].kind == INSN_OP_REG;

	return plain && st_host_reg(insn->operand[1].reg) != EM_ABSENT ? ST_HOW_BIT
								       : ST_HOW_INTERPRET;
}

static enum st_how how_of(const struct insn *insn, unsigned mode)
{
	uint32_t system = ST_SYSTEM_KIND(st_system_of(insn, mode));

	if (!address_is_easy(insn) || system >= ST_SYSTEM_ENDS) {
		return ST_HOW_INTERPRET;
	}
	if (system != ST_SYSTEM_NONE) {
		return ST_HOW_SYSTEM;
	}
	if (insn->klass >= INSN_CLASS_JUMP && insn->klass <= INSN_CLASS_RET) {
		return ST_HOW_BRANCH;
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
		return ST_HOW_NOTHING;
	case INSN_LEA:
		return insn->mem[0].kind == INSN_MEM_MODRM ? ST_HOW_LEA : ST_HOW_INTERPRET;
	case INSN_PUSH:
	case INSN_POP:
		return push_pop(insn);
	case INSN_LEAVE:
		return insn->op_bytes == (insn->mode == INSN_64 ? 8 : 4) ? ST_HOW_LEAVE
									 : ST_HOW_INTERPRET;
	case INSN_CLD:
		return ST_HOW_CLD;
	case INSN_STD:
		return ST_HOW_STD;
	case INSN_PUSHF:
		return insn->mode == INSN_64 && insn->op_bytes == 8 ? ST_HOW_PUSHF
								    : ST_HOW_INTERPRET;
	case INSN_CLI:
		return (mode & ST_MODE_USER) == 0 ? ST_HOW_CLI : ST_HOW_INTERPRET;
	case INSN_STI:
		return (mode & ST_MODE_USER) == 0 ? ST_HOW_STI : ST_HOW_INTERPRET;
	case INSN_SWAPGS:
		return (mode & ST_MODE_USER) == 0 ? ST_HOW_SWAPGS : ST_HOW_INTERPRET;
	case INSN_RDTSC:
	case INSN_RDTSCP:
		return (mode & ST_MODE_TSC) != 0 ? ST_HOW_RDTSC : ST_HOW_INTERPRET;
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
		return st_can_copy(insn, mode) ? ST_HOW_COPY : ST_HOW_INTERPRET;
	default:
		return st_can_copy(insn, mode) ? ST_HOW_COPY : ST_HOW_INTERPRET;
	}
}

/* ---- decoding ---- */

/* Of a block that goes on in another one. That may be looked for first, and who waits be served:
 * not behind STI, so that the interpreter holds the next instruction to it. */
static enum st_how goes_on(const struct st_work *w)
{
	return w->how[w->n - 1] == ST_HOW_STI ? ST_HOW_INTERPRET : ST_HOW_NOTHING;
}

/*
 * Only the first instruction may end in the next page.
 * Return: how the last instruction ends the block: a jump, by the interpreter, or not (NOTHING).
 */
static enum st_how decode(struct st_work *w, unsigned offset)
{
	unsigned mode = (w->mode & ST_MODE_INSN) | (w->amd ? INSN_AMD : 0);

	w->n = 0;
	w->at[0] = (uint16_t)offset;
	do {
		struct insn *insn = &w->insn[w->n];
		unsigned length = w->n == 0 ? w->source->length : 4096;
		enum insn_result result =
			insn_decode(insn, mode, w->bytes + offset, length - offset);
		enum st_how how;

		if (result == INSN_MORE && w->n != 0) {
			return goes_on(w);
		}
		if (result != INSN_OK) {
			insn->len = (uint8_t)MIN(4096 - offset, 1u);
			insn->mnemonic = INSN_NONE;
			insn->flags_read = ST_FLAGS;
			how = ST_HOW_INTERPRET;
		} else {
			how = how_of(insn, w->mode);
		}
		w->how[w->n] = (uint8_t)how;
		offset += insn->len;
		w->at[++w->n] = (uint16_t)offset;
		if (how == ST_HOW_INTERPRET || (how == ST_HOW_BRANCH && !st_goes_on(w, w->n - 1))) {
			return how;
		}
	} while (w->n < ST_BLOCK_INSNS && offset < 4096);
	return goes_on(w);
}

static uint32_t needed_behind(struct st_work *w, enum st_how end)
{
	const struct insn *last = &w->insn[w->n - 1];
	uint64_t rip = w->linear + w->at[w->n - 1];

	if (end == ST_HOW_NOTHING) {
		return st_flags_needed(w, w->linear + w->at[w->n]);
	}
	if (end == ST_HOW_BRANCH && last->noperands > 0 && last->operand[0].kind == INSN_OP_REL) {
		uint32_t needed = st_flags_needed(w, insn_target(last, rip));

		return last->klass == INSN_CLASS_JCC ? needed | st_flags_needed(w, rip + last->len)
						     : needed;
	}
	return ST_FLAGS;
}

/* Backwards: what an instruction reads, or what is read behind it and it does not write for sure.
 */
static void liveness(struct st_work *w, enum st_how end)
{
	uint32_t live = needed_behind(w, end);

	w->live[w->n] = live;
	for (unsigned i = w->n; i-- > 0;) {
		const struct insn *insn = &w->insn[i];

		if (i == w->n - 1 && end == ST_HOW_INTERPRET) {
			live = ST_FLAGS;
		} else {
			if ((i < w->n - 1 || end == ST_HOW_NOTHING) && st_is_jcc(insn)) {
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

/* ---- what it accesses ---- */

bool st_writes(const struct insn *insn)
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
	switch (insn->mode == INSN_64 ? w->how[i] : ST_HOW_INTERPRET) {
	case ST_HOW_COPY:
		if (insn->nmem == 1 && m->kind == INSN_MEM_MODRM && insn->adr_bytes == 8 &&
		    m->base < 16 && m->seg != INSN_FS && m->seg != INSN_GS && m->bytes <= 64 &&
		    (int64_t)m->disp > -FAR && (int64_t)m->disp < FAR) {
			*p = (struct st_place){.base = m->base,
					       .index = m->index,
					       .scale = m->index == INSN_NO_REG ? 0 : m->scale,
					       .size = (uint16_t)m->bytes,
					       .disp = (int32_t)m->disp,
					       .write = st_writes(insn)};
		}
		break;
	case ST_HOW_PUSH:
		*p = (struct st_place){
			.base = RSP, .index = INSN_NO_REG, .write = true, .disp = -8, .shift = -8};
		p->size = insn->operand[0].kind == INSN_OP_MEM ? 0 : 8;
		break;
	case ST_HOW_POP:
		*p = (struct st_place){.base = RSP, .index = INSN_NO_REG, .size = 8, .shift = 8};
		p->barrier = insn->operand[0].reg == RSP;
		break;
	case ST_HOW_BRANCH:
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
	case ST_HOW_NOTHING:
	case ST_HOW_LEA:
	case ST_HOW_CLD:
	case ST_HOW_STD:
	case ST_HOW_BIT:
		break;
	default:
		p->barrier = true;
		break;
	}
}

enum st_how st_read_block(struct st_work *w, unsigned offset)
{
	enum st_how end = decode(w, offset);

	for (unsigned i = 0; i < w->n; i++) {
		find_place(w, i);
	}
	if (end == ST_HOW_BRANCH) {
		st_repeat(w);
	}
	liveness(w, end);
	return end;
}
