#include "lib/chip/pit_internal.h"

#define RW_LSB	0x10
#define RW_MSB	0x20
#define RW_BOTH 0x30

#define READ_BACK	 3 /* in the place of a counter's number */
#define READ_BACK_COUNT	 0x20
#define READ_BACK_STATUS 0x10

#define STATUS_OUT  0x80
#define STATUS_NULL 0x40

#define PORT_B_REFRESH 0x10
#define PORT_B_OUT2    0x20

/* The refresh toggle changes with every DRAM refresh of a PC, each 15.09 us. */
#define REFRESH_PULSES 18

/* More pulses than any counter needs from one change of OUT to the next. */
#define FAR 0x100000

/* The first nanosecond at which that many pulses have passed. */
static uint64_t ns_at(uint64_t pulses)
{
	return pulses / PIT_HZ * NS_PER_S + (pulses % PIT_HZ * NS_PER_S + PIT_HZ - 1) / PIT_HZ;
}

/* What CE gets. A count of 1 is illegal in the periodic modes; it counts as 2. */
static uint32_t reload(const struct pit_counter *c)
{
	return pit_periodic(c) && c->reload < 2 ? 2 : c->reload;
}

static void set_out(struct pit_counter *c, bool out)
{
	if (out && !c->out) {
		c->rose = true;
	}
	c->out = out;
}

/* Moves CR to CE. */
static void reload_count(struct pit_counter *c)
{
	uint32_t n = reload(c);

	c->null_count = false;
	c->odd = pit_mode(c) == 3 && (n & 1) != 0;
	c->count = c->odd ? n - 1 : n;
}

/* The pulse that loads a count written, or starts over after a trigger at the gate. */
static void load(struct pit_counter *c)
{
	c->load = false;
	c->running = true;
	c->armed = !pit_periodic(c);
	reload_count(c);
	if (pit_mode(c) != 0) {
		set_out(c, pit_mode(c) != 1);
	}
}

/* Modes 0, 1, 4 and 5: down to zero, where OUT changes once, and on. */
static uint64_t run_once(struct pit_counter *c, uint64_t n)
{
	uint32_t m = pit_modulus(c);

	if (!c->armed) {
		c->count = (uint32_t)((c->count + m - n % m) % m);
		return n;
	}
	n = MIN(n, c->count);
	c->count -= (uint32_t)n;
	if (c->count == 0) {
		c->armed = false;
		set_out(c, pit_mode(c) < 4);
	}
	return n;
}

/* Mode 2: OUT is low while the count is 1. */
static uint64_t run_rate(struct pit_counter *c, uint64_t n)
{
	if (c->count == 1) {
		set_out(c, true);
		reload_count(c);
		return 1;
	}
	n = MIN(n, c->count - 1);
	c->count -= (uint32_t)n;
	if (c->count == 1) {
		set_out(c, false);
	}
	return n;
}

/* Mode 3: by twos; the high half of an odd count has one pulse more. */
static uint64_t run_square(struct pit_counter *c, uint64_t n)
{
	uint64_t left = c->count / 2 + (c->out && c->odd);

	if (n < left) {
		c->count -= (uint32_t)(2 * n);
		return n;
	}
	set_out(c, !c->out);
	reload_count(c);
	return left;
}

/* Up to @n pulses, at most as far as the next thing that happens; returns how many. */
static uint64_t run(struct pit_counter *c, uint64_t n)
{
	unsigned m = pit_mode(c);

	if (c->load) {
		load(c);
		return 1;
	}
	if (!c->running) {
		return n;
	}
	if (m >= 4 && !c->out) {
		/* The end of the strobe. */
		set_out(c, true);
		if (c->gate || m == 5) {
			c->count = pit_modulus(c) - 1;
		}
		return 1;
	}
	if (!c->gate && m != 1 && m != 5) {
		return n;
	}
	if (m == 2) {
		return run_rate(c, n);
	}
	return m == 3 ? run_square(c, n) : run_once(c, n);
}

/* The length of the whole periods that lie ahead, or 0 when anything else may come first. */
static uint32_t steady_period(const struct pit_counter *c)
{
	uint32_t n = reload(c);

	if (!pit_periodic(c) || !c->running || !c->gate || c->load || c->null_count || !c->out) {
		return 0;
	}
	if (pit_mode(c) == 3) {
		return c->count == (n & ~1u) && c->odd == ((n & 1) != 0) ? n : 0;
	}
	return c->count == n ? n : 0;
}

