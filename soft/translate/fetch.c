/*
 * Code pages that were translated, and may not be any more what they were: others than vCPUs write
 * to the guest's memory without a word (devices, the VMM). So now and then each page is compared
 * with what was translated of it before its code is entered again.
 */
#include "soft/access.h"
#include "soft/translate/fast.h"
#include "soft/translate/translator.h"
#include "soft/vcpu.h"

#define PAGE_MASK UINT64_C(4095)
#define PARTS	  (SOFT_CODE_PIECE / 32)

/* Of the pieces @first and @n - 1 behind it. Return: as soft_access_same(). */
static int same(const struct st_page *page, unsigned first, unsigned n)
{
	size_t at = first * (size_t)SOFT_CODE_PIECE;

	return soft_access_same((const uint8_t *)(uintptr_t)page->host + at, page->bytes + at,
				n * (size_t)PARTS);
}

bool st_verify(struct st_translator *t, uint64_t host)
{
	const struct st_page *page = st_page_find(t, host);
	uint64_t mask = page == NULL ? 0 : page->mask, changed = 0;

	while (mask != 0) {
		unsigned first = (unsigned)__builtin_ctzll(mask);
		uint64_t rest = ~(mask >> first);
		unsigned n = rest == 0 ? 64 : (unsigned)__builtin_ctzll(rest);
		int r = same(page, first, n);

		for (unsigned i = first; r == 1 && i < first + n; i++) {
			int one = same(page, i, 1);

			changed |= one == 1 ? BIT(i) : 0;
			r = one < 0 ? one : r;
		}
		if (r < 0) {
			return false;
		}
		mask = first + n == 64 ? 0 : mask & (UINT64_MAX << (first + n));
	}
	if (changed != 0) {
		st_drop(t, host, changed);
	}
	return true;
}

uint32_t st_known_map(struct st_translator *t, enum st_view_kind kind, uint64_t linear)
{
	struct st_view *v = &t->frame->view[st_exec_of(kind)];
	unsigned i = (unsigned)(linear >> 12) % ST_EXEC;
	uint32_t map = v->known[i];

	if (map == 0 || t->maps[map - 1].linear != (linear & ~PAGE_MASK)) {
		return 0;
	}
	if (v->exec[i] != map) {
		if (!st_verify(t, t->maps[map - 1].host)) {
			return 0;
		}
		v->exec[i] = map;
	}
	return map;
}

uint64_t st_fast_jump(struct soft_vcpu *vcpu)
{
	struct st_translator *t = vcpu->translator;
	struct st_frame *f = t->frame;
	enum st_view_kind kind = st_view_of(f->mode);
	uint32_t map, b;
	uint64_t code;

	if (st_must_leave(f) || t->view_mode[kind] != f->mode) {
		return 0;
	}
	map = st_known_map(t, kind, f->rip);
	if (map == 0) {
		return 0;
	}
	b = st_find(t, t->maps[map - 1].host, f->rip, f->mode);
	if (b == ST_NONE) {
		return 0;
	}
	code = (uintptr_t)t->rx + t->blocks[b].code;
	st_jump_enter(f, kind, f->rip, code);
	return code;
}

uint64_t st_fast_moved(struct soft_vcpu *vcpu, uint64_t unused, uint32_t number)
{
	struct st_translator *t = vcpu->translator;
	struct st_frame *f = t->frame;
	const struct st_block *b = &t->blocks[number];
	uint32_t map;

	(void)unused;
	if (st_must_leave(f)) {
		return 0;
	}
	map = st_known_map(t, st_view_of(f->mode), f->rip);
	if (map == 0) {
		return 0;
	}
	if (t->maps[map - 1].host != b->page || b->dead) {
		/* Another page is here now: what begins in it. */
		uint32_t other = st_find(t, t->maps[map - 1].host, f->rip, f->mode);

		f->saved = st_pack_flags(f->flags);
		return other == ST_NONE ? 0 : (uintptr_t)t->rx + t->blocks[other].code;
	}
	/* With the flags that it came with, and what was in frame.saved. */
	f->site = (uintptr_t)t->rx + b->entry;
	return f->site;
}
