/* The chips that a provider owns: their making, and their state by ioctls. */
#include <errno.h>
#include <string.h>

#include "tests/kvm/areas.h"
#include "tests/kvm/hand.h"

#define LAPIC_SVR   0xf0
#define LAPIC_IRR   0x200
#define LAPIC_LVTT  0x320
#define LAPIC_TMICT 0x380
#define LAPIC_TMCCT 0x390
#define LAPIC_TDCR  0x3e0

static uint32_t reg(const struct kvm_lapic_state *state, uint32_t offset)
{
	uint32_t value;

	memcpy(&value, state->regs + offset, sizeof(value));
	return value;
}

static void set_reg(struct kvm_lapic_state *state, uint32_t offset, uint32_t value)
{
	memcpy(state->regs + offset, &value, sizeof(value));
}

/* ---- making them ---- */

static void twice_is_eexist(void)
{
	struct vm vm;

	vm_create(&vm, IRQCHIP_FULL);
	expect_errno(kvm_ioctl(vm.fd, KVM_CREATE_IRQCHIP, 0), EEXIST);
}

static void after_a_vcpu_is_einval(void)
{
	struct vm vm;

	vm_create(&vm, IRQCHIP_NONE);
	vm_add_plain_vcpu(&vm);
	expect_errno(kvm_ioctl(vm.fd, KVM_CREATE_IRQCHIP, 0), EINVAL);
}

static void after_split_is_eexist(void)
{
	struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {24}};
	struct vm vm, full;

	vm_create(&vm, IRQCHIP_SPLIT);
	expect_errno(kvm_ioctl(vm.fd, KVM_CREATE_IRQCHIP, 0), EEXIST);
	expect_errno(kvm_ioctl(vm.fd, KVM_ENABLE_CAP, &split), EEXIST);
	vm_create(&full, IRQCHIP_FULL);
	expect_errno(kvm_ioctl(full.fd, KVM_ENABLE_CAP, &split), EEXIST);
}

static void split_rules(void)
{
	struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {1u << 20}};
	struct vm vm;

	vm_create(&vm, IRQCHIP_NONE);
	expect_errno(kvm_ioctl(vm.fd, KVM_ENABLE_CAP, &split), EINVAL);
	split.args[0] = 24;
	vm_add_plain_vcpu(&vm);
	expect_errno(kvm_ioctl(vm.fd, KVM_ENABLE_CAP, &split), EEXIST);
}

static void state_without_is_enxio(void)
{
	static const enum vm_irqchip kinds[] = {IRQCHIP_NONE, IRQCHIP_SPLIT};

	for (unsigned int i = 0; i < 2; i++) {
		struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};
		struct vm vm;

		vm_create(&vm, kinds[i]);
		expect_errno(kvm_ioctl(vm.fd, KVM_GET_IRQCHIP, &chip), ENXIO);
		expect_errno(kvm_ioctl(vm.fd, KVM_SET_IRQCHIP, &chip), ENXIO);
	}
}

static void unknown_chip_is_einval(void)
{
	struct kvm_irqchip chip = {.chip_id = 3};
	struct vm vm;

	vm_create(&vm, IRQCHIP_FULL);
	expect_errno(kvm_ioctl(vm.fd, KVM_GET_IRQCHIP, &chip), EINVAL);
	expect_errno(kvm_ioctl(vm.fd, KVM_SET_IRQCHIP, &chip), EINVAL);
}

static void line_without_is_enxio(void)
{
	struct kvm_irq_level line = {.irq = 1, .level = 1};
	struct vm vm;

	vm_create(&vm, IRQCHIP_NONE);
	expect_errno(kvm_ioctl(vm.fd, KVM_IRQ_LINE, &line), ENXIO);
	expect_errno(kvm_ioctl(vm.fd, KVM_IRQ_LINE_STATUS, &line), ENXIO);
}