static void advance(struct pit_counter *c, uint64_t n)
{
	while (n > 0) {
		uint32_t period = steady_period(c);

		if (period != 0 && n >= period) {
			c->rose = true;
			n %= period;
		} else {
			n -= run(c, n);
		}
	}
}

/* Pulses until OUT rises, 0 for never. */
static uint64_t pulses_to_rise(const struct pit_counter *counter)
{
	struct pit_counter c = *counter;
	uint64_t total = 0;

	c.rose = false;
	/* At most: load, fall, rise. */
	for (unsigned i = 0; i < 3 && !c.rose; i++) {
		uint64_t n = run(&c, FAR);

		if (n == FAR) {
			return 0;
		}
		total += n;
	}
	return c.rose ? total : 0;
}

static void drive_irq(struct pit *pit)
{
	struct pit_counter *c = &pit->counter[0];

	if (c->rose) {
		c->rose = false;
		pit->edge_tick = pit->tick;
		if (pit->irq_level) {
			irq_line_set(&pit->irq0, false);
		}
		irq_line_set(&pit->irq0, true);
		pit->irq_level = true;
	}
	if (pit->irq_level != c->out) {
		pit->irq_level = c->out;
		irq_line_set(&pit->irq0, c->out);
	}
}

void pit_run(struct pit *pit, uint64_t now_ns)
{
	uint64_t n = pit_pulses_at(now_ns) - pit->tick;

	if ((int64_t)n > 0) {
		pit->tick += n;
		for (unsigned i = 0; i < ARRAY_SIZE(pit->counter); i++) {
			advance(&pit->counter[i], n);
		}
	}
	drive_irq(pit);
}

uint64_t pit_deadline(const struct pit *pit)
{
	uint64_t n = pulses_to_rise(&pit->counter[0]);
	uint64_t at = pit->tick + n;

	if (n == 0) {
		return UINT64_MAX;
	}
	if (pit_periodic(&pit->counter[0]) && at - pit->edge_tick < PERIOD_MIN_PULSES) {
		at = pit->edge_tick + PERIOD_MIN_PULSES;
	}
	return ns_at(at);
}

void pit_init(struct pit *pit, struct irq_line irq0, uint64_t now_ns)
{
	*pit = (struct pit){.irq0 = irq0, .tick = pit_pulses_at(now_ns)};
	pit->edge_tick = pit->tick - PERIOD_MIN_PULSES;
	for (unsigned i = 0; i < ARRAY_SIZE(pit->counter); i++) {
		pit->counter[i].control = RW_BOTH;
		pit->counter[i].reload = 0x10000;
		pit->counter[i].null_count = true;
		pit->counter[i].gate = i != 2;
	}
}

static uint16_t shown_count(const struct pit_counter *c)
{
	uint32_t n = c->count % pit_modulus(c);

	if ((c->control & CONTROL_BCD) != 0) {
		n = n / 1000 << 12 | n / 100 % 10 << 8 | n / 10 % 10 << 4 | n % 10;
	}
	return (uint16_t)n;
}

static uint8_t read_counter(struct pit_counter *c)
{
	uint16_t value = c->count_latched ? c->latch : shown_count(c);
	unsigned rw = c->control & CONTROL_RW;
	bool msb = rw == RW_MSB || (rw == RW_BOTH && c->read_msb);

	if (c->status_latched) {
		c->status_latched = false;
		return c->status;
	}
	if (rw == RW_BOTH) {
		c->read_msb = !c->read_msb;
	}
	if (rw != RW_BOTH || msb) {
		c->count_latched = false;
	}
	return (uint8_t)(msb ? value >> 8 : value);
}

static uint8_t read_port_b(const struct pit *pit)
{
	uint8_t value = pit->port_b;

	if ((pit->tick / REFRESH_PULSES & 1) != 0) {
		value |= PORT_B_REFRESH;
	}
	if (pit->counter[2].out) {
		value |= PORT_B_OUT2;
	}
	return value;
}

