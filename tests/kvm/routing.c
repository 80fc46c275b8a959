/* KVM_SET_GSI_ROUTING and KVM_SIGNAL_MSI. */
#include <errno.h>
#include <string.h>

#include "tests/kvm/areas.h"
#include "tests/kvm/hand.h"

#define ROUTES_MAX 8

union routes {
	struct kvm_irq_routing head;
	char room[sizeof(struct kvm_irq_routing) +
		  ROUTES_MAX * sizeof(struct kvm_irq_routing_entry)];
};

static struct kvm_irq_routing_entry pin(uint32_t gsi, uint32_t chip, uint32_t number)
{
	return (struct kvm_irq_routing_entry){
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_IRQCHIP,
		.u.irqchip = {.irqchip = chip, .pin = number},
	};
}

static struct kvm_irq_routing_entry msi(uint32_t gsi, uint32_t address, uint32_t data)
{
	return (struct kvm_irq_routing_entry){
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_MSI,
		.u.msi = {.address_lo = address, .data = data},
	};
}

static int set_routes(struct vm *vm, const struct kvm_irq_routing_entry *entries, uint32_t count)
{
	union routes routes = {.head.nr = count};

	memcpy(routes.head.entries, entries, count * sizeof(*entries));
	return kvm_ioctl(vm->fd, KVM_SET_GSI_ROUTING, &routes);
}

#define SET(vm, ...)                                                             \
	set_routes((vm), (const struct kvm_irq_routing_entry[]){__VA_ARGS__},    \
		   sizeof((const struct kvm_irq_routing_entry[]){__VA_ARGS__}) / \
			   sizeof(struct kvm_irq_routing_entry))

static int32_t raise(struct vm *vm, uint32_t gsi)
{
	struct kvm_irq_level irq = {.irq = gsi, .level = 1};

	must(kvm_ioctl(vm->fd, KVM_IRQ_LINE_STATUS, &irq));
	irq.level = 0;
	must(kvm_ioctl(vm->fd, KVM_IRQ_LINE, &irq));
	return (int32_t)irq.status;
}

static void eoi(struct vcpu *vcpu)
{
	hand_write32(vcpu, HAND_APIC_EOI, 0);
}

static void pins_move(void)
{
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_FULL);

	hand_ioapic_write(vcpu, 0x10 + 2 * 7, 0x57);
	hand_ioapic_write(vcpu, 0x10 + 2 * 22, 0x66);
	must(SET(&vm, pin(7, KVM_IRQCHIP_IOAPIC, 22), pin(100, KVM_IRQCHIP_IOAPIC, 7)));
	expect_eq(raise(&vm, 7), 1);
	expect_irqs(vcpu, 0x66);
	eoi(vcpu);
	expect_eq(raise(&vm, 100), 1);
	expect_irqs(vcpu, 0x57);
	eoi(vcpu);
	expect_eq(raise(&vm, 22), -1); /* the default is gone */
	expect_no_irq(vcpu);
}

static void pics_second_half(void)
{
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_PIC_SLAVE};
	struct vm vm;

	vm_create(&vm, IRQCHIP_FULL);
	must(SET(&vm, pin(50, KVM_IRQCHIP_PIC_SLAVE, 6)));
	raise(&vm, 50);
	must(kvm_ioctl(vm.fd, KVM_GET_IRQCHIP, &chip));
	expect_eq(chip.chip.pic.irr, 0x40);
}

static void msi_by_line(void)
{
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_SPLIT);

	must(SET(&vm, msi(30, 0xfee00000, 0x71), msi(31, 0xfee00000, 0x72)));
	expect_eq(raise(&vm, 31), 1);
	expect_irqs(vcpu, 0x72);
	eoi(vcpu);
	expect_eq(raise(&vm, 30), 1);
	expect_irqs(vcpu, 0x71);
	eoi(vcpu);
}

