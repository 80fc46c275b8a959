#include "vmm/board/pm.h"

#include <errno.h>
#include <string.h>

#include "tests/state_rig.h"
#include "tests/unit.h"
#include "vmm/board/layout.h"
#include "vmm/dev/fake_loop.h"

struct fixture {
	struct loop loop;
	struct pm pm;
	bool sci;
	unsigned poweroffs, resets;
};

static void on_sci(void *ctx, unsigned pin, bool level)
{
	struct fixture *f = ctx;

	(void)pin;
	f->sci = level;
}

static void on_event(void *ctx, enum pm_event event)
{
	struct fixture *f = ctx;

	f->poweroffs += event == PM_POWEROFF;
	f->resets += event == PM_RESET;
}

static void fixture_init(struct fixture *f)
{
	memset(f, 0, sizeof(*f));
	assert_int_equal(
		pm_init(&f->pm, &f->loop, (struct irq_line){.set = on_sci, .ctx = f}, on_event, f),
		0);
}

static void fixture_fini(struct fixture *f)
{
	pm_fini(&f->pm);
}

static uint64_t reg(struct fixture *f, unsigned port, unsigned len)
{
	return pm_ops.read(&f->pm, port - PORT_PM_BASE, len);
}

static void set(struct fixture *f, unsigned port, unsigned len, uint64_t value)
{
	pm_ops.write(&f->pm, port - PORT_PM_BASE, len, value);
}

static void timer_counts(void **unused)
{
	struct fixture f;

	(void)unused;
	fake_loop_reset(1000, 0);
	fixture_init(&f);
	assert_int_equal(reg(&f, PORT_PM_TMR, 4), 0);
	fake_time_pass(1000000000);
	assert_int_equal(reg(&f, PORT_PM_TMR, 4), 3579545);
	fake_time_pass(UINT64_C(4000000000));
	/* 24 bits: 5 * 3579545 - 2^24. */
	assert_int_equal(reg(&f, PORT_PM_TMR, 4), 5 * 3579545 - (1 << 24));
	fixture_fini(&f);
}

/* ACPI 6.4, 4.8.3.3: TMR_STS is set when the highest bit changes; here about every 2.34 s. */
static void timer_interrupts(void **unused)
{
	struct fixture f;

	(void)unused;
	fake_loop_reset(1000, 0);
	fixture_init(&f);
	set(&f, PORT_PM1A_EVT + 2, 2, 1);
	fake_time_pass(UINT64_C(2343000000));
	assert_false(f.sci);
	fake_time_pass(2000000);
	assert_true(f.sci);
	assert_int_equal(reg(&f, PORT_PM1A_EVT, 2), 1);
	set(&f, PORT_PM1A_EVT, 2, 1);
	assert_false(f.sci);
	fake_time_pass(UINT64_C(2344000000));
	assert_true(f.sci);
	set(&f, PORT_PM1A_EVT + 2, 2, 0);
	assert_false(f.sci);
	fixture_fini(&f);
}

/* Each call would be a system call, on a vCPU's thread. */
static void timer_is_set_when_it_changes(void **unused)
{
	struct fixture f;

	(void)unused;
	fake_loop_reset(1000, 0);
	fixture_init(&f);
	set(&f, PORT_PM1A_EVT + 2, 2, 0x100);
	set(&f, PORT_GPE0, 4, 0xffffffff);
	set(&f, PORT_PM1A_CNT, 2, 0);
	pm_power_button(&f.pm);
	assert_int_equal(fake_timer_calls, 0);
	set(&f, PORT_PM1A_EVT + 2, 2, 1);
	assert_int_equal(fake_timer_calls, 1);
	fake_time_pass(1000000000);
	set(&f, PORT_PM1A_EVT, 2, 0xffff);
	set(&f, PORT_PM1A_EVT + 2, 2, 1);
	assert_int_equal(fake_timer_calls, 1);
	fake_time_pass(1400000000);
	assert_true(f.sci);
	assert_int_equal(fake_timer_calls, 1); /* it has gone off, and waits for the guest */
	set(&f, PORT_PM1A_EVT, 2, 1);
	assert_int_equal(fake_timer_calls, 2);
	set(&f, PORT_PM1A_EVT + 2, 2, 0);
	assert_int_equal(fake_timer_calls, 3);
	assert_true(fake_timer_deadline() == UINT64_MAX);
	set(&f, PORT_PM1A_EVT + 2, 2, 0);
	assert_int_equal(fake_timer_calls, 3);
	fixture_fini(&f);
}

static void power_button(void **unused)
{
	struct fixture f;

	(void)unused;
	fake_loop_reset(1000, 0);
	fixture_init(&f);
	assert_int_equal(reg(&f, PORT_PM1A_CNT, 2), 1); /* SCI_EN, without any SMI */
	pm_power_button(&f.pm);
	assert_false(f.sci);
	set(&f, PORT_PM1A_EVT + 2, 2, 0x100);
	assert_true(f.sci);
	/* Written by bytes, as ACPICA may: the other byte stays. */
	set(&f, PORT_PM1A_EVT, 1, 0xff);
	assert_int_equal(reg(&f, PORT_PM1A_EVT, 2), 0x100);
	set(&f, PORT_PM1A_EVT + 1, 1, 0x01);
	assert_false(f.sci);
	fixture_fini(&f);
}

