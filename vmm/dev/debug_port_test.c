#include "vmm/dev/debug_port.h"

#include <errno.h>
#include <string.h>

#include "tests/state_rig.h"
#include "tests/unit.h"
#include "vmm/dev/fake_loop.h"

struct sink {
	struct char_backend be;
	struct debug_port port;
	size_t limit, len;
	char got[2 * CHAR_QUEUE_SIZE];
};

static size_t sink_write(struct char_backend *be, const uint8_t *buf, size_t n)
{
	struct sink *k = container_of(be, struct sink, be);

	n = MIN(n, k->limit);
	memcpy(k->got + k->len, buf, n);
	k->len += n;
	k->limit -= n;
	return n;
}

static void sink_ready(struct char_backend *be)
{
	(void)be;
	fail_msg("a port without input asks for it");
}

static const struct char_backend_ops sink_ops = {sink_write, sink_ready};

static struct sink *create(void)
{
	struct sink *k = test_calloc(1, sizeof(*k));

	fake_loop_reset(0, 0);
	k->be.ops = &sink_ops;
	k->limit = SIZE_MAX;
	assert_int_equal(debug_port_init(&k->port, NULL, &k->be), 0);
	return k;
}

static void destroy(struct sink *k)
{
	debug_port_fini(&k->port);
	test_free(k);
}

static void say(struct sink *k, const char *text)
{
	for (; *text != 0; text++) {
		debug_port_ops.write(&k->port, 0, 1, (uint8_t)*text);
	}
}

static void output(void **unused)
{
	struct sink *k = create();

	(void)unused;
	assert_int_equal(debug_port_ops.read(&k->port, 0, 1), 0xe9);
	say(k, "SeaBIOS");
	fake_loop_run();
	assert_int_equal(k->len, 7);
	assert_memory_equal(k->got, "SeaBIOS", 7);
	assert_int_equal(k->be.input(k->be.user, (const uint8_t *)"abc", 3), 3);

	/* A sink that is stuck costs bytes and no more, and goes on where it stopped. */
	k->limit = 2;
	say(k, "1234");
	fake_loop_run();
	for (unsigned i = 0; i < CHAR_QUEUE_SIZE + 10; i++) {
		say(k, "x");
	}
	k->limit = SIZE_MAX;
	k->be.writable(k->be.user);
	assert_int_equal(k->len, 7 + 2 + CHAR_QUEUE_SIZE);
	assert_memory_equal(k->got + 7, "1234xx", 6);
	destroy(k);
}

static void nobody_listens(void **unused)
{
	struct debug_port *port = test_calloc(1, sizeof(*port));

	(void)unused;
	fake_loop_reset(0, 0);
	assert_int_equal(debug_port_init(port, NULL, NULL), 0);
	debug_port_ops.write(port, 0, 1, 'x');
	assert_int_equal(fake_loop_run(), 0);
	debug_port_fini(port);
	test_free(port);
	debug_post_ops.write(NULL, 0, 1, 0x55);
	assert_int_equal(debug_post_ops.read(NULL, 0, 1) & 0xff, 0xff);
}

static void state(void **unused)
{
	uint8_t buf[256];
	struct sink *k = create();
	size_t len;

	(void)unused;
	k->limit = 0;
	say(k, "last words");
	fake_loop_run();
	len = state_saved(debug_port_state, &k->port, buf, sizeof(buf));
	destroy(k);

	k = create();
	assert_int_equal(state_loaded(debug_port_state, &k->port, buf, len), 0);
	fake_loop_run();
	assert_int_equal(k->len, 10);
	assert_memory_equal(k->got, "last words", 10);

	assert_short_refused(debug_port_state, &k->port, buf, len);
	buf[24 + 24 + 1] = 0x41; /* more bytes than a queue holds */
	assert_int_equal(state_loaded(debug_port_state, &k->port, buf, len), -EINVAL);
	destroy(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(output),
		cmocka_unit_test(nobody_listens),
		cmocka_unit_test(state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
