#include "cli/host/keys.h"

#include "tests/unit.h"

/* What each byte of @typed does, in the order of enum keys_action, as digits. */
static void does(const char *typed, const char *expected)
{
	struct keys k = {0};

	for (size_t i = 0; expected[i] != '\0'; i++) {
		assert_int_equal(keys_feed(&k, (uint8_t)typed[i]), expected[i] - '0');
	}
}

static void plain_bytes_pass(void **unused)
{
	struct keys k = {0};

	(void)unused;
	for (unsigned byte = 0; byte < 256; byte++) {
		if (byte != KEYS_ESCAPE) {
			assert_int_equal(keys_feed(&k, (uint8_t)byte), KEYS_BYTE);
		}
	}
}

static void commands(void **unused)
{
	(void)unused;
	does("a\035nb", "0120");
	does("\0350n", "130");
	does("\035?\035h0", "14140");
	does("\035x0", "150");
	/* After a command the same letters are the guest's. */
	does("\035nn0?", "12000");
}

static void literal(void **unused)
{
	(void)unused;
	does("\035\035n", "100");
	does("\035\035\035n", "1012");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_bytes_pass),
		cmocka_unit_test(commands),
		cmocka_unit_test(literal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
