#include "cli/host/plain.h"

#include <string.h>

#include "tests/unit.h"

static void leaves(const char *text, const char *expected)
{
	struct plain p = {0};
	char got[128];
	size_t n = 0;

	for (; *text != '\0'; text++) {
		if (plain_feed(&p, (uint8_t)*text)) {
			got[n++] = *text;
		}
	}
	got[n] = '\0';
	assert_string_equal(got, expected);
}

static void text_stays(void **unused)
{
	(void)unused;
	leaves("a b\tc\r\n\xe5\xae\xbf\n", "a b\tc\n\xe5\xae\xbf\n");
	leaves("a\b\a\177\016b", "ab");
}

static void sequences_go(void **unused)
{
	(void)unused;
	leaves("\033[1;31mred\033[0m \033[2J\033[?25lx", "red x");
	leaves("\033]0;title\ay\033]0;t\033\\z", "yz");
	leaves("\033(Ba\033cb\033=c", "abc");
	leaves("\033Pq#0\033\\d", "d");
	/* Broken off. */
	leaves("\033[12\nnext", "\nnext");
	leaves("\033]title\nnext", "\nnext");
	leaves("\033\033[mx", "x");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_stays),
		cmocka_unit_test(sequences_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
