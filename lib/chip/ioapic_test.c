#include "lib/chip/ioapic.h"

#include <errno.h>
#include <string.h>

#include "tests/state_rig.h"
#include "tests/unit.h"

#define MASKED	   0x10000
#define LEVEL	   0x8000
#define REMOTE_IRR 0x4000

struct bench {
	struct ioapic ioapic;
	unsigned sent;
	uint64_t addr;
	uint32_t data;
	uint32_t changed; /* one bit per pin */
};

static void deliver(void *ctx, uint64_t addr, uint32_t data)
{
	struct bench *b = ctx;

	b->sent++;
	b->addr = addr;
	b->data = data;
}

static void changed(void *ctx, unsigned pin)
{
	struct bench *b = ctx;

	b->changed |= 1u << pin;
}

static const struct ioapic_ops ops = {deliver, changed};

static void power_on(struct bench *b)
{
	*b = (struct bench){0};
	ioapic_init(&b->ioapic, &ops, b);
}

static uint32_t get(struct bench *b, uint8_t reg)
{
	ioapic_write(&b->ioapic, IOAPIC_IOREGSEL, reg);
	return ioapic_read(&b->ioapic, IOAPIC_IOWIN);
}

static void set(struct bench *b, uint8_t reg, uint32_t value)
{
	ioapic_write(&b->ioapic, IOAPIC_IOREGSEL, reg);
	ioapic_write(&b->ioapic, IOAPIC_IOWIN, value);
}

static uint8_t low(unsigned pin)
{
	return (uint8_t)(0x10 + 2 * pin);
}

static void registers(void **unused)
{
	struct bench b;

	(void)unused;
	power_on(&b);
	assert_int_equal(get(&b, 0x01), 0x00170020);
	assert_int_equal(ioapic_read(&b.ioapic, IOAPIC_IOREGSEL), 0x01);
	set(&b, 0x01, 0xffffffff);
	assert_int_equal(get(&b, 0x01), 0x00170020);
	set(&b, 0x00, 0xffffffff);
	assert_int_equal(get(&b, 0x00), 0x0f000000);
	assert_int_equal(get(&b, 0x02), 0x0f000000);
	assert_int_equal(b.changed, 0);

	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		assert_int_equal(get(&b, low(pin)), MASKED);
		assert_int_equal(get(&b, low(pin) + 1), 0);
		set(&b, low(pin), 0xffffffff);
		set(&b, low(pin) + 1, 0xffffffff);
		/* Delivery status and remote IRR are the chip's own. */
		assert_int_equal(get(&b, low(pin)), 0x1afff);
		assert_int_equal(get(&b, low(pin) + 1), 0xff000000);
		assert_int_equal(b.changed, (2u << pin) - 1);
	}
	/* Nothing lies beyond. */
	set(&b, 0x40, 0x55);
	assert_int_equal(get(&b, 0x40), 0);
	set(&b, 0xff, 0x55);
	assert_int_equal(get(&b, 0xff), 0);
	assert_int_equal(get(&b, 0x0f), 0);
	assert_int_equal(ioapic_read(&b.ioapic, 0x20), 0);
	assert_int_equal(ioapic_read(&b.ioapic, IOAPIC_EOIR), 0);
	ioapic_write(&b.ioapic, 0x20, 1);
}

static void changed_is_told_on_changes(void **unused)
{
	struct bench b;

	(void)unused;
	power_on(&b);
	set(&b, low(3), 0x31);
	assert_int_equal(b.changed, 1u << 3);
	b.changed = 0;
	set(&b, low(3), 0x31);
	assert_int_equal(b.changed, 0);
}

