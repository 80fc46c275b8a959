#include "vmm/dev/i8042.h"

#include <errno.h>

#include "tests/state_rig.h"
#include "tests/unit.h"

struct bench {
	struct i8042 k;
	bool irq;
	unsigned resets;
};

static void irq_set(void *ctx, unsigned pin, bool level)
{
	struct bench *b = ctx;

	assert_int_equal(pin, 1);
	assert_int_not_equal(b->irq, level);
	b->irq = level;
}

static void reset(void *ctx)
{
	struct bench *b = ctx;

	/* Called without the lock: the machine may look at its devices. */
	assert_int_equal(i8042_command_ops.read(&b->k, 0, 1) & 0x10, 0x10);
	b->resets++;
}

static void power_on(struct bench *b)
{
	b->irq = false;
	b->resets = 0;
	i8042_init(&b->k, (struct irq_line){.set = irq_set, .ctx = b, .pin = 1}, reset, b);
}

static uint8_t status(struct bench *b)
{
	return (uint8_t)i8042_command_ops.read(&b->k, 0, 1);
}

static void command(struct bench *b, uint8_t value)
{
	i8042_command_ops.write(&b->k, 0, 1, value);
}

static void data(struct bench *b, uint8_t value)
{
	i8042_data_ops.write(&b->k, 0, 1, value);
}

/* The answer, which must be there already. */
static uint8_t answer(struct bench *b)
{
	assert_int_equal(status(b) & 0x01, 0x01);
	uint8_t value = (uint8_t)i8042_data_ops.read(&b->k, 0, 1);
	assert_int_equal(status(b) & 0x01, 0);
	assert_false(b->irq);
	return value;
}

/* What Linux does: every step has to be answered at once, or it waits half a second. */
static void probe(void **unused)
{
	struct bench b;

	(void)unused;
	power_on(&b);
	assert_int_equal(status(&b), 0x14);
	command(&b, 0x20);
	assert_int_equal(status(&b), 0x1d);
	assert_true(b.irq);
	assert_int_equal(answer(&b), 0x65);
	command(&b, 0x60);
	data(&b, 0x64); /* interrupts off */
	assert_int_equal(status(&b), 0x14);
	command(&b, 0x20);
	assert_false(b.irq);
	assert_int_equal(answer(&b), 0x64);

	/* The auxiliary loop comes back, but not from an auxiliary port; nor is one found. */
	command(&b, 0xd3);
	data(&b, 0x5a);
	assert_int_equal(status(&b) & 0x21, 0x01);
	assert_int_equal(answer(&b), 0x5a);
	command(&b, 0xa9);
	assert_int_equal(answer(&b), 0x01);

	command(&b, 0xaa);
	assert_int_equal(answer(&b), 0x55);
	command(&b, 0xab);
	assert_int_equal(answer(&b), 0x00);
	command(&b, 0xad);
	command(&b, 0x20);
	assert_int_equal(answer(&b), 0x74);
	command(&b, 0xae);
	command(&b, 0x20);
	assert_int_equal(answer(&b), 0x64);

	command(&b, 0x60);
	data(&b, 0xff);
	command(&b, 0x20);
	assert_true(b.irq);
	assert_int_equal(answer(&b), 0x77);
	i8042_fini(&b.k);
}

static void no_devices(void **unused)
{
	struct bench b;

	(void)unused;
	power_on(&b);
	command(&b, 0xad);
	data(&b, 0xf2); /* "identify" */
	assert_true(b.irq);
	assert_int_equal(status(&b), 0x55);
	assert_int_equal(answer(&b), 0xfe);
	assert_int_equal(status(&b), 0x14);
	command(&b, 0x20);
	assert_int_equal(answer(&b), 0x65); /* the keyboard was enabled by it */
	command(&b, 0xd4);
	data(&b, 0xff);
	assert_int_equal(status(&b) & 0x60, 0x40);
	assert_int_equal(answer(&b), 0xfe);
	command(&b, 0xd2);
	data(&b, 0x1e);
	assert_true(b.irq);
	assert_int_equal(answer(&b), 0x1e);
	command(&b, 0xc0);
	assert_int_equal(answer(&b), 0x80);
	command(&b, 0x11); /* not a command */
	assert_int_equal(status(&b) & 0x01, 0);
	i8042_fini(&b.k);
}

