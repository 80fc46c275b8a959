/*
 * The clocks of the VMM: the only place that asks the host for the time.
 */
#pragma once

#include "lib/base/types.h"

/** clock_now_ns() - monotonic time (CLOCK_MONOTONIC), ns. */
uint64_t clock_now_ns(void);

/** clock_wall_ns() - wall-clock time since 1970-01-01 00:00 UTC, ns. */
uint64_t clock_wall_ns(void);
