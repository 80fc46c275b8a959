#include "lib/chip/pic.h"

#include <errno.h>

#include "tests/state_rig.h"
#include "tests/unit.h"

#define MASTER_BASE 0x20
#define SLAVE_BASE  0x28

#define EOI	     0x20
#define EOI_OF(n)    (0x60 | (n))
#define ROTATE_EOI   0xa0
#define ROTATE_OF(n) (0xe0 | (n))
#define PRIORITY(n)  (0xc0 | (n))

static void intr_set(void *ctx, unsigned pin, bool level)
{
	int *level_now = ctx;

	(void)pin;
	assert_int_not_equal(*level_now, level); /* only changes are told */
	*level_now = level;
}

static int intr;

static void power_on(struct pic *pic)
{
	intr = 0;
	pic_init(pic, (struct irq_line){.set = intr_set, .ctx = &intr});
}

/* As a PC's firmware does it: @icw4 in both chips, nothing masked. */
static void start(struct pic *pic, uint8_t icw4)
{
	power_on(pic);
	pic_write(pic, PIC_MASTER_COMMAND, 0x11);
	pic_write(pic, PIC_MASTER_DATA, MASTER_BASE);
	pic_write(pic, PIC_MASTER_DATA, 0x04);
	pic_write(pic, PIC_MASTER_DATA, icw4);
	pic_write(pic, PIC_SLAVE_COMMAND, 0x11);
	pic_write(pic, PIC_SLAVE_DATA, SLAVE_BASE);
	pic_write(pic, PIC_SLAVE_DATA, 0x02);
	pic_write(pic, PIC_SLAVE_DATA, icw4 & (uint8_t)~0x10);
}

static uint8_t read_isr(struct pic *pic, uint16_t port)
{
	pic_write(pic, port, 0x0b);
	return pic_read(pic, port);
}

static uint8_t read_irr(struct pic *pic, uint16_t port)
{
	pic_write(pic, port, 0x0a);
	return pic_read(pic, port);
}

static void initialization(void **unused)
{
	struct pic pic;

	(void)unused;
	start(&pic, 0x01);
	assert_int_equal(pic_read(&pic, PIC_MASTER_DATA), 0);
	pic_write(&pic, PIC_MASTER_DATA, 0xfb);
	pic_write(&pic, PIC_SLAVE_DATA, 0xff);
	assert_int_equal(pic_read(&pic, PIC_MASTER_DATA), 0xfb);
	assert_int_equal(pic_read(&pic, PIC_SLAVE_DATA), 0xff);

	/* ICW1 clears the mask; with neither ICW3 nor ICW4, one more word ends the sequence. */
	pic_write(&pic, PIC_MASTER_COMMAND, 0x12);
	assert_int_equal(pic_read(&pic, PIC_MASTER_DATA), 0);
	pic_write(&pic, PIC_MASTER_DATA, 0x47);
	pic_write(&pic, PIC_MASTER_DATA, 0xfd);
	assert_int_equal(pic_read(&pic, PIC_MASTER_DATA), 0xfd);
	pic_set_irq(&pic, 0, true);
	assert_false(intr);
	pic_write(&pic, PIC_MASTER_DATA, 0);
	assert_int_equal(pic_ack(&pic), 0x40);

	assert_int_equal(pic_read(&pic, 0x22), 0xff);
	pic_write(&pic, 0x22, 0x10);
}

/* "An input must make a low-to-high transition after initialization." */
static void initialization_resets_edges(void **unused)
{
	struct pic pic;

	(void)unused;
	start(&pic, 0x01);
	pic_set_irq(&pic, 3, true);
	assert_true(intr);
	pic_write(&pic, PIC_MASTER_COMMAND, 0x11);
	assert_false(intr);
	pic_write(&pic, PIC_MASTER_DATA, MASTER_BASE);
	pic_write(&pic, PIC_MASTER_DATA, 0x04);
	pic_write(&pic, PIC_MASTER_DATA, 0x01);
	pic_set_irq(&pic, 3, true);
	assert_false(intr);
	pic_set_irq(&pic, 3, false);
	pic_set_irq(&pic, 3, true);
	assert_true(intr);
}

