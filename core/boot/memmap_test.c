#include "core/boot/memmap.h"

#include <string.h>

#include "tests/unit.h"

#define UNITS 400

static void ranges_become_one(void **state)
{
	struct memmap m = {0};

	(void)state;
	memmap_add(&m, 0x3000, 0x1000);
	memmap_add(&m, 0x1000, 0x1000);
	assert_int_equal(m.n, 2);
	memmap_add(&m, 0x2000, 0x1000);
	assert_int_equal(m.n, 1);
	assert_int_equal(m.range[0].base, 0x1000);
	assert_int_equal(m.range[0].len, 0x3000);
	memmap_remove(&m, 0x1800, 0x1000);
	assert_int_equal(m.n, 2);
	assert_int_equal(memmap_bytes(&m), 0x2000);
	memmap_align(&m);
	assert_int_equal(m.n, 1);
	assert_int_equal(m.range[0].base, 0x3000);
}

static void nonsense_is_cut(void **state)
{
	struct memmap m = {0};

	(void)state;
	memmap_add(&m, UINT64_MAX - 100, UINT64_MAX);
	assert_int_equal(m.range[0].len, 100);
	memmap_add(&m, 0x5000, 0);
	assert_int_equal(m.n, 1);
	memmap_align(&m);
	assert_int_equal(m.n, 0);
	memmap_add(&m, 0x1000, 0x1000);
	memmap_remove(&m, 0, UINT64_MAX);
	assert_int_equal(m.n, 0);
}

static void a_full_map_says_so(void **state)
{
	struct memmap m = {0};

	(void)state;
	for (uint64_t i = 0; i < MEMMAP_MAX; i++) {
		memmap_add(&m, i * 0x2000, 0x1000);
	}
	assert_false(m.is_full);
	memmap_add(&m, 1, 1); /* within */
	assert_false(m.is_full);
	memmap_remove(&m, 0x100, 0x100);
	assert_true(m.is_full);
}

static void limits_and_places(void **state)
{
	struct memmap m = {0};

	(void)state;
	memmap_add(&m, 0x1000, 0x4000);
	memmap_add(&m, 0x100000, 0x100000);
	assert_int_equal(memmap_find(&m, 0x4000, 0x1000, 0, UINT64_MAX), 0x1000);
	assert_int_equal(memmap_find(&m, 0x4001, 0x1000, 0, UINT64_MAX), 0x100000);
	assert_int_equal(memmap_find(&m, 0x1000, 0x40000, 0x100001, UINT64_MAX), 0x140000);
	assert_int_equal(memmap_find(&m, 0x1000, 0x1000, 0x1fffff, UINT64_MAX), PAGE_NONE);
	assert_int_equal(memmap_find(&m, 0x5000, 0x1000, 0, 0x102000), PAGE_NONE);
	assert_true(memmap_has(&m, 0x1000, 0x4000));
	assert_false(memmap_has(&m, 0x1000, 0x4001));
	assert_false(memmap_has(&m, UINT64_MAX, 2));
	memmap_limit(&m, 0x5000);
	assert_int_equal(memmap_bytes(&m), 0x5000);
	assert_int_equal(m.range[1].len, 0x1000);
	memmap_limit(&m, 0);
	assert_int_equal(m.n, 0);
}

/* Against an array of what is in. */
static void any_order(void **state)
{
	uint8_t in[UNITS] = {0};
	struct memmap m = {0};
	uint64_t seed = 7;

	(void)state;
	for (unsigned step = 0; step < 3000; step++) {
		seed = seed * 6364136223846793005 + 1442695040888963407;
		uint64_t base = (seed >> 20) % UNITS;
		uint64_t len = (seed >> 40) % 40;
		len = MIN(len, UNITS - base);
		if ((seed >> 60) < 8) {
			memmap_add(&m, base, len);
			memset(in + base, 1, len);
		} else {
			memmap_remove(&m, base, len);
			memset(in + base, 0, len);
		}
		uint64_t sum = 0;
		for (uint64_t i = 0; i < UNITS; i++) {
			assert_int_equal(memmap_has(&m, i, 1), in[i]);
			sum += in[i];
		}
		assert_int_equal(memmap_bytes(&m), sum);
		for (size_t i = 1; i < m.n; i++) {
			assert_true(m.range[i - 1].base + m.range[i - 1].len < m.range[i].base);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranges_become_one),  cmocka_unit_test(nonsense_is_cut),
		cmocka_unit_test(a_full_map_says_so), cmocka_unit_test(limits_and_places),
		cmocka_unit_test(any_order),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
