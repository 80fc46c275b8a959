/*
 * Judges translated code by decoding it: it knows what is allowed, not how it was made.
 */
#pragma once

#include "lib/base/types.h"

struct st_translator;
struct st_block;
struct st_link;

/**
 * st_check_block() - is each access to memory, each jump and each instruction of the block's code
 * one of the allowed forms? Before its jumps are linked.
 * @at: if not NULL and it is not, the offset in the cache of the first that is none.
 * Context: vCPU thread.
 */
bool st_check_block(const struct st_translator *t, const struct st_block *b, uint32_t *at);

/**
 * st_check_link() - does the jump of the block lead to the beginning of its target, which is alive
 * and for the same address and mode? After it is patched.
 * Context: vCPU thread.
 */
bool st_check_link(const struct st_translator *t, const struct st_block *source,
		   const struct st_link *link);

/**
 * Another judge, of tests: sees what the two above have allowed, of translators that ask them. It
 * is set before the first vCPU is made, and called by vCPU threads.
 */
struct st_witness {
	void (*block)(const struct st_translator *t, const struct st_block *b);
	void (*link)(const struct st_translator *t, const struct st_block *source,
		     const struct st_link *link);
};

extern const struct st_witness *st_witness; /* NULL: none */

/**
 * st_judge_block(), st_judge_link() - ends the program if it is not allowed: a defect of ours, what
 * was made could reach other memory than the guest's. Nothing unless the translator is `checked`.
 */
void st_judge_block(const struct st_translator *t, const struct st_block *b);
void st_judge_link(const struct st_translator *t, const struct st_block *source,
		   const struct st_link *link);
