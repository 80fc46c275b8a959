#include "core/mem/page.h"

#include <string.h>

#include "core/hw/fake_hw.h"
#include "tests/unit.h"

#define MANY 4000

static int start(void **state)
{
	(void)state;
	fake_machine_start(64);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	fake_machine_stop();
	return 0;
}

static uint64_t sum_of_uses(void)
{
	uint64_t sum = 0;

	for (int i = 0; i < PAGE_USE_COUNT; i++) {
		sum += page_used((enum page_use)i);
	}
	return sum;
}

static void counts_all_ram(void **state)
{
	(void)state;
	/* Page 0 is left out, and the hole from 0x9f000 to 1 MiB. */
	assert_int_equal(page_total(), 64 * 256 - 1 - (0x100000 - 0x9f000) / 4096);
	assert_int_equal(sum_of_uses(), page_total());
}

static void pieces_are_aligned_and_apart(void **state)
{
	hpa_t pa[PAGE_ORDER_BLOCK + 2];

	(void)state;
	for (unsigned order = 0; order < ARRAY_SIZE(pa); order++) {
		pa[order] = page_alloc(order, PAGE_USE_OTHER);
		assert_false(page_is_none(pa[order]));
		assert_int_equal(pa[order].v % (PAGE_SIZE << order), 0);
		memset(phys_ptr(pa[order]), (int)order + 1, PAGE_SIZE << order);
	}
	for (unsigned order = 0; order < ARRAY_SIZE(pa); order++) {
		const uint8_t *p = phys_ptr(pa[order]);
		assert_int_equal(p[0], order + 1);
		assert_int_equal(p[(PAGE_SIZE << order) - 1], order + 1);
	}
	assert_int_equal(page_used(PAGE_USE_OTHER), (1U << ARRAY_SIZE(pa)) - 1);
	for (unsigned order = 0; order < ARRAY_SIZE(pa); order++) {
		page_free(pa[order], order);
	}
	assert_int_equal(page_used(PAGE_USE_OTHER), 0);
}

static void all_comes_back(void **state)
{
	static hpa_t pa[64 * 256];
	uint64_t free = page_used(PAGE_USE_FREE);
	size_t n = 0;

	(void)state;
	for (; n < ARRAY_SIZE(pa); n++) {
		pa[n] = page_alloc(0, PAGE_USE_USER);
		if (page_is_none(pa[n])) {
			break;
		}
		assert_in_range(pa[n].v, PAGE_SIZE, 64 * MIB - PAGE_SIZE);
		assert_not_in_range(pa[n].v, 0x9f000, 0xfffff);
		*(uint64_t *)phys_ptr(pa[n]) = n;
	}
	/* All but the records of split blocks: two pages in 512. */
	assert_true(n > free - free / 128);
	assert_true(page_is_none(page_alloc(PAGE_ORDER_BLOCK, PAGE_USE_USER)));
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(*(uint64_t *)phys_ptr(pa[i]), i);
	}
	/* In an order of no rule. */
	for (size_t i = 0; i < n; i++) {
		size_t k = (i * 7919) % n;
		if (pa[k].v != PAGE_NONE) {
			page_free(pa[k], 0);
			pa[k].v = PAGE_NONE;
		}
	}
	for (size_t i = 0; i < n; i++) {
		if (pa[i].v != PAGE_NONE) {
			page_free(pa[i], 0);
		}
	}
	page_drain_cpu();
	assert_int_equal(page_used(PAGE_USE_FREE), free);
	assert_int_equal(sum_of_uses(), page_total());
	/* Whole blocks again, and neighbours together. */
	hpa_t large = page_alloc(PAGE_ORDER_BLOCK + 4, PAGE_USE_USER);
	assert_false(page_is_none(large));
	page_free(large, PAGE_ORDER_BLOCK + 4);
}

static void zeroed_means_zeroed(void **state)
{
	(void)state;
	for (unsigned order = 0; order <= PAGE_ORDER_BLOCK; order += 3) {
		hpa_t pa = page_alloc(order, PAGE_USE_OTHER);
		memset(phys_ptr(pa), 0xa5, PAGE_SIZE << order);
		page_free(pa, order);
		pa = page_alloc_zero(order, PAGE_USE_OTHER);
		const uint8_t *p = phys_ptr(pa);
		for (size_t i = 0; i < PAGE_SIZE << order; i++) {
			assert_int_equal(p[i], 0);
		}
		page_free(pa, order);
	}
}

