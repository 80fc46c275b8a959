#include "lib/base/state.h"

#include <errno.h>
#include <string.h>

#include "tests/unit.h"

struct thing {
	uint8_t a;
	uint16_t b;
	uint32_t c;
	uint64_t d;
	bool e;
	char f[5];
};

static void thing_state(struct thing *t, struct state *s, uint32_t version)
{
	state_begin(s, "thing", version);
	state_u8(s, &t->a);
	state_u16(s, &t->b);
	state_begin(s, "inner", 1);
	state_u32(s, &t->c);
	state_end(s);
	state_u64(s, &t->d);
	state_bool(s, &t->e);
	state_bytes(s, t->f, sizeof(t->f));
	state_end(s);
}

static const struct thing sample = {1, 0x203, 0x4050607, 0x8090a0b0c0d0e0f, true, "word"};

static size_t save_sample(uint8_t *buf, size_t size)
{
	struct thing t = sample;
	struct state s;

	state_save_init(&s, buf, size);
	thing_state(&t, &s, 2);
	assert_int_equal(s.error, 0);
	return s.pos;
}

static void round_trip(void **unused)
{
	uint8_t buf[128];
	struct thing t = {0};
	struct state s;
	size_t len = save_sample(buf, sizeof(buf));

	(void)unused;
	state_load_init(&s, buf, len);
	thing_state(&t, &s, 2);
	assert_int_equal(s.error, 0);
	assert_int_equal(s.pos, len);
	assert_int_equal(t.a, sample.a);
	assert_int_equal(t.b, sample.b);
	assert_int_equal(t.c, sample.c);
	assert_int_equal(t.d, sample.d);
	assert_true(t.e);
	assert_string_equal(t.f, "word");
}

/* Every truncation of a stream is refused, and never read past. */
static void truncated(void **unused)
{
	uint8_t buf[128];
	size_t len = save_sample(buf, sizeof(buf));

	(void)unused;
	for (size_t n = 0; n < len; n++) {
		uint8_t *exact = test_malloc(n + 1);
		struct thing t = {0};
		struct state s;

		memcpy(exact, buf, n);
		state_load_init(&s, exact, n);
		thing_state(&t, &s, 2);
		assert_int_equal(s.error, -EINVAL);
		test_free(exact);
	}
}

static void no_space(void **unused)
{
	uint8_t buf[128];
	size_t len = save_sample(buf, sizeof(buf));

	(void)unused;
	for (size_t n = 0; n < len; n++) {
		struct thing t = sample;
		struct state s;

		state_save_init(&s, buf, n);
		thing_state(&t, &s, 2);
		assert_int_equal(s.error, -ENOSPC);
	}
}

static void refuses(void **unused)
{
	uint8_t buf[128];
	struct thing t = {0};
	struct state s;
	size_t len = save_sample(buf, sizeof(buf));

	(void)unused;
	/* A newer version than the code knows. */
	state_load_init(&s, buf, len);
	thing_state(&t, &s, 1);
	assert_int_equal(s.error, -ENOTSUP);
	assert_int_equal(t.a, 0);

	/* Another device's section. */
	buf[0] ^= 1;
	state_load_init(&s, buf, len);
	thing_state(&t, &s, 2);
	assert_int_equal(s.error, -EINVAL);
	buf[0] ^= 1;

	/* A section longer than its fields. */
	buf[20]++;
	state_load_init(&s, buf, len + 1);
	thing_state(&t, &s, 2);
	assert_int_equal(s.error, -EINVAL);
	buf[20]--;

	/* A boolean that is none. */
	buf[len - 6] = 2;
	state_load_init(&s, buf, len);
	thing_state(&t, &s, 2);
	assert_int_equal(s.error, -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip),
		cmocka_unit_test(truncated),
		cmocka_unit_test(no_space),
		cmocka_unit_test(refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
