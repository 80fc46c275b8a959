/* KVM_IRQ_LINE, and what PIC and IOAPIC make of their pins. */
#include "tests/kvm/areas.h"
#include "tests/kvm/hand.h"

#define LEVEL	   0x8000
#define MASKED	   0x10000
#define REMOTE_IRR 0x4000

static void line(struct vm *vm, uint32_t gsi, uint32_t level)
{
	struct kvm_irq_level irq = {.irq = gsi, .level = level};

	must(kvm_ioctl(vm->fd, KVM_IRQ_LINE, &irq));
}

static int32_t line_status(struct vm *vm, uint32_t gsi, uint32_t level)
{
	struct kvm_irq_level irq = {.irq = gsi, .level = level};

	must(kvm_ioctl(vm->fd, KVM_IRQ_LINE_STATUS, &irq));
	return (int32_t)irq.status;
}

static void pulse(struct vm *vm, uint32_t gsi)
{
	line(vm, gsi, 1);
	line(vm, gsi, 0);
}

static void set_pin(struct vcpu *vcpu, uint8_t pin, uint32_t low)
{
	hand_ioapic_write(vcpu, (uint8_t)(0x10 + 2 * pin), low);
}

static uint32_t get_pin(struct vcpu *vcpu, uint8_t pin)
{
	return hand_ioapic_read(vcpu, (uint8_t)(0x10 + 2 * pin));
}

static void eoi(struct vcpu *vcpu)
{
	hand_write32(vcpu, HAND_APIC_EOI, 0);
}

/* ---- PIC ---- */

static struct vcpu *pic_vm(struct vm *vm)
{
	static const struct {
		uint8_t port, value;
	} set_up[] = {
		{0x20, 0x11}, {0x21, 0x20}, {0x21, 0x04}, {0x21, 0x01}, {0xa0, 0x11},
		{0xa1, 0x28}, {0xa1, 0x02}, {0xa1, 0x01}, {0x21, 0x00}, {0xa1, 0x00},
	};
	struct vcpu *vcpu = hand_vm(vm, IRQCHIP_FULL);

	hand_write32(vcpu, HAND_APIC_LVT0, 0x700);
	for (unsigned int i = 0; i < sizeof(set_up) / sizeof(set_up[0]); i++) {
		hand_out8(vcpu, set_up[i].port, set_up[i].value);
	}
	return vcpu;
}

static uint8_t in_service(struct vcpu *vcpu, uint16_t port)
{
	hand_out8(vcpu, port, 0x0b);
	return hand_in8(vcpu, port);
}

static uint8_t requested(struct vcpu *vcpu, uint16_t port)
{
	hand_out8(vcpu, port, 0x0a);
	return hand_in8(vcpu, port);
}

static void pic_priorities(void)
{
	struct vm vm;
	struct vcpu *vcpu = pic_vm(&vm);

	pulse(&vm, 5);
	pulse(&vm, 3);
	expect_irqs(vcpu, 0x23);
	pulse(&vm, 1);
	expect_irqs(vcpu, 0x21); /* higher: nests */
	expect_no_irq(vcpu);
	expect_eq(in_service(vcpu, 0x20), 0x0a);
	expect_eq(requested(vcpu, 0x20), 0x20);
	hand_out8(vcpu, 0x20, 0x20);
	expect_eq(in_service(vcpu, 0x20), 0x08);
	expect_no_irq(vcpu);
	hand_out8(vcpu, 0x20, 0x20);
	expect_irqs(vcpu, 0x25);
}

static void pic_cascade(void)
{
	struct vm vm;
	struct vcpu *vcpu = pic_vm(&vm);

	pulse(&vm, 3);
	pulse(&vm, 12);
	pulse(&vm, 10);
	expect_irqs(vcpu, 0x2a); /* before IRQ 3, as IRQ 2 of the first */
	expect_eq(in_service(vcpu, 0x20), 0x04);
	expect_eq(in_service(vcpu, 0xa0), 0x04);
	hand_out8(vcpu, 0xa0, 0x20);
	hand_out8(vcpu, 0x20, 0x20);
	expect_irqs(vcpu, 0x2c);
	hand_out8(vcpu, 0xa0, 0x64); /* specific */
	hand_out8(vcpu, 0x20, 0x62);
	expect_irqs(vcpu, 0x23);
}

static void pic_masks(void)
{
	struct vm vm;
	struct vcpu *vcpu = pic_vm(&vm);

	hand_out8(vcpu, 0x21, 0x04); /* the cascade */
	hand_out8(vcpu, 0xa1, 0x01);
	pulse(&vm, 9);
	pulse(&vm, 8);
	expect_no_irq(vcpu);
	hand_out8(vcpu, 0x21, 0x00);
	expect_irqs(vcpu, 0x29);
	hand_out8(vcpu, 0xa0, 0x20);
	hand_out8(vcpu, 0x20, 0x20);
	expect_no_irq(vcpu);
	hand_out8(vcpu, 0xa1, 0x00);
	expect_irqs(vcpu, 0x28);
}