static void the_last_holder_frees(void **state)
{
	hpa_t small = page_alloc(0, PAGE_USE_USER);
	hpa_t large = page_alloc(PAGE_ORDER_BLOCK, PAGE_USE_USER);
	hpa_t inside = hpa(large.v + 5 * PAGE_SIZE + 7);

	(void)state;
	page_get(small);
	page_get(inside);
	assert_int_equal(page_refs(small), 2);
	assert_int_equal(page_refs(large), 2);
	page_put(small);
	page_put(large);
	assert_int_equal(page_used(PAGE_USE_USER), 513);
	page_put(small);
	page_put(inside);
	assert_int_equal(page_used(PAGE_USE_USER), 0);
}

static void large_pieces_end_block_by_block(void **state)
{
	hpa_t pa = page_alloc(PAGE_ORDER_BLOCK + 1, PAGE_USE_USER);

	(void)state;
	page_put(hpa(pa.v + HUGE_SIZE));
	assert_int_equal(page_used(PAGE_USE_USER), 512);
	page_put(pa);
	assert_int_equal(page_used(PAGE_USE_USER), 0);
}

static void mistakes_are_noticed(void **state)
{
	hpa_t pa = page_alloc(2, PAGE_USE_OTHER);

	(void)state;
	expect_assert_failure(page_free(pa, 1));
	expect_assert_failure(page_free(hpa(pa.v + PAGE_SIZE), 0));
	expect_assert_failure(page_get(pa)); /* order 2 has no count */
	expect_assert_failure(page_free(hpa(65 * MIB), 0));
	page_free(pa, 2);
	expect_assert_failure(page_free(pa, 2));
}

static void memory_of_start_up_is_released(void **state)
{
	uint64_t boot = page_used(PAGE_USE_BOOT);
	uint64_t free = page_used(PAGE_USE_FREE);

	(void)state;
	/* The records themselves, which nobody would do. Their block stays split. */
	page_release(2 * HUGE_SIZE, 1); /* no whole page */
	assert_int_equal(page_used(PAGE_USE_BOOT), boot);
	page_release(2 * HUGE_SIZE + PAGE_SIZE, PAGE_SIZE);
	assert_int_equal(page_used(PAGE_USE_BOOT), boot - 1);
	assert_int_equal(page_used(PAGE_USE_FREE), free + 1);
}

/* Any mix, against a plain record of who has what. */
static void random_use(void **state)
{
	static struct {
		hpa_t pa;
		unsigned order;
		bool taken;
	} piece[256];
	uint64_t seed = 12345;
	uint64_t expected = 0;

	(void)state;
	for (unsigned step = 0; step < MANY; step++) {
		seed = seed * 6364136223846793005 + 1442695040888963407;
		size_t i = seed >> 33 & 255;
		if (piece[i].taken) {
			uint8_t *p = phys_ptr(piece[i].pa);
			assert_int_equal(p[0], i & 255);
			assert_int_equal(p[(PAGE_SIZE << piece[i].order) - 1], i & 255);
			page_free(piece[i].pa, piece[i].order);
			expected -= 1U << piece[i].order;
			piece[i].taken = false;
			continue;
		}
		piece[i].order = (seed >> 50) % 11;
		piece[i].pa = page_alloc(piece[i].order, PAGE_USE_OTHER);
		piece[i].taken = !page_is_none(piece[i].pa);
		if (piece[i].taken) {
			uint8_t *p = phys_ptr(piece[i].pa);
			p[0] = p[(PAGE_SIZE << piece[i].order) - 1] = (uint8_t)i;
			expected += 1U << piece[i].order;
		}
		assert_int_equal(page_used(PAGE_USE_OTHER), expected);
		assert_int_equal(sum_of_uses(), page_total());
	}
	for (size_t i = 0; i < ARRAY_SIZE(piece); i++) {
		if (piece[i].taken) {
			page_free(piece[i].pa, piece[i].order);
			piece[i].taken = false;
		}
	}
	assert_int_equal(page_used(PAGE_USE_OTHER), 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, start, stop)
	const struct CMUnitTest tests[] = {
		TEST(counts_all_ram),
		TEST(pieces_are_aligned_and_apart),
		TEST(all_comes_back),
		TEST(zeroed_means_zeroed),
		TEST(the_last_holder_frees),
		TEST(large_pieces_end_block_by_block),
		TEST(mistakes_are_noticed),
		TEST(memory_of_start_up_is_released),
		TEST(random_use),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
