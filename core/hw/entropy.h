/*
 * What the machine has of chance.
 */
#pragma once

#include "core/hw/asm.h"
#include "core/hw/cpu.h"

/** entropy_word() - of RDRAND, where the CPU has it; with the TSC in any case. */
static inline uint64_t entropy_word(void)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < 10 && cpu_features()->rdrand; i++) {
		if (asm_rdrand(&value)) {
			break;
		}
	}
	return value ^ asm_rdtsc();
}