static void interrupt_with_pic_is_enxio(void)
{
	struct kvm_interrupt interrupt = {.irq = 0x40};
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_FULL);

	expect_errno(kvm_ioctl(vcpu->fd, KVM_INTERRUPT, &interrupt), ENXIO);
	expect_no_irq(vcpu);
}

/* ---- PIC and IOAPIC ---- */

static void pic_state_tells(void)
{
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_PIC_SLAVE};
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_FULL);

	hand_out8(vcpu, 0xa0, 0x11);
	hand_out8(vcpu, 0xa1, 0x70);
	hand_out8(vcpu, 0xa1, 0x02);
	hand_out8(vcpu, 0xa1, 0x01);
	hand_out8(vcpu, 0xa1, 0xa5);
	hand_out8(vcpu, 0x4d1, 0x02);
	must(kvm_ioctl(vm.fd, KVM_GET_IRQCHIP, &chip));
	expect_eq(chip.chip.pic.irq_base, 0x70);
	expect_eq(chip.chip.pic.imr, 0xa5);
	expect_eq(chip.chip.pic.elcr, 0x02);
	expect_eq(chip.chip.pic.init_state, 0);
	chip.chip_id = KVM_IRQCHIP_PIC_MASTER;
	must(kvm_ioctl(vm.fd, KVM_GET_IRQCHIP, &chip));
	expect_eq(chip.chip.pic.imr, 0);
}

static void pic_state_loads(void)
{
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_PIC_MASTER}, back;
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_FULL);

	hand_write32(vcpu, HAND_APIC_LVT0, 0x700);
	must(kvm_ioctl(vm.fd, KVM_GET_IRQCHIP, &chip));
	chip.chip.pic.irq_base = 0x38;
	chip.chip.pic.imr = 0xd7;
	chip.chip.pic.irr = 0x08;
	chip.chip.pic.elcr = 0x20;
	must(kvm_ioctl(vm.fd, KVM_SET_IRQCHIP, &chip));
	back = (struct kvm_irqchip){.chip_id = KVM_IRQCHIP_PIC_MASTER};
	must(kvm_ioctl(vm.fd, KVM_GET_IRQCHIP, &back));
	expect(memcmp(&chip.chip.pic, &back.chip.pic, sizeof(chip.chip.pic)) == 0);
	expect_eq(hand_in8(vcpu, 0x21), 0xd7);
	expect_eq(hand_in8(vcpu, 0x4d0), 0x20);
	expect_irqs(vcpu, 0x3b); /* what was pending */
}

static void ioapic_state_loads(void)
{
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC}, back;
	struct kvm_irq_level line = {.irq = 5, .level = 1};
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_FULL);

	must(kvm_ioctl(vm.fd, KVM_GET_IRQCHIP, &chip));
	expect_eq(chip.chip.ioapic.base_address, 0xfec00000);
	for (unsigned int i = 0; i < KVM_IOAPIC_NUM_PINS; i++) {
		expect_eq(chip.chip.ioapic.redirtbl[i].fields.mask, 1);
	}
	chip.chip.ioapic.id = 7;
	chip.chip.ioapic.redirtbl[5].bits = 0x0000000000000055;
	chip.chip.ioapic.redirtbl[23].bits = 0x1200000000018866;
	must(kvm_ioctl(vm.fd, KVM_SET_IRQCHIP, &chip));
	back = (struct kvm_irqchip){.chip_id = KVM_IRQCHIP_IOAPIC};
	must(kvm_ioctl(vm.fd, KVM_GET_IRQCHIP, &back));
	expect(memcmp(chip.chip.ioapic.redirtbl, back.chip.ioapic.redirtbl,
		      sizeof(chip.chip.ioapic.redirtbl)) == 0);
	expect_eq(hand_ioapic_read(vcpu, 0), 0x07000000);
	expect_eq(hand_ioapic_read(vcpu, 0x3e), 0x18866);
	expect_eq(hand_ioapic_read(vcpu, 0x3f), 0x12000000);
	must(kvm_ioctl(vm.fd, KVM_IRQ_LINE, &line));
	expect_irqs(vcpu, 0x55);
}

