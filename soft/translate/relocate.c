/*
 * The same code at another linear address: a library that the kernel maps elsewhere in each
 * process. The block that there is already is copied, and what depends on the address changed:
 * em_mark().
 */
#include <stdlib.h>
#include <string.h>

#include "lib/base/bytes.h"
#include "lib/base/check.h"
#include "soft/access.h"
#include "soft/translate/check.h"
#include "soft/translate/translator.h"

#define PAGE UINT64_C(4096)
/* Jumps and operands reach no farther from their instruction. */
#define REACH (UINT64_C(1) << 32)
/* So many blocks are made at once: where one led, its copy will lead. */
#define AHEAD 64

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

/* The block @like. Return: the new one's number, or ST_NONE. */
static uint32_t copy_block(struct st_translator *t, const struct st_source *source, uint32_t like)
{
	const struct st_block *from = &t->blocks[like];
	struct st_block *to = &t->blocks[t->nblocks];
	struct move m = {t, from, to, t->nblocks, source->linear - from->linear, source};
	bool right = true;

	if (from->fixed || !is_inside(from->linear) || !is_inside(source->linear) ||
	    !has_room(t, from)) {
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

/* Is the latest block what is translated of the same bytes? It is translated in its place. */
static bool is_right(struct st_translator *t, const struct st_source *source)
{
	uint32_t number = t->nblocks - 1;
	const struct st_block was = t->blocks[number], *now = &t->blocks[number];
	const uint8_t *base = t->em.base;
	uint32_t hot_bytes = was.code_end - was.code, cold_bytes = was.cold_end - was.cold;
	uint8_t *copy = malloc(hot_bytes + cold_bytes);
	bool right;

	if (copy == NULL) {
		return false; /* what was not compared is not executed */
	}
	memcpy(copy, base + was.code, hot_bytes);
	memcpy(copy + hot_bytes, base + was.cold, cold_bytes);
	t->nblocks = number;
	t->nrecords = was.first_record;
	t->nlinks = was.first_link;
	t->em.nmarks = was.first_mark;
	t->em.at -= hot_bytes;
	t->cold_at -= cold_bytes;
	right = st_translate(t, source, was.offset, was.mode) == number &&
		now->code_end == was.code_end && now->cold_end == was.cold_end &&
		now->entry == was.entry && now->bytes == was.bytes && now->fpu == was.fpu &&
		now->pieces == was.pieces && now->records == was.records &&
		now->links == was.links && now->marks == was.marks &&
		memcmp(copy, base + was.code, hot_bytes) == 0 &&
		memcmp(copy + hot_bytes, base + was.cold, cold_bytes) == 0;
	free(copy);
	return right;
}

/* As above, if the page has not been written to meanwhile. */
static bool is_right_now(struct st_translator *t, const struct st_source *of)
{
	const struct st_page *page = st_page_find(t, of->page);
	struct st_source source = *of;
	uint8_t bytes[PAGE];

	source.bytes = bytes;
	if (soft_access_copy(bytes, (const void *)(uintptr_t)source.page, sizeof(bytes)) != 0) {
		return true;
	}
	for (uint64_t m = t->blocks[t->nblocks - 1].pieces; m != 0; m &= m - 1) {
		unsigned at = (unsigned)__builtin_ctzll(m) * SOFT_CODE_PIECE;

		if (memcmp(page->bytes + at, bytes + at, SOFT_CODE_PIECE) != 0) {
			return true;
		}
	}
	return is_right(t, &source);
}

static uint32_t relocate(struct st_translator *t, const struct st_source *source, uint32_t like)
{
	uint32_t number = copy_block(t, source, like);

	if (number != ST_NONE) {
		check(!t->checked || is_right_now(t, source));
		st_judge_block(t, &t->blocks[number]);
		st_block_add(t, number, NULL);
	}
	return number;
}

/*
 * Where a jump of the block @like has led before. Return: a block for that, if it is missing, at
 * the address that is by @by another.
 */
static uint32_t follow(struct st_translator *t, const struct st_source *first,
		       const struct st_link *link, uint64_t by)
{
	const struct st_block *target = &t->blocks[link->target];
	const struct st_view *v = &t->frame->view[st_exec_of(st_view_of(target->mode))];
	uint64_t rip = link->rip + by;
	uint32_t map = v->exec[(rip >> 12) % ST_EXEC], like;
	struct st_source source = *first;

	source.page = target->page;
	source.linear = rip & ~(PAGE - 1);
	source.map = map;
	if (map == 0 || t->maps[map - 1].linear != source.linear ||
	    t->maps[map - 1].host != source.page ||
	    st_find(t, source.page, rip, target->mode) != ST_NONE) {
		return ST_NONE;
	}
	like = st_find_like(t, source.page, target->offset, target->mode);
	return like == ST_NONE ? ST_NONE : relocate(t, &source, like);
}

uint32_t st_relocate(struct st_translator *t, const struct st_source *source, unsigned offset,
		     unsigned mode)
{
	uint32_t like[AHEAD], made[AHEAD], n = 0;

	like[0] = st_find_like(t, source->page, offset, mode);
	made[0] = like[0] == ST_NONE ? ST_NONE : relocate(t, source, like[0]);
	if (made[0] == ST_NONE) {
		return ST_NONE;
	}
	n = 1;
	for (uint32_t i = 0; i < n; i++) {
		const struct st_block *from = &t->blocks[like[i]];
		uint64_t by = t->blocks[made[i]].linear - from->linear;

		for (uint32_t k = 0; k < from->links && n < AHEAD; k++) {
			const struct st_link *link = &t->link[from->first_link + k];

			like[n] = link->target;
			made[n] = like[n] == ST_NONE ? ST_NONE : follow(t, source, link, by);
			n += made[n] != ST_NONE;
		}
	}
	for (uint32_t i = 0; i < n; i++) {
		st_link_known(t, &t->blocks[made[i]]);
	}
	return made[0];
}
