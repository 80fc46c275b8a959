/*
 * What CPUs remember of the page tables of a space.
 */
#pragma once

#include "lib/base/types.h"

/**
 * tlb_flush() - when it returns, none of @cpus uses what it remembered of [start, end).
 * @cpus: those that have the space loaded; bit n is CPU n.
 * Context: interrupts on, or only this CPU in the set; see ipi_call().
 */
void tlb_flush(uint64_t cpus, uint64_t start, uint64_t end);

/** tlb_load() - this CPU uses the tables at @root from now on. Context: interrupts off. */
void tlb_load(hpa_t root);
