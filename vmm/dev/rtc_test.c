#include "vmm/dev/rtc.h"

#include <errno.h>
#include <string.h>

#include "tests/state_rig.h"
#include "tests/unit.h"
#include "vmm/dev/fake_loop.h"

#define S  UINT64_C(1000000000)
#define MS UINT64_C(1000000)

/* Tuesday 2000-02-29 12:34:56 UTC, on the host. */
#define NOON UINT64_C(951827696)

struct bench {
	struct rtc rtc;
	bool irq;
	unsigned rises;
};

static void irq_set(void *ctx, unsigned pin, bool level)
{
	struct bench *b = ctx;

	assert_int_equal(pin, 8);
	assert_int_not_equal(b->irq, level);
	b->irq = level;
	b->rises += level;
}

static void power_on(struct bench *b, uint64_t wall_ns)
{
	const struct rtc_machine machine = {
		.low_ram = 512 * MIB, .high_ram = 0x1234560000, .cpus = 4};

	fake_loop_reset(1000, wall_ns);
	b->irq = false;
	b->rises = 0;
	assert_int_equal(rtc_init(&b->rtc, NULL,
				  (struct irq_line){.set = irq_set, .ctx = b, .pin = 8}, &machine),
			 0);
}

static uint8_t get(struct bench *b, uint8_t index)
{
	rtc_ops.write(&b->rtc, 0, 1, index);
	return (uint8_t)rtc_ops.read(&b->rtc, 1, 1);
}

static void set(struct bench *b, uint8_t index, uint8_t value)
{
	rtc_ops.write(&b->rtc, 0, 1, index);
	rtc_ops.write(&b->rtc, 1, 1, value);
}

static void assert_clock(struct bench *b, uint8_t h, uint8_t m, uint8_t s)
{
	assert_int_equal(get(b, 4), h);
	assert_int_equal(get(b, 2), m);
	assert_int_equal(get(b, 0), s);
}

static void assert_date(struct bench *b, uint16_t year, uint8_t month, uint8_t day)
{
	assert_int_equal(get(b, 0x32) << 8 | get(b, 9), year);
	assert_int_equal(get(b, 8), month);
	assert_int_equal(get(b, 7), day);
}

static void shows_host_time(void **unused)
{
	struct bench b;

	(void)unused;
	power_on(&b, NOON * S);
	assert_clock(&b, 0x12, 0x34, 0x56);
	assert_date(&b, 0x2000, 0x02, 0x29);
	assert_int_equal(get(&b, 6), 3);
	assert_int_equal(get(&b, 0x0a), 0x26);
	assert_int_equal(get(&b, 0x0b), 0x02);
	assert_int_equal(get(&b, 0x0d), 0x80);
	fake_time_pass(S - 1);
	assert_clock(&b, 0x12, 0x34, 0x56);
	fake_time_pass(1);
	assert_clock(&b, 0x12, 0x34, 0x57);
	fake_time_pass(12 * 3600 * S);
	assert_date(&b, 0x2000, 0x03, 0x01);
	/* The formats are looked at with each read. */
	set(&b, 0x0b, 0x04);
	assert_clock(&b, 12, 34, 57);
	fake_time_pass(13 * 3600 * S);
	assert_clock(&b, 0x81, 34, 57);
	set(&b, 0x0b, 0x00);
	assert_clock(&b, 0x81, 0x34, 0x57);
	rtc_fini(&b.rtc);
}

static void ports(void **unused)
{
	struct bench b;

	(void)unused;
	power_on(&b, NOON * S);
	assert_int_equal(rtc_ops.read(&b.rtc, 0, 1), 0xff);
	set(&b, 0x40, 0x11);
	set(&b, 0x80 | 0x41, 0x22); /* the NMI mask is no address bit */
	assert_int_equal(get(&b, 0x40), 0x11);
	assert_int_equal(get(&b, 0x41), 0x22);
	rtc_ops.write(&b.rtc, 0, 2, 0x3342); /* both ports at once */
	assert_int_equal(rtc_ops.read(&b.rtc, 0, 2), 0x33ff);
	assert_int_equal(get(&b, 0x42), 0x33);
	set(&b, 0x0c, 0xff);
	set(&b, 0x0d, 0x00);
	assert_int_equal(get(&b, 0x0c), 0);
	assert_int_equal(get(&b, 0x0d), 0x80);
	set(&b, 0x0a, 0xa6);
	assert_int_equal(get(&b, 0x0a), 0x26);
	rtc_fini(&b.rtc);
}