uint8_t pit_read(struct pit *pit, uint16_t port, uint64_t now_ns)
{
	pit_run(pit, now_ns);
	switch (port) {
	case PIT_COUNTER0:
	case PIT_COUNTER1:
	case PIT_COUNTER2:
		return read_counter(&pit->counter[port - PIT_COUNTER0]);
	case PIT_PORT_B:
		return read_port_b(pit);
	default: /* a read of the control port is no operation */
		return 0xff;
	}
}

static void set_gate(struct pit_counter *c, bool gate)
{
	if (gate && !c->gate && pit_mode(c) != 0 && pit_mode(c) != 4 && c->programmed) {
		c->load = true;
	}
	if (!gate && pit_periodic(c)) {
		set_out(c, true);
	}
	c->gate = gate;
}

static void write_count(struct pit_counter *c, uint16_t value)
{
	uint32_t n = value;

	if ((c->control & CONTROL_BCD) != 0) {
		n = (n >> 12) * 1000 + (n >> 8 & 15) * 100 + (n >> 4 & 15) * 10 + (n & 15);
		n %= 10000; /* digits above 9 are undefined, and must only do no harm */
	}
	c->reload = n == 0 ? pit_modulus(c) : n;
	c->programmed = true;
	c->null_count = true;
	switch (pit_mode(c)) {
	case 0:
		set_out(c, false);
		c->load = true;
		break;
	case 4:
		c->load = true;
		break;
	case 2:
	case 3:
		/* While it runs, the new count waits for the end of the (half) cycle. */
		c->load |= !c->running;
		break;
	default: /* modes 1 and 5 wait for a trigger */
		break;
	}
}

static void write_counter(struct pit_counter *c, uint8_t value)
{
	switch (c->control & CONTROL_RW) {
	case RW_LSB:
		write_count(c, value);
		break;
	case RW_MSB:
		write_count(c, (uint16_t)(value << 8));
		break;
	default:
		if (c->write_msb) {
			c->write_msb = false;
			write_count(c, (uint16_t)(value << 8 | c->write_lsb));
			break;
		}
		c->write_msb = true;
		c->write_lsb = value;
		if (pit_mode(c) == 0) {
			/* "Writing the first byte disables counting. OUT is set low." */
			c->running = false;
			c->armed = false;
			c->load = false;
			set_out(c, false);
		}
		break;
	}
}

static void latch_count(struct pit_counter *c)
{
	if (!c->count_latched) {
		c->count_latched = true;
		c->latch = shown_count(c);
	}
}

static void latch_status(struct pit_counter *c)
{
	if (!c->status_latched) {
		c->status_latched = true;
		c->status = (uint8_t)((c->out ? STATUS_OUT : 0) |
				      (c->null_count ? STATUS_NULL : 0) | c->control);
	}
}

static void write_control(struct pit *pit, uint8_t value)
{
	unsigned which = value >> 6;
	struct pit_counter *c = &pit->counter[which % ARRAY_SIZE(pit->counter)];

	if (which == READ_BACK) {
		for (unsigned i = 0; i < ARRAY_SIZE(pit->counter); i++) {
			if ((value & 2u << i) == 0) {
				continue;
			}
			if ((value & READ_BACK_COUNT) == 0) {
				latch_count(&pit->counter[i]);
			}
			if ((value & READ_BACK_STATUS) == 0) {
				latch_status(&pit->counter[i]);
			}
		}
		return;
	}
	if ((value & CONTROL_RW) == 0) {
		latch_count(c);
		return;
	}
	c->control = value & 0x3f;
	c->programmed = false;
	c->null_count = true;
	c->load = false;
	c->running = false;
	c->armed = false;
	c->odd = false;
	c->write_msb = false;
	c->read_msb = false;
	c->count_latched = false;
	c->status_latched = false;
	set_out(c, pit_mode(c) != 0);
}

void pit_write(struct pit *pit, uint16_t port, uint8_t value, uint64_t now_ns)
{
	pit_run(pit, now_ns);
	switch (port) {
	case PIT_COUNTER0:
	case PIT_COUNTER1:
	case PIT_COUNTER2:
		write_counter(&pit->counter[port - PIT_COUNTER0], value);
		break;
	case PIT_CONTROL:
		write_control(pit, value);
		break;
	case PIT_PORT_B:
		pit->port_b = value & PORT_B_WRITABLE;
		set_gate(&pit->counter[2], (value & PORT_B_GATE2) != 0);
		break;
	default:
		return;
	}
	drive_irq(pit);
}
