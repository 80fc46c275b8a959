#include "cli/host/history.h"

#include <string.h>

#include "tests/unit.h"

static void holds(const struct history *h, uint64_t at, const char *expected)
{
	char got[64];
	size_t n = history_read(h, &at, got, sizeof(got));

	assert_int_equal(n, strlen(expected));
	assert_memory_equal(got, expected, n);
	assert_int_equal(at, h->end);
}

static void lines(void **unused)
{
	struct history h;

	(void)unused;
	assert_int_equal(history_init(&h), 0);
	assert_true(history_is_at_line_start(&h));
	holds(&h, history_lines(&h, 5), "");
	history_add(&h, "\n", 1);
	holds(&h, history_lines(&h, 1), "\n");
	history_add(&h, "one\ntwo\n", 8);
	holds(&h, 0, "\none\ntwo\n");
	holds(&h, history_lines(&h, 0), "");
	holds(&h, history_lines(&h, 1), "two\n");
	holds(&h, history_lines(&h, 2), "one\ntwo\n");
	assert_true(history_is_at_line_start(&h));
	history_add(&h, "thr", 3);
	assert_false(history_is_at_line_start(&h));
	holds(&h, history_lines(&h, 1), "thr");
	holds(&h, history_lines(&h, 2), "two\nthr");
	holds(&h, history_lines(&h, 100), "\none\ntwo\nthr");
	history_fini(&h);
}

/* However much comes, in whatever pieces, the last HISTORY_SIZE bytes are there. */
static void is_bounded(void **unused)
{
	static uint8_t piece[HISTORY_SIZE + 777], got[HISTORY_SIZE];
	static const size_t sizes[] = {1, 4096, 65535, 65536, HISTORY_SIZE + 777, 0, 33};
	struct history h;
	uint64_t total = 0, at;

	(void)unused;
	assert_int_equal(history_init(&h), 0);
	for (unsigned round = 0; round < 70; round++) {
		size_t n = sizes[round % ARRAY_SIZE(sizes)];

		for (size_t i = 0; i < n; i++) {
			piece[i] = (uint8_t)((total + i) % 251);
		}
		history_add(&h, piece, n);
		total += n;
		assert_int_equal(h.end, total);
		at = 0;
		assert_int_equal(history_read(&h, &at, got, sizeof(got)),
				 MIN(total, (uint64_t)HISTORY_SIZE));
		for (size_t i = 0; i < MIN(total, (uint64_t)HISTORY_SIZE); i++) {
			assert_int_equal(got[i], (history_start(&h) + i) % 251);
		}
	}
	/* Places that are gone, or have not come yet. */
	at = 5;
	assert_int_equal(history_read(&h, &at, got, 1), 1);
	assert_int_equal(at, history_start(&h) + 1);
	at = total + 100;
	assert_int_equal(history_read(&h, &at, got, 1), 0);
	assert_int_equal(at, total);
	history_fini(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines),
		cmocka_unit_test(is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