static void memory_size(void **unused)
{
	struct bench b;

	(void)unused;
	power_on(&b, NOON * S);
	assert_int_equal(get(&b, 0x15) | get(&b, 0x16) << 8, 640);
	assert_int_equal(get(&b, 0x17) | get(&b, 0x18) << 8, 0xffff);
	assert_int_equal(get(&b, 0x30) | get(&b, 0x31) << 8, 0xffff);
	assert_int_equal(get(&b, 0x34) | get(&b, 0x35) << 8, (512 - 16) * 16);
	assert_int_equal(get(&b, 0x5b) | get(&b, 0x5c) << 8 | get(&b, 0x5d) << 16, 0x123456);
	assert_int_equal(get(&b, 0x5f), 3);
	rtc_fini(&b.rtc);
}

/* UIP is up for the last 244 us of a second, and never while the clock is stopped. */
static void update_in_progress(void **unused)
{
	struct bench b;

	(void)unused;
	power_on(&b, NOON * S);
	assert_int_equal(get(&b, 0x0a) & 0x80, 0);
	fake_time_pass(S - 244001);
	assert_int_equal(get(&b, 0x0a) & 0x80, 0);
	fake_time_pass(1);
	assert_int_equal(get(&b, 0x0a) & 0x80, 0x80);
	set(&b, 0x0b, 0x82);
	assert_int_equal(get(&b, 0x0a) & 0x80, 0);
	set(&b, 0x0b, 0x02);
	fake_time_pass(244000);
	assert_int_equal(get(&b, 0x0a) & 0x80, 0);
	rtc_fini(&b.rtc);
}

static void setting_with_set(void **unused)
{
	struct bench b;

	(void)unused;
	power_on(&b, NOON * S + 100 * MS);
	set(&b, 0x0b, 0x92); /* SET takes UIE back */
	assert_int_equal(get(&b, 0x0b), 0x82);
	assert_clock(&b, 0x12, 0x34, 0x56);
	fake_time_pass(10 * S);
	assert_clock(&b, 0x12, 0x34, 0x56); /* holds still */
	set(&b, 0, 0x59);
	set(&b, 2, 0x59);
	set(&b, 4, 0x23);
	set(&b, 7, 0x31);
	set(&b, 8, 0x12);
	set(&b, 9, 0x99);
	set(&b, 0x32, 0x19);
	set(&b, 0x0b, 0x02);
	assert_clock(&b, 0x23, 0x59, 0x59);
	fake_time_pass(899 * MS);
	assert_date(&b, 0x1999, 0x12, 0x31);
	fake_time_pass(1 * MS); /* the fraction of the second was kept */
	assert_clock(&b, 0x00, 0x00, 0x00);
	assert_date(&b, 0x2000, 0x01, 0x01);
	assert_int_equal(get(&b, 6), 7);
	rtc_fini(&b.rtc);
}

/* As Linux does it: the divider is reset too, and the next second comes after half of one. */
static void setting_with_divider(void **unused)
{
	struct bench b;

	(void)unused;
	power_on(&b, NOON * S + 100 * MS);
	set(&b, 0x0b, 0x82);
	set(&b, 0x0a, 0x76);
	set(&b, 4, 0x01);
	set(&b, 2, 0x02);
	set(&b, 0, 0x03);
	set(&b, 0x0b, 0x02);
	fake_time_pass(20 * S);
	assert_clock(&b, 0x01, 0x02, 0x03);
	set(&b, 0x0a, 0x26);
	fake_time_pass(499 * MS);
	assert_clock(&b, 0x01, 0x02, 0x03);
	fake_time_pass(1 * MS);
	assert_clock(&b, 0x01, 0x02, 0x04);

	/* And in the other order. */
	set(&b, 0x0b, 0x82);
	set(&b, 0x0a, 0x76);
	set(&b, 0, 0x30);
	set(&b, 0x0a, 0x26);
	fake_time_pass(200 * MS);
	set(&b, 0x0b, 0x02);
	assert_clock(&b, 0x01, 0x02, 0x30);
	fake_time_pass(300 * MS);
	assert_clock(&b, 0x01, 0x02, 0x31);
	rtc_fini(&b.rtc);
}