static void edges(void **unused)
{
	struct bench b;

	(void)unused;
	power_on(&b);
	set(&b, low(4) + 1, 0x02000000);
	set(&b, low(4), 0x34);
	ioapic_set_irq(&b.ioapic, 4, true);
	assert_int_equal(b.sent, 1);
	assert_int_equal(b.addr, 0xfee02000);
	assert_int_equal(b.data, 0x34);
	assert_int_equal(get(&b, low(4)), 0x34); /* no remote IRR */
	ioapic_set_irq(&b.ioapic, 4, true);
	assert_int_equal(b.sent, 1);
	ioapic_set_irq(&b.ioapic, 4, false);
	ioapic_set_irq(&b.ioapic, 4, true);
	assert_int_equal(b.sent, 2);
	ioapic_eoi(&b.ioapic, 0x34);
	assert_int_equal(b.sent, 2);

	/* An edge at a masked pin is lost. */
	set(&b, low(4), 0x34 | MASKED);
	ioapic_set_irq(&b.ioapic, 4, false);
	ioapic_set_irq(&b.ioapic, 4, true);
	set(&b, low(4), 0x34);
	assert_int_equal(b.sent, 2);
	ioapic_set_irq(&b.ioapic, 24, true);
	ioapic_set_irq(&b.ioapic, UINT32_MAX, true);
	assert_int_equal(b.sent, 2);
}

static void levels(void **unused)
{
	struct bench b;

	(void)unused;
	power_on(&b);
	set(&b, low(9), 0x41 | LEVEL);
	ioapic_set_irq(&b.ioapic, 9, true);
	assert_int_equal(b.sent, 1);
	assert_int_equal(b.data, 0xc041);
	assert_int_equal(get(&b, low(9)), 0x41 | LEVEL | REMOTE_IRR);
	/* In service: the wire may do what it likes. */
	ioapic_set_irq(&b.ioapic, 9, false);
	ioapic_set_irq(&b.ioapic, 9, true);
	assert_int_equal(b.sent, 1);
	ioapic_eoi(&b.ioapic, 0x40);
	assert_int_equal(b.sent, 1);
	ioapic_eoi(&b.ioapic, 0x41); /* still asserted: again */
	assert_int_equal(b.sent, 2);
	ioapic_set_irq(&b.ioapic, 9, false);
	ioapic_write(&b.ioapic, IOAPIC_EOIR, 0x41);
	assert_int_equal(b.sent, 2);
	assert_int_equal(get(&b, low(9)), 0x41 | LEVEL);

	/* Masked while in service, EOI, then unmasked with the wire high. */
	ioapic_set_irq(&b.ioapic, 9, true);
	assert_int_equal(b.sent, 3);
	set(&b, low(9), 0x41 | LEVEL | MASKED);
	assert_int_equal(get(&b, low(9)), 0x41 | LEVEL | MASKED | REMOTE_IRR);
	ioapic_eoi(&b.ioapic, 0x41);
	assert_int_equal(b.sent, 3);
	set(&b, low(9), 0x41 | LEVEL);
	assert_int_equal(b.sent, 4);
	/* Writing it again while in service sends nothing. */
	set(&b, low(9), 0x41 | LEVEL);
	assert_int_equal(b.sent, 4);
	/* Turning it to edge and back forgets what was in service. */
	set(&b, low(9), 0x41 | MASKED);
	assert_int_equal(get(&b, low(9)), 0x41 | MASKED);
	set(&b, low(9), 0x41 | LEVEL);
	assert_int_equal(b.sent, 5);
}

/* Two pins with one vector: the EOI is for both. */
static void shared_vector(void **unused)
{
	struct bench b;

	(void)unused;
	power_on(&b);
	set(&b, low(16), 0x51 | LEVEL);
	set(&b, low(23), 0x51 | LEVEL);
	ioapic_set_irq(&b.ioapic, 16, true);
	ioapic_set_irq(&b.ioapic, 23, true);
	assert_int_equal(b.sent, 2);
	ioapic_set_irq(&b.ioapic, 16, false);
	ioapic_eoi(&b.ioapic, 0x51);
	assert_int_equal(b.sent, 3);
	assert_int_equal(get(&b, low(16)), 0x51 | LEVEL);
	assert_int_equal(get(&b, low(23)), 0x51 | LEVEL | REMOTE_IRR);
}

