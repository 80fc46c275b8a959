#include "lib/kvm/caps.h"

#include <errno.h>
#include <linux/kvm_para.h>

#include "lib/kvm/debug.h"
#include "lib/kvm/dirty_ring.h"
#include "lib/kvm/irq.h"
#include "lib/kvm/kvm.h"
#include "lib/kvm/state.h"

#define SPLIT_PINS_MAX 255 /* user space's IOAPIC pins, as Linux has it */

#define MSR_REASONS \
	(KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER)

int64_t kvm_cap_check(const struct kvm_env *env, uint64_t capability)
{
	switch (capability) {
#define CAP(name, value) \
	case name:       \
		return (int64_t)(value);
#include "abi/kvm/caps.def"
	default:
		return 0;
	}
}

/* Those that have to be chosen before the first vCPU is there, or one at a time. */
static int enable_locked(struct kvm_vm *vm, const struct kvm_enable_cap *cap)
{
	uint64_t value = cap->args[0];

	switch (cap->cap) {
	case KVM_CAP_SPLIT_IRQCHIP:
		if (value > SPLIT_PINS_MAX) {
			return -EINVAL;
		}
		if (vm->irqchip != KVM_IRQCHIP_NONE || kvm_vm_count(vm) != 0) {
			return -EEXIST;
		}
		return kvm_irq_create_split(vm, value);
	case KVM_CAP_MAX_VCPU_ID:
		if (value > KVM_VCPU_IDS) {
			return -EINVAL;
		}
		if (vm->max_vcpu_id != 0 && vm->max_vcpu_id != value) {
			return -EINVAL;
		}
		vm->max_vcpu_id = (uint32_t)value;
		return 0;
	case KVM_CAP_DIRTY_LOG_RING:
	case KVM_CAP_DIRTY_LOG_RING_ACQ_REL:
		return kvm_ring_set_size(vm, value);
	default:
		return -EINVAL;
	}
}

/* A set of flags, of which all must be known. */
static int set_flags(uint64_t value, uint64_t known, uint64_t *flags)
{
	if ((value & ~known) != 0) {
		return -EINVAL;
	}
	*flags = value;
	return 0;
}

static int set_dirty_manual(struct kvm_vm *vm, uint64_t value)
{
	/* "Initially set" makes no sense alone. */
	if ((value & ~(uint64_t)KVM_DIRTY_MANUAL_KNOWN) != 0 ||
	    value == KVM_DIRTY_LOG_INITIALLY_SET) {
		return -EINVAL;
	}
	vm->dirty_manual = (uint32_t)value;
	return 0;
}

int kvm_cap_enable(struct kvm_vm *vm, const struct kvm_enable_cap *cap)
{
	const struct kvm_env_ops *ops = kvm_ops(vm->env);
	uint64_t value = cap->args[0];
	uint64_t flags = 0;
	int r = 0;

	if (cap->flags != 0) {
		return -EINVAL;
	}
	switch (cap->cap) {
	case KVM_CAP_DISABLE_QUIRKS2:
		return set_flags(value, KVM_QUIRKS_KNOWN, &vm->quirks_off);
	case KVM_CAP_DISABLE_QUIRKS:
		vm->quirks_off = value;
		return 0;
	case KVM_CAP_X2APIC_API:
		r = set_flags(value,
			      KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK,
			      &flags);
		if (r == 0) {
			kvm_irq_x2apic_api(vm, flags);
		}
		return r;
	case KVM_CAP_MSR_PLATFORM_INFO:
		vm->platform_info_hidden = value == 0;
		return 0;
	case KVM_CAP_EXCEPTION_PAYLOAD:
		vm->exception_payload = value != 0;
		return 0;
	case KVM_CAP_X86_TRIPLE_FAULT_EVENT:
		vm->triple_fault_event = value != 0;
		return 0;
	case KVM_CAP_X86_USER_SPACE_MSR:
		r = set_flags(value, MSR_REASONS, &flags);
		vm->msr_exits = r == 0 ? (uint32_t)flags : vm->msr_exits;
		return r;
	case KVM_CAP_EXIT_HYPERCALL:
		r = set_flags(value, BIT(KVM_HC_MAP_GPA_RANGE), &flags);
		vm->hypercall_exits = r == 0 ? flags != 0 : vm->hypercall_exits;
		return r;
	case KVM_CAP_EXIT_ON_EMULATION_FAILURE:
		r = set_flags(value, 1, &flags);
		vm->exit_on_emulation_failure = r == 0 ? flags != 0 : vm->exit_on_emulation_failure;
		return r;
	case KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2:
		return set_dirty_manual(vm, value);
	default:
		ops->lock(vm->env, &vm->lock);
		r = enable_locked(vm, cap);
		ops->unlock(vm->env, &vm->lock);
		return r;
	}
}

int kvm_cap_enable_vcpu(struct kvm_vcpu *vcpu, const struct kvm_enable_cap *cap)
{
	if (cap->flags != 0) {
		return -EINVAL;
	}
	switch (cap->cap) {
	case KVM_CAP_ENFORCE_PV_FEATURE_CPUID:
		vcpu->enforce_pv_features = cap->args[0] != 0;
		return 0;
	default:
		return -EINVAL;
	}
}
