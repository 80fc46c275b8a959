/*
 * The cache of translated code and what is known of it. It is filled from one end; when it is full,
 * all of it is forgotten.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/base/bytes.h"
#include "lib/base/check.h"
#include "soft/translate/check.h"
#include "soft/translate/translator.h"

#define PAGE UINT64_C(4096)

static void *reserve(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* No mapping can be written to and executed. */
static int map_code(struct st_translator *t)
{
	int fd = memfd_create("code", MFD_CLOEXEC);
	uint8_t *rw;
	int r = 0;

	if (fd < 0) {
		return -errno;
	}
	if (ftruncate(fd, ST_CACHE_BYTES) != 0) {
		r = -errno;
		close(fd);
		return r;
	}
	rw = mmap(NULL, ST_CACHE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	t->rx = mmap(NULL, ST_CACHE_BYTES, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	if (rw == MAP_FAILED || t->rx == MAP_FAILED) {
		r = -errno;
	}
	close(fd);
	t->em = (struct em){.at = rw, .end = rw + ST_HOT_BYTES, .to_rx = t->rx - rw, .base = rw};
	return r;
}

/* At @at there is part of the memory that all frames share. Return: 0 or -errno. */
static int map_shared(void *at, size_t bytes, int fd, size_t offset)
{
	void *p =
		mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, (off_t)offset);

	return p == MAP_FAILED ? -errno : 0;
}

/* The frames, which have the tables of jumps and the view of the kernel in common. */
static int map_frames(struct st_translator *t)
{
	int fd = memfd_create("shared", MFD_CLOEXEC), r = 0;

	if (fd < 0) {
		return -errno;
	}
	t->frames = reserve(SOFT_SPACES * sizeof(*t->frames));
	t->frame = t->frames;
	if (t->frames == NULL ||
	    ftruncate(fd, sizeof(struct st_view) + sizeof(t->frame->jump)) != 0) {
		r = -ENOMEM;
	}
	for (unsigned i = 0; i < SOFT_SPACES && r == 0; i++) {
		struct st_frame *f = &t->frames[i];

		r = map_shared(&f->view[ST_VIEW_KERNEL], sizeof(struct st_view), fd, 0);
		if (r == 0) {
			r = map_shared(f->jump, sizeof(f->jump), fd, sizeof(struct st_view));
		}
	}
	close(fd);
	return r;
}

int st_cache_init(struct st_translator *t)
{
	int r = map_code(t);

	if (r == 0) {
		r = map_frames(t);
	}
	if (r != 0) {
		return r;
	}
	t->blocks = reserve(ST_MAX_BLOCKS * sizeof(*t->blocks));
	t->records = reserve(ST_MAX_RECORDS * sizeof(*t->records));
	t->link = reserve(ST_MAX_LINKS * sizeof(*t->link));
	t->pages = reserve(ST_MAX_PAGES * sizeof(*t->pages));
	t->maps = reserve(ST_MAX_MAPS * sizeof(*t->maps));
	t->em.marks = reserve(ST_MAX_MARKS * sizeof(*t->em.marks));
	t->em.max_marks = t->em.marks == NULL ? 0 : ST_MAX_MARKS;
	if (t->em.marks == NULL || t->blocks == NULL || t->records == NULL || t->link == NULL ||
	    t->pages == NULL || t->maps == NULL) {
		return -ENOMEM;
	}
	return 0;
}

static void release(void *p, size_t bytes)
{
	if (p != NULL) {
		munmap(p, bytes);
	}
}

void st_cache_fini(struct st_translator *t)
{
	release(t->frames, SOFT_SPACES * sizeof(*t->frames));
	release(t->blocks, ST_MAX_BLOCKS * sizeof(*t->blocks));
	release(t->records, ST_MAX_RECORDS * sizeof(*t->records));
	release(t->link, ST_MAX_LINKS * sizeof(*t->link));
	release(t->pages, ST_MAX_PAGES * sizeof(*t->pages));
	release(t->maps, ST_MAX_MAPS * sizeof(*t->maps));
	release(t->em.marks, ST_MAX_MARKS * sizeof(*t->em.marks));
	if (t->rx != NULL && t->rx != MAP_FAILED) {
		munmap(t->rx, ST_CACHE_BYTES);
		munmap(t->rx - t->em.to_rx, ST_CACHE_BYTES);
	}
}

void st_reset(struct st_translator *t)
{
	t->em.at = t->rx - t->em.to_rx + t->start;
	t->cold_at = t->rx - t->em.to_rx + ST_HOT_BYTES;
	t->em.full = false;
	t->em.nmarks = 0;
	t->nblocks = t->nrecords = t->nlinks = t->npages = t->nmaps = 0;
	memset(t->block_hash, 0xff, sizeof(t->block_hash));
	memset(t->like_hash, 0xff, sizeof(t->like_hash));
	memset(t->page_hash, 0xff, sizeof(t->page_hash));
	memset(t->map_hash, 0xff, sizeof(t->map_hash));
	t->dropped++;
	for (unsigned n = 0; n < t->nframes; n++) {
		for (unsigned i = 0; i < ST_VIEWS; i++) {
			st_flush_exec(&t->frames[n].view[i]);
		}
	}
	for (unsigned i = 0; i < ST_VIEWS; i++) {
		st_flush_jumps(t->frame, i);
	}
}

/* ---- finding ---- */

static unsigned hash(uint64_t page, unsigned offset)
{
	return (unsigned)(((page >> 12) * 4096 + offset) * UINT64_C(0x9e3779b97f4a7c15) >> 46);
}

/* The same code may be at many places. */
static unsigned block_slot(uint64_t page, uint64_t rip)
{
	return hash(page, 0) ^ hash(rip, (unsigned)(rip & (PAGE - 1)));
}

uint32_t st_find(const struct st_translator *t, uint64_t page, uint64_t rip, unsigned mode)
{
	unsigned offset = (unsigned)(rip & 4095);
	uint32_t i = t->block_hash[block_slot(page, rip)];

	while (i != ST_NONE) {
		const struct st_block *b = &t->blocks[i];

		if (b->page == page && b->linear + offset == rip && b->offset == offset &&
		    b->mode == mode && !b->dead) {
			break;
		}
		i = b->hash_next;
	}
	return i;
}

/* Where the number of the block is, or would be, that was made last of this code. */
static uint32_t *like(struct st_translator *t, uint64_t page, unsigned offset, unsigned mode)
{
	uint32_t *place = &t->like_hash[hash(page, offset)];

	while (*place != ST_NONE) {
		struct st_block *b = &t->blocks[*place];

		if (b->page == page && b->offset == offset && b->mode == mode) {
			break;
		}
		place = &b->like_next;
	}
	return place;
}

uint32_t st_find_like(struct st_translator *t, uint64_t page, unsigned offset, unsigned mode)
{
	uint32_t i = *like(t, page, offset, mode);

	return i == ST_NONE || t->blocks[i].dead ? ST_NONE : i;
}

struct st_page *st_page_find(struct st_translator *t, uint64_t host)
{
	uint32_t i = t->page_hash[hash(host, 0)];

	while (i != ST_NONE && t->pages[i].host != host) {
		i = t->pages[i].hash_next;
	}
	return i == ST_NONE ? NULL : &t->pages[i];
}

struct st_page *st_page_make(struct st_translator *t, uint64_t host)
{
	struct st_page *page = st_page_find(t, host);
	unsigned slot = hash(host, 0);

	if (page != NULL || t->npages == ST_MAX_PAGES) {
		return page;
	}
	page = &t->pages[t->npages];
	page->host = host;
	page->mask = 0;
	page->blocks = page->spans = ST_NONE;
	page->hash_next = t->page_hash[slot];
	t->page_hash[slot] = t->npages++;
	return page;
}

uint32_t st_map(struct st_translator *t, uint64_t linear, uint64_t host)
{
	unsigned slot = hash(linear, 0);
	uint32_t i = t->map_hash[slot];

	while (i != ST_NONE && (t->maps[i].linear != linear || t->maps[i].host != host)) {
		i = t->maps[i].hash_next;
	}
	if (i == ST_NONE) {
		if (t->nmaps == ST_MAX_MAPS) {
			return 0;
		}
		i = t->nmaps++;
		t->maps[i] = (struct st_map){linear, host, t->map_hash[slot]};
		t->map_hash[slot] = i;
	}
	return i + 1;
}

void st_block_add(struct st_translator *t, uint32_t number, struct st_page *next)
{
	struct st_block *b = &t->blocks[number];
	struct st_page *page = st_page_find(t, b->page);
	unsigned slot = block_slot(b->page, b->linear + b->offset);
	uint32_t *place = like(t, b->page, b->offset, b->mode);

	b->hash_next = t->block_hash[slot];
	t->block_hash[slot] = number;
	b->like_next = *place == ST_NONE ? ST_NONE : t->blocks[*place].like_next;
	*place = number;
	if (page != NULL) {
		b->page_next = page->blocks;
		page->blocks = number;
	}
	if (next != NULL) {
		b->span_next = next->spans;
		next->spans = number;
	}
}

struct st_block *st_block_at(const struct st_translator *t, uint32_t at)
{
	uint32_t low = 0, high = t->nblocks, end;
	bool cold = at >= ST_HOT_BYTES;

	/* Both parts are in the order of the blocks. */
	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if ((cold ? t->blocks[mid].cold : t->blocks[mid].code) <= at) {
			low = mid + 1;
		} else {
			high = mid;
		}
	}
	if (low == 0) {
		return NULL;
	}
	end = cold ? t->blocks[low - 1].cold_end : t->blocks[low - 1].code_end;
	return at <= end ? &t->blocks[low - 1] : NULL;
}