static void a20(void **unused)
{
	struct bench b;

	(void)unused;
	power_on(&b);
	command(&b, 0xd0);
	assert_int_equal(answer(&b), 0x03);
	command(&b, 0xdd);
	command(&b, 0xd0);
	assert_int_equal(answer(&b), 0x01);
	assert_int_equal(i8042_port92_ops.read(&b.k, 0, 1), 0x00);
	i8042_port92_ops.write(&b.k, 0, 1, 0x02);
	assert_int_equal(i8042_port92_ops.read(&b.k, 0, 1), 0x02);
	command(&b, 0xd1);
	data(&b, 0x01);
	assert_int_equal(i8042_port92_ops.read(&b.k, 0, 1), 0x00);
	command(&b, 0xdf);
	assert_int_equal(i8042_port92_ops.read(&b.k, 0, 1), 0x02);
	assert_int_equal(b.resets, 0);
	i8042_fini(&b.k);
}

static void resets(void **unused)
{
	struct bench b;

	(void)unused;
	power_on(&b);
	command(&b, 0xfe);
	assert_int_equal(b.resets, 1);
	command(&b, 0xff);
	command(&b, 0xef);
	command(&b, 0xee);
	assert_int_equal(b.resets, 1);
	command(&b, 0xf0);
	assert_int_equal(b.resets, 2);
	command(&b, 0xd1);
	data(&b, 0x03);
	data(&b, 0x00); /* not for the controller any more */
	assert_int_equal(b.resets, 2);
	command(&b, 0xd1);
	data(&b, 0x02);
	assert_int_equal(b.resets, 3);
	i8042_port92_ops.write(&b.k, 0, 1, 0x02);
	assert_int_equal(b.resets, 3);
	i8042_port92_ops.write(&b.k, 0, 1, 0x03);
	assert_int_equal(b.resets, 4);
	i8042_fini(&b.k);
}

static void state_codec(void **unused)
{
	static const struct {
		size_t offset;
		uint8_t value;
	} bad[] = {{0, 0x80}, {0, 0x08}, {1, 0x02}, {1, 0x14}, {3, 0x01}, {3, 0xd5}, {4, 2}};
	uint8_t buf[64];
	struct bench b, other;
	size_t len;

	(void)unused;
	/* Between a command and its byte, with an answer in the buffer. */
	power_on(&b);
	command(&b, 0xdd);
	data(&b, 0xf2);
	command(&b, 0x60);
	len = state_saved(i8042_state, &b.k, buf, sizeof(buf));
	power_on(&other);
	assert_int_equal(state_loaded(i8042_state, &other.k, buf, len), 0);
	assert_false(other.irq);
	other.irq = true;
	assert_int_equal(status(&other), status(&b));
	assert_int_equal(answer(&other), 0xfe);
	data(&other, 0x40);
	command(&other, 0x20);
	assert_int_equal(answer(&other), 0x40);
	assert_int_equal(i8042_port92_ops.read(&other.k, 0, 1), 0x00);

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		len = state_saved(i8042_state, &b.k, buf, sizeof(buf));
		buf[24 + bad[i].offset] = bad[i].value;
		assert_int_equal(state_loaded(i8042_state, &other.k, buf, len), -EINVAL);
		command(&other, 0x20);
		assert_int_equal(answer(&other), 0x40); /* left alone */
	}
	i8042_fini(&b.k);
	i8042_fini(&other.k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(probe),  cmocka_unit_test(no_devices),	 cmocka_unit_test(a20),
		cmocka_unit_test(resets), cmocka_unit_test(state_codec),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