static void priorities(void **unused)
{
	struct pic pic;

	(void)unused;
	start(&pic, 0x01);
	pic_set_irq(&pic, 4, true);
	pic_set_irq(&pic, 3, true);
	assert_int_equal(read_irr(&pic, PIC_MASTER_COMMAND), 0x18);
	assert_int_equal(pic_ack(&pic), MASTER_BASE + 3);
	assert_int_equal(read_isr(&pic, PIC_MASTER_COMMAND), 0x08);
	assert_int_equal(read_irr(&pic, PIC_MASTER_COMMAND), 0x10);
	assert_false(pic_intr(&pic)); /* 4 waits for 3 */
	pic_set_irq(&pic, 1, true);
	assert_true(pic_intr(&pic)); /* 1 does not */
	assert_int_equal(pic_ack(&pic), MASTER_BASE + 1);
	assert_int_equal(read_isr(&pic, PIC_MASTER_COMMAND), 0x0a);
	pic_write(&pic, PIC_MASTER_COMMAND, EOI);
	assert_int_equal(read_isr(&pic, PIC_MASTER_COMMAND), 0x08);
	assert_false(intr);
	pic_write(&pic, PIC_MASTER_COMMAND, EOI);
	assert_true(intr);
	assert_int_equal(pic_ack(&pic), MASTER_BASE + 4);

	/* A specific EOI ends the one it names. */
	pic_set_irq(&pic, 0, true);
	assert_int_equal(pic_ack(&pic), MASTER_BASE);
	pic_write(&pic, PIC_MASTER_COMMAND, EOI_OF(4));
	assert_int_equal(read_isr(&pic, PIC_MASTER_COMMAND), 0x01);
}

static void edge_is_latched(void **unused)
{
	struct pic pic;

	(void)unused;
	start(&pic, 0x01);
	pic_set_irq(&pic, 5, true);
	pic_set_irq(&pic, 5, false);
	assert_true(intr);
	assert_int_equal(pic_ack(&pic), MASTER_BASE + 5);
	pic_write(&pic, PIC_MASTER_COMMAND, EOI);
	assert_false(intr);
	pic_set_irq(&pic, 5, true);
	assert_int_equal(pic_ack(&pic), MASTER_BASE + 5);
	pic_write(&pic, PIC_MASTER_COMMAND, EOI);
	pic_set_irq(&pic, 5, true); /* no edge */
	assert_false(intr);
}

static void levels_and_elcr(void **unused)
{
	struct pic pic;

	(void)unused;
	start(&pic, 0x01);
	pic_write(&pic, PIC_ELCR1, 0xff);
	pic_write(&pic, PIC_ELCR2, 0xff);
	assert_int_equal(pic_read(&pic, PIC_ELCR1), 0xf8);
	assert_int_equal(pic_read(&pic, PIC_ELCR2), 0xde);

	pic_set_irq(&pic, 10, true);
	assert_int_equal(pic_ack(&pic), SLAVE_BASE + 2);
	pic_write(&pic, PIC_SLAVE_COMMAND, EOI);
	pic_write(&pic, PIC_MASTER_COMMAND, EOI);
	assert_true(intr); /* still asserted */
	assert_int_equal(pic_ack(&pic), SLAVE_BASE + 2);
	pic_set_irq(&pic, 10, false);
	pic_write(&pic, PIC_SLAVE_COMMAND, EOI);
	pic_write(&pic, PIC_MASTER_COMMAND, EOI);
	assert_false(intr);
}

