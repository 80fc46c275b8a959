#include "cli/host/line.h"

#include <string.h>

#include "tests/unit.h"

/* Types all of @bytes. Return: what the last one did. */
static enum line_action type(struct line *l, const char *bytes)
{
	enum line_action action = LINE_NOTHING;

	for (; *bytes != '\0'; bytes++) {
		action = line_feed(l, (uint8_t)*bytes);
	}
	return action;
}

static void plain(void **unused)
{
	struct line l = {0};

	(void)unused;
	assert_int_equal(type(&l, "list"), LINE_ECHO);
	assert_int_equal(type(&l, "\r"), LINE_DONE);
	assert_string_equal(l.text, "list");
	/* CR LF is one Return; the next line starts empty. */
	assert_int_equal(type(&l, "\n"), LINE_NOTHING);
	assert_int_equal(type(&l, "x\n"), LINE_DONE);
	assert_string_equal(l.text, "x");
	assert_int_equal(type(&l, "\n"), LINE_DONE);
	assert_string_equal(l.text, "");
}

static void editing(void **unused)
{
	struct line l = {0};

	(void)unused;
	assert_int_equal(type(&l, "\b"), LINE_NOTHING);
	assert_int_equal(type(&l, "ab\177"), LINE_ERASE);
	assert_int_equal(l.erased, 1);
	assert_string_equal(l.text, "a");
	assert_int_equal(type(&l, "stop web  \027"), LINE_ERASE);
	assert_int_equal(l.erased, 5);
	assert_string_equal(l.text, "astop ");
	assert_int_equal(type(&l, "\025"), LINE_ERASE);
	assert_int_equal(l.erased, 6);
	assert_string_equal(l.text, "");
	assert_int_equal(type(&l, "\025"), LINE_NOTHING);
	assert_int_equal(type(&l, "poweroff\003"), LINE_CANCEL);
	assert_int_equal(type(&l, "a\tb\r"), LINE_DONE);
	assert_string_equal(l.text, "a b");
}

static void refuses(void **unused)
{
	struct line l = {0};

	(void)unused;
	assert_int_equal(type(&l, "\001"), LINE_REFUSE);
	assert_int_equal(type(&l, "\303"), LINE_REFUSE);
	for (unsigned i = 0; i < LINE_SIZE - 1; i++) {
		assert_int_equal(line_feed(&l, 'a'), LINE_ECHO);
	}
	assert_int_equal(line_feed(&l, 'b'), LINE_REFUSE);
	assert_int_equal(type(&l, "\r"), LINE_DONE);
	assert_int_equal(strlen(l.text), LINE_SIZE - 1);
}

static void escape_sequences(void **unused)
{
	struct line l = {0};

	(void)unused;
	assert_int_equal(type(&l, "a\033[A\033[1;5C\033OPb\033xc"), LINE_ECHO);
	assert_string_equal(l.text, "abc");
	/* One that is broken off does not eat what ends a line. */
	assert_int_equal(type(&l, "\033[12\r"), LINE_DONE);
	assert_string_equal(l.text, "abc");
	assert_int_equal(type(&l, "d\033\r"), LINE_DONE);
	assert_string_equal(l.text, "d");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain),
		cmocka_unit_test(editing),
		cmocka_unit_test(refuses),
		cmocka_unit_test(escape_sequences),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
