/*
 * Windows: accesses of a block by the same registers, close to each other, are looked up once. The
 * first of them looks at the whole range; the others take the host's address from R10 or from the
 * frame. Where the range is not within a page that the TLB has, a block without windows goes on
 * instead. A loop is written several times, so that one look-up is for several rounds.
 */
#include "soft/translate/translator.h"

#define RANGE 256 /* bytes of a window, at most */

#define WINDOW(n) EM_GS(offsetof(struct st_frame, window_at) + 8 * (n))

#define RSP 4

static bool is_register(const struct insn_operand *o, unsigned gpr)
{
	return o->kind == INSN_OP_REG && o->klass == INSN_GPR && o->reg == gpr && o->bytes == 8;
}

/* Return: whether it is known how instruction @i changes the register; *@by: by how much, a little.
 */
static bool moves(const struct st_work *w, unsigned i, unsigned gpr, int32_t *by)
{
	const struct insn *insn = &w->insn[i];
	int64_t value = (int64_t)insn->imm[0];

	*by = 0;
	if (gpr == RSP && w->place[i].shift != 0) {
		*by = w->place[i].shift;
		return true;
	}
	if ((insn->gpr_write & BIT(gpr)) == 0) {
		return true;
	}
	if (insn->noperands == 0 || !is_register(&insn->operand[0], gpr)) {
		return false;
	}
	if (insn->mnemonic == INSN_INC || insn->mnemonic == INSN_DEC) {
		*by = insn->mnemonic == INSN_INC ? 1 : -1;
		return true;
	}
	if (insn->mnemonic == INSN_LEA && insn->mem[0].base == gpr &&
	    insn->mem[0].index == INSN_NO_REG && insn->adr_bytes == 8) {
		value = (int64_t)insn->mem[0].disp;
	} else if ((insn->mnemonic != INSN_ADD && insn->mnemonic != INSN_SUB) ||
		   insn->operand[1].kind != INSN_OP_IMM) {
		return false;
	}
	*by = (int32_t)(insn->mnemonic == INSN_SUB ? -value : value);
	return value >= -4096 && value <= 4096;
}

/* Likewise, the place that @p's registers lead to. */
static bool shifts(const struct st_work *w, unsigned i, const struct st_place *p, int32_t *by)
{
	int32_t index = 0;
	bool known = moves(w, i, p->base, by) &&
		     (p->index == INSN_NO_REG || moves(w, i, p->index, &index));

	*by += index * p->scale;
	return known;
}

static bool same_registers(const struct st_place *a, const struct st_place *b)
{
	return a->base == b->base && a->index == b->index && a->scale == b->scale;
}

static struct st_window *open_window(struct st_work *w, const struct st_place *p)
{
	for (unsigned n = 0; n < ST_WINDOWS; n++) {
		if (w->window[n].open && same_registers(&w->window[n].place, p)) {
			return &w->window[n];
		}
	}
	return NULL;
}

static bool inside(const struct st_window *v, const struct st_place *p)
{
	int32_t at = v->moved + p->disp;

	return at >= v->low && at + p->size <= v->high && (v->write || !p->write);
}

struct st_window *st_in_window(struct st_work *w, unsigned i)
{
	const struct st_place *p = &w->place[i];
	struct st_window *v = p->size == 0 ? NULL : open_window(w, p);

	return v != NULL && inside(v, p) ? v : NULL;
}

/* What a window that begins with instruction @i would be. Return: is there any use for it? */
static bool plan(const struct st_work *w, unsigned i, struct st_window *v)
{
	const struct st_place *first = &w->place[i];
	int32_t at = 0, by;
	unsigned members = 0;

	*v = (struct st_window){
		.place = *first, .low = first->disp, .high = first->disp + first->size};
	for (unsigned k = i; k < w->n && (k == i || !w->place[k].barrier); k++) {
		const struct st_place *p = &w->place[k];

		if (p->size != 0 && same_registers(p, first)) {
			int32_t low = MIN(v->low, at + p->disp);
			int32_t high = MAX(v->high, at + p->disp + p->size);

			if (high - low <= RANGE) {
				v->low = low;
				v->high = high;
				v->write |= p->write;
				v->last = k;
				members++;
			}
		}
		if (!shifts(w, k, first, &by)) {
			break;
		}
		at += by;
		if (at < -RANGE || at > RANGE) {
			break;
		}
	}
	return members > 1;
}

/* Without a window the block is left, to go on in another one: not behind STI, see goes_on() of
 * decode.c. */