static void ioapic_pending_level_loads(void)
{
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};
	struct kvm_irq_level line = {.irq = 11, .level = 1};
	struct vm vm, other;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_FULL);

	hand_ioapic_write(vcpu, 0x10 + 2 * 11, 0x18051); /* level, masked */
	must(kvm_ioctl(vm.fd, KVM_IRQ_LINE, &line));
	must(kvm_ioctl(vm.fd, KVM_GET_IRQCHIP, &chip));
	expect_eq(chip.chip.ioapic.irr >> 11 & 1, 1);
	vcpu = hand_vm(&other, IRQCHIP_FULL);
	must(kvm_ioctl(other.fd, KVM_SET_IRQCHIP, &chip));
	hand_ioapic_write(vcpu, 0x10 + 2 * 11, 0x08051);
	expect_irqs(vcpu, 0x51);
}

/* ---- local APIC ---- */

static void lapic_without_is_einval(void)
{
	struct kvm_lapic_state state = {0};
	struct vm vm;
	struct vcpu *vcpu;

	vm_create(&vm, IRQCHIP_NONE);
	vcpu = vm_add_vcpu(&vm);
	expect_errno(kvm_ioctl(vcpu->fd, KVM_GET_LAPIC, &state), EINVAL);
	expect_errno(kvm_ioctl(vcpu->fd, KVM_SET_LAPIC, &state), EINVAL);
}

static void lapic_round_trip(void)
{
	struct kvm_lapic_state state, back;
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_SPLIT);

	hand_write32(vcpu, HAND_APIC_TPR, 0x30);
	hand_write32(vcpu, HAND_APIC_LVT0, 0x10045);
	must(kvm_ioctl(vcpu->fd, KVM_GET_LAPIC, &state));
	expect_eq(reg(&state, 0x80), 0x30);
	expect_eq(reg(&state, 0x350), 0x10045);
	expect_eq(reg(&state, LAPIC_SVR), 0x1ff);
	set_reg(&state, 0x80, 0x50);
	set_reg(&state, 0xd0, 0x5a000000);
	set_reg(&state, 0x370, 0x10047);
	set_reg(&state, 0x100 + 0x20, 0x10);
	must(kvm_ioctl(vcpu->fd, KVM_SET_LAPIC, &state));
	must(kvm_ioctl(vcpu->fd, KVM_GET_LAPIC, &back));
	expect_eq(reg(&back, 0x80), 0x50);
	expect_eq(reg(&back, 0x370), 0x10047);
	expect_eq(reg(&back, 0x120), 0x10);
	expect_eq(vcpu_sregs(vcpu).cr8, 5);
	expect_eq(hand_read32(vcpu, HAND_APIC_TPR), 0x50);
	expect_eq(hand_read32(vcpu, HAND_APIC_LDR), 0x5a000000);
}

static void lapic_pending_is_delivered(void)
{
	struct kvm_lapic_state state;
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_SPLIT);

	must(kvm_ioctl(vcpu->fd, KVM_GET_LAPIC, &state));
	set_reg(&state, LAPIC_IRR + 0x20, 0x00040002); /* 0x41, 0x52 */
	must(kvm_ioctl(vcpu->fd, KVM_SET_LAPIC, &state));
	expect_irqs(vcpu, 0x52);
	hand_write32(vcpu, HAND_APIC_EOI, 0);
	expect_irqs(vcpu, 0x41);
}

static void lapic_in_service_holds(void)
{
	struct kvm_lapic_state state;
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_SPLIT);

	must(kvm_ioctl(vcpu->fd, KVM_GET_LAPIC, &state));
	set_reg(&state, 0x100 + 0x20, 0x00000010);     /* ISR: 0x44 */
	set_reg(&state, LAPIC_IRR + 0x20, 0x00000200); /* 0x49 */
	must(kvm_ioctl(vcpu->fd, KVM_SET_LAPIC, &state));
	expect_no_irq(vcpu);
	hand_write32(vcpu, HAND_APIC_EOI, 0);
	expect_irqs(vcpu, 0x49);
}

