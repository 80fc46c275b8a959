/*
 * Random programs for an arena: a row of groups, each of which is one instruction that was drawn by
 * lot, what aims its memory operands, and what keeps flags from being seen that it leaves
 * undefined. A group can be switched off, and the program is still one.
 */
#pragma once

#include <stdio.h>

#include "tests/soft/arena.h"
#include "tests/soft/random.h"

#define PROGRAM_GROUPS 48
#define GROUP_PARTS    8

enum fix {
	FIX_NONE,
	FIX_RIP,     /* a displacement from the instruction's end to address @target */
	FIX_BRANCH,  /* the same, to the begin of group @target */
	FIX_ADDRESS, /* the address of group @target */
};

/* One instruction. */
struct part {
	uint8_t bytes[16];
	uint8_t len;
	uint8_t fix, fix_at, fix_len;
	uint64_t target;
};

struct group {
	struct part part[GROUP_PARTS];
	unsigned nparts;
	bool off;
};

struct program {
	enum arena_mode mode;
	unsigned ngroups;
	struct group group[PROGRAM_GROUPS];
	uint64_t origin; /* address of the first instruction */
	uint32_t rounds; /* 1 or more: how often all of it is executed */
};

/** program_draw() - a program, with its registers and memory. @mnemonics: counts what is in it. */
void program_draw(struct program *p, struct arena_start *start, struct random *r, bool amd,
		  unsigned *mnemonics);

/** program_write() - puts its code into the memory of @start. */
void program_write(const struct program *p, struct arena_start *start);

/** program_print() - its instructions, one a line, with their addresses. */
void program_print(FILE *out, const struct program *p, const struct arena_start *start);
