/* Ticks and nanoseconds fit each other, however long the counter has run. */
#include "core/hw/rate.h"

#include "tests/unit.h"

#define DAY_NS UINT64_C(86400000000000)

static const uint64_t rates_khz[] = {1,	      14318,   999999,	1000000,
				     2600000, 2599998, 3400001, 10000000};

static void expect_first(struct rate r, uint64_t ns)
{
	uint64_t ticks = rate_ticks(r, ns);

	assert_true(rate_ns(r, ticks) >= ns);
	assert_true(ticks == 0 || rate_ns(r, ticks - 1) < ns);
}

static void a_deadline_is_the_first_tick(void **state)
{
	uint64_t random = 88172645463325252;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(rates_khz); i++) {
		struct rate r = rate_of(rates_khz[i]);

		for (uint64_t ns = 0; ns < 5000; ns++) {
			expect_first(r, ns);
			expect_first(r, 100 * DAY_NS + ns);
			expect_first(r, 10000 * DAY_NS + ns);
		}
		for (unsigned n = 0; n < 100000; n++) {
			random ^= random << 13;
			random ^= random >> 7;
			random ^= random << 17;
			expect_first(r, random % (20000 * DAY_NS));
		}
	}
}

static void time_is_right(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(rates_khz); i++) {
		uint64_t second = rate_ns(rate_of(rates_khz[i]), rates_khz[i] * 1000);

		assert_in_range(second, 999999990, 1000000000);
	}
}

static void what_never_comes(void **state)
{
	(void)state;
	for (uint64_t khz = 2000000; khz <= 16000000; khz += 12345) {
		uint64_t most = rate_ns(rate_of(khz), UINT64_MAX - 1);

		assert_true(rate_ticks(rate_of(khz), most / 64 * 63) < UINT64_MAX);
		assert_true(rate_ticks(rate_of(khz), most / 64 * 65) == UINT64_MAX);
	}
	assert_true(rate_ticks(rate_of(2600000), UINT64_MAX) == UINT64_MAX);
	/* As slow or fast as can be. */
	assert_true(rate_of(UINT64_MAX).mult == 1);
	assert_true(rate_ticks(rate_of(UINT64_MAX), 1) == UINT64_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_deadline_is_the_first_tick),
		cmocka_unit_test(time_is_right),
		cmocka_unit_test(what_never_comes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
