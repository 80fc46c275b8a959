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

/**
 * tlb_load() - this CPU uses the tables at @root from now on.
 * @id: the space's, which no other one has ever had; 0: the kernel's own tables.
 * @seq: of the space, read after this CPU was in its set: grows with each tlb_flush(), before that.
 * Context: interrupts off.
 */
void tlb_load(hpa_t root, uint64_t id, uint64_t seq);
