#include "lib/chip/pit.h"

#include <errno.h>

#include "tests/state_rig.h"
#include "tests/unit.h"

#define READ_BACK_ALL 0xc0

struct bench {
	struct pit pit;
	uint64_t pulse; /* now */
	bool level;
	unsigned rises;
};

static uint64_t ns(uint64_t pulses)
{
	return (pulses * 1000000000 + PIT_HZ - 1) / PIT_HZ;
}

static void irq_set(void *ctx, unsigned pin, bool level)
{
	struct bench *b = ctx;

	(void)pin;
	assert_int_not_equal(b->level, level);
	b->level = level;
	b->rises += level;
}

static void power_on(struct bench *b)
{
	*b = (struct bench){.pulse = 1000};
	pit_init(&b->pit, (struct irq_line){.set = irq_set, .ctx = b}, ns(b->pulse));
}

static uint8_t in(struct bench *b, uint16_t port)
{
	return pit_read(&b->pit, port, ns(b->pulse));
}

static void out(struct bench *b, uint16_t port, uint8_t value)
{
	pit_write(&b->pit, port, value, ns(b->pulse));
}

/* Lets @pulses pass. */
static void pass(struct bench *b, uint64_t pulses)
{
	b->pulse += pulses;
	pit_run(&b->pit, ns(b->pulse));
}

/* Programs counter @n for two-byte counts. */
static void program(struct bench *b, unsigned n, unsigned mode, bool bcd, uint16_t count)
{
	out(b, PIT_CONTROL, (uint8_t)(n << 6 | 0x30 | mode << 1 | bcd));
	out(b, (uint16_t)(PIT_COUNTER0 + n), (uint8_t)count);
	out(b, (uint16_t)(PIT_COUNTER0 + n), (uint8_t)(count >> 8));
}

static uint16_t count_of(struct bench *b, unsigned n)
{
	uint16_t port = (uint16_t)(PIT_COUNTER0 + n);
	uint16_t lsb;

	out(b, PIT_CONTROL, (uint8_t)(n << 6));
	lsb = in(b, port);
	return (uint16_t)(lsb | in(b, port) << 8);
}

static bool out2(struct bench *b)
{
	return (in(b, PIT_PORT_B) & 0x20) != 0;
}

/* OUT of counter 2 for @n pulses from the next one on, as a string of H and L. */
static const char *trace(struct bench *b, unsigned n)
{
	static char levels[64];

	for (unsigned i = 0; i < n; i++) {
		pass(b, 1);
		levels[i] = out2(b) ? 'H' : 'L';
	}
	levels[n] = 0;
	return levels;
}

/* Mode 0: OUT goes high N + 1 pulses after the count is written. */
static void mode0(void **unused)
{
	struct bench b;

	(void)unused;
	power_on(&b);
	out(&b, PIT_PORT_B, 1);
	program(&b, 2, 0, false, 4);
	assert_string_equal(trace(&b, 8), "LLLLHHHH");
	assert_int_equal(count_of(&b, 2), 0xfffd); /* it wraps and goes on */

	/* The gate stops the count; a new count sets OUT low and starts over. */
	program(&b, 2, 0, false, 4);
	assert_string_equal(trace(&b, 3), "LLL");
	out(&b, PIT_PORT_B, 0);
	assert_string_equal(trace(&b, 5), "LLLLL");
	assert_int_equal(count_of(&b, 2), 2);
	out(&b, PIT_PORT_B, 1);
	assert_string_equal(trace(&b, 3), "LHH");

	/* The first byte of a count stops it. */
	out(&b, PIT_COUNTER2, 3);
	assert_string_equal(trace(&b, 5), "LLLLL");
	out(&b, PIT_COUNTER2, 0);
	assert_string_equal(trace(&b, 5), "LLLHH");

	/* A count written while the gate is low is loaded: no pulse more when the gate opens. */
	out(&b, PIT_PORT_B, 0);
	program(&b, 2, 0, false, 2);
	assert_string_equal(trace(&b, 4), "LLLL");
	out(&b, PIT_PORT_B, 1);
	assert_string_equal(trace(&b, 3), "LHH");
}

