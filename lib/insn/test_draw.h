/*
 * Random instructions, for comparisons with the host CPU.
 */
#pragma once

#include "lib/insn/cpu.h"

/** draw_random(), draw_below() - a number, the same ones in each run; and one less than @n. */
uint64_t draw_random(void);
unsigned draw_below(unsigned n);

/** draw_instruction() - INSN_MAX + 1 bytes that begin with one, perhaps. */
void draw_instruction(uint8_t *b, enum insn_mode mode);
