/*
 * What the PIT shares with its state.
 */
#pragma once

#include "lib/chip/pit.h"

#define CONTROL_BCD 0x01
#define CONTROL_RW  0x30

#define PORT_B_GATE2	0x01
#define PORT_B_WRITABLE 0x0f

#define NS_PER_S 1000000000

#define PERIOD_MIN_PULSES (PIT_PERIOD_MIN_NS * (uint64_t)PIT_HZ / NS_PER_S)

static inline uint64_t pit_pulses_at(uint64_t ns)
{
	return ns / NS_PER_S * PIT_HZ + ns % NS_PER_S * PIT_HZ / NS_PER_S;
}

/* Modes 2 and 3 ignore the high bit of M. */
static inline unsigned pit_mode(const struct pit_counter *c)
{
	unsigned m = c->control >> 1 & 7;

	return m > 5 ? m - 4 : m;
}

static inline bool pit_periodic(const struct pit_counter *c)
{
	return pit_mode(c) == 2 || pit_mode(c) == 3;
}

static inline uint32_t pit_modulus(const struct pit_counter *c)
{
	return (c->control & CONTROL_BCD) != 0 ? 10000 : 0x10000;
}