static void mode1(void **unused)
{
	struct bench b;

	(void)unused;
	power_on(&b);
	out(&b, PIT_CONTROL, 0xb2);
	out(&b, PIT_PORT_B, 1); /* a trigger without a count */
	assert_string_equal(trace(&b, 3), "HHH");
	out(&b, PIT_PORT_B, 0);
	program(&b, 2, 1, false, 3);
	assert_string_equal(trace(&b, 3), "HHH");
	out(&b, PIT_PORT_B, 1);
	assert_string_equal(trace(&b, 6), "LLLHHH");
	/* Retriggered: N pulses after the last trigger; the gate's level does not matter. */
	out(&b, PIT_PORT_B, 0);
	out(&b, PIT_PORT_B, 1);
	assert_string_equal(trace(&b, 2), "LL");
	out(&b, PIT_PORT_B, 0);
	out(&b, PIT_PORT_B, 1);
	out(&b, PIT_PORT_B, 0);
	assert_string_equal(trace(&b, 5), "LLLHH");
	/* A new count is for the next trigger. */
	out(&b, PIT_PORT_B, 1);
	assert_string_equal(trace(&b, 1), "L");
	out(&b, PIT_COUNTER2, 1);
	out(&b, PIT_COUNTER2, 0);
	assert_string_equal(trace(&b, 4), "LLHH");
	out(&b, PIT_PORT_B, 0);
	out(&b, PIT_PORT_B, 1);
	assert_string_equal(trace(&b, 3), "LHH");
}

static void mode2(void **unused)
{
	struct bench b;

	(void)unused;
	power_on(&b);
	out(&b, PIT_PORT_B, 1);
	program(&b, 2, 2, false, 3);
	assert_string_equal(trace(&b, 10), "HHLHHLHHLH");
	/* A new count while it runs: from the next period on. */
	out(&b, PIT_COUNTER2, 4);
	out(&b, PIT_COUNTER2, 0);
	assert_string_equal(trace(&b, 8), "HLHHHLHH");
	/* Gate low: OUT high at once; rising: a full period. */
	pass(&b, 2);
	assert_false(out2(&b));
	out(&b, PIT_PORT_B, 0);
	assert_true(out2(&b));
	assert_string_equal(trace(&b, 4), "HHHH");
	out(&b, PIT_PORT_B, 1);
	assert_string_equal(trace(&b, 6), "HHHLHH");
	/* M2 is ignored: 6 is 2. An illegal count of 1 does no harm. */
	program(&b, 2, 6, false, 3);
	assert_string_equal(trace(&b, 5), "HHLHH");
	program(&b, 2, 2, false, 1);
	assert_string_equal(trace(&b, 5), "HLHLH");
}

static void mode3(void **unused)
{
	struct bench b;

	(void)unused;
	power_on(&b);
	out(&b, PIT_PORT_B, 1);
	program(&b, 2, 3, false, 4);
	assert_string_equal(trace(&b, 9), "HHLLHHLLH");
	assert_int_equal(count_of(&b, 2), 4);
	pass(&b, 1);
	assert_int_equal(count_of(&b, 2), 2);

	program(&b, 2, 3, false, 5); /* high (N+1)/2, low (N-1)/2 */
	assert_string_equal(trace(&b, 11), "HHHLLHHHLLH");
	assert_int_equal(count_of(&b, 2), 4);
	pass(&b, 2);
	assert_int_equal(count_of(&b, 2), 0);

	/* The new count comes after this half cycle. */
	out(&b, PIT_COUNTER2, 2);
	out(&b, PIT_COUNTER2, 0);
	assert_string_equal(trace(&b, 5), "LHLHL");
	out(&b, PIT_PORT_B, 0);
	assert_string_equal(trace(&b, 3), "HHH");
	out(&b, PIT_COUNTER2, 6);
	out(&b, PIT_COUNTER2, 0);
	out(&b, PIT_PORT_B, 1);
	assert_string_equal(trace(&b, 8), "HHHLLLHH");
	program(&b, 2, 3, false, 1);
	assert_string_equal(trace(&b, 4), "HLHL");
}

static void mode4(void **unused)
{
	struct bench b;

	(void)unused;
	power_on(&b);
	out(&b, PIT_PORT_B, 1);
	program(&b, 2, 4, false, 3); /* a strobe N + 1 pulses after the write */
	assert_string_equal(trace(&b, 7), "HHHLHHH");
	assert_int_equal(count_of(&b, 2), 0xfffd);
	program(&b, 2, 4, false, 3);
	assert_string_equal(trace(&b, 2), "HH");
	out(&b, PIT_COUNTER2, 2); /* the first byte does not matter, the second starts over */
	assert_string_equal(trace(&b, 1), "H");
	out(&b, PIT_COUNTER2, 0);
	assert_string_equal(trace(&b, 4), "HHLH");
	program(&b, 2, 4, false, 3);
	assert_string_equal(trace(&b, 2), "HH");
	out(&b, PIT_PORT_B, 0);
	assert_string_equal(trace(&b, 4), "HHHH");
	out(&b, PIT_PORT_B, 1);
	assert_string_equal(trace(&b, 4), "HLHH");
}

