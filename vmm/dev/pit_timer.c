#include "vmm/dev/pit_timer.h"

#include <string.h>

#include "vmm/board/layout.h"
#include "vmm/clock.h"
#include "vmm/log.h"

/* What the guest is told by the DSDT is where the chip decodes. */
_Static_assert(PORT_PIT == PIT_COUNTER0 && PORT_SPEAKER == PIT_PORT_B, "ports of the timer");

/* After everything that may have changed the next edge. Context: lock. */
static void rearm(struct pit_timer *t)
{
	uint64_t deadline_ns = pit_deadline(&t->pit);

	if (deadline_ns == t->deadline_ns) {
		return;
	}
	t->deadline_ns = deadline_ns;
	if (deadline_ns == UINT64_MAX) {
		loop_timer_clear(&t->timer);
	} else {
		loop_timer_set(&t->timer, deadline_ns);
	}
}

static void on_deadline(void *arg)
{
	struct pit_timer *t = arg;

	lock_take(&t->lock);
	t->deadline_ns = UINT64_MAX;
	pit_run(&t->pit, clock_now_ns());
	rearm(t);
	lock_give(&t->lock);
}

static uint64_t read_ports(struct pit_timer *t, uint64_t port, unsigned len)
{
	uint64_t value = 0;

	lock_take(&t->lock);
	for (unsigned i = 0; i < len; i++) {
		value |= (uint64_t)pit_read(&t->pit, (uint16_t)(port + i), clock_now_ns())
			 << (8 * i);
	}
	rearm(t);
	lock_give(&t->lock);
	return value;
}

static void write_ports(struct pit_timer *t, uint64_t port, unsigned len, uint64_t value)
{
	lock_take(&t->lock);
	for (unsigned i = 0; i < len; i++) {
		pit_write(&t->pit, (uint16_t)(port + i), (uint8_t)(value >> (8 * i)),
			  clock_now_ns());
	}
	rearm(t);
	lock_give(&t->lock);
}

static uint64_t counters_read(void *dev, uint64_t offset, unsigned len)
{
	return read_ports(dev, PIT_COUNTER0 + offset, len);
}

static void counters_write(void *dev, uint64_t offset, unsigned len, uint64_t value)
{
	write_ports(dev, PIT_COUNTER0 + offset, len, value);
}

static uint64_t port_b_read(void *dev, uint64_t offset, unsigned len)
{
	return read_ports(dev, PIT_PORT_B + offset, len);
}

static void port_b_write(void *dev, uint64_t offset, unsigned len, uint64_t value)
{
	write_ports(dev, PIT_PORT_B + offset, len, value);
}

static const struct bus_ops counters_ops = {.read = counters_read, .write = counters_write};
static const struct bus_ops port_b_ops = {.read = port_b_read, .write = port_b_write};

int pit_timer_init(struct pit_timer *t, struct bus *pio, struct loop *loop, struct irq_line irq0)
{
	int r;

	memset(t, 0, sizeof(*t));
	t->loop = loop;
	t->deadline_ns = UINT64_MAX;
	lock_init(&t->lock, LOCK_DEVICE);
	pit_init(&t->pit, irq0, clock_now_ns());
	r = loop_timer_init(&t->timer, loop, on_deadline, t);
	if (r != 0) {
		log_error("cannot create the timer of the PIT: %s", strerror(-r));
		lock_fini(&t->lock);
		return r;
	}
	r = bus_map(pio, PIT_COUNTER0, PIT_CONTROL - PIT_COUNTER0 + 1, &counters_ops, t);
	if (r == 0) {
		r = bus_map(pio, PIT_PORT_B, 1, &port_b_ops, t);
	}
	if (r != 0) {
		log_error("cannot map the PIT: %s", strerror(-r));
		pit_timer_fini(t);
	}
	return r;
}

void pit_timer_fini(struct pit_timer *t)
{
	loop_timer_fini(&t->timer, t->loop);
	lock_fini(&t->lock);
}

void pit_timer_state(struct pit_timer *t, struct state *s)
{
	lock_take(&t->lock);
	pit_state(&t->pit, s, clock_now_ns());
	rearm(t);
	lock_give(&t->lock);
}
