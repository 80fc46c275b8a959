/* Rates are found right on a machine that stands still at the worst of times. */
#include "core/hw/calibrate.h"

#include "core/hw/asm.h"
#include "core/hw/local_apic.h"
#include "tests/unit.h"

#define TSC_KHZ	  UINT64_C(2600000)
#define LAPIC_KHZ UINT64_C(1000000)
#define TIMER_HZ  UINT64_C(1193182)
#define WRAPS	  UINT64_C(65536)
#define READ_NS	  1000

/* Time passes by being looked at, and by standing still before the n-th look of all. */
static struct {
	uint64_t now_ns, started_ns, looks;
	uint64_t still_at, still_ns;
	uint64_t lapic_khz;
	bool dead; /* the timer does not count */
	unsigned starts;
} machine;

static void pass(uint64_t ns)
{
	if (++machine.looks == machine.still_at) {
		machine.now_ns += machine.still_ns;
	}
	machine.now_ns += ns;
}

uint64_t asm_rdtsc(void)
{
	pass(10);
	return machine.now_ns * TSC_KHZ / 1000000;
}

void local_apic_timer_divide(unsigned by)
{
	(void)by;
}

void local_apic_timer_mask(void)
{
}

void local_apic_timer_set(unsigned vector, uint32_t count)
{
	(void)vector;
	(void)count;
}

uint32_t local_apic_timer_count(void)
{
	pass(READ_NS);
	return (uint32_t)(UINT32_MAX - machine.now_ns * machine.lapic_khz / 1000000);
}

static uint64_t counted(void)
{
	return machine.dead ? 0 : (machine.now_ns - machine.started_ns) * TIMER_HZ / 1000000000;
}

static void start(void)
{
	machine.started_ns = machine.now_ns;
	machine.starts++;
}

static uint64_t read(void)
{
	pass(READ_NS);
	return counted() % WRAPS;
}

static bool wrapped(void)
{
	return counted() >= WRAPS;
}

static const struct reference timer = {
	.name = "a PIT",
	.hz = TIMER_HZ,
	.wraps = WRAPS,
	.ns = 20000000,
	.start = start,
	.read = read,
	.wrapped = wrapped,
};

static uint64_t lapic_mult(void)
{
	return (machine.lapic_khz << 32) / 1000000 / LOCAL_APIC_DIVIDE;
}

static void expect_right(uint64_t still_at, uint64_t still_ns)
{
	struct calibration found = {0};

	machine = (typeof(machine)){
		.lapic_khz = LAPIC_KHZ, .still_at = still_at, .still_ns = still_ns};
	assert_true(calibrate(&timer, &found));
	assert_in_range(found.tsc_khz, TSC_KHZ - TSC_KHZ / 5000, TSC_KHZ + TSC_KHZ / 5000);
	assert_in_range(found.lapic_mult, lapic_mult() - lapic_mult() / 5000,
			lapic_mult() + lapic_mult() / 5000);
}

static void right_where_all_runs(void **state)
{
	(void)state;
	expect_right(0, 0);
	assert_int_equal(machine.starts, 1);
}

/* A timer that fires before its time has to be set again. */
static void never_early(void **state)
{
	struct calibration found;

	(void)state;
	for (uint64_t khz = 25000; khz < LAPIC_KHZ; khz += 7919) {
		machine = (typeof(machine)){.lapic_khz = khz};
		assert_true(calibrate(&timer, &found));
		/* In a nanosecond by the TSC as it was found. */
		uint64_t mult = lapic_mult() * found.tsc_khz / TSC_KHZ;

		assert_in_range(found.lapic_mult, mult, mult + mult / 100000);
	}
}

/* Between any two looks; 75 ms are as long as 20 by a timer that wraps after 55. */
static void right_where_it_stands_still(void **state)
{
	static const uint64_t still_ns[] = {1000000,  19000000, 40000000,
					    54925000, 75000000, 200000000};

	(void)state;
	expect_right(0, 0);
	uint64_t looks = machine.looks;
	assert_true(looks > 1000);
	for (unsigned i = 0; i < ARRAY_SIZE(still_ns); i++) {
		for (uint64_t at = 1; at <= looks;
		     at = at < 100 || at + 100 > looks ? at + 1 : at + 97) {
			expect_right(at, still_ns[i]);
		}
	}
}

static void a_timer_that_does_not_count(void **state)
{
	struct calibration found;

	(void)state;
	machine = (typeof(machine)){.dead = true};
	assert_false(calibrate(&timer, &found));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(right_where_all_runs),
		cmocka_unit_test(never_early),
		cmocka_unit_test(right_where_it_stands_still),
		cmocka_unit_test(a_timer_that_does_not_count),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