static void mode5(void **unused)
{
	struct bench b;

	(void)unused;
	power_on(&b);
	program(&b, 2, 5, false, 3);
	assert_string_equal(trace(&b, 4), "HHHH");
	out(&b, PIT_PORT_B, 1); /* N + 1 pulses after the trigger */
	out(&b, PIT_PORT_B, 0);
	assert_string_equal(trace(&b, 6), "HHHLHH");
	out(&b, PIT_PORT_B, 1);
	assert_string_equal(trace(&b, 2), "HH");
	out(&b, PIT_PORT_B, 0);
	out(&b, PIT_PORT_B, 1);
	assert_string_equal(trace(&b, 6), "HHHLHH");
}

static void bcd(void **unused)
{
	struct bench b;

	(void)unused;
	power_on(&b);
	out(&b, PIT_PORT_B, 1);
	program(&b, 2, 0, true, 0x1000);
	pass(&b, 2);
	assert_int_equal(count_of(&b, 2), 0x0999);
	pass(&b, 1000);
	assert_int_equal(count_of(&b, 2), 0x9999);
	program(&b, 2, 0, true, 0); /* ten thousand */
	pass(&b, 1);
	assert_int_equal(count_of(&b, 2), 0);
	pass(&b, 9999);
	assert_false(out2(&b));
	pass(&b, 1);
	assert_true(out2(&b));
	program(&b, 2, 2, true, 0xffff); /* not digits */
	pass(&b, 100000);
}

static void access_forms(void **unused)
{
	struct bench b;
	uint16_t first;

	(void)unused;
	power_on(&b);
	out(&b, PIT_CONTROL, 0x54); /* counter 1, low byte only, mode 2 */
	out(&b, PIT_COUNTER1, 18);
	pass(&b, 3);
	assert_int_equal(in(&b, PIT_COUNTER1), 16);
	assert_int_equal(in(&b, PIT_COUNTER1), 16);
	out(&b, PIT_CONTROL, 0x64); /* high byte only */
	out(&b, PIT_COUNTER1, 2);
	pass(&b, 2);
	assert_int_equal(in(&b, PIT_COUNTER1), 1);
	pass(&b, 0xff);
	assert_int_equal(in(&b, PIT_COUNTER1), 1);
	pass(&b, 1);
	assert_int_equal(in(&b, PIT_COUNTER1), 0);

	/* A latched count is kept until it is read, and a second latch command ignored. */
	program(&b, 0, 2, false, 0x1234);
	pass(&b, 1);
	out(&b, PIT_CONTROL, 0x00);
	pass(&b, 0x100);
	out(&b, PIT_CONTROL, 0x00);
	assert_int_equal(in(&b, PIT_COUNTER0), 0x34);
	pass(&b, 0x100);
	assert_int_equal(in(&b, PIT_COUNTER0), 0x12);
	first = in(&b, PIT_COUNTER0);
	assert_int_equal(first | in(&b, PIT_COUNTER0) << 8, 0x1234 - 0x200);

	assert_int_equal(in(&b, PIT_CONTROL), 0xff);
	assert_int_equal(in(&b, 0x44), 0xff);
	out(&b, 0x44, 0x30);
}

static void read_back(void **unused)
{
	struct bench b;

	(void)unused;
	power_on(&b);
	program(&b, 0, 2, false, 0x2000);
	out(&b, PIT_CONTROL, READ_BACK_ALL | 0x20 | 0x02); /* status of counter 0 */
	assert_int_equal(in(&b, PIT_COUNTER0), 0xf4);	   /* OUT, null count, both bytes, mode 2 */
	pass(&b, 1);
	out(&b, PIT_CONTROL, READ_BACK_ALL | 0x20 | 0x02);
	assert_int_equal(in(&b, PIT_COUNTER0), 0xb4);

	/* Status and count together: status comes first, whichever was latched first. */
	out(&b, PIT_CONTROL, 0x00);
	out(&b, PIT_CONTROL, READ_BACK_ALL | 0x02);
	pass(&b, 5);
	assert_int_equal(in(&b, PIT_COUNTER0), 0xb4);
	assert_int_equal(in(&b, PIT_COUNTER0), 0x00);
	assert_int_equal(in(&b, PIT_COUNTER0), 0x20);

	/* A new count of a running counter is null until the period ends. */
	out(&b, PIT_COUNTER0, 0x10);
	out(&b, PIT_COUNTER0, 0x00);
	out(&b, PIT_CONTROL, READ_BACK_ALL | 0x20 | 0x02);
	assert_int_equal(in(&b, PIT_COUNTER0), 0xf4);
	pass(&b, 0x2000);
	out(&b, PIT_CONTROL, READ_BACK_ALL | 0x20 | 0x02);
	assert_int_equal(in(&b, PIT_COUNTER0) & 0x40, 0);

	/* Several counters at once. */
	program(&b, 1, 3, true, 0x0500);
	program(&b, 2, 1, false, 7);
	out(&b, PIT_CONTROL, READ_BACK_ALL | 0x20 | 0x0c);
	assert_int_equal(in(&b, PIT_COUNTER1), 0xf7);
	assert_int_equal(in(&b, PIT_COUNTER2), 0xf2);
}

