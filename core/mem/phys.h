/*
 * Physical memory as the kernel sees it: the direct map, which has all RAM at PHYS_BASE, writable
 * and never executable.
 */
#pragma once

#include "core/hw/asm.h"
#include "lib/base/types.h"

#define PAGE_SHIFT 12
#define PAGE_SIZE  UINT64_C(4096)
#define HUGE_SHIFT 21
#define HUGE_SIZE  (UINT64_C(1) << HUGE_SHIFT)

static inline hpa_t hpa(uint64_t v)
{
	return (hpa_t){v};
}

/** phys_ptr() - where the kernel reads and writes RAM address @pa. */
static inline void *phys_ptr(hpa_t pa)
{
	return (void *)(asm_phys_base() + pa.v);
}

/** phys_of() - the RAM address behind a pointer into the direct map. */
static inline hpa_t phys_of(const void *p)
{
	return hpa((uint64_t)p - asm_phys_base());
}
