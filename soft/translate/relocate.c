/*
 * The same code at another linear address: a library that the kernel maps elsewhere in each
 * process. The block that there is already is copied, and what depends on the address changed:
 * em_mark().
 */
#include <string.h>

#include "lib/base/bytes.h"
#include "soft/translate/translator.h"

#define PAGE UINT64_C(4096)
/* Jumps and operands reach no farther from their instruction. */
#define REACH (UINT64_C(1) << 32)

struct move {
	struct st_translator *t;
	const struct st_block *from;
	struct st_block *to;
	uint32_t number;
	uint64_t by; /* linear addresses */
	const struct st_source *source;
};

/* Is all that the code can name on the same side of what is not canonical, and of 0? */
static bool is_inside(uint64_t linear)
{
	return linear >= 2 * REACH && linear < (UINT64_C(1) << 47) - 2 * REACH;
}

/* The offset in the cache, in either part; others stay. */
static uint32_t moved(const struct move *m, uint32_t at)
{
	if (at >= m->from->code && at <= m->from->code_end) {
		return at - m->from->code + m->to->code;
	}
	return at >= m->from->cold && at <= m->from->cold_end ? at - m->from->cold + m->to->cold
							      : at;
}

static uint8_t *bytes_at(const struct move *m, uint32_t offset)
{
	return m->t->rx - m->t->em.to_rx + offset;
}

/* Return: false: the address is of another kind, its instruction would be another one. */
static bool change(const struct move *m, uint32_t mark)
{
	uint32_t old = EM_MARK_PLACE(mark), place = moved(m, old);
	uint8_t *at = bytes_at(m, place);
	uint64_t slot = ((m->source->linear >> 12) % ST_EXEC - (m->from->linear >> 12) % ST_EXEC) *
			sizeof(uint32_t);

	switch (EM_MARK_KIND(mark)) {
	case EM_MARK_REL:
		store_le32(at, moved(m, old + 4 + load_le32(at)) - (place + 4));
		return true;
	case ST_MARK_LINEAR:
		store_le64(at, load_le64(at) + m->by);
		return em_is_long(load_le64(at));
	case ST_MARK_EXEC:
		store_le32(at, load_le32(at) + (uint32_t)slot);
		return true;
	case ST_MARK_MAP:
		store_le32(at, m->source->map);
		return true;
	case ST_MARK_LESS_MAP:
		store_le32(at, 0 - m->source->map);
		return m->source->map > 128;
	default:
		store_le32(at, m->number);
		return true;
	}
}

/* None of them is linked. */
static void add_links(const struct move *m)
{
	struct st_translator *t = m->t;

	for (uint32_t i = 0; i < m->from->links; i++) {
		struct st_link *link = &t->link[t->nlinks++];

		*link = t->link[m->from->first_link + i];
		link->behind = moved(m, link->behind);
		link->stub = moved(m, link->stub);
		link->site = moved(m, link->site);
		link->target = ST_NONE;
		link->rip += m->by;
		em_patch(&t->em, t->rx + link->behind, t->rx + link->stub);
	}
}

static void add_records(const struct move *m)
{
	struct st_translator *t = m->t;

	for (uint32_t i = 0; i < m->from->records; i++) {
		struct st_record *record = &t->records[t->nrecords++];

		*record = t->records[m->from->first_record + i];
		record->host = moved(m, record->host);
	}
}

static bool has_room(const struct st_translator *t, const struct st_block *b)
{
	const uint8_t *cold_end = t->em.base + ST_CACHE_BYTES;

	return t->nblocks < ST_MAX_BLOCKS && ST_MAX_RECORDS - t->nrecords >= b->records &&
	       ST_MAX_LINKS - t->nlinks >= b->links && t->em.max_marks - t->em.nmarks >= b->marks &&
	       (size_t)(t->em.end - t->em.at) >= b->code_end - b->code &&
	       (size_t)(cold_end - t->cold_at) >= b->cold_end - b->cold;
}

uint32_t st_relocate(struct st_translator *t, const struct st_source *source, unsigned offset,
		     unsigned mode)
{
	uint32_t like = st_find_like(t, source->page, offset, mode);
	const struct st_block *from = &t->blocks[like == ST_NONE ? 0 : like];
	struct st_block *to = &t->blocks[t->nblocks];
	struct move m = {t, from, to, t->nblocks, source->linear - from->linear, source};
	bool right = true;

	if (like == ST_NONE || from->fixed || !is_inside(from->linear) ||
	    !is_inside(source->linear) || !has_room(t, from)) {
		return ST_NONE;
	}
	*to = *from;
	to->linear = source->linear;
	to->code = (uint32_t)(t->em.at - t->em.base);
	to->entry = to->code + (from->entry - from->code);
	to->code_end = to->code + (from->code_end - from->code);
	to->cold = (uint32_t)(t->cold_at - t->em.base);
	to->cold_end = to->cold + (from->cold_end - from->cold);
	to->first_record = t->nrecords;
	to->first_link = t->nlinks;
	to->first_mark = t->em.nmarks;
	to->incoming = ST_NONE;
	memcpy(bytes_at(&m, to->code), bytes_at(&m, from->code), to->code_end - to->code);
	memcpy(bytes_at(&m, to->cold), bytes_at(&m, from->cold), to->cold_end - to->cold);
	for (uint32_t i = 0; i < from->marks && right; i++) {
		uint32_t mark = t->em.marks[from->first_mark + i];

		right = change(&m, mark);
		t->em.marks[to->first_mark + i] =
			EM_MARK_KIND(mark) << EM_MARK_SHIFT | moved(&m, EM_MARK_PLACE(mark));
	}
	if (!right) {
		return ST_NONE;
	}
	add_records(&m);
	add_links(&m);
	t->em.nmarks += from->marks;
	t->em.at += to->code_end - to->code;
	t->cold_at += to->cold_end - to->cold;
	return t->nblocks++;
}

bool st_relocated_right(struct st_translator *t, const struct st_source *source, uint32_t number)
{
	static __thread uint8_t hot[65536], cold[65536];
	const struct st_block was = t->blocks[number], *now = &t->blocks[number];
	const uint8_t *base = t->em.base;
	uint32_t hot_bytes = was.code_end - was.code, cold_bytes = was.cold_end - was.cold;

	if (hot_bytes > sizeof(hot) || cold_bytes > sizeof(cold)) {
		return false;
	}
	memcpy(hot, base + was.code, hot_bytes);
	memcpy(cold, base + was.cold, cold_bytes);
	t->nblocks = number;
	t->nrecords = was.first_record;
	t->nlinks = was.first_link;
	t->em.nmarks = was.first_mark;
	t->em.at -= hot_bytes;
	t->cold_at -= cold_bytes;
	return st_translate(t, source, was.offset, was.mode) == number &&
	       now->code_end == was.code_end && now->cold_end == was.cold_end &&
	       now->entry == was.entry && now->bytes == was.bytes && now->fpu == was.fpu &&
	       now->pieces == was.pieces && now->records == was.records &&
	       now->links == was.links && now->marks == was.marks &&
	       memcmp(hot, base + was.code, hot_bytes) == 0 &&
	       memcmp(cold, base + was.cold, cold_bytes) == 0;
}