static void port_b(void **unused)
{
	struct bench b;
	unsigned toggles = 0;
	uint8_t last;

	(void)unused;
	power_on(&b);
	out(&b, PIT_PORT_B, 0xff);
	assert_int_equal(in(&b, PIT_PORT_B) & 0xcf, 0x0f);
	out(&b, PIT_PORT_B, 0x00);
	last = in(&b, PIT_PORT_B);
	for (unsigned i = 0; i < 1800; i++) {
		uint8_t now;

		pass(&b, 1);
		now = in(&b, PIT_PORT_B);
		toggles += ((now ^ last) & 0x10) != 0;
		last = now;
	}
	assert_int_equal(toggles, 100);
}

/* How Linux measures the TSC: mode 0 on counter 2, polled through port 0x61. */
static void calibration(void **unused)
{
	const uint16_t latch = PIT_HZ / (1000 / 50);
	struct bench b;
	uint64_t start;

	(void)unused;
	power_on(&b);
	out(&b, PIT_PORT_B, (uint8_t)((in(&b, PIT_PORT_B) & ~0x02) | 0x01));
	program(&b, 2, 0, false, latch);
	start = b.pulse;
	while (!out2(&b)) {
		b.pulse++;
	}
	assert_int_equal(b.pulse - start, latch + 1);
}

static void irq0_periodic(void **unused)
{
	struct bench b;
	uint64_t deadline;

	(void)unused;
	power_on(&b);
	assert_true(pit_deadline(&b.pit) == UINT64_MAX);
	out(&b, PIT_CONTROL, 0x34);
	assert_true(pit_deadline(&b.pit) == UINT64_MAX);
	b.rises = 0;
	out(&b, PIT_COUNTER0, 0xa9);
	out(&b, PIT_COUNTER0, 0x04); /* 1193: 1 kHz */
	for (unsigned i = 1; i <= 50; i++) {
		deadline = pit_deadline(&b.pit);
		assert_int_equal(deadline, ns(b.pulse + 1 + 1193 * (uint64_t)i));
		pit_run(&b.pit, deadline - 1);
		assert_int_equal(b.rises, i - 1);
		pit_run(&b.pit, deadline);
		assert_int_equal(b.rises, i);
		assert_true(b.level);
	}

	/* What was missed becomes one edge, and the phase stays. */
	b.pulse += 1 + 1193 * UINT64_C(1000050) + 10;
	pass(&b, 0);
	assert_int_equal(b.rises, 51);
	assert_int_equal(pit_deadline(&b.pit), ns(b.pulse - 10 + 1193));
	pass(&b, 0);
	assert_int_equal(b.rises, 51);
	pit_run(&b.pit, 0); /* time does not go back */
	assert_int_equal(pit_deadline(&b.pit), ns(b.pulse - 10 + 1193));

	/* A guest may program a period that the host cannot keep up with. */
	program(&b, 0, 3, false, 2);
	pass(&b, 10);
	assert_in_range(pit_deadline(&b.pit) - ns(b.pulse), PIT_PERIOD_MIN_NS - 1000,
			PIT_PERIOD_MIN_NS + 1000);
}

static void irq0_once(void **unused)
{
	struct bench b;

	(void)unused;
	power_on(&b);
	program(&b, 0, 0, false, 100);
	assert_int_equal(pit_deadline(&b.pit), ns(b.pulse + 101));
	pass(&b, 100);
	assert_false(b.level);
	pass(&b, 1);
	assert_true(b.level);
	assert_true(pit_deadline(&b.pit) == UINT64_MAX);
	out(&b, PIT_CONTROL, 0x30); /* how an interrupt handler of mode 0 lowers it */
	assert_false(b.level);

	program(&b, 0, 4, false, 100);
	b.rises = 0;
	assert_int_equal(pit_deadline(&b.pit), ns(b.pulse + 102));
	pass(&b, 102);
	assert_int_equal(b.rises, 1);
	assert_true(pit_deadline(&b.pit) == UINT64_MAX);
	program(&b, 0, 1, false, 100); /* there is nothing that could trigger it */
	assert_true(pit_deadline(&b.pit) == UINT64_MAX);
}

