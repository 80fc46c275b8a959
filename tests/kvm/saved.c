#include "tests/kvm/saved.h"

#include <errno.h>
#include <string.h>

#define MSR_TSC		 0x10
#define MSR_TSC_DEADLINE 0x6e0

union msr_list {
	struct kvm_msr_list head;
	uint32_t room[1 + SAVED_MSRS_MAX];
};

union msrs {
	struct kvm_msrs head;
	struct kvm_msr_entry room[1 + SAVED_MSRS_MAX];
};

void saved_settle(struct vcpu *vcpu)
{
	vcpu->run->immediate_exit = 1;
	expect_errno(kvm_ioctl(vcpu->fd, KVM_RUN, 0), EINTR);
	vcpu->run->immediate_exit = 0;
}

uint32_t saved_list(struct vm *vm, uint32_t indices[SAVED_MSRS_MAX])
{
	union msr_list list = {.head.nmsrs = SAVED_MSRS_MAX};

	must(kvm_ioctl(vm->kvm_fd, KVM_GET_MSR_INDEX_LIST, &list));
	memcpy(indices, list.head.indices, list.head.nmsrs * sizeof(indices[0]));
	return list.head.nmsrs;
}

/* One by one: a CPU model without a feature has none of its MSRs, listed though they are. */
static void take_msrs(struct saved_vcpu *saved, struct vcpu *vcpu)
{
	uint32_t indices[SAVED_MSRS_MAX], count = saved_list(vcpu->vm, indices);

	saved->msr_count = 0;
	for (uint32_t i = 0; i < count; i++) {
		union msrs one = {.head.nmsrs = 1};

		one.head.entries[0].index = indices[i];
		if (must(kvm_ioctl(vcpu->fd, KVM_GET_MSRS, &one)) == 1) {
			saved->msrs[saved->msr_count++] = one.head.entries[0];
		}
	}
}

/* What is refused must be what is there already: Linux refuses KVM_ASYNC_PF_INT without a local
 * APIC, though it gives it. */
static void put_msr(const struct kvm_msr_entry *entry, struct vcpu *vcpu)
{
	if (vcpu_set_msr(vcpu, entry->index, entry->data) != 1 &&
	    vcpu_msr(vcpu, entry->index) != entry->data) {
		fail("MSR 0x%x: its own value 0x%llx is refused", entry->index, entry->data);
	}
}

/* Writes of MSR_IA32_TSC near to the VM's own time are taken for attempts to synchronise vCPUs, and
 * lost: only the offset is exact (Documentation/virt/kvm/devices/vcpu.rst, 4.1). */
static struct kvm_device_attr tsc_offset(uint64_t *value)
{
	return (struct kvm_device_attr){
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (uintptr_t)value,
	};
}

static void put_msrs(const struct saved_vcpu *saved, struct vcpu *vcpu)
{
	const struct kvm_msr_entry *deadline = NULL;

	for (uint32_t i = 0; i < saved->msr_count; i++) {
		if (saved->msrs[i].index == MSR_TSC_DEADLINE) {
			deadline = &saved->msrs[i];
		} else if (saved->msrs[i].index != MSR_TSC || !saved->has_tsc_offset) {
			put_msr(&saved->msrs[i], vcpu);
		}
	}
	/* KVM API 4.18: after the local APIC and the TSC, or it is lost. */
	if (deadline != NULL && vcpu->vm->irqchip != IRQCHIP_NONE) {
		put_msr(deadline, vcpu);
	}
}