unsigned st_guest_offset(const struct st_translator *t, const struct st_block *b, uint32_t at)
{
	uint32_t low = 0, high = b->records;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (t->records[b->first_record + mid].host <= at) {
			low = mid + 1;
		} else {
			high = mid;
		}
	}
	return low == 0 ? b->offset : t->records[b->first_record + low - 1].guest;
}

/* ---- links ---- */

void st_link_known(struct st_translator *t, const struct st_block *b)
{
	const struct st_view *v = &t->frame->view[st_exec_of(st_view_of(b->mode))];

	for (uint32_t n = b->first_link; n < b->first_link + b->links; n++) {
		struct st_link *link = &t->link[n];
		uint32_t map = v->exec[(link->rip >> 12) % ST_EXEC], to;

		if (map == 0 || t->maps[map - 1].linear != (link->rip & ~(PAGE - 1))) {
			continue;
		}
		to = st_find(t, t->maps[map - 1].host, link->rip,
			     (b->mode & ~(ST_MODE_SAVED | ST_MODE_PLAIN)) | link->how);
		if (to != ST_NONE) {
			st_link_to(t, b, link, to);
		}
	}
}

void st_link_to(struct st_translator *t, const struct st_block *source, struct st_link *link,
		uint32_t target)
{
	struct st_block *b = &t->blocks[target];
	bool same = b->page == source->page && b->linear == source->linear && !link->guard;

	link->target = target;
	link->next = b->incoming;
	b->incoming = (uint32_t)(link - t->link);
	em_patch(&t->em, t->rx + link->behind, t->rx + (same ? b->entry : b->code));
	st_judge_link(t, source, link);
}

