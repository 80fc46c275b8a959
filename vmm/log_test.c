#include "vmm/log.h"

#include <string.h>

#include "tests/capture.h"

static unsigned count_lines(const char *text)
{
	unsigned n = 0;

	while ((text = strchr(text, '\n')) != NULL) {
		text++;
		n++;
	}
	return n;
}

static void test_forms(void **state)
{
	struct capture cap;

	(void)state;
	log_init("web", false);
	capture_begin(&cap);
	log_error("no %s: %d", "disk", 7);
	log_warn("slow");
	log_info("done");
	assert_string_equal(capture_end(&cap),
			    "yado: no disk: 7\nyado: warning: slow\nyado: done\n");

	log_raw_terminal(true);
	capture_begin(&cap);
	log_info("done");
	assert_string_equal(capture_end(&cap), "yado: done\r\n");
	log_raw_terminal(false);

	log_init("web", true);
	capture_begin(&cap);
	log_warn("a \"b\"\\ \x1b[m\n");
	assert_string_equal(capture_end(&cap),
			    "{\"level\":\"warning\",\"vm\":\"web\","
			    "\"message\":\"a \\\"b\\\"\\\\ \\u001b[m\\u000a\"}\n");
	log_init(NULL, false);
}

/* However long a message is, it is one line that ends. */
static void test_long(void **state)
{
	static const bool forms[] = {false, true};
	struct capture cap;
	char text[3000];

	(void)state;
	memset(text, '\x01', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	for (unsigned i = 0; i < 2; i++) {
		log_init("web", forms[i]);
		capture_begin(&cap);
		log_info("%s", text);
		assert_int_equal(count_lines(capture_end(&cap)), 1);
	}
	log_init(NULL, false);
}

/* A guest cannot fill the host's log: 100 lines, and one that says so. */
static void test_guest_is_bounded(void **state)
{
	struct capture cap;

	(void)state;
	capture_begin(&cap);
	for (unsigned i = 0; i < 10000; i++) {
		log_guest("g");
	}
	const char *said = capture_end(&cap);
	assert_int_equal(count_lines(said), 101);
	assert_non_null(strstr(said, "further ones are not shown"));

	capture_begin(&cap);
	log_guest("g");
	assert_silent(&cap);
	/* Ours still come. */
	capture_begin(&cap);
	log_error("e");
	assert_string_equal(capture_end(&cap), "yado: e\n");
}

static void keep(void *ctx, const char *level, const char *text)
{
	char *line = ctx;

	snprintf(line, 64, "%s: %s", level, text);
}

static void test_sink(void **state)
{
	struct capture cap;
	char line[64] = "";

	(void)state;
	log_init("web", true);
	assert_null(log_set_sink((struct log_sink){keep, line}).fn);
	capture_begin(&cap);
	log_warn("%d \"discs\"", 7);
	assert_silent(&cap);
	assert_string_equal(line, "warning: 7 \"discs\"");
	assert_ptr_equal(log_set_sink((struct log_sink){0}).ctx, line);
	log_init(NULL, false);
	capture_begin(&cap);
	log_error("e");
	assert_string_equal(capture_end(&cap), "yado: e\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forms),
		cmocka_unit_test(test_long),
		cmocka_unit_test(test_guest_is_bounded),
		cmocka_unit_test(test_sink),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