static void replaced(void)
{
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_SPLIT);

	must(SET(&vm, msi(30, 0xfee00000, 0x71)));
	must(SET(&vm, msi(40, 0xfee00000, 0x81)));
	expect_eq(raise(&vm, 30), -1);
	expect_no_irq(vcpu);
	expect_eq(raise(&vm, 40), 1);
	expect_irqs(vcpu, 0x81);
	eoi(vcpu);
	must(set_routes(&vm, NULL, 0));
	expect_eq(raise(&vm, 40), -1);
}

static void refusals(void)
{
	struct kvm_irq_routing_entry bad_type = msi(30, 0xfee00000, 0x71), flags = bad_type;
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_FULL);

	must(SET(&vm, msi(30, 0xfee00000, 0x99)));
	bad_type.type = 77;
	flags.flags = 0x8000;
	expect_errno(SET(&vm, bad_type), EINVAL);
	expect_errno(SET(&vm, flags), EINVAL);
	expect_errno(SET(&vm, pin(1, KVM_IRQCHIP_IOAPIC, 24)), EINVAL);
	expect_errno(SET(&vm, pin(1, KVM_IRQCHIP_PIC_MASTER, 8)), EINVAL);
	expect_errno(SET(&vm, pin(1, KVM_IRQCHIP_PIC_SLAVE, 8)), EINVAL);
	expect_errno(SET(&vm, pin(1, 3, 0)), EINVAL);
	expect_errno(SET(&vm, pin(1u << 20, KVM_IRQCHIP_IOAPIC, 1)), EINVAL);
	expect_eq(raise(&vm, 30), 1); /* what was set before still is */
	expect_irqs(vcpu, 0x99);
}

static void one_line_twice(void)
{
	struct vm vm;

	vm_create(&vm, IRQCHIP_FULL);
	expect_errno(SET(&vm, pin(1, KVM_IRQCHIP_IOAPIC, 1), pin(1, KVM_IRQCHIP_IOAPIC, 2)),
		     EINVAL);
	expect_errno(SET(&vm, msi(1, 0xfee00000, 0x40), msi(1, 0xfee00000, 0x41)), EINVAL);
	expect_errno(SET(&vm, msi(1, 0xfee00000, 0x40), pin(1, KVM_IRQCHIP_IOAPIC, 2)), EINVAL);
	must(SET(&vm, pin(1, KVM_IRQCHIP_IOAPIC, 1), pin(1, KVM_IRQCHIP_PIC_MASTER, 1)));
}

static void no_pins_with_split(void)
{
	struct vm vm;

	vm_create(&vm, IRQCHIP_SPLIT);
	expect_errno(SET(&vm, pin(1, KVM_IRQCHIP_IOAPIC, 1)), EINVAL);
	expect_errno(SET(&vm, pin(1, KVM_IRQCHIP_PIC_MASTER, 1)), EINVAL);
}

static void without_chip(void)
{
	struct vm vm;

	vm_create(&vm, IRQCHIP_NONE);
	expect_errno(SET(&vm, msi(1, 0xfee00000, 0x40)), EINVAL);
}

/* ---- KVM_SIGNAL_MSI ---- */

static int signal_to(struct vm *vm, uint32_t high, uint32_t low, uint32_t data)
{
	struct kvm_msi message = {.address_hi = high, .address_lo = low, .data = data};

	return kvm_ioctl(vm->fd, KVM_SIGNAL_MSI, &message);
}

static struct vcpu *second(struct vm *vm)
{
	struct vcpu *vcpu = vm_add_vcpu(vm);

	hand_start(vcpu);
	return vcpu;
}

static void msi_fixed(void)
{
	struct vm vm;
	struct vcpu *a = hand_vm(&vm, IRQCHIP_SPLIT), *b = second(&vm);

	expect_eq(signal_to(&vm, 0, 0xfee01000, 0x45), 1);
	expect_no_irq(a);
	expect_irqs(b, 0x45);
	expect_eq(signal_to(&vm, 0, 0xfee00000, 0x46), 1);
	expect_irqs(a, 0x46);
	expect_no_irq(b);
}

