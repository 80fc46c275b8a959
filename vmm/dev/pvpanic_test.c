#include "vmm/dev/pvpanic.h"

#include "tests/unit.h"

static void event(void *ctx, uint8_t events)
{
	unsigned *seen = ctx;

	*seen = *seen << 4 | events;
}

static void events(void **unused)
{
	unsigned seen = 0;
	struct pvpanic p = {.event = event, .ctx = &seen};

	(void)unused;
	assert_int_equal(pvpanic_ops.read(&p, 0, 1), 0x03);
	pvpanic_ops.write(&p, 0, 1, 0x00);
	pvpanic_ops.write(&p, 0, 1, 0xfc); /* events that nobody has defined */
	assert_int_equal(seen, 0);
	pvpanic_ops.write(&p, 0, 1, 0x01);
	pvpanic_ops.write(&p, 0, 1, 0xfe);
	assert_int_equal(seen, 0x12);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(events),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
