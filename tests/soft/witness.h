/*
 * What soft's translator emits, decoded by Zydis: an error of lib/insn, which the translator and
 * its judge have in common, does not stay unseen.
 */
#pragma once

#include "lib/base/types.h"

/**
 * witness_begin() - from now on each block that is emitted and each jump that is linked is looked
 * at, of engines that judge what they make. What is wrong ends the program with a message.
 * Context: before the first vCPU is made.
 */
void witness_begin(void);

/** witness_blocks(), ... - what has been looked at. */
uint64_t witness_blocks(void);
uint64_t witness_instructions(void);
uint64_t witness_links(void);
