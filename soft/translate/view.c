/*
 * The tables that translated code looks into: pages it may access, places that jumps lead to.
 */
#include <string.h>

#include "soft/translate/translator.h"

static void free_page(struct st_view *v, unsigned i)
{
	v->read[i] = v->write[i] = st_free_tag(i);
}

static void free_jump(struct st_view *v, unsigned i)
{
	/* Neither it nor the one before, which is what `kick` makes of it, has this entry. */
	const uint64_t rip = ST_NOT_CANONICAL | 8;
	bool own = i == st_jump_slot(rip) || i == st_jump_slot(rip - 1);

	v->rip[i] = own ? ST_NOT_CANONICAL | 256 : rip;
}

void st_flush_jumps(struct st_view *v)
{
	if (v->jumps <= ST_USED) {
		for (unsigned i = 0; i < v->jumps; i++) {
			free_jump(v, v->jump[i]);
		}
	} else {
		for (unsigned i = 0; i < ST_JUMPS; i++) {
			free_jump(v, i);
		}
	}
	v->jumps = 0;
	memset(v->code_page, 0, sizeof(v->code_page));
}

void st_forget_jump(struct st_view *v, uint64_t rip)
{
	unsigned i = st_jump_slot(rip);

	if (v->rip[i] == rip) {
		free_jump(v, i);
	}
}

void st_frame_init(struct st_frame *f)
{
	for (unsigned n = 0; n < ST_VIEWS; n++) {
		struct st_view *v = &f->view[n];

		for (unsigned i = 0; i < ST_TLB; i++) {
			free_page(v, i);
			v->add[i] = 0;
		}
		v->pages = 0;
		v->jumps = ST_USED + 1;
		st_flush_jumps(v);
	}
}

void st_flush(struct st_frame *f)
{
	for (unsigned n = 0; n < ST_VIEWS; n++) {
		struct st_view *v = &f->view[n];

		for (unsigned i = 0; i < v->pages; i++) {
			free_page(v, v->page[i]);
			v->add[v->page[i]] = 0;
		}
		v->pages = 0;
		st_flush_jumps(v);
	}
}

static void flush_jumps_to(struct st_view *v, uint64_t linear)
{
	unsigned bit = st_code_page(linear);

	if ((v->code_page[bit / 64] >> bit % 64 & 1) == 0) {
		return;
	}
	for (unsigned i = 0; i < ST_JUMPS; i++) {
		if (v->rip[i] >> 12 == linear >> 12) {
			free_jump(v, i);
		}
	}
}

void st_flush_page(struct st_frame *f, uint64_t linear)
{
	unsigned i = (unsigned)(linear >> 12) % ST_TLB;

	for (unsigned n = 0; n < ST_VIEWS; n++) {
		free_page(&f->view[n], i);
		flush_jumps_to(&f->view[n], linear);
	}
}

void st_flush_writes(struct st_frame *f, uint64_t host)
{
	for (unsigned n = 0; n < ST_VIEWS; n++) {
		struct st_view *v = &f->view[n];

		for (unsigned k = 0; k < v->pages; k++) {
			unsigned i = v->page[k];

			if (v->add[i] == host) {
				v->write[i] = st_free_tag(i);
			}
		}
	}
}
