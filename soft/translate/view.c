/*
 * The tables that translated code looks into: pages it may access, places that jumps lead to.
 */
#include <string.h>

#include "soft/translate/translator.h"

static void free_page(struct st_view *v, unsigned i)
{
	v->read[i] = v->write[i] = st_free_tag(i);
}

static void free_jump(struct st_jump *jumps, unsigned i)
{
	const uint64_t rip = ST_NOT_CANONICAL | 8;

	jumps[i].rip = i == st_jump_slot(rip) ? ST_NOT_CANONICAL | 256 : rip;
}

void st_flush_jumps(struct st_frame *f, enum st_view_kind kind)
{
	for (unsigned i = 0; i < ST_JUMPS; i++) {
		free_jump(f->jump[kind], i);
	}
}

void st_forget_jump(struct st_frame *f, enum st_view_kind kind, uint64_t rip, uint64_t code)
{
	unsigned i = st_jump_slot(rip);

	if (f->jump[kind][i].code == code) {
		free_jump(f->jump[kind], i);
	}
}

void st_flush_exec(struct st_view *v)
{
	if (v->execs <= ST_USED) {
		for (unsigned i = 0; i < v->execs; i++) {
			v->exec[v->exec_page[i]] = v->known[v->exec_page[i]] = 0;
		}
	} else {
		memset(v->exec, 0, sizeof(v->exec));
		memset(v->known, 0, sizeof(v->known));
	}
	v->execs = 0;
}

void st_doubt_exec(struct st_view *v)
{
	if (v->execs <= ST_USED) {
		for (unsigned i = 0; i < v->execs; i++) {
			v->exec[v->exec_page[i]] = 0;
		}
	} else {
		memset(v->exec, 0, sizeof(v->exec));
	}
}

void st_view_exec(struct st_view *v, uint64_t linear, uint32_t map)
{
	unsigned i = (unsigned)(linear >> 12) % ST_EXEC;

	v->exec[i] = map;
	if (v->known[i] == 0 && v->execs < ST_USED) {
		v->exec_page[v->execs] = (uint16_t)i;
	}
	v->execs += v->known[i] == 0 && v->execs <= ST_USED;
	v->known[i] = map;
}

void st_frame_init(struct st_frame *f, bool first)
{
	for (unsigned n = 0; n < ST_VIEWS; n++) {
		struct st_view *v = &f->view[n];

		if (n == ST_VIEW_KERNEL && !first) {
			continue; /* is in use */
		}
		for (unsigned i = 0; i < ST_TLB; i++) {
			free_page(v, i);
			v->add[i] = 0;
		}
		v->pages = 0;
		v->execs = ST_USED + 1;
		st_flush_exec(v);
	}
}

void st_flush_pages(struct st_view *v)
{
	for (unsigned i = 0; i < v->pages; i++) {
		free_page(v, v->page[i]);
		v->add[v->page[i]] = 0;
	}
	v->pages = 0;
}

void st_flush_view(struct st_view *v)
{
	st_flush_pages(v);
	st_flush_exec(v);
}

void st_flush_page(struct st_view *v, uint64_t linear)
{
	free_page(v, (unsigned)(linear >> 12) % ST_TLB);
	v->exec[(linear >> 12) % ST_EXEC] = v->known[(linear >> 12) % ST_EXEC] = 0;
}

void st_flush_writes(struct st_view *v, uint64_t host)
{
	for (unsigned k = 0; k < v->pages; k++) {
		unsigned i = v->page[k];

		if (v->add[i] == host) {
			v->write[i] = st_free_tag(i);
		}
	}
}
