/* The IOAPIC's registers, and edges by the PIT. */
#include "tests/guest/bare/apic_regs.h"

#define VECTOR	      0x50
#define ENTRY_LOGICAL 0x800
#define ENTRY_LEVEL   0x8000
#define ENTRY_MASKED  0x10000
#define ENTRY_STATUS  0x5000 /* delivery status, remote IRR */

static uint32_t io_read(uint8_t index)
{
	*(volatile uint32_t *)IOAPIC = index;
	return *(volatile uint32_t *)(IOAPIC + 0x10);
}

static void io_write(uint8_t index, uint32_t value)
{
	*(volatile uint32_t *)IOAPIC = index;
	*(volatile uint32_t *)(IOAPIC + 0x10) = value;
}

static void set_entry(uint8_t pin, uint32_t high, uint32_t low)
{
	io_write((uint8_t)(0x10 + 2 * pin), ENTRY_MASKED);
	io_write((uint8_t)(0x11 + 2 * pin), high);
	io_write((uint8_t)(0x10 + 2 * pin), low);
}

/* IRQ 0 is pin 2 on a PC, and pin 0 where nobody has said so. */
static void set_pit_entries(uint32_t high, uint32_t low)
{
	set_entry(0, high, low);
	set_entry(2, high, low);
}

static void start(void)
{
	irq_take(VECTOR);
	apic_enable();
	apic_write(APIC_LVT_LINT0, LVT_MASKED);
	out8(PIC1_DATA, 0xff);
	out8(PIC2_DATA, 0xff);
	/* The PIT is silent: mode 5 waits for its gate to rise, and the gate of channel 0 is high.
	 */
	pit_start(5, 0);
}

BARE_CASE_ON(version, "ioapic/version_and_pins", "Intel 82093AA, IOAPICVER", 1, BARE_PC)
{
	uint32_t value = io_read(1);

	check_eq(value >> 16 & 0xff, 23);
	check((value & 0xff) >= 0x11 && (value & 0xff) <= 0x2f);
	io_write(1, 0);
	check_eq(io_read(1), value);
}

BARE_CASE_ON(id, "ioapic/id_is_four_bits", "Intel 82093AA, IOAPICID", 1, BARE_PC)
{
	io_write(0, 0xffffffff);
	check_eq(io_read(0), 0x0f000000);
	io_write(0, 0x05000000);
	check_eq(io_read(0), 0x05000000);
	check_eq(*(volatile uint32_t *)IOAPIC & 0xff, 0);
}

BARE_CASE_ON(entries, "ioapic/entries_keep_what_is_written", "Intel 82093AA, IOREDTBL", 1, BARE_PC)
{
	for (uint8_t pin = 0; pin < 24; pin++) {
		check_eq(io_read((uint8_t)(0x10 + 2 * pin)) & ENTRY_MASKED, ENTRY_MASKED);
	}
	for (uint8_t pin = 0; pin < 24; pin++) {
		uint32_t low = ENTRY_MASKED | ENTRY_LEVEL | 0x2000 | ENTRY_LOGICAL | (0x40u + pin);

		io_write((uint8_t)(0x11 + 2 * pin), (uint32_t)pin << 24);
		io_write((uint8_t)(0x10 + 2 * pin), low);
	}
	for (uint8_t pin = 0; pin < 24; pin++) {
		uint32_t low = ENTRY_MASKED | ENTRY_LEVEL | 0x2000 | ENTRY_LOGICAL | (0x40u + pin);

		check_eq(io_read((uint8_t)(0x11 + 2 * pin)), (uint32_t)pin << 24);
		check_eq(io_read((uint8_t)(0x10 + 2 * pin)), low);
	}
}

BARE_CASE_ON(status, "ioapic/status_bits_are_read_only", "Intel 82093AA, IOREDTBL", 1, BARE_PC)
{
	set_entry(5, 0, ENTRY_MASKED | ENTRY_LEVEL | ENTRY_STATUS | VECTOR);
	check_eq(io_read(0x1a), ENTRY_MASKED | ENTRY_LEVEL | VECTOR);
	set_entry(5, 0, ENTRY_MASKED);
}

BARE_CASE_ON(edge, "ioapic/an_edge_comes_once", "Intel 82093AA, IOREDTBL", 1, BARE_PC)
{
	start();
	set_pit_entries(0, VECTOR);
	pit_start(0, 1000);
	irq_wait(VECTOR, 1);
	irq_open();
	check_eq(irq_log(0)->total, 1);
	check(!apic_bit(APIC_TMR, VECTOR));
	pit_start(0, 1000);
	irq_wait(VECTOR, 2);
	check_eq(irq_log(0)->total, 2);
}

BARE_CASE_ON(masked, "ioapic/masked_stays_silent", "Intel 82093AA, IOREDTBL", 1, BARE_PC)
{
	start();
	set_pit_entries(0, ENTRY_MASKED | VECTOR);
	pit_start(0, 1000);
	do {
		out8(PIT_CONTROL, 0xe2);
	} while ((in8(PIT_CHANNEL0) & 0x80) == 0); /* until its output is high */
	irq_open();
	check_eq(irq_log(0)->total, 0);
	check(!apic_bit(APIC_IRR, VECTOR));
}

static volatile uint32_t ready;

static void idle(void *argument)
{
	(void)argument;
	apic_enable();
	apic_write(APIC_LDR, UINT32_C(1) << (24 + bare_cpu()->index));
	ready = 1;
	for (;;) {
		cpu_sti_hlt_cli();
	}
}

static void to_other(uint32_t high, uint32_t low)
{
	start();
	apic_write(APIC_LDR, UINT32_C(1) << 24);
	bare_start_cpu(1, idle, NULL);
	bare_wait(&ready, 1);
	set_pit_entries(high, low);
	pit_start(0, 1000);
	bare_wait(&irq_log(1)->count[VECTOR], 1);
	irq_open();
	check_eq(irq_log(0)->total, 0);
}

BARE_CASE_ON(physical, "ioapic/physical_destination", "Intel 82093AA, IOREDTBL", 2, BARE_PC)
{
	to_other(0x01000000, VECTOR);
}

BARE_CASE_ON(logical, "ioapic/logical_destination", "Intel 82093AA, IOREDTBL", 2, BARE_PC)
{
	to_other(0x02000000, ENTRY_LOGICAL | VECTOR);
}
