#include "vmm/dev/char_log.h"

#include <string.h>

#include "tests/capture.h"
#include "tests/unit.h"

static void write_text(struct char_log *log, const char *text)
{
	size_t n = strlen(text);

	assert_int_equal(log->be.ops->write(&log->be, (const uint8_t *)text, n), n);
}

static void says_whole_lines(void **unused)
{
	struct char_log log;
	struct capture said;

	(void)unused;
	char_log_init(&log, "port");
	capture_begin(&said);
	write_text(&log, "he\033l");
	write_text(&log, "lo\n\nhalf");
	capture_end(&said);
	assert_string_equal(said.text, "yado: port: hello\n");
	capture_begin(&said);
	write_text(&log, " a line\n");
	capture_end(&said);
	assert_string_equal(said.text, "yado: port: half a line\n");
}

static void cuts_long_lines(void **unused)
{
	struct char_log log;
	struct capture said;
	char text[CHAR_LOG_LINE + 2];

	(void)unused;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	char_log_init(&log, "port");
	capture_begin(&said);
	write_text(&log, text);
	capture_end(&said);
	assert_int_equal(strlen(said.text), strlen("yado: port: \n") + CHAR_LOG_LINE);
	assert_int_equal(log.len, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(says_whole_lines),
		cmocka_unit_test(cuts_long_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
