#include "vmm/board/pm.h"

#include <errno.h>

#include "tests/unit.h"
#include "vmm/dev/fake_loop.h"

#define S UINT64_C(1000000000)

#define STS 0
#define EN  2
#define CNT 4
#define TMR 8

struct bench {
	struct pm pm;
	bool sci;
	unsigned poweroffs, resets;
};

static void sci_set(void *ctx, unsigned pin, bool level)
{
	struct bench *b = ctx;

	assert_int_equal(pin, 9);
	assert_int_not_equal(level, b->sci);
	b->sci = level;
}

static uint64_t get(struct bench *b, uint64_t offset, unsigned len)
{
	return pm_ops.read(&b->pm, offset, len) & (len == 8 ? UINT64_MAX : BIT(8 * len) - 1);
}

static void set(struct bench *b, uint64_t offset, unsigned len, uint64_t value)
{
	pm_ops.write(&b->pm, offset, len, value);
}

static void poweroff(void *ctx)
{
	struct bench *b = ctx;

	get(b, STS, 2); /* the lock is free */
	b->poweroffs++;
}

static void reset(void *ctx)
{
	struct bench *b = ctx;

	get(b, STS, 2);
	b->resets++;
}

static const struct pm_ops ops = {poweroff, reset};

static void power_on(struct bench *b)
{
	fake_loop_reset(5 * S + 123, 0);
	*b = (struct bench){0};
	assert_int_equal(pm_init(&b->pm, NULL,
				 (struct irq_line){.set = sci_set, .ctx = b, .pin = 9}, &ops, b),
			 0);
}

static void registers(void **unused)
{
	struct bench b;

	(void)unused;
	power_on(&b);
	assert_int_equal(get(&b, STS, 4), 0);
	set(&b, STS, 2, 0xffff); /* status bits cannot be set */
	assert_int_equal(get(&b, STS, 2), 0);
	set(&b, EN, 2, 0xffff);
	assert_int_equal(get(&b, EN, 2), 0x0521);
	set(&b, CNT, 2, 0xdfff);
	assert_int_equal(get(&b, CNT, 2), 0x1c03);
	assert_int_equal(get(&b, CNT, 4), 0x1c03);
	set(&b, 0x20, 8, UINT64_MAX);
	assert_int_equal(get(&b, 0x20, 8), 0);
	set(&b, 0x28, 4, 0x12345678);
	set(&b, 0x2d, 1, 0x9a);
	assert_true(get(&b, 0x28, 8) == 0x00009a0012345678);
	set(&b, 0x30, 4, 0x23);
	assert_int_equal(get(&b, 0x30, 8), 0x23);
	set(&b, 0x60, 8, UINT64_MAX);
	assert_int_equal(get(&b, 0x60, 8), 0);
	set(&b, 0x78, 8, UINT64_MAX);
	assert_int_equal(get(&b, 0x78, 8), 0);
	pm_fini(&b.pm);
}

static void acpi_mode(void **unused)
{
	struct bench b;

	(void)unused;
	power_on(&b);
	pm_apm_ops.write(&b.pm, 0, 1, 2);
	assert_int_equal(get(&b, CNT, 2), 0x0001);
	pm_apm_ops.write(&b.pm, 1, 1, 0x42);
	assert_int_equal(pm_apm_ops.read(&b.pm, 0, 2), 0x4202);
	pm_apm_ops.write(&b.pm, 1, 1, 3); /* the status port commands nothing */
	assert_int_equal(get(&b, CNT, 2), 0x0001);
	pm_apm_ops.write(&b.pm, 0, 1, 3);
	assert_int_equal(get(&b, CNT, 2), 0x0000);
	pm_fini(&b.pm);
}