static void msi_to_nobody(void)
{
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_SPLIT);

	expect(signal_to(&vm, 0, 0xfee05000, 0x45) <= 0);
	expect_no_irq(vcpu);
	hand_write32(vcpu, HAND_APIC_SVR, 0xff); /* an APIC that is off takes none */
	expect(signal_to(&vm, 0, 0xfee00000, 0x45) <= 0);
	hand_write32(vcpu, HAND_APIC_SVR, 0x1ff);
	expect_no_irq(vcpu);
}

static void msi_broadcast(void)
{
	struct vm vm;
	struct vcpu *a = hand_vm(&vm, IRQCHIP_SPLIT), *b = second(&vm);

	expect_eq(signal_to(&vm, 0, 0xfeeff000, 0x45), 2);
	expect_irqs(a, 0x45);
	expect_irqs(b, 0x45);
}

static void msi_logical(void)
{
	struct vm vm;
	struct vcpu *a = hand_vm(&vm, IRQCHIP_SPLIT), *b = second(&vm);

	hand_write32(a, HAND_APIC_LDR, 0x40000000);
	hand_write32(b, HAND_APIC_LDR, 0x10000000);
	expect_eq(signal_to(&vm, 0, 0xfee10004, 0x45), 1);
	expect_no_irq(a);
	expect_irqs(b, 0x45);
	eoi(b);
	expect_eq(signal_to(&vm, 0, 0xfee50004, 0x46), 2);
	expect_irqs(a, 0x46);
	expect_irqs(b, 0x46);
}

static void msi_lowest(void)
{
	struct vm vm;
	struct vcpu *a = hand_vm(&vm, IRQCHIP_SPLIT), *b = second(&vm);

	hand_write32(a, HAND_APIC_LDR, 0x01000000);
	hand_write32(b, HAND_APIC_LDR, 0x02000000);
	expect_eq(signal_to(&vm, 0, 0xfee0300c, 0x100 | 0x45), 1);
	hand_open(a);
	hand_open(b);
	expect_eq(hand_count(a) + hand_count(b), 1);
}

static void msi_nmi(void)
{
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_SPLIT);

	expect_eq(signal_to(&vm, 0, 0xfee00000, 0x400 | 0x45), 1);
	expect_irqs(vcpu, 2);
}

static void msi_refusals(void)
{
	struct kvm_msi message = {.address_lo = 0xfee00000, .data = 0x45, .flags = 0x100};
	struct vm vm, none;

	hand_vm(&vm, IRQCHIP_SPLIT);
	expect_errno(kvm_ioctl(vm.fd, KVM_SIGNAL_MSI, &message), EINVAL);
	vm_create(&none, IRQCHIP_NONE);
	message.flags = 0;
	expect_errno(kvm_ioctl(none.fd, KVM_SIGNAL_MSI, &message), EINVAL);
}

/* ---- 32-bit destinations ---- */

static void use_long_ids(struct vm *vm, uint64_t flags)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_X2APIC_API, .args = {flags}};

	vm_need(vm, KVM_CAP_X2APIC_API, "KVM_CAP_X2APIC_API");
	must(kvm_ioctl(vm->fd, KVM_ENABLE_CAP, &cap));
}

static void x2apic_flags(void)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_X2APIC_API, .args = {1u << 30}};
	struct vm vm;

	vm_create(&vm, IRQCHIP_SPLIT);
	vm_need(&vm, KVM_CAP_X2APIC_API, "KVM_CAP_X2APIC_API");
	expect_eq(vm_has(&vm, KVM_CAP_X2APIC_API) & 3, 3);
	expect_errno(kvm_ioctl(vm.fd, KVM_ENABLE_CAP, &cap), EINVAL);
}

static void long_ids_refuse_low_bits(void)
{
	struct kvm_irq_routing_entry entry = msi(30, 0xfee00000, 0x45);
	struct vm vm;

	vm_create(&vm, IRQCHIP_SPLIT);
	use_long_ids(&vm, KVM_X2APIC_API_USE_32BIT_IDS);
	vm_add_vcpu(&vm);
	expect_errno(signal_to(&vm, 0x01, 0xfee00000, 0x45), EINVAL);
	entry.u.msi.address_hi = 0x80;
	expect_errno(SET(&vm, entry), EINVAL);
	entry.u.msi.address_hi = 0x8000;
	must(SET(&vm, entry));
}

