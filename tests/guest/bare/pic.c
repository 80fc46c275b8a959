/* The 8259A pair behind LINT0, as a guest without IOAPIC uses it; the PIT makes the interrupts. */
#include "tests/guest/bare/apic_regs.h"

#define IRQ0 0x20

static uint8_t read_irr(void)
{
	out8(PIC1, PIC_IRR);
	return in8(PIC1);
}

static uint8_t read_isr(void)
{
	out8(PIC1, PIC_ISR);
	return in8(PIC1);
}

static void wait_irr(void)
{
	while ((read_irr() & 1) == 0) {
		cpu_pause();
	}
}

static void start(uint8_t icw4)
{
	irq_take_silently(IRQ0);
	apic_enable();
	apic_write(APIC_LVT_LINT0, LVT_EXTINT);
	/* The PIT's output goes down and comes up; the edge that this makes is not for the case. */
	pic_init(icw4);
	pit_start(0, 100);
	wait_irr();
	pic_init(icw4);
}

BARE_CASE_ON(extint, "pic/extint_comes_through_lint0", "AMD APM vol. 2, 16.4", 1, BARE_PC)
{
	start(0x01);
	out8(PIC1_DATA, 0xfa);
	pit_start(0, 1000);
	irq_wait(IRQ0, 1);
	check_eq(read_isr(), 0x01);
	for (uint32_t i = 0; i < 8; i++) {
		check_eq(apic_read(APIC_ISR + 16 * i), 0); /* the APIC takes no part */
	}
	out8(PIC1, PIC_EOI);
	check_eq(read_isr(), 0);
}

BARE_CASE_ON(lint0_masked, "pic/lint0_masked_holds_it", "AMD APM vol. 2, 16.4", 1, BARE_PC)
{
	start(0x01);
	apic_write(APIC_LVT_LINT0, LVT_MASKED | LVT_EXTINT);
	out8(PIC1_DATA, 0xfa);
	pit_start(0, 1000);
	wait_irr();
	irq_open();
	check_eq(irq_log(0)->total, 0);
	apic_write(APIC_LVT_LINT0, LVT_EXTINT);
	/* Linux KVM looks at the PIC again when something happens to it. */
	out8(PIC1_DATA, 0xff);
	out8(PIC1_DATA, 0xfa);
	irq_wait(IRQ0, 1);
}

BARE_CASE_ON(mask, "pic/masked_waits_in_irr", "Intel 8259A, interrupt mask register", 1, BARE_PC)
{
	start(0x01);
	check_eq(in8(PIC1_DATA), 0xfb);
	check_eq(in8(PIC2_DATA), 0xff);
	pit_start(0, 1000);
	wait_irr();
	irq_open();
	check_eq(irq_log(0)->total, 0);
	out8(PIC1_DATA, 0xfa);
	irq_open();
	check_eq(irq_log(0)->total, 1);
	check_eq(read_irr() & 1, 0);
}

BARE_CASE_ON(aeoi, "pic/automatic_eoi_wants_none", "Intel 8259A, ICW4", 1, BARE_PC)
{
	start(0x03);
	out8(PIC1_DATA, 0xfa);
	pit_start(2, 2000);
	irq_wait(IRQ0, 3);
	check_eq(read_isr(), 0);
}

BARE_CASE_ON(poll, "pic/poll_takes_the_interrupt", "Intel 8259A, OCW3", 1, BARE_PC)
{
	start(0x01);
	apic_write(APIC_LVT_LINT0, LVT_MASKED | LVT_EXTINT);
	out8(PIC1_DATA, 0xfa);
	pit_start(0, 1000);
	wait_irr();
	out8(PIC1, 0x0c);
	check_eq(in8(PIC1) & 0x07, 0); /* Linux KVM's has no bit 7 */
	check_eq(read_irr() & 1, 0);
	out8(PIC1, PIC_EOI); /* Linux KVM's is out of service already */
	check_eq(read_isr(), 0);
}

BARE_CASE_ON(elcr, "pic/elcr_keeps_what_may_be_level", "Intel 82371AB, ELCR1 and ELCR2", 1, BARE_PC)
{
	out8(ELCR1, 0xff);
	out8(ELCR2, 0xff);
	check_eq(in8(ELCR1), 0xf8); /* not IRQ 0, 1 and 2 */
	check_eq(in8(ELCR2), 0xde); /* not IRQ 8 and 13 */
	out8(ELCR1, 0);
	out8(ELCR2, 0);
	check_eq(in8(ELCR1), 0);
	check_eq(in8(ELCR2), 0);
}

BARE_CASE_ON(icw1, "pic/icw1_clears_mask_and_edges", "Intel 8259A, ICW1", 1, BARE_PC)
{
	start(0x01);
	out8(PIC1_DATA, 0xfa);
	pit_start(0, 1000);
	irq_wait(IRQ0, 1);
	out8(PIC1, PIC_EOI);
	pit_start(0, 1000);
	wait_irr();
	out8(PIC1_DATA, 0xff);
	out8(PIC1, PIC_ISR);
	out8(PIC1, 0x11);
	out8(PIC1_DATA, 0x40);
	out8(PIC1_DATA, 0x04);
	out8(PIC1_DATA, 0x01);
	check_eq(in8(PIC1_DATA), 0);
	check_eq(in8(PIC1), 0);	 /* reads give IRR again, and the edge is gone */
	irq_take_silently(0x40); /* the new vector */
	out8(PIC1_DATA, 0xfa);
	pit_start(0, 1000);
	irq_wait(0x40, 1);
}