static bool is_behind_sti(const struct st_work *w, unsigned i)
{
	return i != 0 && w->how[i - 1] == ST_HOW_STI;
}

/* Return: false: none. Else R10 is where the window begins. */
static bool begin(struct st_work *w, unsigned i)
{
	const struct st_place *p = &w->place[i];
	struct st_window *v = open_window(w, p), planned;

	for (unsigned n = 0; n < ST_WINDOWS && v == NULL; n++) {
		v = w->window[n].open ? NULL : &w->window[n];
	}
	if (v == NULL || (w->live[i] != 0 && !w->saved) || is_behind_sti(w, i) ||
	    !plan(w, i, &planned)) {
		return false;
	}
	st_keep_window(w);
	st_sum(w, p->base, p->index, p->scale, planned.low, true, EM_R10);
	st_check_range(w, i, (unsigned)(planned.high - planned.low), planned.write);
	planned.open = true;
	*v = planned;
	w->in_r10 = v;
	return true;
}

void st_keep_window(struct st_work *w)
{
	struct st_window *v = w->in_r10;

	if (v != NULL && v->open && !v->stored) {
		em_store(w->e, EM_R10, WINDOW(v - w->window));
		v->stored = true;
	}
	w->in_r10 = NULL;
}

bool st_reach(struct st_work *w, unsigned i, int32_t *disp)
{
	const struct st_place *p = &w->place[i];
	struct st_window *v;

	if (p->size == 0) {
		return false;
	}
	v = st_in_window(w, i);
	if (v != NULL) {
		if (w->in_r10 != v) {
			st_drop_held(w, EM_R10);
			em_load(w->e, EM_R10, WINDOW(v - w->window));
			w->in_r10 = v;
		}
	} else if ((w->mode & ST_MODE_PLAIN) != 0 || !begin(w, i)) {
		return false;
	}
	v = w->in_r10;
	*disp = v->moved + p->disp - v->low;
	return true;
}

/* ---- loops ---- */

#define ROUNDS 8   /* at most */
#define FAR    128 /* bytes that all of them move a register: more often they end in two pages */

/* Does the jump @i close a loop that the block begins? */
static bool closes(const struct st_work *w, unsigned i)
{
	const struct insn *insn = &w->insn[i];

	return (st_is_jcc(insn) ||
		(insn->mnemonic == INSN_JMP && insn->operand[0].kind == INSN_OP_REL)) &&
	       insn_target(insn, w->linear + w->at[i]) == w->linear + w->at[0];
}

/*
 * How many rounds there are to be, at most. Some, if there is an operand that a round moves a
 * little, so that the next one finds it in its window.
 */
static unsigned rounds(const struct st_work *w)
{
	unsigned most = 1;
	int32_t step = 0;

	for (unsigned i = 0; i < w->n; i++) {
		const struct st_place *p = &w->place[i];
		int32_t sum = 0, by;
		bool known = true;

		if (p->barrier) {
			return 1;
		}
		for (unsigned k = 0; k < w->n && p->size != 0 && known; k++) {
			known = shifts(w, k, p, &by);
			sum += by;
		}
		if (p->size != 0 && known && sum >= -FAR / 2 && sum <= FAR / 2) {
			most = ROUNDS;
			step = MAX(step, sum < 0 ? -sum : sum);
		}
	}
	return step == 0 ? most : MIN(most, (unsigned)(FAR / step));
}

/*
 * Nobody is asked between the rounds whether he waits: they are no more instructions than those of
 * any block.
 */
void st_repeat(struct st_work *w)
{
	unsigned n = w->n, most, all;
	uint16_t end = w->at[n];

	if ((w->mode & (ST_MODE_PLAIN | ST_MODE_INSN)) != INSN_64 || !closes(w, n - 1)) {
		return;
	}
	most = rounds(w);
	for (all = n * MIN(most, ST_BLOCK_INSNS / n); w->n < all; w->n++) {
		unsigned i = w->n - n;

		w->insn[w->n] = w->insn[i];
		w->at[w->n] = w->at[i];
		w->how[w->n] = w->how[i];
		w->place[w->n] = w->place[i];
	}
	w->at[w->n] = end;
}

void st_windows_behind(struct st_work *w, unsigned i)
{
	for (unsigned n = 0; n < ST_WINDOWS; n++) {
		struct st_window *v = &w->window[n];
		int32_t by = 0;

		v->open = v->open && i < v->last && !w->place[i].barrier &&
			  shifts(w, i, &v->place, &by);
		v->moved += by;
	}
}