/* A vCPU with an id that a xAPIC cannot have; its APIC is on, in x2APIC mode. */
static int make_far_vcpu(struct vm *vm, uint32_t id)
{
	struct kvm_cpuid2 *cpuid = vm_supported_cpuid(vm);
	struct kvm_lapic_state state;
	struct kvm_sregs sregs;
	uint32_t svr = 0x1ff;
	int fd;

	if (vm_has(vm, KVM_CAP_MAX_VCPU_ID) <= (int)id) {
		test_skip("no vCPU may have the id %u", id);
	}
	fd = must(kvm_ioctl(vm->fd, KVM_CREATE_VCPU, id));
	must(kvm_ioctl(fd, KVM_SET_CPUID2, cpuid));
	must(kvm_ioctl(fd, KVM_GET_SREGS, &sregs));
	sregs.apic_base |= 0xc00;
	must(kvm_ioctl(fd, KVM_SET_SREGS, &sregs));
	must(kvm_ioctl(fd, KVM_GET_LAPIC, &state));
	memcpy(state.regs + 0xf0, &svr, sizeof(svr));
	must(kvm_ioctl(fd, KVM_SET_LAPIC, &state));
	return fd;
}

static void long_ids_reach_far(void)
{
	struct kvm_lapic_state state;
	uint32_t word;
	struct vm vm;
	int fd;

	vm_create(&vm, IRQCHIP_SPLIT);
	use_long_ids(&vm, KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK);
	vm_add_vcpu(&vm);
	fd = make_far_vcpu(&vm, 300);
	must(kvm_ioctl(fd, KVM_GET_LAPIC, &state));
	memcpy(&word, state.regs + 0x20, sizeof(word));
	expect_eq(word, 300);
	expect_eq(signal_to(&vm, 0x100, 0xfee00000 | (300 & 0xff) << 12, 0x45), 1);
	must(kvm_ioctl(fd, KVM_GET_LAPIC, &state));
	memcpy(&word, state.regs + 0x220, sizeof(word));
	expect_eq(word, 1u << 5);
	expect(signal_to(&vm, 0x200, 0xfee00000 | (300 & 0xff) << 12, 0x46) <= 0);
}

const struct test_case routing_cases[] = {
	{"routing/pins_go_where_the_set_says", "KVM API 4.52", pins_move},
	{"routing/pic_slave_pins_count_from_zero", "KVM API 4.52", pics_second_half},
	{"routing/msi_by_a_line", "KVM API 4.52", msi_by_line},
	{"routing/a_set_replaces_the_last", "KVM API 4.52", replaced},
	{"routing/refused_sets_change_nothing", "KVM API 4.52", refusals},
	{"routing/one_line_has_one_pin_of_a_chip_or_one_msi", "KVM API 4.52", one_line_twice},
	{"routing/no_pins_with_split_irqchip", "KVM API 7.5", no_pins_with_split},
	{"routing/without_irqchip_is_einval", "KVM API 4.52", without_chip},
	{"routing/signal_msi_to_one", "KVM API 4.71", msi_fixed},
	{"routing/signal_msi_to_nobody", "KVM API 4.71", msi_to_nobody},
	{"routing/signal_msi_to_all", "AMD APM vol. 2, 16.5", msi_broadcast},
	{"routing/signal_msi_logical", "AMD APM vol. 2, 16.6.1", msi_logical},
	{"routing/signal_msi_lowest_priority_is_for_one", "AMD APM vol. 2, 16.6.2", msi_lowest},
	{"routing/signal_msi_nmi", "AMD APM vol. 2, 16.5", msi_nmi},
	{"routing/signal_msi_refusals", "KVM API 4.71", msi_refusals},
	{"routing/x2apic_api_unknown_flags_are_einval", "KVM API 7.7", x2apic_flags},
	{"routing/long_ids_refuse_low_bits", "KVM API 7.7", long_ids_refuse_low_bits},
	{"routing/long_ids_reach_far", "KVM API 7.7", long_ids_reach_far},
	TEST_END,
};
