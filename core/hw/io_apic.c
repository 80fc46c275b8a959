#include "core/hw/io_apic.h"

#include <errno.h>

#include "core/hw/asm.h"
#include "core/hw/cpu.h"
#include "core/mem/kmap.h"

#define SELECT	     0x00
#define WINDOW	     0x10
#define REG_VERSION  1
#define REG_TABLE    0x10 /* two for each wire */
#define ENTRY_LOW    BIT(13)
#define ENTRY_LEVEL  BIT(15)
#define ENTRY_MASKED BIT(16)
#define PIC_MASTER   0x21
#define PIC_SLAVE    0xa1

/* Constant after start-up, as are the registers. */
static struct {
	struct ioapic {
		uint8_t *regs;
		uint32_t gsi_base, wires;
	} chip[ACPI_IOAPICS_MAX];
	size_t n;
	struct acpi_isa_irq isa[ACPI_ISA_IRQS];
} ioapics;

static uint32_t get(const struct ioapic *chip, uint32_t reg)
{
	asm_write32(chip->regs + SELECT, reg);
	return asm_read32(chip->regs + WINDOW);
}

static void put(const struct ioapic *chip, uint32_t reg, uint32_t value)
{
	asm_write32(chip->regs + SELECT, reg);
	asm_write32(chip->regs + WINDOW, value);
}

static void put_entry(const struct ioapic *chip, uint32_t wire, uint64_t entry)
{
	put(chip, REG_TABLE + 2 * wire, ENTRY_MASKED);
	put(chip, REG_TABLE + 2 * wire + 1, (uint32_t)(entry >> 32));
	put(chip, REG_TABLE + 2 * wire, (uint32_t)entry);
}

void io_apic_mask_pics(const struct acpi_info *acpi)
{
	if (acpi->has_pics) {
		asm_out8(PIC_MASTER, 0xff);
		asm_out8(PIC_SLAVE, 0xff);
	}
}

void io_apic_init(const struct acpi_info *acpi)
{
	for (size_t i = 0; i < ACPI_ISA_IRQS; i++) {
		ioapics.isa[i] = acpi->isa[i];
	}
	for (size_t i = 0; i < acpi->n_ioapics; i++) {
		struct ioapic *chip = &ioapics.chip[ioapics.n];
		chip->regs = kmap_device(hpa(acpi->ioapics[i].base), WINDOW + 4);
		if (chip->regs == NULL) {
			continue;
		}
		chip->gsi_base = acpi->ioapics[i].gsi_base;
		chip->wires = (get(chip, REG_VERSION) >> 16 & 0xff) + 1;
		for (uint32_t wire = 0; wire < chip->wires; wire++) {
			put_entry(chip, wire, ENTRY_MASKED);
		}
		ioapics.n++;
	}
}

int io_apic_connect_isa(unsigned irq, unsigned vector, bool *is_level)
{
	const struct acpi_isa_irq *isa = &ioapics.isa[irq];
	uint64_t entry = vector | (uint64_t)cpu_by_index(0)->apic_id << 56;

	entry |= isa->is_low ? ENTRY_LOW : 0;
	entry |= isa->is_level ? ENTRY_LEVEL : 0;
	*is_level = isa->is_level;
	for (size_t i = 0; i < ioapics.n; i++) {
		const struct ioapic *chip = &ioapics.chip[i];
		if (isa->gsi >= chip->gsi_base && isa->gsi - chip->gsi_base < chip->wires) {
			put_entry(chip, isa->gsi - chip->gsi_base, entry);
			return 0;
		}
	}
	return -ENODEV;
}
