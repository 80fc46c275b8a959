/*
 * How translated code reaches the guest's memory: the inline look-up in the TLB, and its slow part.
 */
#include "soft/translate/slow.h"
#include "soft/translate/translator.h"

#define AT(field) EM_GS(offsetof(struct st_frame, field))
#define GPR(n)	  EM_GS(offsetof(struct st_frame, gpr) + 8 * (n))

void st_record(struct st_work *w, unsigned guest)
{
	struct st_translator *t = w->t;

	if (t->nrecords < ST_MAX_RECORDS) {
		t->records[t->nrecords].host = (uint32_t)(em_here(w->e) - t->rx);
		t->records[t->nrecords].guest = (uint16_t)guest;
		t->nrecords++;
	} else {
		w->e->full = true;
	}
}

/* MOV %rax, %r11; LAHF; SETO %al; ... */
void st_save(struct st_work *w)
{
	static const uint8_t code[] = {0x9f, 0x0f, 0x90, 0xc0};
	struct em *e = w->e;

	st_drop_held(w, EM_R11);
	em_reg(e, true, 0x89, EM_RAX, EM_R11);
	em_bytes(e, code, sizeof(code));
	em_byte(e, 0x66);
	em_mem(e, false, 0, 0x89, EM_RAX, AT(saved));
	em_reg(e, true, 0x89, EM_R11, EM_RAX);
	w->saved = true;
}

/* ADD of 127 to AL, which is 0 or 1, sets OF; SAHF the others. */
void st_emit_restore(struct em *e)
{
	static const uint8_t code[] = {0x04, 0x7f, 0x9e};

	em_reg(e, true, 0x89, EM_RAX, EM_R11);
	em_mem(e, false, 1, 0xb7, EM_RAX, AT(saved)); /* movzwl */
	em_bytes(e, code, sizeof(code));
	em_reg(e, true, 0x89, EM_R11, EM_RAX);
}

void st_restore(struct st_work *w)
{
	st_drop_held(w, EM_R11);
	st_emit_restore(w->e);
	w->saved = false;
}

/* Its bits 47 to 63, all 0 or all 1. */
void st_emit_is_canonical(struct em *e, unsigned scratch)
{
	em_byte(e, 0xc4); /* rorx $47, %r10, .. */
	em_byte(e, 0x43 | (scratch >= 8 ? 0 : 0x80));
	em_byte(e, 0xfb);
	em_byte(e, 0xf0);
	em_byte(e, 0xc0 | (scratch & 7) << 3 | (EM_R10 & 7));
	em_byte(e, 47);
	em_lea(e, false, scratch, EM_AT(scratch, 1));
	em_byte(e, 0x40 | scratch >> 3);
	em_byte(e, 0xf7); /* test $.., .. */
	em_byte(e, 0xc0 | (scratch & 7));
	em_32(e, 0x1fffe);
}

struct st_cold *st_cold(struct st_work *w, unsigned kind, unsigned i)
{
	struct st_cold *c = &w->cold[MIN(w->ncold, ST_MAX_COLD - 1u)];

	if (w->ncold == ST_MAX_COLD) {
		w->e->full = true;
	} else {
		w->ncold++;
	}
	*c = (struct st_cold){.kind = (uint8_t)kind, .guest = w->at[i], .i = (uint16_t)i};
	c->live = w->live[i] != 0;
	c->saved = w->saved;
	c->behind = em_here(w->e);
	return c;
}

void st_mov_linear(struct st_work *w, unsigned reg, uint64_t value)
{
	em_mov_imm(w->e, reg, value);
	if (em_is_long(value)) {
		em_mark(w->e, ST_MARK_LINEAR, w->e->at - 8);
	} else {
		w->fixed = true;
	}
}

/* ---- addresses ---- */

/* The register that has the guest's @gpr, if need be after loading it to @scratch. */
static unsigned fetch(struct st_work *w, unsigned gpr, unsigned scratch)
{
	unsigned reg = st_host_reg(gpr);

	reg = reg == EM_ABSENT ? st_held_in(w, gpr) : reg;
	if (reg == EM_ABSENT) {
		st_drop_held(w, scratch);
		em_load(w->e, scratch, GPR(gpr));
		reg = scratch;
	}
	return reg;
}

