#include "core/hw/calibrate.h"

#include "core/hw/asm.h"
#include "core/hw/local_apic.h"

#define READS_MAX 100000000 /* of a timer that does not count */
#define LOOKS	  8
#define TRIES	  8 /* each half as long, of one that came to its end before it was looked at */

/* All counters at one time. */
struct look {
	uint64_t count, tsc;
	uint32_t lapic;
};

/* The machine may stand still between two reads: the look that took the shortest is the one. */
static struct look look_at(const struct reference *r)
{
	uint64_t shortest = UINT64_MAX;
	struct look best = {0};

	for (unsigned i = 0; i < LOOKS; i++) {
		uint64_t from = asm_rdtsc();
		struct look look = {.count = r->read(), .lapic = local_apic_timer_count()};
		uint64_t took = asm_rdtsc() - from;
		if (took < shortest) {
			shortest = took;
			best = look;
			best.tsc = from + took / 2;
		}
	}
	return best;
}

static uint64_t elapsed(const struct reference *r, uint64_t from, uint64_t to)
{
	return (to - from) & (r->wraps - 1);
}

static bool try_once(const struct reference *r, uint64_t ns, struct calibration *found)
{
	uint64_t ticks = MAX(ns * r->hz / 1000000000, UINT64_C(1));
	uint64_t passed = 0;

	r->start();
	local_apic_timer_set(0xff, UINT32_MAX); /* never gets there */
	struct look begin = look_at(r);
	for (unsigned i = 0; passed < ticks && i < READS_MAX; i++) {
		passed = elapsed(r, begin.count, r->read());
	}
	if (passed < ticks) {
		return false;
	}
	struct look end = look_at(r);
	passed = MAX(elapsed(r, begin.count, end.count), UINT64_C(1));
	found->tsc_khz = (end.tsc - begin.tsc) * r->hz / 1000 / passed;
	/* Of the nanoseconds that the TSC will be read as, and before the timer is divided. */
	uint64_t took = (end.tsc - begin.tsc) * 1000000 / MAX(found->tsc_khz, UINT64_C(1));
	uint64_t counts = (uint64_t)(begin.lapic - end.lapic) + 1;
	found->lapic_mult = (counts << 32) / LOCAL_APIC_DIVIDE / MAX(took, UINT64_C(1)) + 1;
	return true;
}

bool calibrate(const struct reference *r, struct calibration *found)
{
	bool counts = false;

	local_apic_timer_mask();
	local_apic_timer_divide(1);
	for (unsigned i = 0; i < TRIES; i++) {
		counts = try_once(r, r->ns >> i, found);
		if (!counts || r->wrapped == NULL || !r->wrapped()) {
			break;
		}
	}
	local_apic_timer_mask();
	local_apic_timer_divide(LOCAL_APIC_DIVIDE);
	return counts && found->tsc_khz > 0;
}
