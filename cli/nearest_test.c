#include "cli/nearest.h"

#include <string.h>

#include "tests/unit.h"

static void distances(void **unused)
{
	(void)unused;
	assert_int_equal(edit_distance("", ""), 0);
	assert_int_equal(edit_distance("", "abc"), 3);
	assert_int_equal(edit_distance("abc", ""), 3);
	assert_int_equal(edit_distance("memory", "memory"), 0);
	assert_int_equal(edit_distance("memroy", "memory"), 1);
	assert_int_equal(edit_distance("memry", "memory"), 1);
	assert_int_equal(edit_distance("memoryy", "memory"), 1);
	assert_int_equal(edit_distance("kitten", "sitting"), 3);
	assert_int_equal(edit_distance("ab", "ba"), 1);
}

static void long_words_count_to_their_limit(void **unused)
{
	char a[300], b[300];

	(void)unused;
	memset(a, 'a', sizeof(a) - 1);
	memset(b, 'b', sizeof(b) - 1);
	a[sizeof(a) - 1] = b[sizeof(b) - 1] = '\0';
	assert_int_equal(edit_distance(a, b), NEAREST_WORD_MAX);
	assert_int_equal(edit_distance(a, a), 0);
}

static void the_nearest_wins(void **unused)
{
	struct nearest near = {.word = "memroy"};
	char hint[64];

	(void)unused;
	assert_string_equal(nearest_hint(&near, hint, sizeof(hint)), "");
	nearest_offer(&near, "kernel");
	nearest_offer(&near, "memory");
	nearest_offer(&near, "name");
	assert_string_equal(nearest_hint(&near, hint, sizeof(hint)), "; did you mean \"memory\"?");
}

static void hostile_words_are_made_harmless(void **unused)
{
	char buf[12];

	(void)unused;
	assert_string_equal(printable("a\033[31m\xff", buf, sizeof(buf)), "a?[31m?");
	assert_string_equal(printable("0123456789abcdef", buf, sizeof(buf)), "01234567...");
	assert_string_equal(printable("", buf, sizeof(buf)), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(distances),
		cmocka_unit_test(long_words_count_to_their_limit),
		cmocka_unit_test(the_nearest_wins),
		cmocka_unit_test(hostile_words_are_made_harmless),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