static void spurious(void **unused)
{
	struct pic pic;

	(void)unused;
	start(&pic, 0x01);
	pic_write(&pic, PIC_ELCR1, 0x20);
	pic_write(&pic, PIC_ELCR2, 0x04);

	pic_set_irq(&pic, 5, true);
	pic_set_irq(&pic, 5, false);
	assert_false(intr);
	assert_int_equal(pic_ack(&pic), MASTER_BASE + 7);
	assert_int_equal(read_isr(&pic, PIC_MASTER_COMMAND), 0); /* how a handler tells */

	pic_set_irq(&pic, 10, true);
	pic_set_irq(&pic, 10, false);
	assert_true(intr); /* the master has latched its input 2 */
	assert_int_equal(pic_ack(&pic), SLAVE_BASE + 7);
	assert_int_equal(read_isr(&pic, PIC_SLAVE_COMMAND), 0);
	assert_int_equal(read_isr(&pic, PIC_MASTER_COMMAND), 0x04); /* wants an EOI all the same */
	pic_write(&pic, PIC_MASTER_COMMAND, EOI);
	assert_false(intr);
}

static void cascade(void **unused)
{
	struct pic pic;

	(void)unused;
	start(&pic, 0x01);
	pic_set_irq(&pic, 2, true); /* not a wire */
	pic_set_irq(&pic, 16, true);
	assert_false(intr);

	pic_set_irq(&pic, 12, true);
	pic_set_irq(&pic, 8, true);
	pic_set_irq(&pic, 3, true);
	assert_int_equal(pic_ack(&pic), SLAVE_BASE + 0);
	assert_int_equal(read_isr(&pic, PIC_MASTER_COMMAND), 0x04);
	assert_int_equal(read_isr(&pic, PIC_SLAVE_COMMAND), 0x01);
	pic_write(&pic, PIC_SLAVE_COMMAND, EOI);
	pic_write(&pic, PIC_MASTER_COMMAND, EOI);
	assert_int_equal(pic_ack(&pic), SLAVE_BASE + 4); /* before the master's input 3 */
	pic_write(&pic, PIC_SLAVE_COMMAND, EOI);
	pic_write(&pic, PIC_MASTER_COMMAND, EOI);
	assert_int_equal(pic_ack(&pic), MASTER_BASE + 3);

	/* The master's mask of input 2 holds back the whole slave. */
	pic_write(&pic, PIC_MASTER_COMMAND, EOI);
	pic_write(&pic, PIC_MASTER_DATA, 0x04);
	pic_set_irq(&pic, 15, true);
	assert_false(intr);
	pic_write(&pic, PIC_MASTER_DATA, 0);
	assert_true(intr);
}

static void special_fully_nested(void **unused)
{
	struct pic pic;

	(void)unused;
	/* Without: a second, higher request of the slave waits for the master's EOI. */
	start(&pic, 0x01);
	pic_set_irq(&pic, 12, true);
	assert_int_equal(pic_ack(&pic), SLAVE_BASE + 4);
	pic_set_irq(&pic, 9, true);
	assert_false(intr);

	start(&pic, 0x11);
	pic_set_irq(&pic, 12, true);
	assert_int_equal(pic_ack(&pic), SLAVE_BASE + 4);
	pic_set_irq(&pic, 14, true);
	assert_false(intr);
	pic_set_irq(&pic, 9, true);
	assert_true(intr);
	assert_int_equal(pic_ack(&pic), SLAVE_BASE + 1);
	assert_int_equal(read_isr(&pic, PIC_SLAVE_COMMAND), 0x12);
}

static void special_mask(void **unused)
{
	struct pic pic;

	(void)unused;
	start(&pic, 0x01);
	pic_set_irq(&pic, 1, true);
	assert_int_equal(pic_ack(&pic), MASTER_BASE + 1);
	pic_set_irq(&pic, 6, true);
	assert_false(intr);
	pic_write(&pic, PIC_MASTER_DATA, 0x02); /* masking what is in service ... */
	assert_false(intr);
	pic_write(&pic, PIC_MASTER_COMMAND, 0x68); /* ... lets lower ones in, in this mode */
	assert_true(intr);
	assert_int_equal(pic_ack(&pic), MASTER_BASE + 6);
	pic_write(&pic, PIC_MASTER_COMMAND, EOI); /* passes over the masked one */
	assert_int_equal(read_isr(&pic, PIC_MASTER_COMMAND), 0x02);
	pic_write(&pic, PIC_MASTER_COMMAND, EOI);
	assert_int_equal(read_isr(&pic, PIC_MASTER_COMMAND), 0x02);
	pic_write(&pic, PIC_MASTER_COMMAND, EOI_OF(1));
	assert_int_equal(read_isr(&pic, PIC_MASTER_COMMAND), 0);
	/* SMM without ESMM changes nothing; with it, the mode ends. */
	pic_write(&pic, PIC_MASTER_COMMAND, 0x28);
	pic_write(&pic, PIC_MASTER_COMMAND, 0x48);
	pic_set_irq(&pic, 1, false);
	pic_write(&pic, PIC_MASTER_DATA, 0);
	pic_set_irq(&pic, 1, true);
	assert_int_equal(pic_ack(&pic), MASTER_BASE + 1);
	pic_write(&pic, PIC_MASTER_DATA, 0x02);
	pic_set_irq(&pic, 6, false);
	pic_set_irq(&pic, 6, true);
	assert_false(intr);
}

