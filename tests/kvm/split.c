/* The split irqchip: local APICs in the provider, IOAPIC and PIC here. */
#include <errno.h>
#include <sched.h>

#include "tests/kvm/areas.h"
#include "tests/kvm/hand.h"

#define MSI_LEVEL 0x8000

static int send(struct vm *vm, uint32_t address, uint32_t data)
{
	struct kvm_msi message = {.address_lo = address, .data = data};

	return kvm_ioctl(vm->fd, KVM_SIGNAL_MSI, &message);
}

/* One entry: which vector's EOI the user's IOAPIC wants to hear of, and from which CPU. */
static void route(struct vm *vm, uint32_t gsi, uint32_t address, uint32_t data)
{
	union {
		struct kvm_irq_routing head;
		char room[sizeof(struct kvm_irq_routing) + sizeof(struct kvm_irq_routing_entry)];
	} routes = {.head.nr = 1};

	routes.head.entries[0] = (struct kvm_irq_routing_entry){
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_MSI,
		.u.msi = {.address_lo = address, .data = data},
	};
	must(kvm_ioctl(vm->fd, KVM_SET_GSI_ROUTING, &routes));
}

static void eoi_exits(struct vcpu *vcpu, uint8_t vector)
{
	hand_begin_write32(vcpu, HAND_APIC_EOI, 0);
	expect_exit(vcpu, KVM_EXIT_IOAPIC_EOI);
	expect_eq(vcpu->run->eoi.vector, vector);
	expect_exit(vcpu, KVM_EXIT_IO);
	expect(hand_is_done(vcpu));
}

static void eoi_is_silent(struct vcpu *vcpu)
{
	hand_begin_write32(vcpu, HAND_APIC_EOI, 0);
	expect_exit(vcpu, KVM_EXIT_IO);
	expect(hand_is_done(vcpu));
}

static void level_eoi(void)
{
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_SPLIT);

	route(&vm, 5, 0xfee00000, MSI_LEVEL | 0x61);
	expect_eq(send(&vm, 0xfee00000, MSI_LEVEL | 0x61), 1);
	expect_irqs(vcpu, 0x61);
	eoi_exits(vcpu, 0x61);
	expect_eq(send(&vm, 0xfee00000, MSI_LEVEL | 0x61), 1); /* it has ended, too */
	expect_irqs(vcpu, 0x61);
	eoi_exits(vcpu, 0x61);
}

static void edge_eoi(void)
{
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_SPLIT);

	route(&vm, 5, 0xfee00000, 0x61);
	expect_eq(send(&vm, 0xfee00000, 0x61), 1);
	expect_irqs(vcpu, 0x61);
	eoi_is_silent(vcpu);
}

static void other_vector(void)
{
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_SPLIT);

	route(&vm, 5, 0xfee00000, MSI_LEVEL | 0x61);
	expect_eq(send(&vm, 0xfee00000, 0x72), 1);
	expect_irqs(vcpu, 0x72);
	eoi_is_silent(vcpu);
}

static void not_reserved(void)
{
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_SPLIT);

	route(&vm, 24, 0xfee00000, MSI_LEVEL | 0x61); /* pins are 0 to 23 */
	expect_eq(send(&vm, 0xfee00000, MSI_LEVEL | 0x61), 1);
	expect_irqs(vcpu, 0x61);
	eoi_is_silent(vcpu);
}

static void two_cpus(void)
{
	struct vm vm;
	struct vcpu *a = hand_vm(&vm, IRQCHIP_SPLIT), *b = vm_add_vcpu(&vm);

	hand_start(b);
	route(&vm, 5, 0xfeeff000, MSI_LEVEL | 0x61);
	expect_eq(send(&vm, 0xfeeff000, MSI_LEVEL | 0x61), 2);
	expect_irqs(a, 0x61);
	expect_irqs(b, 0x61);
	eoi_exits(b, 0x61);
	eoi_exits(a, 0x61);
}