void saved_vcpu_take(struct saved_vcpu *saved, struct vcpu *vcpu)
{
	struct kvm_device_attr offset = tsc_offset(&saved->tsc_offset);

	/* MP state first: asking for it takes in an INIT or SIPI that is on its way. */
	must(kvm_ioctl(vcpu->fd, KVM_GET_MP_STATE, &saved->mp_state));
	saved->regs = vcpu_regs(vcpu);
	saved->sregs = vcpu_sregs(vcpu);
	must(kvm_ioctl(vcpu->fd, KVM_GET_DEBUGREGS, &saved->debugregs));
	must(kvm_ioctl(vcpu->fd, KVM_GET_VCPU_EVENTS, &saved->events));
	must(kvm_ioctl(vcpu->fd, KVM_GET_XSAVE, saved->xsave));
	must(kvm_ioctl(vcpu->fd, KVM_GET_XCRS, &saved->xcrs));
	if (vcpu->vm->irqchip != IRQCHIP_NONE) {
		must(kvm_ioctl(vcpu->fd, KVM_GET_LAPIC, &saved->lapic));
	}
	saved->has_tsc_offset = kvm_ioctl(vcpu->fd, KVM_HAS_DEVICE_ATTR, &offset) == 0;
	if (saved->has_tsc_offset) {
		must(kvm_ioctl(vcpu->fd, KVM_GET_DEVICE_ATTR, &offset));
	}
	take_msrs(saved, vcpu);
}

void saved_vcpu_put(const struct saved_vcpu *saved, struct vcpu *vcpu)
{
	uint64_t value = saved->tsc_offset;
	struct kvm_device_attr offset = tsc_offset(&value);

	vcpu_set_sregs(vcpu, &saved->sregs);
	must(kvm_ioctl(vcpu->fd, KVM_SET_XCRS, &saved->xcrs));
	must(kvm_ioctl(vcpu->fd, KVM_SET_XSAVE, saved->xsave));
	if (vcpu->vm->irqchip != IRQCHIP_NONE) {
		must(kvm_ioctl(vcpu->fd, KVM_SET_LAPIC, &saved->lapic));
	}
	if (saved->has_tsc_offset) {
		must(kvm_ioctl(vcpu->fd, KVM_SET_DEVICE_ATTR, &offset));
	}
	put_msrs(saved, vcpu);
	must(kvm_ioctl(vcpu->fd, KVM_SET_DEBUGREGS, &saved->debugregs));
	vcpu_set_regs(vcpu, &saved->regs);
	must(kvm_ioctl(vcpu->fd, KVM_SET_MP_STATE, &saved->mp_state));
	must(kvm_ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &saved->events));
}

static bool full(const struct vm *vm)
{
	return vm->irqchip == IRQCHIP_FULL;
}

void saved_take(struct saved_machine *saved, struct vm *vm, bool pit)
{
	memset(saved, 0, sizeof(*saved));
	saved->vcpu_count = vm->vcpu_count;
	for (unsigned int i = 0; i < vm->vcpu_count; i++) {
		saved_vcpu_take(&saved->vcpus[i], vm->vcpus[i]);
	}
	for (uint32_t i = 0; i < 3 && full(vm); i++) {
		saved->irqchips[i].chip_id = i;
		must(kvm_ioctl(vm->fd, KVM_GET_IRQCHIP, &saved->irqchips[i]));
	}
	if (pit) {
		must(kvm_ioctl(vm->fd, KVM_GET_PIT2, &saved->pit));
	}
	must(kvm_ioctl(vm->fd, KVM_GET_CLOCK, &saved->clock));
}

void saved_put(const struct saved_machine *saved, struct vm *vm, bool pit)
{
	struct kvm_clock_data clock = {.clock = saved->clock.clock};

	expect_eq(saved->vcpu_count, vm->vcpu_count);
	must(kvm_ioctl(vm->fd, KVM_SET_CLOCK, &clock));
	for (unsigned int i = 0; i < 3 && full(vm); i++) {
		must(kvm_ioctl(vm->fd, KVM_SET_IRQCHIP, &saved->irqchips[i]));
	}
	if (pit) {
		must(kvm_ioctl(vm->fd, KVM_SET_PIT2, &saved->pit));
	}
	for (unsigned int i = 0; i < vm->vcpu_count; i++) {
		saved_vcpu_put(&saved->vcpus[i], vm->vcpus[i]);
	}
}