static void lapic_timer_goes_on(void)
{
	struct kvm_lapic_state state;
	struct vm vm, other;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_SPLIT);

	hand_write32(vcpu, HAND_APIC + LAPIC_TDCR, 0xb);
	hand_write32(vcpu, HAND_APIC + LAPIC_LVTT, 0x20066);
	hand_write32(vcpu, HAND_APIC + LAPIC_TMICT, 20000000);
	must(kvm_ioctl(vcpu->fd, KVM_GET_LAPIC, &state));
	expect(reg(&state, LAPIC_TMCCT) <= 20000000);
	expect_eq(reg(&state, LAPIC_TMICT), 20000000);
	vcpu = hand_vm(&other, IRQCHIP_SPLIT);
	must(kvm_ioctl(vcpu->fd, KVM_SET_LAPIC, &state));
	expect_irq_wakes(vcpu, 0x66);
	hand_write32(vcpu, HAND_APIC_EOI, 0);
	expect_irq_wakes(vcpu, 0x66);
}

/* ---- PIT ---- */

static void pit_twice_is_eexist(void)
{
	struct kvm_pit_config config = {0};
	struct vm vm;

	vm_create(&vm, IRQCHIP_FULL);
	must(kvm_ioctl(vm.fd, KVM_CREATE_PIT2, &config));
	expect_errno(kvm_ioctl(vm.fd, KVM_CREATE_PIT2, &config), EEXIST);
}

static void pit_without_is_enxio(void)
{
	struct kvm_pit_state2 state = {0};
	struct kvm_reinject_control control = {.pit_reinject = 1};
	struct vm vm;

	vm_create(&vm, IRQCHIP_FULL);
	expect_errno(kvm_ioctl(vm.fd, KVM_GET_PIT2, &state), ENXIO);
	expect_errno(kvm_ioctl(vm.fd, KVM_SET_PIT2, &state), ENXIO);
	expect_errno(kvm_ioctl(vm.fd, KVM_REINJECT_CONTROL, &control), ENXIO);
}

static void pit_state(void)
{
	struct kvm_pit_config config = {.flags = KVM_PIT_SPEAKER_DUMMY};
	struct kvm_pit_state2 state = {0}, back = {0};
	struct vm vm;
	struct vcpu *vcpu;

	vm_create(&vm, IRQCHIP_FULL);
	must(kvm_ioctl(vm.fd, KVM_CREATE_PIT2, &config));
	vcpu = vm_add_vcpu(&vm);
	hand_start(vcpu);
	hand_out8(vcpu, 0x43, 0xb6);
	hand_out8(vcpu, 0x42, 0x34);
	hand_out8(vcpu, 0x42, 0x12);
	must(kvm_ioctl(vm.fd, KVM_GET_PIT2, &state));
	expect_eq(state.channels[2].count, 0x1234);
	expect_eq(state.channels[2].mode, 3);
	expect_eq(state.channels[2].rw_mode, 3);
	state.channels[2].mode = 2;
	state.channels[2].count = 0x4321;
	state.channels[1].count = 0x77;
	must(kvm_ioctl(vm.fd, KVM_SET_PIT2, &state));
	must(kvm_ioctl(vm.fd, KVM_GET_PIT2, &back));
	expect_eq(back.channels[2].count, 0x4321);
	expect_eq(back.channels[2].mode, 2);
	expect_eq(back.channels[1].count, 0x77);
	hand_out8(vcpu, 0x43, 0xe8); /* read back the status of channel 2 */
	expect_eq(hand_in8(vcpu, 0x42) & 0x3f, 0x34);
}

