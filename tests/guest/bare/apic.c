/* The local APIC, through whichever of its two interfaces is on. */
#include "tests/guest/bare/apic_regs.h"

bool apic_x2(void)
{
	return (rdmsr(MSR_APIC_BASE) & APIC_BASE_X2) != 0;
}

static volatile uint32_t *xapic(uint32_t offset)
{
	return (volatile uint32_t *)((rdmsr(MSR_APIC_BASE) & APIC_BASE_ADDRESS) + offset);
}

uint32_t apic_read(uint32_t offset)
{
	return apic_x2() ? (uint32_t)rdmsr(MSR_X2APIC + offset / 16) : *xapic(offset);
}

void apic_write(uint32_t offset, uint32_t value)
{
	if (apic_x2()) {
		wrmsr(MSR_X2APIC + offset / 16, value);
	} else {
		*xapic(offset) = value;
	}
}

void apic_send(uint32_t apic_id, uint32_t low)
{
	if (apic_x2()) {
		wrmsr(MSR_X2APIC + APIC_ICR / 16, (uint64_t)apic_id << 32 | low);
		return;
	}
	*xapic(APIC_ICR_HIGH) = apic_id << 24;
	*xapic(APIC_ICR) = low;
	while ((*xapic(APIC_ICR) & ICR_PENDING) != 0) {
		cpu_pause();
	}
}

void apic_enable(void)
{
	apic_write(APIC_SVR, 0x1ff);
}

void apic_eoi(void)
{
	apic_write(APIC_EOI, 0);
}
