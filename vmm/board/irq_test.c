#include "vmm/board/irq.h"

#include "lib/chip/ioapic.h"
#include "tests/state_rig.h"
#include "tests/unit.h"
#include "vmm/board/layout.h"
#include "vmm/host/host.h"

/*
 * A provider that is not there: messages that the IOAPIC sends are lost, as for a guest that
 * addresses nobody. What is tested here is the way of the wires and of the state.
 */
static struct host_vm nobody = {.kvm_fd = -1, .vm_fd = -1, .split = true};

struct fixture {
	struct bus pio, mmio;
	struct irq *irq;
	unsigned kicks;
};

static void count_kick(void *ctx)
{
	struct fixture *f = ctx;

	f->kicks++;
}

static void fixture_init(struct fixture *f)
{
	f->kicks = 0;
	bus_init(&f->pio);
	bus_init(&f->mmio);
	assert_int_equal(irq_create(&f->irq, &nobody, count_kick, f), 0);
	assert_int_equal(irq_map(f->irq, &f->pio, &f->mmio), 0);
}

static void fixture_fini(struct fixture *f)
{
	irq_destroy(f->irq);
	bus_fini(&f->mmio);
	bus_fini(&f->pio);
}

/* As a PC's firmware does: vectors from 0x30 and 0x38, 8086 mode, everything unmasked. */
static void program_pics(struct fixture *f)
{
	bus_write(&f->pio, 0x20, 1, 0x11);
	bus_write(&f->pio, 0x21, 1, 0x30);
	bus_write(&f->pio, 0x21, 1, 0x04);
	bus_write(&f->pio, 0x21, 1, 0x01);
	bus_write(&f->pio, 0xa0, 1, 0x11);
	bus_write(&f->pio, 0xa1, 1, 0x38);
	bus_write(&f->pio, 0xa1, 1, 0x02);
	bus_write(&f->pio, 0xa1, 1, 0x01);
	bus_write(&f->pio, 0x21, 1, 0x00);
	bus_write(&f->pio, 0xa1, 1, 0x00);
}

static void wire_to_intr(void **unused)
{
	struct fixture f;
	struct irq_line wire;

	(void)unused;
	fixture_init(&f);
	program_pics(&f);
	wire = irq_wire(f.irq, 4);
	assert_false(irq_pic_pending(f.irq));
	irq_line_set(&wire, true);
	assert_true(irq_pic_pending(f.irq));
	assert_int_equal(f.kicks, 1);
	assert_int_equal(irq_pic_ack(f.irq), 0x34);
	assert_false(irq_pic_pending(f.irq));
	assert_int_equal(irq_pic_ack(f.irq), -1);
	fixture_fini(&f);
}

/* A request that waits in the PIC asks for attention again after loading. */
static void state_in_mid_flight(void **unused)
{
	struct fixture a, b;
	struct irq_line wire;
	uint8_t buf[4096];

	(void)unused;
	fixture_init(&a);
	program_pics(&a);
	wire = irq_wire(a.irq, 12);
	irq_line_set(&wire, true);
	bus_write(&a.mmio, LAYOUT_IOAPIC + IOAPIC_IOREGSEL, 4, 0x10 + 2 * 9);
	bus_write(&a.mmio, LAYOUT_IOAPIC + IOAPIC_IOWIN, 4, 0x18061);
	size_t len = state_saved(irq_state, a.irq, buf, sizeof(buf));
	fixture_init(&b);
	assert_int_equal(state_loaded(irq_state, b.irq, buf, len), 0);
	assert_int_equal(b.kicks, 1);
	assert_int_equal(irq_pic_ack(b.irq), 0x3c);
	bus_write(&b.mmio, LAYOUT_IOAPIC + IOAPIC_IOREGSEL, 4, 0x10 + 2 * 9);
	assert_int_equal(bus_read(&b.mmio, LAYOUT_IOAPIC + IOAPIC_IOWIN, 4), 0x18061);
	fixture_fini(&a);
	fixture_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wire_to_intr),
		cmocka_unit_test(state_in_mid_flight),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