static void pit_loaded_runs(void)
{
	struct kvm_pit_config config = {0};
	struct kvm_reinject_control control = {.pit_reinject = 0};
	struct kvm_pit_state2 state = {0};
	struct vm vm;
	struct vcpu *vcpu;

	vm_create(&vm, IRQCHIP_FULL);
	must(kvm_ioctl(vm.fd, KVM_CREATE_PIT2, &config));
	must(kvm_ioctl(vm.fd, KVM_REINJECT_CONTROL, &control));
	vcpu = vm_add_vcpu(&vm);
	hand_start(vcpu);
	hand_ioapic_write(vcpu, 0x10, 0x50); /* GSI 0 is pin 0 by default */
	must(kvm_ioctl(vm.fd, KVM_GET_PIT2, &state));
	state.channels[0].mode = 2;
	state.channels[0].rw_mode = 3;
	state.channels[0].gate = 1;
	state.channels[0].count = 5000;
	must(kvm_ioctl(vm.fd, KVM_SET_PIT2, &state));
	for (int i = 0; i < 3; i++) {
		expect_irq_wakes(vcpu, 0x50);
		hand_write32(vcpu, HAND_APIC_EOI, 0);
	}
}

PAYLOAD(64, speaker, "in $0x61, %al; hlt");

static void speaker_port_without_dummy_exits(void)
{
	struct kvm_pit_config config = {0};
	struct vm vm;
	struct vcpu *vcpu;

	vm_create(&vm, IRQCHIP_FULL);
	must(kvm_ioctl(vm.fd, KVM_CREATE_PIT2, &config));
	vcpu = vm_add_vcpu(&vm);
	vcpu_start(vcpu, 64, speaker, speaker_end);
	expect_in(vcpu, 0x61, 1, 0);
}

const struct test_case irqchip_cases[] = {
	{"irqchip/created_twice_is_eexist", "KVM API 4.24", twice_is_eexist},
	{"irqchip/created_after_a_vcpu_is_einval", "KVM API 4.24", after_a_vcpu_is_einval},
	{"irqchip/full_and_split_exclude_each_other", "KVM API 7.5", after_split_is_eexist},
	{"irqchip/split_has_limits_and_comes_before_vcpus", "KVM API 7.5", split_rules},
	{"irqchip/state_without_is_enxio", "KVM API 4.26", state_without_is_enxio},
	{"irqchip/unknown_chip_is_einval", "KVM API 4.26", unknown_chip_is_einval},
	{"irqchip/line_without_is_enxio", "KVM API 4.25", line_without_is_enxio},
	{"irqchip/kvm_interrupt_with_a_pic_is_enxio", "KVM API 4.16", interrupt_with_pic_is_enxio},
	{"irqchip/pic_state_tells_what_was_written", "KVM API 4.26", pic_state_tells},
	{"irqchip/pic_state_loads", "KVM API 4.27", pic_state_loads},
	{"irqchip/ioapic_state_loads", "KVM API 4.27", ioapic_state_loads},
	{"irqchip/ioapic_pending_level_loads", "KVM API 4.27", ioapic_pending_level_loads},
	{"irqchip/lapic_without_is_einval", "KVM API 4.57", lapic_without_is_einval},
	{"irqchip/lapic_round_trip", "KVM API 4.58", lapic_round_trip},
	{"irqchip/lapic_pending_is_delivered", "KVM API 4.58", lapic_pending_is_delivered},
	{"irqchip/lapic_in_service_holds", "KVM API 4.58", lapic_in_service_holds},
	{"irqchip/lapic_timer_goes_on", "KVM API 4.58", lapic_timer_goes_on},
	{"irqchip/pit_created_twice_is_eexist", "KVM API 4.71", pit_twice_is_eexist},
	{"irqchip/pit_without_is_enxio", "KVM API 4.72", pit_without_is_enxio},
	{"irqchip/pit_state_round_trip", "KVM API 4.73", pit_state},
	{"irqchip/pit_loaded_runs", "KVM API 4.73", pit_loaded_runs},
	{"irqchip/speaker_port_without_dummy_exits", "KVM API 4.71",
	 speaker_port_without_dummy_exits},
	TEST_END,
};