static void setting_while_it_runs(void **unused)
{
	struct bench b;

	(void)unused;
	power_on(&b, NOON * S);
	set(&b, 4, 0x15);
	assert_clock(&b, 0x15, 0x34, 0x56);
	set(&b, 2, 0xff); /* nonsense: the nearest thing */
	assert_clock(&b, 0x15, 0x59, 0x56);
	fake_time_pass(4 * S);
	assert_clock(&b, 0x16, 0x00, 0x00);
	rtc_fini(&b.rtc);
}

static void update_interrupt(void **unused)
{
	struct bench b;

	(void)unused;
	power_on(&b, NOON * S + 300 * MS);
	assert_int_equal(get(&b, 0x0c), 0x00);
	fake_time_pass(1 * MS);
	assert_int_equal(get(&b, 0x0c), 0x40); /* the periodic flag, at 1024 Hz */
	set(&b, 0x0a, 0x20);
	fake_time_pass(S - 1 * MS);
	get(&b, 0x0c);
	assert_true(fake_timer_deadline() == UINT64_MAX); /* nothing is enabled: nothing runs */
	fake_time_pass(700 * MS);
	assert_int_equal(get(&b, 0x0c), 0x10); /* the flag comes without the interrupt */
	assert_int_equal(get(&b, 0x0c), 0x00);

	set(&b, 0x0b, 0x12);
	fake_time_pass(S - 1);
	assert_false(b.irq);
	fake_time_pass(1);
	assert_true(b.irq);
	fake_time_pass(5 * S);
	assert_int_equal(b.rises, 1);
	assert_true(fake_timer_deadline() == UINT64_MAX); /* no wakeups until it is read */
	assert_int_equal(get(&b, 0x0c), 0x90);
	assert_false(b.irq);
	for (unsigned i = 0; i < 5; i++) {
		fake_time_pass(S);
		assert_int_equal(get(&b, 0x0c), 0x90);
	}
	assert_int_equal(b.rises, 6);
	/* Enabling an interrupt whose flag is up raises it at once. */
	set(&b, 0x0b, 0x02);
	fake_time_pass(S);
	assert_false(b.irq);
	set(&b, 0x0b, 0x12);
	assert_true(b.irq);
	set(&b, 0x0b, 0x02);
	assert_false(b.irq);
	rtc_fini(&b.rtc);
}

static void alarm_interrupt(void **unused)
{
	struct bench b;

	(void)unused;
	power_on(&b, NOON * S);
	set(&b, 0x0a, 0x20);
	set(&b, 5, 0x12);
	set(&b, 3, 0x36);
	set(&b, 1, 0x10);
	set(&b, 0x0b, 0x22);
	fake_time_pass(74 * S - 1);
	assert_false(b.irq);
	fake_time_pass(1);
	assert_true(b.irq);
	assert_clock(&b, 0x12, 0x36, 0x10);
	assert_int_equal(get(&b, 0x0c), 0xb0);
	fake_time_pass(86399 * S);
	assert_false(b.irq);
	fake_time_pass(S);
	assert_true(b.irq);
	get(&b, 0x0c);

	set(&b, 5, 0xff); /* every hour */
	set(&b, 3, 0xff); /* every minute */
	fake_time_pass(59 * S);
	assert_false(b.irq);
	fake_time_pass(S);
	assert_true(b.irq);
	get(&b, 0x0c);

	/* The host's clock is set while the alarm waits: noticed within a minute. */
	set(&b, 5, 0x18);
	set(&b, 3, 0x00);
	set(&b, 1, 0x00);
	fake_wall_ns += 6 * 3600 * S;
	fake_time_pass(60 * S);
	assert_true(b.irq);
	get(&b, 0x0c);

	/* An alarm that can never be. */
	set(&b, 1, 0x77);
	assert_true(fake_timer_deadline() == UINT64_MAX);
	rtc_fini(&b.rtc);
}

static void periodic_interrupt(void **unused)
{
	static const struct {
		uint8_t rate;
		unsigned hz;
	} rates[] = {{1, 256}, {2, 128}, {3, 8192}, {6, 1024}, {8, 256}, {15, 2}};
	struct bench b;

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(rates); i++) {
		unsigned got = 0;

		power_on(&b, NOON * S);
		set(&b, 0x0a, 0x20 | rates[i].rate);
		set(&b, 0x0b, 0x42);
		for (uint64_t end = fake_now_ns + 2 * S; fake_timer_deadline() <= end;) {
			fake_time_pass(fake_timer_deadline() - fake_now_ns);
			assert_true(b.irq);
			assert_int_equal(get(&b, 0x0c) & 0xc0, 0xc0);
			got++;
		}
		assert_int_equal(got, 2 * rates[i].hz);
		/* What nobody reads costs one wakeup. */
		fake_time_pass(S);
		assert_true(fake_timer_deadline() == UINT64_MAX);
		get(&b, 0x0c);
		set(&b, 0x0a, 0x20); /* rate 0: none */
		assert_true(fake_timer_deadline() == UINT64_MAX);
		rtc_fini(&b.rtc);
	}
}

