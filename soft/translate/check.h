/*
 * Judges translated code by decoding it: it knows what is allowed, not how it was made.
 */
#pragma once

#include "lib/base/types.h"

struct st_translator;
struct st_block;

/**
 * st_check_block() - is each access to memory, each jump and each instruction of the block's code
 * one of the allowed forms? Before its jumps are linked.
 * @at: if not NULL and it is not, the offset in the cache of the first that is none.
 * Context: vCPU thread.
 */
bool st_check_block(const struct st_translator *t, const struct st_block *b, uint32_t *at);
