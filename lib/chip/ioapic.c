#include "lib/chip/ioapic_internal.h"

/* Registers behind IOREGSEL and IOWIN. */
#define REG_ID		0x00
#define REG_VERSION	0x01
#define REG_ARBITRATION 0x02
#define REG_REDIRECTION 0x10

#define ENTRY_VECTOR	 0xff
#define ENTRY_MODE_SHIFT 8
#define ENTRY_MODE	 UINT64_C(0x700)
#define ENTRY_LOGICAL	 BIT(11)
#define ENTRY_MASK	 BIT(16)
#define ENTRY_DEST_SHIFT 56

/* Delivery modes that a message can carry: fixed, lowest priority, SMI, NMI, INIT. */
#define MODES_DELIVERABLE 0x37

#define MSI_ADDRESS	 0xfee00000
#define MSI_DEST_SHIFT	 12
#define MSI_LOGICAL	 0x4
#define MSI_LEVEL_ASSERT 0x4000
#define MSI_LEVEL	 0x8000

void ioapic_init(struct ioapic *ioapic, const struct ioapic_ops *ops, void *ctx)
{
	*ioapic = (struct ioapic){.ops = ops, .ctx = ctx};
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		ioapic->redirection[pin] = ENTRY_MASK;
	}
}

bool ioapic_msi(const struct ioapic *ioapic, unsigned pin, uint64_t *addr, uint32_t *data)
{
	uint64_t entry = pin < IOAPIC_PINS ? ioapic->redirection[pin] : ENTRY_MASK;
	unsigned mode = (entry & ENTRY_MODE) >> ENTRY_MODE_SHIFT;

	if ((entry & ENTRY_MASK) != 0 || (MODES_DELIVERABLE & 1u << mode) == 0) {
		return false;
	}
	*addr = MSI_ADDRESS | entry >> ENTRY_DEST_SHIFT << MSI_DEST_SHIFT;
	if ((entry & ENTRY_LOGICAL) != 0) {
		*addr |= MSI_LOGICAL;
	}
	/* Vector and delivery mode are at the same places in both. */
	*data = (uint32_t)(entry & (ENTRY_VECTOR | ENTRY_MODE));
	if ((entry & ENTRY_LEVEL) != 0) {
		*data |= MSI_LEVEL | MSI_LEVEL_ASSERT;
	}
	return true;
}

/* Sends the interrupt of @pin, which was asked for, unless the last one is still in service. */
static void send(struct ioapic *ioapic, unsigned pin)
{
	uint64_t *entry = &ioapic->redirection[pin];
	uint64_t addr;
	uint32_t data;

	if ((*entry & ENTRY_REMOTE_IRR) != 0 || !ioapic_msi(ioapic, pin, &addr, &data)) {
		return;
	}
	if ((*entry & ENTRY_LEVEL) != 0) {
		*entry |= ENTRY_REMOTE_IRR;
	}
	ioapic->ops->deliver(ioapic->ctx, addr, data);
}

/* Sends what a level-triggered wire still asks for. */
static void send_level(struct ioapic *ioapic, unsigned pin)
{
	if ((ioapic->redirection[pin] & ENTRY_LEVEL) != 0 && (ioapic->lines & BIT(pin)) != 0) {
		send(ioapic, pin);
	}
}

void ioapic_set_irq(struct ioapic *ioapic, unsigned pin, bool level)
{
	bool rises;

	if (pin >= IOAPIC_PINS) {
		return;
	}
	rises = level && (ioapic->lines & BIT(pin)) == 0;
	if (level) {
		ioapic->lines |= (uint32_t)BIT(pin);
	} else {
		ioapic->lines &= (uint32_t)~BIT(pin);
	}
	/* "Edge-sensitive interrupts signaled on a masked pin are ignored": send() drops them. */
	if (rises) {
		send(ioapic, pin);
	}
}

void ioapic_eoi(struct ioapic *ioapic, uint8_t vector)
{
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		uint64_t *entry = &ioapic->redirection[pin];

		if ((*entry & ENTRY_VECTOR) == vector && (*entry & ENTRY_REMOTE_IRR) != 0) {
			*entry &= ~ENTRY_REMOTE_IRR;
			send_level(ioapic, pin);
		}
	}
}

static uint32_t read_register(const struct ioapic *ioapic, uint8_t reg)
{
	unsigned pin = (reg - REG_REDIRECTION) / 2;

	if (reg == REG_ID || reg == REG_ARBITRATION) {
		return (uint32_t)ioapic->id << 24;
	}
	if (reg == REG_VERSION) {
		return (IOAPIC_PINS - 1) << 16 | IOAPIC_VERSION;
	}
	if (reg < REG_REDIRECTION || pin >= IOAPIC_PINS) {
		return 0;
	}
	return (uint32_t)(ioapic->redirection[pin] >> (reg & 1) * 32);
}

uint32_t ioapic_read(const struct ioapic *ioapic, uint64_t offset)
{
	switch (offset) {
	case IOAPIC_IOREGSEL:
		return ioapic->ioregsel;
	case IOAPIC_IOWIN:
		return read_register(ioapic, ioapic->ioregsel);
	default:
		return 0;
	}
}

static void write_redirection(struct ioapic *ioapic, unsigned pin, bool high, uint32_t value)
{
	uint64_t half = (uint64_t)UINT32_MAX << high * 32;
	uint64_t old = ioapic->redirection[pin];
	uint64_t entry =
		(old & ~(half & ENTRY_WRITABLE)) | ((uint64_t)value << high * 32 & ENTRY_WRITABLE);

	if ((entry & ENTRY_LEVEL) == 0) {
		/* Without meaning for edges. It is also how systems drop a stale one. */
		entry &= ~ENTRY_REMOTE_IRR;
	}
	ioapic->redirection[pin] = entry;
	if (entry != old) {
		ioapic->ops->changed(ioapic->ctx, pin);
	}
	send_level(ioapic, pin);
}

static void write_register(struct ioapic *ioapic, uint8_t reg, uint32_t value)
{
	unsigned pin = (reg - REG_REDIRECTION) / 2;

	if (reg == REG_ID) {
		ioapic->id = value >> 24 & 0xf;
	} else if (reg >= REG_REDIRECTION && pin < IOAPIC_PINS) {
		write_redirection(ioapic, pin, (reg & 1) != 0, value);
	}
}

void ioapic_write(struct ioapic *ioapic, uint64_t offset, uint32_t value)
{
	switch (offset) {
	case IOAPIC_IOREGSEL:
		ioapic->ioregsel = (uint8_t)value;
		break;
	case IOAPIC_IOWIN:
		write_register(ioapic, ioapic->ioregsel, value);
		break;
	case IOAPIC_EOIR:
		ioapic_eoi(ioapic, (uint8_t)value);
		break;
	default:
		break;
	}
}