static void sleeping(void **unused)
{
	struct bench b;

	(void)unused;
	power_on(&b);
	set(&b, CNT, 2, 5 << 10); /* the type alone does nothing */
	assert_int_equal(b.poweroffs, 0);
	set(&b, CNT, 2, 1 << 10 | 1 << 13);
	assert_int_equal(b.poweroffs, 0);
	set(&b, CNT, 2, 5 << 10 | 1 << 13);
	assert_int_equal(b.poweroffs, 1);
	assert_int_equal(get(&b, CNT, 2), 5 << 10); /* SLP_EN reads as 0 */
	set(&b, CNT + 1, 1, 0x34);		    /* the same, as a byte */
	assert_int_equal(b.poweroffs, 2);
	set(&b, CNT, 1, 0x20); /* the other byte */
	assert_int_equal(b.poweroffs, 2);
	set(&b, STS, 8, UINT64_C(0x3400) << 32);
	assert_int_equal(b.poweroffs, 3);
	pm_fini(&b.pm);
}

static void power_button(void **unused)
{
	struct bench b;

	(void)unused;
	power_on(&b);
	pm_power_button(&b.pm);
	assert_int_equal(get(&b, STS, 2), 0x0100);
	assert_false(b.sci);
	set(&b, EN, 2, 0x0100);
	assert_false(b.sci); /* ACPI is not on yet */
	pm_apm_ops.write(&b.pm, 0, 1, 2);
	assert_true(b.sci);
	set(&b, STS, 2, 0x0001);
	assert_true(b.sci);
	set(&b, STS, 2, 0x0100);
	assert_false(b.sci);
	assert_int_equal(get(&b, STS, 2), 0);
	pm_power_button(&b.pm);
	assert_true(b.sci);
	set(&b, EN, 2, 0);
	assert_false(b.sci);
	set(&b, EN, 2, 0x0100);
	assert_true(b.sci);
	set(&b, CNT, 2, 0);
	assert_false(b.sci);
	pm_fini(&b.pm);
}

static void timer(void **unused)
{
	struct bench b;

	(void)unused;
	power_on(&b);
	assert_int_equal(get(&b, TMR, 4), 0);
	fake_time_pass(S);
	assert_int_equal(get(&b, TMR, 4), 3579545);
	assert_int_equal(get(&b, TMR, 2), 3579545 & 0xffff);
	assert_int_equal(get(&b, TMR + 2, 1), 3579545 >> 16);
	fake_time_pass(9 * S); /* it has 24 bits */
	assert_int_equal(get(&b, TMR, 4), 35795450 & 0xffffff);
	fake_time_pass(100 * 365 * 86400 * S);
	assert_int_equal(get(&b, TMR, 4),
			 (35795450 + 100 * 365 * UINT64_C(86400) * 3579545) & 0xffffff);
	pm_fini(&b.pm);
}

static void timer_overflow(void **unused)
{
	/* The top bit changes after 2^23 counts: 2.343484 s. */
	const uint64_t half_ns = (UINT64_C(1) << 23) * S / 3579545;
	struct bench b;

	(void)unused;
	power_on(&b);
	assert_true(fake_timer_deadline() == UINT64_MAX);
	fake_time_pass(half_ns);
	assert_int_equal(get(&b, STS, 2), 0);
	fake_time_pass(1);
	assert_int_equal(get(&b, TMR, 4), 0x800000);
	assert_int_equal(get(&b, STS, 2), 1); /* seen without a timer */
	set(&b, STS, 2, 1);
	assert_int_equal(get(&b, STS, 2), 0);

	set(&b, EN, 2, 1);
	set(&b, CNT, 2, 1);
	fake_time_pass(half_ns - 1);
	assert_false(b.sci);
	fake_time_pass(2);
	assert_true(b.sci);
	assert_int_equal(get(&b, TMR, 4), 0);
	assert_true(fake_timer_deadline() == UINT64_MAX); /* quiet until it is cleared */
	fake_time_pass(100 * S);
	set(&b, STS, 2, 1);
	assert_false(b.sci);
	assert_in_range(fake_timer_deadline() - fake_now_ns, 1, half_ns + 1);
	set(&b, EN, 2, 0);
	assert_true(fake_timer_deadline() == UINT64_MAX);
	pm_fini(&b.pm);
}