/* ---- the PIC here ---- */

static int interrupt(struct vcpu *vcpu, uint32_t vector)
{
	struct kvm_interrupt irq = {.irq = vector};

	return kvm_ioctl(vcpu->fd, KVM_INTERRUPT, &irq);
}

static void extint(void)
{
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_SPLIT);

	hand_write32(vcpu, HAND_APIC_LVT0, 0x700);
	must(interrupt(vcpu, 0x33));
	expect_errno(interrupt(vcpu, 0x34), EEXIST); /* one at a time */
	expect_irqs(vcpu, 0x33);
	expect_eq(hand_read32(vcpu, HAND_APIC + 0x110), 0); /* in service nowhere */
	must(interrupt(vcpu, 0x34));
	expect_irqs(vcpu, 0x34);
	expect_errno(interrupt(vcpu, 256), EINVAL);
}

static void extint_first(void)
{
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_SPLIT);

	hand_write32(vcpu, HAND_APIC_LVT0, 0x700);
	hand_write32(vcpu, HAND_APIC_TPR, 0xf0); /* holds the APIC's own only */
	expect_eq(send(&vm, 0xfee00000, 0x99), 1);
	must(interrupt(vcpu, 0x33));
	expect_irqs(vcpu, 0x33);
	hand_write32(vcpu, HAND_APIC_TPR, 0);
	expect_irqs(vcpu, 0x99);
}

static void window(void)
{
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_SPLIT);

	hand_write32(vcpu, HAND_APIC_LVT0, 0x700);
	expect_eq(vcpu->run->if_flag, 0);
	expect_eq(vcpu->run->ready_for_interrupt_injection, 0);
	vcpu->run->request_interrupt_window = 1;
	hand_begin_open(vcpu);
	expect_exit(vcpu, KVM_EXIT_IRQ_WINDOW_OPEN);
	expect_eq(vcpu->run->if_flag, 1);
	expect_eq(vcpu->run->ready_for_interrupt_injection, 1);
	must(interrupt(vcpu, 0x33));
	vcpu->run->request_interrupt_window = 0;
	expect_exit(vcpu, KVM_EXIT_IO);
	expect(hand_is_done(vcpu));
	expect_eq(hand_count(vcpu), 1);
	expect_eq(hand_vector(vcpu, 0), 0x33);
}

/* ---- HLT ---- */

static void *send_soon(void *vcpu)
{
	struct vm *vm = ((struct vcpu *)vcpu)->vm;

	for (int i = 0; i < 1000; i++) {
		sched_yield();
	}
	expect_eq(send(vm, 0xfee00000, 0x45), 1);
	return NULL;
}

static void halt_stays_inside(void)
{
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_SPLIT);

	vcpu_in_thread(vcpu, send_soon);
	expect_irq_wakes(vcpu, 0x45); /* without a KVM_EXIT_HLT */
	vcpu_join(vcpu);
}

const struct test_case split_cases[] = {
	{"split/eoi_of_a_level_vector_exits", "KVM API 7.5", level_eoi},
	{"split/eoi_of_an_edge_vector_does_not", "KVM API 7.5", edge_eoi},
	{"split/eoi_of_another_vector_does_not", "KVM API 7.5", other_vector},
	{"split/lines_past_the_reserved_pins_do_not", "KVM API 7.5", not_reserved},
	{"split/eoi_exits_on_the_cpu_that_wrote_it", "KVM API 7.5", two_cpus},
	{"split/kvm_interrupt_is_extint", "KVM API 4.16", extint},
	{"split/extint_passes_tpr", "AMD APM vol. 2, 16.4", extint_first},
	{"split/interrupt_window", "KVM API 5, request_interrupt_window", window},
	{"split/halt_stays_inside", "KVM API 5, KVM_EXIT_HLT", halt_stays_inside},
	TEST_END,
};
