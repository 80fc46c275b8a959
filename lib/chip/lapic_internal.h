/* What the parts of the local APIC share. */
#pragma once

#include "lib/chip/lapic.h"

static inline uint32_t *lapic_reg(struct lapic *lapic, uint32_t offset)
{
	return &lapic->regs[offset / 16];
}

/* What others read whenever they send: whole words, in no order with anything else. */
static inline uint32_t lapic_seen(const struct lapic *lapic, uint32_t offset)
{
	return __atomic_load_n(&lapic->regs[offset / 16], __ATOMIC_RELAXED);
}

static inline uint64_t lapic_seen_base(const struct lapic *lapic)
{
	return __atomic_load_n(&lapic->base, __ATOMIC_RELAXED);
}

/* Own thread, as what follows: only here it is written. */
static inline void lapic_show(struct lapic *lapic, uint32_t offset, uint32_t value)
{
	__atomic_store_n(&lapic->regs[offset / 16], value, __ATOMIC_RELAXED);
}

static inline bool lapic_enabled(const struct lapic *lapic)
{
	return (lapic->base & LAPIC_BASE_ENABLE) != 0;
}

static inline bool lapic_is_x2(const struct lapic *lapic)
{
	return (lapic->base & LAPIC_BASE_X2APIC) != 0;
}

static inline bool lapic_soft_enabled(const struct lapic *lapic)
{
	return (lapic->regs[LAPIC_SVR / 16] & BIT(8)) != 0;
}

/* An edge-triggered request of this CPU's own. */
void lapic_request(struct lapic *lapic, uint8_t vector);

/* The interrupt of a local vector table entry, if it is not masked. */
void lapic_raise_lvt(struct lapic *lapic, enum lapic_reg lvt);

/* Sets a bit of ESR. */
void lapic_error(struct lapic *lapic, uint32_t bit);

/* The timer. */
void lapic_arm(struct lapic *lapic, uint64_t deadline_ns);
uint32_t lapic_timer_current(const struct lapic *lapic, const struct lapic_time *time);
void lapic_timer_write_lvt(struct lapic *lapic, uint32_t value, const struct lapic_time *time);
void lapic_timer_write_initial(struct lapic *lapic, uint32_t value, const struct lapic_time *time);
void lapic_timer_write_divide(struct lapic *lapic, uint32_t value, const struct lapic_time *time);
void lapic_timer_load(struct lapic *lapic, uint32_t current, const struct lapic_time *time);
