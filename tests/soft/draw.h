/* What random programs are made of: values, addresses, instructions. */
#pragma once

#include "tests/soft/program.h"

/* Small numbers, of four bytes and of eight, in the page that is for reading. */
#define DRAW_INDICES	  (ARENA_FIXED + 0x800)
#define DRAW_INDICES_WIDE (ARENA_FIXED + 0xa00)

struct draw {
	struct random *r;
	enum arena_mode mode;
	bool amd;
	unsigned at;	     /* number of the group that is drawn */
	unsigned *mnemonics; /* counts */
};

/** draw_value() - for a register: ends of ranges, small ones, anything. */
uint64_t draw_value(struct random *r);

/** draw_number() - a floating-point number of eight bytes, or two of four. */
uint64_t draw_number(struct random *r);

/** draw_address() - most of the time where memory is; often close to the end of a page. */
uint64_t draw_address(struct random *r);

/** draw_vectors() - x87, SSE and AVX registers as an XSAVE area of ARENA_XSAVE bytes. */
void draw_vectors(uint8_t *area, struct random *r);

/** draw_group() - one instruction and what goes with it, or a loop; branches go forwards. */
void draw_group(struct draw *d, struct group *g, unsigned ngroups);

/** draw_instruction() - random bytes that are an instruction one may try. */
void draw_instruction(struct draw *d, struct part *part);