static void pic_edge(void)
{
	struct vm vm;
	struct vcpu *vcpu = pic_vm(&vm);

	line(&vm, 4, 1);
	expect_irqs(vcpu, 0x24);
	hand_out8(vcpu, 0x20, 0x20);
	line(&vm, 4, 1); /* still high: no edge */
	expect_no_irq(vcpu);
	line(&vm, 4, 0);
	line(&vm, 4, 1);
	expect_irqs(vcpu, 0x24);
}

static void pic_level(void)
{
	struct vm vm;
	struct vcpu *vcpu = pic_vm(&vm);

	hand_out8(vcpu, 0x4d0, 0x10);
	line(&vm, 4, 1);
	expect_irqs(vcpu, 0x24);
	expect_no_irq(vcpu);
	hand_out8(vcpu, 0x20, 0x20);
	expect_irqs(vcpu, 0x24);
	line(&vm, 4, 0);
	hand_out8(vcpu, 0x20, 0x20);
	expect_no_irq(vcpu);
	line(&vm, 4, 1);
	line(&vm, 4, 0); /* gone before it was taken */
	expect_eq(requested(vcpu, 0x20), 0);
	expect_no_irq(vcpu);
}

static void pic_again_before_eoi(void)
{
	struct vm vm;
	struct vcpu *vcpu = pic_vm(&vm);

	pulse(&vm, 6);
	expect_irqs(vcpu, 0x26);
	pulse(&vm, 6);
	expect_eq(requested(vcpu, 0x20), 0x40);
	expect_no_irq(vcpu);
	hand_out8(vcpu, 0x20, 0x63); /* EOI of another */
	expect_no_irq(vcpu);
	hand_out8(vcpu, 0x20, 0x66);
	expect_irqs(vcpu, 0x26);
}

static void pic_rotation(void)
{
	struct vm vm;
	struct vcpu *vcpu = pic_vm(&vm);

	hand_out8(vcpu, 0x20, 0xc4); /* IRQ 4 becomes the lowest, 5 the highest */
	pulse(&vm, 1);
	pulse(&vm, 5);
	expect_irqs(vcpu, 0x25);
	hand_out8(vcpu, 0x20, 0xa0); /* EOI; now 5 is the lowest */
	expect_irqs(vcpu, 0x21);
	pulse(&vm, 5);
	expect_no_irq(vcpu);
	pulse(&vm, 7);
	expect_irqs(vcpu, 0x27);
}

/* ---- IOAPIC ---- */

static void ioapic_level(void)
{
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_FULL);

	set_pin(vcpu, 10, LEVEL | 0x51);
	line(&vm, 10, 1);
	expect_irqs(vcpu, 0x51);
	expect_eq(get_pin(vcpu, 10), LEVEL | REMOTE_IRR | 0x51);
	expect_eq(hand_read32(vcpu, HAND_APIC_TMR + 0x20) >> 0x11 & 1, 1);
	expect_no_irq(vcpu);
	eoi(vcpu);
	expect_irqs(vcpu, 0x51);
	line(&vm, 10, 0);
	expect_eq(get_pin(vcpu, 10), LEVEL | REMOTE_IRR | 0x51);
	eoi(vcpu);
	expect_no_irq(vcpu);
	expect_eq(get_pin(vcpu, 10), LEVEL | 0x51);
}

static void ioapic_edge(void)
{
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_FULL);

	set_pin(vcpu, 10, 0x51);
	line(&vm, 10, 1);
	expect_irqs(vcpu, 0x51);
	expect_eq(get_pin(vcpu, 10), 0x51);
	expect_eq(hand_read32(vcpu, HAND_APIC_TMR + 0x20), 0);
	eoi(vcpu);
	line(&vm, 10, 1);
	expect_no_irq(vcpu);
	line(&vm, 10, 0);
	line(&vm, 10, 1);
	expect_irqs(vcpu, 0x51);
}

static void ioapic_masked_level_waits(void)
{
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_FULL);

	set_pin(vcpu, 10, LEVEL | MASKED | 0x51);
	line(&vm, 10, 1);
	expect_no_irq(vcpu);
	set_pin(vcpu, 10, LEVEL | 0x51);
	expect_irqs(vcpu, 0x51);
	line(&vm, 10, 0);
	eoi(vcpu);
	set_pin(vcpu, 10, LEVEL | MASKED | 0x51);
	pulse(&vm, 10);
	set_pin(vcpu, 10, LEVEL | 0x51);
	expect_no_irq(vcpu);
}

static void ioapic_masked_edge_is_lost(void)
{
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_FULL);

	set_pin(vcpu, 10, MASKED | 0x51);
	pulse(&vm, 10);
	set_pin(vcpu, 10, 0x51);
	expect_no_irq(vcpu);
	pulse(&vm, 10);
	expect_irqs(vcpu, 0x51);
}

