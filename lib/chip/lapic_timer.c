/*
 * The local APIC's timer. Its clock has 1 GHz, as KVM's: a tick before division is a nanosecond.
 * Nothing counts: what is kept is when it will be zero.
 */
#include "lib/chip/lapic_internal.h"

#define LVT_MODE     0x60000
#define LVT_PERIODIC 0x20000
#define LVT_DEADLINE 0x40000

/* Shorter periods would be a storm of interrupts from which no guest gets away; KVM has 200 us. */
#define PERIOD_NS_MIN 200000

#define NS_PER_MS 1000000

static uint32_t mode(const struct lapic *lapic)
{
	return lapic->regs[LAPIC_LVT_TIMER / 16] & LVT_MODE;
}

static uint32_t divisor(const struct lapic *lapic)
{
	uint32_t bits = lapic->regs[LAPIC_TIMER_DIVIDE / 16];
	uint32_t shift = ((bits & 3) | (bits & 8) >> 1) + 1;

	return 1u << (shift & 7);
}

static uint64_t period_ns(const struct lapic *lapic)
{
	uint64_t period = (uint64_t)lapic->regs[LAPIC_TIMER_INITIAL / 16] * divisor(lapic);

	return mode(lapic) == LVT_PERIODIC && period < PERIOD_NS_MIN ? PERIOD_NS_MIN : period;
}

void lapic_arm(struct lapic *lapic, uint64_t deadline_ns)
{
	if (lapic->deadline_ns != deadline_ns) {
		lapic->deadline_ns = deadline_ns;
		lapic->ops->timer(lapic->ctx, deadline_ns);
	}
}

/* Spec: Intel SDM vol. 3A, "APIC Timer": reads as 0 in TSC-deadline mode and when stopped. */
uint32_t lapic_timer_current(const struct lapic *lapic, const struct lapic_time *time)
{
	if (mode(lapic) == LVT_DEADLINE || lapic->deadline_ns == UINT64_MAX ||
	    lapic->deadline_ns <= time->now_ns) {
		return 0;
	}
	return (uint32_t)((lapic->deadline_ns - time->now_ns) / divisor(lapic));
}

static void start(struct lapic *lapic, const struct lapic_time *time)
{
	lapic_arm(lapic, *lapic_reg(lapic, LAPIC_TIMER_INITIAL) == 0
				 ? UINT64_MAX
				 : time->now_ns + period_ns(lapic));
}

void lapic_timer_write_initial(struct lapic *lapic, uint32_t value, const struct lapic_time *time)
{
	if (mode(lapic) == LVT_DEADLINE) {
		return; /* ignored there */
	}
	*lapic_reg(lapic, LAPIC_TIMER_INITIAL) = value;
	start(lapic, time);
}

/* A change while it runs lets it go on from the same count. */
void lapic_timer_write_divide(struct lapic *lapic, uint32_t value, const struct lapic_time *time)
{
	uint32_t current = lapic_timer_current(lapic, time);

	*lapic_reg(lapic, LAPIC_TIMER_DIVIDE) = value & 0xb;
	if (current != 0) {
		lapic_arm(lapic, time->now_ns + (uint64_t)current * divisor(lapic));
	}
}

/* To or from TSC-deadline mode disarms it (Intel SDM vol. 3A, "TSC-Deadline Mode"). */
void lapic_timer_write_lvt(struct lapic *lapic, uint32_t value, const struct lapic_time *time)
{
	bool changes = ((value & LVT_MODE) == LVT_DEADLINE) != (mode(lapic) == LVT_DEADLINE);

	(void)time;
	*lapic_reg(lapic, LAPIC_LVT_TIMER) = value;
	if (changes) {
		*lapic_reg(lapic, LAPIC_TIMER_INITIAL) = 0;
		lapic->deadline_tsc = 0;
		lapic_arm(lapic, UINT64_MAX);
	}
}

uint64_t lapic_deadline(const struct lapic *lapic)
{
	return mode(lapic) == LVT_DEADLINE ? lapic->deadline_tsc : 0;
}

/* TSC ticks until @tsc as nanoseconds, rounded up; saturates. A kHz is a tick in a millisecond. */
static uint64_t ns_until(uint64_t tsc, const struct lapic_time *time)
{
	uint64_t ticks = tsc > time->tsc ? tsc - time->tsc : 0;
	uint64_t ms = ticks / time->tsc_khz, rest = ticks % time->tsc_khz;

	if (ms > UINT64_MAX / 4 / NS_PER_MS || rest > UINT64_MAX / 2 / NS_PER_MS) {
		return UINT64_MAX / 2;
	}
	return ms * NS_PER_MS + (rest * NS_PER_MS + time->tsc_khz - 1) / time->tsc_khz;
}

void lapic_set_deadline(struct lapic *lapic, uint64_t tsc, const struct lapic_time *time)
{
	if (mode(lapic) != LVT_DEADLINE) {
		return;
	}
	lapic->deadline_tsc = tsc;
	if (tsc == 0) {
		lapic_arm(lapic, UINT64_MAX);
	} else if (tsc <= time->tsc) {
		/* It is over: no timer has to be started for that. */
		lapic_arm(lapic, UINT64_MAX);
		lapic->deadline_tsc = 0;
		lapic_raise_lvt(lapic, LAPIC_LVT_TIMER);
	} else {
		lapic_arm(lapic, time->now_ns + ns_until(tsc, time));
	}
}

void lapic_expire(struct lapic *lapic, const struct lapic_time *time)
{
	uint64_t deadline = lapic->deadline_ns, period;
	/* By its own clock: whoever is early, and is held up between looking at the two clocks, has
	 * only the TSC beyond the deadline. And no timer runs any more. */
	bool over = mode(lapic) == LVT_DEADLINE && deadline != UINT64_MAX &&
		    lapic->deadline_tsc <= time->tsc;

	if (!over && deadline > time->now_ns) {
		return;
	}
	/* Not yet: the guest's clock may be set back while the timer runs. */
	if (!over && mode(lapic) == LVT_DEADLINE) {
		lapic_arm(lapic, time->now_ns + ns_until(lapic->deadline_tsc, time));
		return;
	}
	lapic->deadline_ns = UINT64_MAX;
	lapic->deadline_tsc = 0;
	lapic_raise_lvt(lapic, LAPIC_LVT_TIMER);
	period = mode(lapic) == LVT_PERIODIC ? period_ns(lapic) : 0;
	if (period != 0) {
		/* What was missed is one interrupt, not many. */
		lapic_arm(lapic, deadline + (1 + (time->now_ns - deadline) / period) * period);
	}
}

void lapic_timer_load(struct lapic *lapic, uint32_t current, const struct lapic_time *time)
{
	if (mode(lapic) == LVT_DEADLINE || *lapic_reg(lapic, LAPIC_TIMER_INITIAL) == 0) {
		return; /* the deadline comes by its MSR */
	}
	if (current != 0) {
		lapic_arm(lapic, time->now_ns + (uint64_t)current * divisor(lapic));
	} else if (mode(lapic) == LVT_PERIODIC) {
		start(lapic, time);
	}
}
