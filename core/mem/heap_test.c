#include "core/mem/heap.h"

#include <string.h>

#include "core/hw/fake_hw.h"
#include "core/mem/page.h"
#include "tests/unit.h"

static int start(void **state)
{
	(void)state;
	fake_machine_start(16);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	fake_machine_stop();
	return 0;
}

static void objects_are_zero_aligned_and_counted(void **state)
{
	static struct heap h;
	static uint8_t *object[200];

	(void)state;
	for (size_t bytes = 1; bytes <= HEAP_OBJECT_MAX; bytes = bytes * 2 + 1) {
		heap_init(&h, "test", bytes);
		for (size_t i = 0; i < ARRAY_SIZE(object); i++) {
			object[i] = heap_alloc(&h);
			assert_non_null(object[i]);
			assert_int_equal((uintptr_t)object[i] % 16, 0);
			for (size_t k = 0; k < bytes; k++) {
				assert_int_equal(object[i][k], 0);
			}
			memset(object[i], (int)i, bytes);
		}
		assert_int_equal(h.used, ARRAY_SIZE(object));
		for (size_t i = 0; i < ARRAY_SIZE(object); i++) {
			for (size_t k = 0; k < bytes; k++) {
				assert_int_equal(object[i][k], i);
			}
			heap_free(&h, object[i]);
		}
		assert_int_equal(h.used, 0);
		assert_int_equal(page_used(PAGE_USE_HEAP), 0);
		heap_stop();
	}
}

static void powers_of_two_are_aligned_to_themselves(void **state)
{
	static struct heap h;

	(void)state;
	for (size_t bytes = 16; bytes <= 512; bytes *= 2) {
		heap_init(&h, "test", bytes);
		void *object = heap_alloc(&h);
		assert_int_equal((uintptr_t)object % bytes, 0);
		heap_free(&h, object);
		heap_stop();
	}
}

static void a_foreign_object_is_noticed(void **state)
{
	static struct heap a, b;

	(void)state;
	heap_init(&a, "a", 64);
	heap_init(&b, "b", 64);
	void *object = heap_alloc(&a);
	expect_assert_failure(heap_free(&b, object));
	heap_free(NULL, NULL);
}

static void any_size_is_served(void **state)
{
	(void)state;
	for (size_t bytes = 1; bytes <= 5 * MIB; bytes = bytes * 3 + 1) {
		uint8_t *p = mem_alloc(bytes);
		assert_non_null(p);
		assert_int_equal((uintptr_t)p % 16, 0);
		assert_int_equal(p[0], 0);
		assert_int_equal(p[bytes - 1], 0);
		memset(p, 1, bytes);
		mem_free(p, bytes);
	}
	assert_null(mem_alloc(64 * MIB));
	assert_null(mem_alloc(SIZE_MAX));
	assert_int_equal(page_used(PAGE_USE_HEAP), 0);
}

static void without_memory_there_is_none(void **state)
{
	static struct heap h;
	void *first = NULL;
	void *p;

	(void)state;
	heap_init(&h, "test", 1008);
	while ((p = heap_alloc(&h)) != NULL) {
		*(void **)p = first;
		first = p;
	}
	assert_true(h.used > 3000);
	while (first != NULL) {
		p = first;
		first = *(void **)p;
		heap_free(&h, p);
	}
	assert_int_equal(page_used(PAGE_USE_HEAP), 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, start, stop)
	const struct CMUnitTest tests[] = {
		TEST(objects_are_zero_aligned_and_counted),
		TEST(powers_of_two_are_aligned_to_themselves),
		TEST(a_foreign_object_is_noticed),
		TEST(any_size_is_served),
		TEST(without_memory_there_is_none),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