void st_sum(struct st_work *w, unsigned base, unsigned index, unsigned scale, int32_t disp,
	    bool wide, unsigned to)
{
	struct em_mem a = {.base = EM_ABSENT, .index = EM_ABSENT, .scale = 1, .disp = disp};

	if (base != INSN_NO_REG) {
		bool taken = index != INSN_NO_REG && st_held_in(w, index) == EM_R10;

		a.base = (uint8_t)fetch(w, base, taken ? EM_R11 : EM_R10);
	}
	if (index != INSN_NO_REG) {
		a.index = (uint8_t)fetch(w, index, a.base == EM_R11 ? EM_R10 : EM_R11);
		a.scale = (uint8_t)scale;
	}
	if (wide && a.index == EM_ABSENT && a.disp == 0) {
		if (a.base != to) {
			em_reg(w->e, true, 0x89, a.base, to);
		}
		return;
	}
	em_lea(w->e, wide, to, a);
}

/* @to = the sum, cut off at 32 bits unless @wide. */
static void offset(struct st_work *w, unsigned i, bool wide, unsigned to)
{
	const struct insn *insn = &w->insn[i];
	const struct insn_mem *m = &insn->mem[0];
	uint64_t all = (uint64_t)m->disp;

	if (m->base == INSN_RIP || (m->base == INSN_NO_REG && m->index == INSN_NO_REG)) {
		if (m->base == INSN_RIP) {
			all += w->linear + w->at[i] + insn->len;
			st_mov_linear(w, to, wide ? all : (uint32_t)all);
		} else {
			em_mov_imm(w->e, to, wide ? all : (uint32_t)all);
		}
		return;
	}
	st_sum(w, m->base, m->index, m->scale, (int32_t)m->disp, wide, to);
}

void st_lea(struct st_work *w, unsigned i, unsigned to)
{
	const struct insn *insn = &w->insn[i];

	offset(w, i, insn->adr_bytes == 8 && insn->op_bytes == 8, to);
}

void st_address(struct st_work *w, unsigned i)
{
	const struct insn_mem *m = &w->insn[i].mem[0];

	st_keep_window(w);
	offset(w, i, w->insn[i].adr_bytes == 8, EM_R10);
	w->held[0].there = false;
	if (w->insn[i].mode == INSN_64 && (m->seg == INSN_FS || m->seg == INSN_GS)) {
		st_drop_held(w, EM_R11);
		em_load(w->e, EM_R11, m->seg == INSN_FS ? AT(fs_base) : AT(gs_base));
		em_lea(w->e, true, EM_R10,
		       (struct em_mem){.base = EM_R10, .index = EM_R11, .scale = 1});
	}
}

/* ---- the TLB ---- */

static size_t tags(const struct st_work *w, bool write)
{
	return offsetof(struct st_frame, view) +
	       (size_t)st_view_of(w->mode) * sizeof(struct st_view) +
	       (write ? offsetof(struct st_view, write) : offsetof(struct st_view, read));
}

static size_t adds(const struct st_work *w)
{
	return tags(w, false) - offsetof(struct st_view, read) + offsetof(struct st_view, add);
}

static struct em_mem entry(size_t table)
{
	return (struct em_mem){
		.gs = true, .base = EM_R11, .index = EM_ABSENT, .scale = 1, .disp = (int32_t)table};
}

static struct em_mem entry8(size_t table)
{
	return (struct em_mem){
		.gs = true, .base = EM_ABSENT, .index = EM_R11, .scale = 8, .disp = (int32_t)table};
}