static void reset_control(void **unused)
{
	struct bench b;

	(void)unused;
	power_on(&b);
	pm_reset_ops.write(&b.pm, 0, 1, 0x02);
	assert_int_equal(b.resets, 0);
	assert_int_equal(pm_reset_ops.read(&b.pm, 0, 1), 0x02);
	pm_reset_ops.write(&b.pm, 0, 1, 0x06);
	assert_int_equal(b.resets, 1);
	pm_reset_ops.write(&b.pm, 0, 1, 0x0e); /* the bit has to rise */
	assert_int_equal(b.resets, 1);
	pm_reset_ops.write(&b.pm, 0, 1, 0x00);
	pm_reset_ops.write(&b.pm, 0, 1, 0x0f);
	assert_int_equal(b.resets, 2);
	assert_int_equal(pm_reset_ops.read(&b.pm, 0, 1), 0x0e);
	pm_fini(&b.pm);
}

static size_t save(struct bench *b, uint8_t *buf, size_t size)
{
	struct state s;

	state_save_init(&s, buf, size);
	pm_state(&b->pm, &s);
	assert_int_equal(s.error, 0);
	return s.pos;
}

static void state_round_trip(void **unused)
{
	uint8_t buf[256], again[256];
	struct bench b, other;
	struct state s;
	size_t len;

	(void)unused;
	power_on(&b);
	set(&b, EN, 2, 0x0101);
	set(&b, CNT, 2, 0x1401);
	set(&b, 0x28, 8, 0x1122334455667788);
	pm_apm_ops.write(&b.pm, 1, 1, 0x42);
	pm_reset_ops.write(&b.pm, 0, 1, 0x08);
	pm_power_button(&b.pm);
	fake_time_pass(2 * S);
	len = save(&b, buf, sizeof(buf));

	power_on(&other);
	fake_now_ns = 1; /* another host: its clock is behind the guest's */
	state_load_init(&s, buf, len);
	pm_state(&other.pm, &s);
	assert_int_equal(s.error, 0);
	assert_int_equal(s.pos, len);
	assert_false(other.sci);
	assert_int_equal(save(&other, again, sizeof(again)), len);
	assert_memory_equal(buf, again, len);
	other.sci = true;
	assert_int_equal(get(&other, TMR, 4), 2 * 3579545);
	assert_int_equal(get(&other, STS, 2), 0x0100);
	set(&other, STS, 2, 0x0100);
	assert_false(other.sci);
	fake_time_pass(S); /* the overflow is due on this host too */
	assert_true(other.sci);
	assert_int_equal(get(&other, STS, 2), 0x0001);
	assert_int_equal(pm_apm_ops.read(&other.pm, 1, 1), 0x42);
	assert_int_equal(pm_reset_ops.read(&other.pm, 0, 1), 0x08);
	pm_fini(&other.pm);
}

static void state_refusals(void **unused)
{
	static const struct {
		size_t offset;
		uint8_t value;
	} bad[] = {{0, 0x02}, {3, 0x80}, {5, 0x20},   {8, 1},
		   {0x60, 1}, {130, 1},	 {138, 0x80}, {146, 1}};
	uint8_t buf[256];
	struct bench b;
	struct state s;

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		size_t len;

		power_on(&b);
		len = save(&b, buf, sizeof(buf));
		assert_int_equal(len, 24 + 128 + 3 + 16);
		buf[24 + bad[i].offset] = bad[i].value;
		set(&b, 0x28, 1, 0x42);
		state_load_init(&s, buf, len);
		pm_state(&b.pm, &s);
		assert_int_equal(s.error, -EINVAL);
		assert_int_equal(get(&b, 0x28, 1), 0x42);
		pm_fini(&b.pm);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(registers),	  cmocka_unit_test(acpi_mode),
		cmocka_unit_test(sleeping),	  cmocka_unit_test(power_button),
		cmocka_unit_test(timer),	  cmocka_unit_test(timer_overflow),
		cmocka_unit_test(reset_control),  cmocka_unit_test(state_round_trip),
		cmocka_unit_test(state_refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
