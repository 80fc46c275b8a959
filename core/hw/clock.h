/*
 * Time. clock_now_ns() is the TSC in nanoseconds since the kernel started; the same on all CPUs,
 * and never goes back.
 */
#pragma once

#include "lib/base/types.h"

#define CLOCK_NEVER UINT64_MAX

/** clock_now_ns() - monotonic. Context: any. */
uint64_t clock_now_ns(void);

/** clock_wall_ns() - nanoseconds since 1970-01-01 UTC, by the RTC at start-up. Context: any. */
uint64_t clock_wall_ns(void);

/** clock_tsc_khz() - the TSC's frequency. */
uint64_t clock_tsc_khz(void);

/** clock_tsc_to_ns() / clock_ns_to_tsc() - between clock_now_ns() and what RDTSC reads; the latter
 * is the first value at which it is that late. */
uint64_t clock_tsc_to_ns(uint64_t tsc);
uint64_t clock_ns_to_tsc(uint64_t ns);

/** clock_spin_ns() - waits, busily: for hardware during start-up. */
void clock_spin_ns(uint64_t ns);

/* Start-up. */

struct acpi_info;

/** clock_init() - finds out how fast the TSC is, by HPET, PM timer or PIT, unless the CPU tells.
 * @acpi: where those timers are. Context: interrupts off. */
void clock_init(const struct acpi_info *acpi);

/** clock_lapic_mult() - counts of the local APIC's timer = ns * this >> 32, not too few; 0 where
 * TSC deadlines are used. */
uint64_t clock_lapic_mult(void);

/** clock_source() - what it was measured by, for the log. */
const char *clock_source(void);
