#include <errno.h>

#include "lib/base/state.h"
#include "lib/chip/pit_internal.h"

/* Could this counter have come to be by what a guest writes? */
static bool plausible(const struct pit_counter *c)
{
	bool counting = c->programmed && c->running;
	uint32_t m = pit_modulus(c);

	if (c->control > 0x3f || (c->control & CONTROL_RW) == 0 || c->reload == 0 ||
	    c->reload > 0x10000 || (c->programmed && c->reload > m) || c->count > 0x10000) {
		return false;
	}
	if (!counting) {
		return !c->running && !c->armed && (!c->load || c->programmed);
	}
	if (c->count > m || (c->odd && pit_mode(c) != 3) || (c->armed && pit_periodic(c))) {
		return false;
	}
	if (pit_mode(c) == 3) {
		return (c->count & 1) == 0 && c->count + (c->out && c->odd) > 0;
	}
	return c->count > 0 || (!c->armed && pit_mode(c) != 2);
}

static void counter_state(struct pit_counter *c, struct state *s)
{
	state_u8(s, &c->control);
	state_bool(s, &c->gate);
	state_bool(s, &c->out);
	state_u32(s, &c->reload);
	state_u32(s, &c->count);
	state_bool(s, &c->programmed);
	state_bool(s, &c->null_count);
	state_bool(s, &c->load);
	state_bool(s, &c->running);
	state_bool(s, &c->armed);
	state_bool(s, &c->odd);
	state_bool(s, &c->rose);
	state_bool(s, &c->write_msb);
	state_bool(s, &c->read_msb);
	state_u8(s, &c->write_lsb);
	state_bool(s, &c->count_latched);
	state_bool(s, &c->status_latched);
	state_u16(s, &c->latch);
	state_u8(s, &c->status);
	if (!plausible(c)) {
		state_fail(s, -EINVAL);
	}
}

void pit_state(struct pit *pit, struct state *s, uint64_t now_ns)
{
	struct pit copy = *pit;
	uint64_t behind = pit_pulses_at(now_ns) - pit->tick;

	if ((int64_t)behind < 0) {
		behind = 0;
	}
	state_begin(s, "pit", 1);
	for (unsigned i = 0; i < ARRAY_SIZE(copy.counter); i++) {
		counter_state(&copy.counter[i], s);
	}
	state_u8(s, &copy.port_b);
	state_bool(s, &copy.irq_level);
	state_u64(s, &behind); /* pulses that passed after the last call */
	if ((copy.port_b & ~PORT_B_WRITABLE) != 0 || behind > INT64_MAX || !copy.counter[0].gate ||
	    !copy.counter[1].gate || copy.counter[2].gate != ((copy.port_b & PORT_B_GATE2) != 0)) {
		state_fail(s, -EINVAL);
	}
	state_end(s);
	if (!s->loading || s->error != 0) {
		return;
	}
	*pit = copy;
	pit->tick = pit_pulses_at(now_ns) - behind;
	pit->edge_tick = pit->tick - PERIOD_MIN_PULSES;
}