/* R10 becomes the offset in the page; what is beyond it is another page. */
static void check_dead(struct st_work *w, unsigned i, unsigned kind, unsigned size, bool write)
{
	static const uint8_t rorx[] = {0xc4, 0x43, 0xfb, 0xf0, 0xda, 9};
	struct em *e = w->e;
	struct st_cold *c;

	em_bytes(e, rorx, sizeof(rorx)); /* rorx $9, %r10, %r11 */
	em_byte(e, 0x41);
	em_byte(e, 0x81);
	em_byte(e, 0xe3); /* and $.., %r11d */
	em_32(e, (ST_TLB - 1) << 3);
	em_mem(e, true, 0, 0x33, EM_R10, entry(tags(w, write)));
	em_byte(e, 0x49);
	em_byte(e, 0x81);
	em_byte(e, 0xfa); /* cmp $.., %r10 */
	em_32(e, 4096 - size);
	em_jcc_open(e, EM_CC_A);
	c = st_cold(w, kind, i);
	c->inline_live = false;
	c->size = (uint16_t)size;
	c->write = write;
	em_mem(e, true, 0, 0x03, EM_R10, entry(adds(w)));
	c->resume = em_here(e);
}

/* The same without touching the flags. */
static void check_live(struct st_work *w, unsigned i, unsigned size, bool write)
{
	struct em *e = w->e;
	struct st_cold *c;

	em_store(e, EM_RCX, AT(save_rcx));
	em_pext(e, EM_R11, EM_R10, AT(tlb_mask));
	em_load(e, EM_RCX, entry8(tags(w, write)));
	em_byte(e, 0x48);
	em_byte(e, 0xf7);
	em_byte(e, 0xd1); /* not %rcx */
	em_lea(e, true, EM_R10,
	       (struct em_mem){.base = EM_R10, .index = EM_RCX, .scale = 1, .disp = 1});
	em_lea(e, true, EM_RCX, EM_AT(EM_R10, (int32_t)size - 1));
	em_pext(e, EM_RCX, EM_RCX, AT(page_mask));
	em_byte(e, 0xe3); /* jrcxz over the jump */
	em_byte(e, 5);
	em_byte(e, 0xe9);
	em_32(e, 0);
	c = st_cold(w, ST_COLD_SLOW, i);
	c->inline_live = true;
	c->size = (uint16_t)size;
	c->write = write;
	em_load(e, EM_RCX, AT(save_rcx));
	em_load(e, EM_R11, entry8(adds(w)));
	em_lea(e, true, EM_R10, (struct em_mem){.base = EM_R10, .index = EM_R11, .scale = 1});
	c->resume = em_here(e);
}

void st_check(struct st_work *w, unsigned i, unsigned size, bool write)
{
	w->held[0].there = w->held[1].there = false;
	if (w->live[i] != 0 && !w->saved) {
		check_live(w, i, size, write);
	} else {
		check_dead(w, i, ST_COLD_SLOW, size, write);
	}
}

void st_check_range(struct st_work *w, unsigned i, unsigned size, bool write)
{
	w->held[0].there = w->held[1].there = false;
	check_dead(w, i, ST_COLD_RANGE, size, write);
}

/* ---- the cold part ---- */

/* The record of an instruction whose flags are not the host's. */
static unsigned lost(const struct st_cold *c)
{
	return c->guest | (!c->live ? ST_NO_FLAGS : c->saved ? ST_SAVED : 0);
}

static void slow(struct st_work *w, const struct st_cold *c)
{
	struct em *e = w->e;

	st_record(w, lost(c));
	if (c->inline_live) {
		em_load(e, EM_RCX, AT(save_rcx));
		em_load(e, EM_R11, entry8(tags(w, c->write)));
		em_lea(e, true, EM_R10,
		       (struct em_mem){.base = EM_R10, .index = EM_R11, .scale = 1});
	} else {
		em_mem(e, true, 0, 0x33, EM_R10, entry(tags(w, c->write)));
	}
	em_mov_imm(e, EM_R11, c->size | (c->write ? ST_SLOW_WRITE : 0));
	em_call(e, w->t->slow);
	em_jmp(e, c->resume);
}

/*
 * What is called comes back behind the jump if there is no window. A range of two pages is none,
 * and nobody is asked: where a frame of the stack is such a range, that happens often.
 */