static void rotation(void **unused)
{
	struct pic pic;

	(void)unused;
	start(&pic, 0x01);
	pic_set_irq(&pic, 4, true);
	assert_int_equal(pic_ack(&pic), MASTER_BASE + 4);
	pic_write(&pic, PIC_MASTER_COMMAND, ROTATE_EOI); /* 4 is now the lowest, 5 the highest */
	pic_set_irq(&pic, 4, false);
	pic_set_irq(&pic, 4, true);
	pic_set_irq(&pic, 0, true);
	pic_set_irq(&pic, 6, true);
	assert_int_equal(pic_ack(&pic), MASTER_BASE + 6);
	pic_write(&pic, PIC_MASTER_COMMAND, ROTATE_OF(6));
	assert_int_equal(pic_ack(&pic), MASTER_BASE + 0);
	pic_write(&pic, PIC_MASTER_COMMAND, EOI);
	assert_int_equal(pic_ack(&pic), MASTER_BASE + 4);
	pic_write(&pic, PIC_MASTER_COMMAND, EOI);

	pic_write(&pic, PIC_MASTER_COMMAND, PRIORITY(2)); /* 3 is the highest */
	pic_set_irq(&pic, 1, true);
	pic_set_irq(&pic, 3, true);
	pic_write(&pic, PIC_MASTER_COMMAND, 0x40); /* no operation */
	assert_int_equal(pic_ack(&pic), MASTER_BASE + 3);
}

static void automatic_eoi(void **unused)
{
	struct pic pic;

	(void)unused;
	start(&pic, 0x03);
	pic_set_irq(&pic, 9, true);
	pic_set_irq(&pic, 14, true);
	assert_int_equal(pic_ack(&pic), SLAVE_BASE + 1);
	assert_int_equal(read_isr(&pic, PIC_MASTER_COMMAND), 0);
	assert_int_equal(read_isr(&pic, PIC_SLAVE_COMMAND), 0);
	assert_int_equal(pic_ack(&pic), SLAVE_BASE + 6);
	assert_false(intr);

	pic_write(&pic, PIC_MASTER_COMMAND, 0x80); /* rotate in this mode */
	pic_set_irq(&pic, 0, true);
	assert_int_equal(pic_ack(&pic), MASTER_BASE + 0);
	pic_set_irq(&pic, 0, false);
	pic_set_irq(&pic, 0, true);
	pic_set_irq(&pic, 7, true);
	assert_int_equal(pic_ack(&pic), MASTER_BASE + 7);
	pic_write(&pic, PIC_MASTER_COMMAND, 0x00);
	assert_int_equal(pic_ack(&pic), MASTER_BASE + 0);
	pic_set_irq(&pic, 7, false);
	pic_set_irq(&pic, 0, false);
	pic_set_irq(&pic, 7, true);
	pic_set_irq(&pic, 0, true);
	assert_int_equal(pic_ack(&pic), MASTER_BASE + 0); /* 7 had become the lowest, and stays */
}

