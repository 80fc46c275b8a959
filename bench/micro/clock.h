/* Ticks of the TSC, and what one is worth here. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <x86intrin.h>

/**
 * clock_ticks() - the TSC, after all that comes before in the program.
 * Spec: Intel SDM vol. 2B, "RDTSC"
 */
static inline int64_t clock_ticks(void)
{
	_mm_lfence();
	return (int64_t)__rdtsc();
}

/**
 * clock_spin() - run 2 * @loops instructions and a few more, which do nothing.
 * @loops: at least 1.
 */
void clock_spin(uint64_t loops);

/**
 * clock_baseline() - what two clock_ticks() with nothing between differ by, at least.
 */
int64_t clock_baseline(void);

/**
 * clock_counts_instructions() - is one tick one instruction, as in the lab's counting mode?
 */
bool clock_counts_instructions(void);