static void range(struct st_work *w, unsigned i)
{
	static const uint8_t page_of[] = {0x49, 0xc1, 0xeb, 12}; /* shr $12, %r11 */
	const struct st_cold c = w->cold[i];
	struct em *e = w->e;
	struct st_cold *link;

	em_mem(e, true, 0, 0x33, EM_R10, entry(tags(w, c.write)));
	em_lea(e, true, EM_R11, EM_AT(EM_R10, c.size - 1));
	em_reg(e, true, 0x31, EM_R10, EM_R11); /* xor */
	em_bytes(e, page_of, sizeof(page_of));
	em_byte(e, 0x70 | EM_CC_NE);
	em_byte(e, 16); /* over MOV, CALL, JMP */
	em_mov_imm(e, EM_R11, c.size | (c.write ? ST_SLOW_WRITE : 0));
	em_call(e, w->t->attempt);
	em_jmp(e, c.resume);
	em_byte(e, 0xe9);
	em_32(e, 0);
	link = st_cold(w, ST_COLD_LINK, c.i);
	link->saved = c.saved;
	link->plain = true;
	link->rip = w->linear + c.guest;
}

static void leave(struct st_work *w, const struct st_cold *c, const uint8_t *exit)
{
	if (c->saved) {
		st_emit_restore(w->e);
	}
	st_mov_linear(w, EM_R10, c->rip);
	em_store(w->e, EM_R10, AT(rip));
	if (c->kind == ST_COLD_MOVED) {
		em_mov_imm(w->e, EM_R11, w->t->nblocks);
		em_mark(w->e, ST_MARK_NUMBER, w->e->at - 4);
	}
	em_jmp(w->e, exit);
}

static void link_stub(struct st_work *w, const struct st_cold *c)
{
	struct st_translator *t = w->t;
	struct st_link *link;

	if (t->nlinks == ST_MAX_LINKS) {
		w->e->full = true;
		return;
	}
	link = &t->link[t->nlinks++];
	link->behind = (uint32_t)(c->behind - t->rx);
	link->stub = (uint32_t)(em_here(w->e) - t->rx);
	link->target = ST_NONE;
	link->rip = c->rip;
	link->how = (c->saved ? ST_MODE_SAVED : 0) | (c->plain ? ST_MODE_PLAIN : 0);
	link->guard = c->guard;
	em_call(w->e, t->exit_link);
	link->site = (uint32_t)(em_here(w->e) - t->rx);
}

static void cold_parts(struct st_work *w)
{
	for (unsigned i = 0; i < w->ncold && !w->e->full; i++) {
		const struct st_cold *c = &w->cold[i];

		em_patch(w->e, c->behind, em_here(w->e));
		em_mark(w->e, EM_MARK_REL, c->behind - w->e->to_rx - 4);
		switch (c->kind) {
		case ST_COLD_SLOW:
			slow(w, c);
			break;
		case ST_COLD_RANGE:
			range(w, i);
			break;
		case ST_COLD_KICK:
			leave(w, c, w->t->exit_kick);
			break;
		case ST_COLD_MOVED:
			leave(w, c, w->t->exit_moved);
			break;
		case ST_COLD_INSN:
			st_record(w, lost(c));
			em_call(w->e, w->t->exit_insn);
			break;
		case ST_COLD_FULL:
			em_load(w->e, EM_RSP, AT(shadow_base));
			em_jmp(w->e, c->resume);
			break;
		case ST_COLD_FPU:
			em_call(w->e, w->t->load_fpu);
			em_jmp(w->e, c->resume);
			break;
		default:
			link_stub(w, c);
			break;
		}
	}
}

void st_cold_parts(struct st_work *w, struct st_block *b)
{
	struct st_translator *t = w->t;
	struct em hot = *w->e;

	w->e->at = t->cold_at;
	w->e->end = t->rx - hot.to_rx + ST_CACHE_BYTES;
	b->cold = (uint32_t)(em_here(w->e) - t->rx);
	cold_parts(w);
	b->cold_end = (uint32_t)(em_here(w->e) - t->rx);
	t->cold_at = w->e->at;
	w->e->at = hot.at;
	w->e->end = hot.end;
}