static void poll_command(void **unused)
{
	struct pic pic;

	(void)unused;
	start(&pic, 0x01);
	pic_write(&pic, PIC_MASTER_COMMAND, 0x0c);
	assert_int_equal(pic_read(&pic, PIC_MASTER_COMMAND), 0);
	pic_set_irq(&pic, 5, true);
	pic_write(&pic, PIC_MASTER_COMMAND, 0x0c);
	assert_int_equal(pic_read(&pic, PIC_MASTER_COMMAND), 0x85);
	assert_false(intr);
	assert_int_equal(pic_read(&pic, PIC_MASTER_COMMAND), 0); /* IRR again */
	assert_int_equal(read_isr(&pic, PIC_MASTER_COMMAND), 0x20);
}

static void state_round_trip(void **unused)
{
	uint8_t buf[256], again[256];
	struct pic pic, other;
	size_t len;

	(void)unused;
	/* In flight: one in service, one latched, a level, rotated, half-way through an ICW. */
	start(&pic, 0x01);
	pic_write(&pic, PIC_ELCR2, 0x04);
	pic_write(&pic, PIC_MASTER_COMMAND, PRIORITY(3));
	pic_set_irq(&pic, 5, true);
	assert_int_equal(pic_ack(&pic), MASTER_BASE + 5);
	pic_set_irq(&pic, 4, true);
	pic_set_irq(&pic, 10, true);
	len = state_saved(pic_state, &pic, buf, sizeof(buf));

	power_on(&other);
	assert_int_equal(state_loaded(pic_state, &other, buf, len), 0);
	assert_false(intr);	       /* the wire was not driven ... */
	assert_true(pic_intr(&other)); /* ... but is known to be high */
	intr = 1;
	assert_int_equal(pic_ack(&other), MASTER_BASE + 4);
	pic_write(&other, PIC_MASTER_COMMAND, EOI);
	pic_write(&other, PIC_MASTER_COMMAND, EOI);
	assert_int_equal(pic_ack(&other), SLAVE_BASE + 2);

	pic_write(&pic, PIC_SLAVE_COMMAND, 0x11);
	pic_write(&pic, PIC_SLAVE_DATA, 0x70);
	len = state_saved(pic_state, &pic, buf, sizeof(buf));
	power_on(&other);
	assert_int_equal(state_loaded(pic_state, &other, buf, len), 0);
	assert_int_equal(state_saved(pic_state, &other, again, sizeof(again)), len);
	assert_memory_equal(buf, again, len);
	pic_write(&other, PIC_SLAVE_DATA, 0x02);
	pic_write(&other, PIC_SLAVE_DATA, 0x01);
	pic_write(&other, PIC_SLAVE_DATA, 0x55);
	assert_int_equal(pic_read(&other, PIC_SLAVE_DATA), 0x55);
}

/* Each byte in turn set to a value that the chips cannot hold. */
static void state_refusals(void **unused)
{
	static const struct {
		size_t offset;
		uint8_t value;
	} bad[] = {{4, 0x04}, {5, 0x21}, {7, 1}, {7, 5}, {8, 8}, {9, 2}, {17 + 4, 0x01}};
	uint8_t buf[256];
	struct pic pic;
	size_t len;

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		start(&pic, 0x01);
		len = state_saved(pic_state, &pic, buf, sizeof(buf));
		buf[24 + bad[i].offset] = bad[i].value;
		pic_write(&pic, PIC_MASTER_DATA, 0xa5);
		assert_int_equal(state_loaded(pic_state, &pic, buf, len), -EINVAL);
		assert_int_equal(pic_read(&pic, PIC_MASTER_DATA), 0xa5); /* left alone */
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(initialization),   cmocka_unit_test(initialization_resets_edges),
		cmocka_unit_test(priorities),	    cmocka_unit_test(edge_is_latched),
		cmocka_unit_test(levels_and_elcr),  cmocka_unit_test(spurious),
		cmocka_unit_test(cascade),	    cmocka_unit_test(special_fully_nested),
		cmocka_unit_test(special_mask),	    cmocka_unit_test(rotation),
		cmocka_unit_test(automatic_eoi),    cmocka_unit_test(poll_command),
		cmocka_unit_test(state_round_trip), cmocka_unit_test(state_refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
