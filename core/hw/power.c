/*
 * Spec: ACPI 6.4, 4.8.3.2 "PM1 Control Registers", 4.8.3.6 "Reset Register", 16.1 "Sleeping States"
 */
#include "core/hw/power.h"

#include "core/hw/acpi.h"
#include "core/hw/asm.h"
#include "core/hw/clock.h"
#include "core/hw/console.h"
#include "core/hw/irq.h"
#include "core/log.h"
#include "core/mem/kmap.h"

#define PM1_SCI_EN    BIT(0)
#define PM1_SLP_TYP   10
#define PM1_SLP_EN    BIT(13)
#define PCI_ADDRESS   0xcf8
#define PCI_DATA      0xcfc
#define RESET_CONTROL 0xcf9
#define KEYBOARD      0x64
#define SETTLE_NS     50000000

static struct {
	/* Constant after start-up. */
	struct acpi_info acpi;
	uint8_t *reset_byte; /* where the reset register is in memory */
} power;

void power_init(const struct acpi_info *acpi)
{
	power.acpi = *acpi;
	if (acpi->reset.kind == ACPI_REGISTER_MEMORY) {
		power.reset_byte = kmap_device(hpa(acpi->reset.address), 1);
	}
}

void power_halt(void)
{
	for (;;) {
		asm_irq_off();
		asm_hlt();
	}
}

/* The firmware owns the power management registers until it is asked to hand them over. */
static void enable_acpi(void)
{
	const struct acpi_info *a = &power.acpi;

	if (a->smi_command == 0 || a->acpi_enable == 0 ||
	    (asm_in16(a->pm1a_control) & PM1_SCI_EN) != 0) {
		return;
	}
	asm_out8(a->smi_command, a->acpi_enable);
	for (unsigned i = 0; i < 100 && (asm_in16(a->pm1a_control) & PM1_SCI_EN) == 0; i++) {
		clock_spin_ns(1000000);
	}
}

static void enter_s5(uint16_t port, uint8_t type)
{
	uint16_t value = asm_in16(port) & (uint16_t) ~(7U << PM1_SLP_TYP);

	asm_out16(port, (uint16_t)(value | (unsigned)type << PM1_SLP_TYP | PM1_SLP_EN));
}

void power_off(void)
{
	const struct acpi_info *a = &power.acpi;

	console_drain();
	irq_off();
	if (a->has_s5 && a->pm1a_control != 0) {
		enable_acpi();
		if (a->pm1b_control != 0) {
			/* Both want the type before either is told to go. */
			enter_s5(a->pm1b_control, a->s5_b);
		}
		enter_s5(a->pm1a_control, a->s5_a);
		clock_spin_ns(SETTLE_NS);
	}
	log_err("core: the machine does not turn itself off; it is safe to do so now");
	power_halt();
}

static void write_reset_register(void)
{
	const struct acpi_register *r = &power.acpi.reset;

	switch (r->kind) {
	case ACPI_REGISTER_PORT:
		asm_out8((uint16_t)r->address, power.acpi.reset_value);
		break;
	case ACPI_REGISTER_MEMORY:
		if (power.reset_byte != NULL) {
			*(volatile uint8_t *)power.reset_byte = power.acpi.reset_value;
		}
		break;
	case ACPI_REGISTER_PCI:
		/* Device in bits 47 to 32, function in 31 to 16, offset below. */
		asm_out32(PCI_ADDRESS,
			  (uint32_t)(BIT(31) | (r->address >> 32 & 31) << 11 |
				     (r->address >> 16 & 7) << 8 | (r->address & 0xfc)));
		asm_out8((uint16_t)(PCI_DATA + (r->address & 3)), power.acpi.reset_value);
		break;
	case ACPI_REGISTER_NONE:
		return;
	}
	clock_spin_ns(SETTLE_NS);
}

void power_reset(void)
{
	static const struct asm_table no_idt;

	console_drain();
	irq_off();
	write_reset_register();
	asm_out8(RESET_CONTROL, 0x02); /* hard, then go */
	asm_out8(RESET_CONTROL, 0x06);
	clock_spin_ns(SETTLE_NS);
	asm_out8(KEYBOARD, 0xfe); /* pulse its output 0 */
	clock_spin_ns(SETTLE_NS);
	asm_lidt(&no_idt);
	asm_int3(); /* no gate, no gate for that either: shutdown */
	power_halt();
}
