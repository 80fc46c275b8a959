#include "vmm/board/ich9.h"

#include <errno.h>

#include "tests/fake_irq.h"
#include "tests/state_rig.h"
#include "tests/unit.h"
#include "vmm/board/layout.h"

struct bench {
	struct bus pio, mmio;
	struct irq irq;
	struct pci_bus pci;
	struct ich9 ich9;
};

static struct bench *power_on(void)
{
	struct bench *b = test_calloc(1, sizeof(*b));

	bus_init(&b->pio);
	bus_init(&b->mmio);
	assert_int_equal(pci_bus_init(&b->pci, &b->pio, &b->mmio, &b->irq, gpa(LAYOUT_ECAM)), 0);
	assert_int_equal(ich9_init(&b->ich9, &b->pci), 0);
	return b;
}

static void power_off(struct bench *b)
{
	ich9_fini(&b->ich9);
	pci_bus_fini(&b->pci);
	bus_fini(&b->mmio);
	bus_fini(&b->pio);
	test_free(b);
}

static uint64_t reg(unsigned slot, unsigned offset)
{
	return LAYOUT_ECAM + (uint64_t)slot * 0x8000 + offset;
}

static uint32_t get(struct bench *b, unsigned slot, unsigned offset, unsigned len)
{
	return (uint32_t)bus_read(&b->mmio, reg(slot, offset), len);
}

static void set(struct bench *b, unsigned slot, unsigned offset, unsigned len, uint32_t value)
{
	bus_write(&b->mmio, reg(slot, offset), len, value);
}

/* What firmware and Linux know a q35 by. */
static void identity(void **unused)
{
	struct bench *b = power_on();

	(void)unused;
	assert_int_equal(get(b, 0, 0x00, 4), 0x29c08086);
	assert_int_equal(get(b, 0, 0x08, 4) >> 8, 0x060000);
	assert_int_equal(get(b, 0, 0x2c, 4), 0x11001af4);
	assert_int_equal(get(b, 31, 0x00, 4), 0x29188086);
	assert_int_equal(get(b, 31, 0x08, 4) >> 8, 0x060100);
	assert_int_equal(get(b, 31, 0x0e, 1), 0x80);
	power_off(b);
}

static void fixed_places(void **unused)
{
	struct bench *b = power_on();

	(void)unused;
	for (unsigned round = 0; round < 2; round++) {
		assert_int_equal(get(b, 0, 0x60, 4), LAYOUT_ECAM | 1);
		assert_int_equal(get(b, 0, 0x64, 4), 0);
		assert_int_equal(get(b, 31, 0x40, 4), PORT_PM_BASE | 1);
		assert_int_equal(get(b, 31, 0x44, 1), 0x80);
		/* The guest cannot move them. */
		set(b, 0, 0x60, 4, 0xe0000001);
		set(b, 31, 0x40, 4, 0x1001);
		set(b, 31, 0x44, 1, 0);
	}
	power_off(b);
}

static void kept_registers(void **unused)
{
	struct bench *b = power_on();

	(void)unused;
	set(b, 0, 0x90, 4, 0xffffffff);
	set(b, 0, 0x94, 4, 0xffffffff);
	assert_int_equal(get(b, 0, 0x90, 4), 0x33333333);
	assert_int_equal(get(b, 0, 0x94, 4), 0x00333333);
	assert_int_equal(get(b, 0, 0x9d, 1), 0x02);
	set(b, 0, 0x9d, 1, 0x4a);
	assert_int_equal(get(b, 0, 0x9d, 1), 0x42);

	assert_int_equal(get(b, 31, 0x60, 4), 0x80808080);
	assert_int_equal(get(b, 31, 0x68, 4), 0x80808080);
	set(b, 31, 0x60, 4, 0x0b0a7f00);
	set(b, 31, 0x68, 4, 0xffffffff);
	assert_int_equal(get(b, 31, 0x60, 4), 0x0b0a0f00);
	assert_int_equal(get(b, 31, 0x68, 4), 0x8f8f8f8f);
	assert_int_equal(get(b, 31, 0xf0, 4), 0);
	set(b, 31, 0xf0, 4, 0xfed1dfff);
	assert_int_equal(get(b, 31, 0xf0, 4), 0xfed1c001);
	power_off(b);
}

/* A slot that is taken is an error, and nothing of the two is left behind. */
static void slot_taken(void **unused)
{
	static struct ich9 second;
	struct bench *b = power_on();

	(void)unused;
	assert_int_equal(ich9_init(&second, &b->pci), -EEXIST);
	assert_int_equal(get(b, 0, 0x00, 4), 0x29c08086);
	power_off(b);
}

static void state_round_trip(void **unused)
{
	static uint8_t buf[2048];
	struct bench *b = power_on();
	size_t len;

	(void)unused;
	set(b, 0, 0x91, 1, 0x11);
	set(b, 31, 0x60, 1, 0x0a);
	len = state_saved(ich9_state, &b->ich9, buf, sizeof(buf));
	power_off(b);

	b = power_on();
	assert_int_equal(state_loaded(ich9_state, &b->ich9, buf, len), 0);
	assert_int_equal(get(b, 0, 0x91, 1), 0x11);
	assert_int_equal(get(b, 31, 0x60, 1), 0x0a);

	/* A machine whose power management is elsewhere is another machine. */
	set(b, 31, 0x60, 1, 0x0b);
	for (size_t i = 0; i + 1 < len; i++) {
		if (buf[i] == 0x01 && buf[i + 1] == 0x06) {
			buf[i + 1] = 0x07;
		}
	}
	assert_int_equal(state_loaded(ich9_state, &b->ich9, buf, len), -EINVAL);
	assert_int_equal(get(b, 31, 0x60, 1), 0x0b);
	power_off(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(identity),	    cmocka_unit_test(fixed_places),
		cmocka_unit_test(kept_registers),   cmocka_unit_test(slot_taken),
		cmocka_unit_test(state_round_trip),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
