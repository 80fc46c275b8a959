#include "vmm/dev/debug_port.h"

#include <errno.h>
#include <string.h>

#include "tests/capture.h"
#include "tests/unit.h"

static void write_text(struct debug_port *port, const char *text)
{
	for (; *text != '\0'; text++) {
		debug_port_ops.write(port, 0, 1, (uint8_t)*text);
	}
}

static void says_lines(void **unused)
{
	struct debug_port port;
	struct capture said;

	(void)unused;
	debug_port_init(&port);
	assert_int_equal(debug_port_ops.read(&port, 0, 1), 0xe9);
	capture_begin(&said);
	write_text(&port, "hel\033lo\n\nhalf");
	capture_end(&said);
	assert_non_null(strstr(said.text, "debug port: hello\n"));
	assert_null(strstr(said.text, "half"));
	debug_port_fini(&port);
}

static void state_keeps_the_half_line(void **unused)
{
	struct debug_port a, b;
	struct state s;
	uint8_t buf[256];
	struct capture said;

	(void)unused;
	debug_port_init(&a);
	debug_port_init(&b);
	write_text(&a, "half");
	state_save_init(&s, buf, sizeof(buf));
	debug_port_state(&a, &s);
	assert_int_equal(s.error, 0);

	size_t len = s.pos;
	state_load_init(&s, buf, len);
	debug_port_state(&b, &s);
	assert_int_equal(s.error, 0);
	capture_begin(&said);
	write_text(&b, " and half\n");
	capture_end(&said);
	assert_non_null(strstr(said.text, "debug port: half and half\n"));

	buf[len - 1] = 033; /* the last byte of the line */
	state_load_init(&s, buf, len);
	debug_port_state(&b, &s);
	assert_int_equal(s.error, -EINVAL);
	buf[24] = 255; /* its length */
	state_load_init(&s, buf, len);
	debug_port_state(&b, &s);
	assert_int_equal(s.error, -EINVAL);
	debug_port_fini(&a);
	debug_port_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(says_lines),
		cmocka_unit_test(state_keeps_the_half_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