/* Any split of the same time gives the same counters. */
static void steps_do_not_matter(void **unused)
{
	(void)unused;
	for (unsigned mode = 0; mode < 6; mode++) {
		for (uint16_t count = 1; count < 12; count++) {
			struct bench one, many;

			power_on(&one);
			power_on(&many);
			program(&one, 2, mode, false, count);
			program(&many, 2, mode, false, count);
			out(&one, PIT_PORT_B, 1);
			out(&many, PIT_PORT_B, 1);
			for (unsigned i = 0; i < 997; i++) {
				pass(&many, 1);
			}
			pass(&one, 997);
			assert_int_equal(out2(&one), out2(&many));
			assert_int_equal(count_of(&one, 2), count_of(&many, 2));
		}
	}
}

static void state_round_trip(void **unused)
{
	(void)unused;
	for (unsigned mode = 0; mode < 6; mode++) {
		for (unsigned wait = 0; wait < 14; wait++) {
			uint8_t buf[512];
			struct bench b, other;
			size_t len;

			power_on(&b);
			program(&b, 0, 2, false, 1000);
			program(&b, 2, mode, mode == 3, 5);
			out(&b, PIT_PORT_B, 1);
			out(&b, PIT_CONTROL, 0xc0 | 0x08);
			out(&b, PIT_COUNTER1, 0x12); /* half a count */
			pass(&b, wait);
			/* One pulse was not run yet. */
			len = state_saved(pit_state, &b.pit, buf, sizeof(buf), ns(b.pulse + 1));

			power_on(&other);
			other.pulse = 5; /* another host: its clock is behind */
			assert_int_equal(
				state_loaded(pit_state, &other.pit, buf, len, ns(other.pulse + 1)),
				0);
			assert_int_equal(other.rises, 0);
			other.level = b.level;
			assert_int_equal((pit_deadline(&b.pit) - ns(b.pulse)) / 10,
					 (pit_deadline(&other.pit) - ns(other.pulse)) / 10);
			for (unsigned i = 0; i < 20; i++) {
				pass(&b, 1);
				pass(&other, 1);
				assert_int_equal(out2(&b), out2(&other));
				assert_int_equal(b.level, other.level);
				assert_int_equal(count_of(&b, 2), count_of(&other, 2));
				assert_int_equal(count_of(&b, 1), count_of(&other, 1));
			}
		}
	}
}

static void state_refusals(void **unused)
{
	enum {
		CONTROL,
		GATE,
		RELOAD = 3,
		COUNT = 7,
		PROGRAMMED = 11,
		RUNNING = 14,
		ARMED,
		ODD,
		BEHIND = 3 * 26 + 2,
	};
	static const struct {
		size_t offset;
		uint8_t value;
	} bad[] = {
		{CONTROL, 0x74}, {CONTROL, 0x04}, {GATE, 0},	      {GATE, 3},  {RELOAD + 2, 2},
		{COUNT + 2, 2},	 {COUNT, 0},	  {RUNNING, 2},	      {ARMED, 1}, {ODD, 1},
		{PROGRAMMED, 0}, {CONTROL, 0x36}, {BEHIND + 7, 0x80},
	};
	uint8_t buf[512];
	struct bench b;
	size_t len;

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		power_on(&b);
		program(&b, 0, 2, false, 9);
		pass(&b, 1);
		len = state_saved(pit_state, &b.pit, buf, sizeof(buf), ns(b.pulse));
		assert_int_equal(len, 24 + 3 * 26 + 10);
		buf[24 + bad[i].offset] = bad[i].value;
		assert_int_equal(state_loaded(pit_state, &b.pit, buf, len, ns(b.pulse)), -EINVAL);
		assert_int_equal(count_of(&b, 0), 9); /* left alone */
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mode0),
		cmocka_unit_test(mode1),
		cmocka_unit_test(mode2),
		cmocka_unit_test(mode3),
		cmocka_unit_test(mode4),
		cmocka_unit_test(mode5),
		cmocka_unit_test(bcd),
		cmocka_unit_test(access_forms),
		cmocka_unit_test(read_back),
		cmocka_unit_test(port_b),
		cmocka_unit_test(calibration),
		cmocka_unit_test(irq0_periodic),
		cmocka_unit_test(irq0_once),
		cmocka_unit_test(steps_do_not_matter),
		cmocka_unit_test(state_round_trip),
		cmocka_unit_test(state_refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
