/*
 * Guest registers R9 to R11 are in the frame; between instructions that cannot leave the block R10
 * and R11 of the host keep their values, so that one does not wait for the other by way of memory.
 */
#include "soft/translate/translator.h"

#define GPR(n) EM_GS(offsetof(struct st_frame, gpr) + 8 * (n))

unsigned st_held_in(const struct st_work *w, unsigned gpr)
{
	for (unsigned n = 0; n < 2; n++) {
		if (w->held[n].there && w->held[n].gpr == gpr) {
			return EM_R10 + n;
		}
	}
	return EM_ABSENT;
}

static void write_back(struct st_work *w, unsigned reg)
{
	struct st_held *h = &w->held[reg - EM_R10];

	if (h->there && h->dirty) {
		em_store(w->e, reg, GPR(h->gpr));
		h->dirty = false;
	}
}

void st_write_back(struct st_work *w)
{
	write_back(w, EM_R10);
	write_back(w, EM_R11);
}

void st_drop_held(struct st_work *w, unsigned reg)
{
	write_back(w, reg);
	w->held[reg - EM_R10].there = false;
	if (reg == EM_R10) {
		st_keep_window(w);
	}
}

void st_hold_none(struct st_work *w)
{
	st_write_back(w);
	w->held[0].there = w->held[1].there = false;
}

void st_hold(struct st_work *w, unsigned reg, unsigned gpr, bool dirty)
{
	/* The other one's value is an old one. */
	if (dirty && w->held[reg == EM_R10].gpr == gpr) {
		w->held[reg == EM_R10].there = false;
	}
	w->held[reg - EM_R10] =
		(struct st_held){.there = true, .dirty = dirty, .gpr = (uint8_t)gpr};
	if (reg == EM_R10) {
		w->in_r10 = NULL;
	}
}