static void sleep_and_reset(void **unused)
{
	struct fixture f;

	(void)unused;
	fake_loop_reset(1000, 0);
	fixture_init(&f);
	set(&f, PORT_PM1A_CNT, 2, LAYOUT_S5_SLEEPTYPE << 10);
	set(&f, PORT_PM1A_CNT, 2, 1 << 10 | 1 << 13); /* another sleep state: nothing */
	assert_int_equal(f.poweroffs, 0);
	set(&f, PORT_PM1A_CNT, 2, LAYOUT_S5_SLEEPTYPE << 10 | 1 << 13);
	assert_int_equal(f.poweroffs, 1);

	pm_reset_ops.write(&f.pm, 0, 1, 0x02);
	assert_int_equal(f.resets, 0);
	pm_reset_ops.write(&f.pm, 0, 1, 0x06);
	assert_int_equal(f.resets, 1);
	assert_int_equal(pm_reset_ops.read(&f.pm, 0, 1), 0x06);
	/* Only going up resets; what ACPI's reset register writes does, too. */
	pm_reset_ops.write(&f.pm, 0, 1, 0x06);
	assert_int_equal(f.resets, 1);
	pm_reset_ops.write(&f.pm, 0, 1, 0x00);
	pm_reset_ops.write(&f.pm, 0, 1, RESET_CONTROL_FULL);
	assert_int_equal(f.resets, 2);
	fixture_fini(&f);
}

static void general_purpose_events(void **unused)
{
	struct fixture f;

	(void)unused;
	fake_loop_reset(1000, 0);
	fixture_init(&f);
	set(&f, PORT_GPE0 + 8, 4, 0x00010002);
	assert_int_equal(reg(&f, PORT_GPE0 + 8, 4), 0x00010002);
	assert_int_equal(reg(&f, PORT_GPE0 + 10, 1), 0x01);
	assert_int_equal(reg(&f, PORT_GPE0, 8), 0);
	fixture_fini(&f);
}

/* What SeaBIOS looks at to know whether it has to set up system management. */
static void smi_enable(void **unused)
{
	struct fixture f;

	(void)unused;
	fake_loop_reset(1000, 0);
	fixture_init(&f);
	assert_int_equal(reg(&f, PORT_PM_BASE + 0x30, 4), 0x20);
	set(&f, PORT_PM_BASE + 0x30, 4, 0);
	assert_int_equal(reg(&f, PORT_PM_BASE + 0x30, 4), 0x20);
	assert_int_equal(reg(&f, PORT_PM_BASE + 0x78, 8), 0);
	fixture_fini(&f);
}

static void state_goes_on(void **unused)
{
	struct fixture a, b;
	uint8_t buf[256];

	(void)unused;
	fake_loop_reset(1000, 0);
	fixture_init(&a);
	set(&a, PORT_PM1A_EVT + 2, 2, 0x101);
	set(&a, PORT_GPE0 + 8, 1, 0x55);
	fake_time_pass(1000000000);
	pm_power_button(&a.pm);
	size_t len = state_saved(pm_state, &a.pm, buf, sizeof(buf));
	fixture_fini(&a);

	fake_loop_reset(UINT64_C(777000000000), 0);
	fixture_init(&b);
	assert_int_equal(state_loaded(pm_state, &b.pm, buf, len), 0);
	assert_true(b.sci);
	assert_int_equal(reg(&b, PORT_PM_TMR, 4), 3579545);
	assert_int_equal(reg(&b, PORT_PM1A_EVT, 2), 0x100);
	assert_int_equal(reg(&b, PORT_GPE0 + 8, 1), 0x55);
	set(&b, PORT_PM1A_EVT, 2, 0x100);
	assert_false(b.sci);
	fake_time_pass(1344000000);
	assert_true(b.sci);

	fixture_fini(&b);
}

/* The timer turned over while nobody looked: the guest still learns of it after loading. */
static void state_keeps_overflow(void **unused)
{
	struct fixture a, b;
	uint8_t buf[256];

	(void)unused;
	fake_loop_reset(1000, 0);
	fixture_init(&a);
	fake_time_pass(UINT64_C(2400000000));
	size_t len = state_saved(pm_state, &a.pm, buf, sizeof(buf));
	fixture_fini(&a);
	fixture_init(&b);
	assert_int_equal(state_loaded(pm_state, &b.pm, buf, len), 0);
	assert_int_equal(reg(&b, PORT_PM1A_EVT, 2), 1);
	fixture_fini(&b);
}

static void state_refusals(void **unused)
{
	static const struct {
		size_t offset;
		uint8_t value;
	} bad[] = {{0, 0x02}, {3, 0x80}, {4, 0x00}, {5, 0x20}, {6, 0x01}, {22, 0x01}, {30, 0x80}};
	struct fixture f;
	uint8_t buf[256];
	size_t len;

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		fake_loop_reset(1000, 0);
		fixture_init(&f);
		len = state_saved(pm_state, &f.pm, buf, sizeof(buf));
		assert_int_equal(len, 24 + 31);
		buf[24 + bad[i].offset] = bad[i].value;
		set(&f, PORT_GPE0 + 8, 1, 0x42);
		assert_int_equal(state_loaded(pm_state, &f.pm, buf, len), -EINVAL);
		assert_int_equal(reg(&f, PORT_GPE0 + 8, 1), 0x42); /* left alone */
		fixture_fini(&f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(timer_counts),
		cmocka_unit_test(timer_interrupts),
		cmocka_unit_test(timer_is_set_when_it_changes),
		cmocka_unit_test(power_button),
		cmocka_unit_test(sleep_and_reset),
		cmocka_unit_test(general_purpose_events),
		cmocka_unit_test(smi_enable),
		cmocka_unit_test(state_goes_on),
		cmocka_unit_test(state_keeps_overflow),
		cmocka_unit_test(state_refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
