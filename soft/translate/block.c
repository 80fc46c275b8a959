/*
 * One block: in which order its code comes, and where flags and registers are meanwhile.
 */
#include <string.h>

#include "soft/translate/fast.h"
#include "soft/translate/translator.h"

#define AT(field) EM_GS(offsetof(struct st_frame, field))

static bool uses_fpu(const struct st_work *w, enum st_how end)
{
	for (unsigned i = 0; i < w->n; i++) {
		bool interpreted = i == w->n - 1 && end == ST_HOW_INTERPRET;

		if (w->insn[i].mnemonic != INSN_NONE && w->insn[i].klass >= INSN_CLASS_X87 &&
		    (!interpreted || st_asks_place(w, i))) {
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
static bool accesses(const struct insn *insn, enum st_how how)
{
	switch (how) {
	case ST_HOW_COPY:
		return insn->nmem != 0;
	case ST_HOW_PUSH:
	case ST_HOW_POP:
	case ST_HOW_LEAVE:
	case ST_HOW_PUSHF:
	case ST_HOW_BIT:
		return true;
	case ST_HOW_BRANCH:
		return insn->klass != INSN_CLASS_JCC &&
		       (insn->klass != INSN_CLASS_JUMP || insn->nmem != 0);
	default:
		return false;
	}
}

/* Are the flags before instruction @i what it reads, or what it leaves in part to those behind? */
static bool reads_flags(const struct st_work *w, unsigned i, enum st_how how)
{
	const struct insn *insn = &w->insn[i];
	uint32_t kept = w->live[i + 1] & ~(insn->flags_maybe ? 0 : insn->flags_written);

	if (how == ST_HOW_INTERPRET) {
		return insn->mnemonic != INSN_NONE && st_system_of(insn, w->mode) != 0;
	}
	return how == ST_HOW_PUSHF || how == ST_HOW_SYSTEM || (insn->flags_read & ST_FLAGS) != 0 ||
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
static void place_flags(struct st_work *w, unsigned i, enum st_how how)
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

	return w->how[i] == ST_HOW_BRANCH || w->how[i] == ST_HOW_NOTHING ||
	       w->how[i] == ST_HOW_LEA || (w->how[i] == ST_HOW_COPY && insn->nmem == 0) ||
	       (w->in_r10 != NULL && st_in_window(w, i) == w->in_r10);
}

/* What R10 and R11 have is in the frame before whatever may leave the block, or uses them. */
static void place_held(struct st_work *w, unsigned i)
{
	const struct insn *insn = &w->insn[i];

	switch (w->how[i]) {
	case ST_HOW_NOTHING:
	case ST_HOW_LEA:
		return;
	case ST_HOW_COPY:
		if (insn->nmem != 0 || insn->klass != INSN_CLASS_INTEGER ||
		    insn->mnemonic == INSN_DIV || insn->mnemonic == INSN_IDIV) {
			st_write_back(w);
		}
		return;
	case ST_HOW_BRANCH:
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

static void code(struct st_work *w, struct st_block *b, enum st_how end)
{
	b->fpu = uses_fpu(w, end);
	st_record(w, w->at[0] | (w->saved ? ST_SAVED : 0));
	st_guard(w, ST_COLD_MOVED);
	b->entry = (uint32_t)(em_here(w->e) - w->t->rx);
	if (w->at[1] > 4096 && !(w->n == 1 && end == ST_HOW_INTERPRET)) {
		st_guard(w, ST_COLD_INSN);
	}
	if (b->fpu) {
		want_fpu(w);
	}
	for (unsigned i = 0; i < w->n && !w->e->full; i++) {
		bool last = i == w->n - 1;

		place_held(w, i);
		place_flags(w, i, last && end == ST_HOW_INTERPRET ? end : w->how[i]);
		if (!keeps_r10(w, i)) {
			st_keep_window(w);
		}
		if (last &&
		    (end == ST_HOW_INTERPRET || (end == ST_HOW_BRANCH && !st_branch(w, i)))) {
			st_interpret(w, i);
		} else if (!last || end == ST_HOW_NOTHING) {
			st_insn(w, i);
		}
		if ((w->insn[i].flags_written & ST_FLAGS) != 0 || w->insn[i].flags_maybe) {
			w->saved = false;
		}
		st_windows_behind(w, i);
	}
	if (end == ST_HOW_NOTHING) {
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
	enum st_how end;

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
	end = st_read_block(&w, offset);
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