static void state_round_trip(void **unused)
{
	uint8_t buf[512], again[512];
	struct bench b, other;
	size_t len;

	(void)unused;
	power_on(&b, NOON * S + 700 * MS);
	set(&b, 0x0a, 0x20);
	set(&b, 4, 0x03); /* the guest's clock is its own */
	set(&b, 0x50, 0x99);
	set(&b, 5, 0xff);
	set(&b, 3, 0x35);
	set(&b, 1, 0x30);
	set(&b, 0x0b, 0x22);
	rtc_ops.write(&b.rtc, 0, 1, 0x50);
	len = state_saved(rtc_state, &b.rtc, buf, sizeof(buf));
	rtc_fini(&b.rtc);

	/* Loaded half a minute later, on a host that booted at another time. */
	power_on(&other, (NOON + 30) * S);
	fake_now_ns = 77 * S;
	assert_int_equal(state_loaded(rtc_state, &other.rtc, buf, len), 0);
	assert_int_equal(state_saved(rtc_state, &other.rtc, again, sizeof(again)), len);
	assert_memory_equal(buf, again, len);
	assert_int_equal(rtc_ops.read(&other.rtc, 1, 1), 0x99);
	assert_clock(&other, 0x03, 0x35, 0x26);
	fake_time_pass(3999 * MS);
	assert_false(other.irq);
	fake_time_pass(1 * MS);
	assert_true(other.irq);
	assert_int_equal(get(&other, 0x0c), 0xb0);
	rtc_fini(&other.rtc);

	/* Loaded two minutes later: the alarm is overdue, and comes from the loop. */
	power_on(&other, (NOON + 120) * S);
	assert_int_equal(state_loaded(rtc_state, &other.rtc, buf, len), 0);
	assert_false(other.irq);
	fake_time_pass(0);
	assert_true(other.irq);
	/* With the interrupt up: the wire is the other end's to remember. */
	len = state_saved(rtc_state, &other.rtc, buf, sizeof(buf));
	rtc_fini(&other.rtc);
	power_on(&b, (NOON + 120) * S);
	assert_int_equal(state_loaded(rtc_state, &b.rtc, buf, len), 0);
	assert_int_equal(b.rises, 0);
	b.irq = true;
	fake_time_pass(0);
	assert_int_equal(get(&b, 0x0c), 0xb0);
	assert_false(b.irq);
	rtc_fini(&b.rtc);
}

static void state_refusals(void **unused)
{
	static const struct {
		size_t offset;
		uint8_t value;
	} bad[] = {
		{0, 0x80},    {1 + 0x0a, 0xa6}, {1 + 0x0c, 0x01}, {1 + 0x0c, 0x80}, {1 + 0x0d, 0},
		{129 + 5, 1}, {129 + 7, 0x80},	{137 + 3, 0x3c},  {141 + 5, 1},	    {149 + 7, 1},
	};
	uint8_t buf[512];
	struct bench b;

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		size_t len;

		power_on(&b, NOON * S);
		len = state_saved(rtc_state, &b.rtc, buf, sizeof(buf));
		assert_int_equal(len, 24 + 157);
		buf[24 + bad[i].offset] = bad[i].value;
		set(&b, 0x50, 0x42);
		assert_int_equal(state_loaded(rtc_state, &b.rtc, buf, len), -EINVAL);
		assert_int_equal(get(&b, 0x50), 0x42);
		rtc_fini(&b.rtc);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shows_host_time),	 cmocka_unit_test(ports),
		cmocka_unit_test(memory_size),		 cmocka_unit_test(update_in_progress),
		cmocka_unit_test(setting_with_set),	 cmocka_unit_test(setting_with_divider),
		cmocka_unit_test(setting_while_it_runs), cmocka_unit_test(update_interrupt),
		cmocka_unit_test(alarm_interrupt),	 cmocka_unit_test(periodic_interrupt),
		cmocka_unit_test(state_round_trip),	 cmocka_unit_test(state_refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