/* Does it say so: a call of what links jumps? No decoder here: its vector registers may be the
 * guest's. */
static bool is_way_out(const struct st_translator *t, const struct st_link *link)
{
	const uint8_t *stub = t->rx + link->stub;

	return link->site == link->stub + 5 && stub[0] == 0xe8 &&
	       stub + 5 + (int32_t)load_le32(stub + 1) == t->exit_link;
}

/* From now on the jump leads to its block's own way out. */
static void take_back(struct st_translator *t, struct st_link *link)
{
	em_patch(&t->em, t->rx + link->behind, t->rx + link->stub);
	link->target = ST_NONE;
	check(!t->checked || is_way_out(t, link));
}

/* A guest that writes its code anew again and again has many dead ones at the same address. */
static void unhash(struct st_translator *t, const struct st_block *b)
{
	uint32_t *place = &t->block_hash[block_slot(b->page, b->linear + b->offset)];

	while (*place != ST_NONE && &t->blocks[*place] != b) {
		place = &t->blocks[*place].hash_next;
	}
	if (*place != ST_NONE) {
		*place = b->hash_next;
	}
}

static void drop_block(struct st_translator *t, struct st_block *b)
{
	uint32_t i = b->incoming;

	b->dead = true;
	unhash(t, b);
	t->dropped++;
	st_forget_jump(t->frame, st_view_of(b->mode), b->linear + b->offset,
		       (uintptr_t)t->rx + b->code);
	while (i != ST_NONE) {
		struct st_link *link = &t->link[i];

		take_back(t, link);
		i = link->next;
	}
	b->incoming = ST_NONE;
	/* Its own jumps must not be relinked when their targets go: take them off the lists. */
	for (uint32_t n = 0; n < b->links; n++) {
		struct st_link *link = &t->link[b->first_link + n];
		uint32_t *place;

		if (link->target == ST_NONE) {
			continue;
		}
		place = &t->blocks[link->target].incoming;
		while (*place != ST_NONE && *place != b->first_link + n) {
			place = &t->link[*place].next;
		}
		if (*place != ST_NONE) {
			*place = link->next;
		}
		take_back(t, link);
	}
}

void st_drop(struct st_translator *t, uint64_t host, uint64_t mask)
{
	struct st_page *page = st_page_find(t, host);
	uint32_t *place;

	if (page == NULL || (page->mask & mask) == 0) {
		return;
	}
	place = &page->blocks;
	while (*place != ST_NONE) {
		struct st_block *b = &t->blocks[*place];

		if ((b->pieces & mask) != 0) {
			*place = b->page_next;
			drop_block(t, b);
		} else {
			place = &b->page_next;
		}
	}
	if ((mask & 1) != 0) {
		for (uint32_t i = page->spans; i != ST_NONE; i = t->blocks[i].span_next) {
			if (!t->blocks[i].dead) {
				drop_block(t, &t->blocks[i]);
			}
		}
		page->spans = ST_NONE;
	}
	page->mask &= ~mask;
}