static void messages(void **unused)
{
	static const struct {
		uint32_t low, high;
		bool sent;
		uint64_t addr;
		uint32_t data;
	} cases[] = {
		{0x00030, 0x00000000, true, 0xfee00000, 0x0030},
		{0x00030, 0xff000000, true, 0xfeeff000, 0x0030},
		{0x00931, 0x03000000, true, 0xfee03004, 0x0131}, /* lowest priority, logical */
		{0x00832, 0x01000000, true, 0xfee01004, 0x0032},
		{0x02033, 0x01000000, true, 0xfee01000, 0x0033}, /* polarity: no matter */
		{0x0a034, 0x01000000, true, 0xfee01000, 0xc034},
		{0x00200, 0x01000000, true, 0xfee01000, 0x0200}, /* SMI */
		{0x00400, 0x01000000, true, 0xfee01000, 0x0400}, /* NMI */
		{0x00500, 0x01000000, true, 0xfee01000, 0x0500}, /* INIT */
		{0x00700, 0x01000000, false, 0, 0},		 /* ExtINT */
		{0x00330, 0x01000000, false, 0, 0},
		{0x00630, 0x01000000, false, 0, 0},
		{0x10030, 0x01000000, false, 0, 0},
	};
	struct bench b;
	uint64_t addr;
	uint32_t data;

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		power_on(&b);
		set(&b, low(5) + 1, cases[i].high);
		set(&b, low(5), cases[i].low);
		addr = 0;
		data = 0;
		assert_int_equal(ioapic_msi(&b.ioapic, 5, &addr, &data), cases[i].sent);
		assert_int_equal(addr, cases[i].addr);
		assert_int_equal(data, cases[i].data);
		ioapic_set_irq(&b.ioapic, 5, true);
		assert_int_equal(b.sent, cases[i].sent);
		assert_int_equal(b.addr, cases[i].addr);
		assert_int_equal(b.data, cases[i].data);
		assert_false(ioapic_msi(&b.ioapic, 24, &addr, &data));
	}
}

static void state_round_trip(void **unused)
{
	uint8_t buf[512], again[512];
	struct bench b, other;
	size_t len;

	(void)unused;
	power_on(&b);
	set(&b, 0x00, 0x03000000);
	set(&b, low(9) + 1, 0x01000000);
	set(&b, low(9), 0x41 | LEVEL);
	set(&b, low(4), 0x34);
	ioapic_set_irq(&b.ioapic, 9, true);
	ioapic_set_irq(&b.ioapic, 4, true);
	len = state_saved(ioapic_state, &b.ioapic, buf, sizeof(buf));

	power_on(&other);
	assert_int_equal(state_loaded(ioapic_state, &other.ioapic, buf, len), 0);
	assert_int_equal(other.sent, 0);
	assert_int_equal(other.changed, 0xffffff);
	assert_int_equal(state_saved(ioapic_state, &other.ioapic, again, sizeof(again)), len);
	assert_memory_equal(buf, again, len);
	/* It goes on where it was: one in service, one wire that is high already. */
	ioapic_set_irq(&other.ioapic, 4, true);
	assert_int_equal(other.sent, 0);
	ioapic_eoi(&other.ioapic, 0x41);
	assert_int_equal(other.sent, 1);
	assert_int_equal(other.addr, 0xfee01000);
	assert_int_equal(get(&other, 0), 0x03000000);
}

static void state_refusals(void **unused)
{
	static const struct {
		size_t offset;
		uint8_t value;
	} bad[] = {{1, 0x10}, {5, 0x01}, {6 + 1, 0x10}, {6 + 1, 0x40}, {6 + 4, 0x01}, {6 + 2, 2}};
	uint8_t buf[512];
	struct bench b;

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		size_t len;

		power_on(&b);
		len = state_saved(ioapic_state, &b.ioapic, buf, sizeof(buf));
		buf[24 + bad[i].offset] = bad[i].value;
		set(&b, low(0), 0x77);
		b.changed = 0;
		assert_int_equal(state_loaded(ioapic_state, &b.ioapic, buf, len), -EINVAL);
		assert_int_equal(get(&b, low(0)), 0x77);
		assert_int_equal(b.changed, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(registers),
		cmocka_unit_test(changed_is_told_on_changes),
		cmocka_unit_test(edges),
		cmocka_unit_test(levels),
		cmocka_unit_test(shared_vector),
		cmocka_unit_test(messages),
		cmocka_unit_test(state_round_trip),
		cmocka_unit_test(state_refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