static void ioapic_nmi(void)
{
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_FULL);

	set_pin(vcpu, 10, 0x400 | 0x51);
	pulse(&vm, 10);
	expect_irqs(vcpu, 2);
}

static void ioapic_priority(void)
{
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_FULL);

	set_pin(vcpu, 3, 0x90);
	set_pin(vcpu, 20, 0xa0);
	pulse(&vm, 3);
	pulse(&vm, 20);
	expect_irqs(vcpu, 0xa0);
	eoi(vcpu);
	expect_irqs(vcpu, 0x90);
}

static void ioapic_two_pins_one_vector(void)
{
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_FULL);

	set_pin(vcpu, 18, LEVEL | 0x61);
	set_pin(vcpu, 19, LEVEL | 0x61);
	line(&vm, 18, 1);
	line(&vm, 19, 1);
	expect_irqs(vcpu, 0x61);
	line(&vm, 18, 0);
	eoi(vcpu);
	expect_irqs(vcpu, 0x61); /* the other one's */
	line(&vm, 19, 0);
	eoi(vcpu);
	expect_no_irq(vcpu);
	expect_eq(get_pin(vcpu, 18) & REMOTE_IRR, 0);
	expect_eq(get_pin(vcpu, 19) & REMOTE_IRR, 0);
}

static void ioapic_default_pins_are_also_the_pics(void)
{
	struct vm vm;
	struct vcpu *vcpu = pic_vm(&vm);

	set_pin(vcpu, 5, 0x75);
	line(&vm, 5, 1);
	hand_open(vcpu);
	expect_eq(hand_count(vcpu), 2);
	expect_eq(hand_vector(vcpu, 0) + hand_vector(vcpu, 1), 0x25 + 0x75);
}

/* Pins from 16 on belong to the IOAPIC alone. */
static void status(void)
{
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_FULL);

	set_pin(vcpu, 17, 0x51);
	expect_eq(line_status(&vm, 17, 1), 1);
	expect_eq(line_status(&vm, 17, 1), 0); /* no edge: coalesced */
	expect_irqs(vcpu, 0x51);
	line(&vm, 17, 0);
	expect_eq(line_status(&vm, 17, 1), 1); /* waits behind the one in service */
	expect_no_irq(vcpu);
	eoi(vcpu);
	expect_irqs(vcpu, 0x51);
}

static void status_masked(void)
{
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_FULL);

	set_pin(vcpu, 17, MASKED | 0x51);
	expect_eq(line_status(&vm, 17, 1), -1);
	expect_no_irq(vcpu);
}

static void unknown_gsi(void)
{
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_FULL);

	expect_eq(line_status(&vm, 24, 1), -1);
	expect_eq(line_status(&vm, 1000000, 1), -1);
	line(&vm, UINT32_MAX, 1);
	expect_no_irq(vcpu);
}

const struct test_case lines_cases[] = {
	{"lines/pic_lower_numbers_come_first", "Intel 8259A, fully nested mode", pic_priorities},
	{"lines/pic_cascade", "Intel 8259A, cascade mode", pic_cascade},
	{"lines/pic_masks_hold_and_let_go", "Intel 8259A, OCW1", pic_masks},
	{"lines/pic_edge_wants_low_between", "Intel 8259A, edge triggered mode", pic_edge},
	{"lines/pic_level_comes_until_lowered", "Intel 8259A, level triggered mode", pic_level},
	{"lines/pic_again_waits_for_its_eoi", "Intel 8259A, end of interrupt",
	 pic_again_before_eoi},
	{"lines/pic_rotation", "Intel 8259A, automatic and specific rotation", pic_rotation},
	{"lines/ioapic_level_comes_until_lowered", "Intel 82093AA, IOREDTBL", ioapic_level},
	{"lines/ioapic_edge_wants_low_between", "Intel 82093AA, IOREDTBL", ioapic_edge},
	{"lines/ioapic_masked_level_waits", "Intel 82093AA, IOREDTBL", ioapic_masked_level_waits},
	{"lines/ioapic_masked_edge_is_lost", "Intel 82093AA, IOREDTBL", ioapic_masked_edge_is_lost},
	{"lines/ioapic_nmi", "Intel 82093AA, IOREDTBL", ioapic_nmi},
	{"lines/ioapic_pins_come_by_vector", "Intel 82093AA, IOREDTBL", ioapic_priority},
	{"lines/ioapic_two_pins_share_a_vector", "Intel 82093AA, IOREDTBL",
	 ioapic_two_pins_one_vector},
	{"lines/low_lines_go_to_pic_and_ioapic", "KVM API 4.24",
	 ioapic_default_pins_are_also_the_pics},
	{"lines/status_tells_coalesced", "Linux uapi kvm.h, KVM_IRQ_LINE_STATUS", status},
	{"lines/status_tells_masked", "Linux uapi kvm.h, KVM_IRQ_LINE_STATUS", status_masked},
	{"lines/unknown_line_does_nothing", "KVM API 4.25", unknown_gsi},
	TEST_END,
};
