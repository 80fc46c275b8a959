#include "vmm/console/escape.h"

#include "tests/unit.h"

static void feed(struct escape *e, const char *bytes, enum escape_action last)
{
	for (; *bytes != '\0'; bytes++) {
		enum escape_action action = escape_feed(e, (uint8_t)*bytes);

		if (bytes[1] == '\0') {
			assert_int_equal(action, last);
		} else {
			assert_int_not_equal(action, ESCAPE_BYTE);
		}
	}
}

static void bytes_of_the_guest(void **unused)
{
	struct escape e = {0};

	(void)unused;
	for (unsigned i = 0; i < 256; i++) {
		if (i != ESCAPE_KEY) {
			assert_int_equal(escape_feed(&e, (uint8_t)i), ESCAPE_BYTE);
		}
	}
	feed(&e, "\x1d\x1d", ESCAPE_BYTE); /* the key itself */
	assert_int_equal(escape_feed(&e, 'q'), ESCAPE_BYTE);
}

static void commands(void **unused)
{
	struct escape e = {0};

	(void)unused;
	feed(&e, "\x1dq", ESCAPE_QUIT);
	feed(&e, "\x1d?", ESCAPE_HELP);
	feed(&e, "\x1dp", ESCAPE_PAUSE);
	feed(&e,
	     "\x1d"
	     "b",
	     ESCAPE_POWER);
	feed(&e, "\x1dx", ESCAPE_UNKNOWN);
	assert_int_equal(escape_feed(&e, 'x'), ESCAPE_BYTE);
}

static void the_balloon_takes_a_number(void **unused)
{
	struct escape e = {0};

	(void)unused;
	feed(&e, "\x1dm", ESCAPE_BALLOON_ASK);
	feed(&e, "1", ESCAPE_BALLOON_ECHO);
	feed(&e, "29", ESCAPE_BALLOON_ECHO);
	feed(&e, "\x7f", ESCAPE_BALLOON_ERASE);
	feed(&e, "8\r", ESCAPE_BALLOON_SET);
	assert_int_equal(e.number, 128);
	assert_int_equal(escape_feed(&e, '1'), ESCAPE_BYTE);

	feed(&e, "\x1dm0\n", ESCAPE_BALLOON_SET);
	assert_int_equal(e.number, 0);

	feed(&e, "\x1dm12345678901234567890\r", ESCAPE_BALLOON_SET);
	assert_int_equal(e.number, 1234567); /* further digits are not taken, nor shown */

	feed(&e, "\x1dm\r", ESCAPE_CANCELLED);
	feed(&e, "\x1dm12\x1b", ESCAPE_CANCELLED);
	feed(&e, "\x1dm\x7f", ESCAPE_CANCELLED);
	assert_int_equal(escape_feed(&e, '\r'), ESCAPE_BYTE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_of_the_guest),
		cmocka_unit_test(commands),
		cmocka_unit_test(the_balloon_takes_a_number),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
