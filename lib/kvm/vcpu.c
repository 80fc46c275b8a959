/* Ioctls on a vCPU. */
#include "lib/kvm/vcpu.h"

#include <errno.h>
#include <string.h>

#include "lib/kvm/call.h"
#include "lib/kvm/caps.h"
#include "lib/kvm/clock.h"
#include "lib/kvm/cpuid.h"
#include "lib/kvm/debug.h"
#include "lib/kvm/emul.h"
#include "lib/kvm/events.h"
#include "lib/kvm/irq.h"
#include "lib/kvm/kvm.h"
#include "lib/kvm/msr.h"
#include "lib/kvm/run.h"
#include "lib/kvm/state.h"

#define MSRS_MAX     256 /* of one KVM_GET_MSRS or KVM_SET_MSRS */
#define SIGSET_BYTES 8	 /* of a kernel's signal mask */

static int64_t run(struct kvm_vcpu *vcpu, uint64_t arg, void *data)
{
	(void)arg;
	(void)data;
	return kvm_run(vcpu);
}

static int64_t interrupt(struct kvm_vcpu *vcpu, uint64_t arg, void *data)
{
	const struct kvm_interrupt *in = data;

	(void)arg;
	if (in->irq > UINT8_MAX) {
		return -EINVAL;
	}
	switch (vcpu->vm->irqchip) {
	case KVM_IRQCHIP_NONE:
		kvm_event_interrupt(vcpu, (uint8_t)in->irq);
		return 0;
	case KVM_IRQCHIP_SPLIT:
		return kvm_irq_extint(vcpu, in->irq);
	default:
		return -ENXIO;
	}
}

static int64_t nmi(struct kvm_vcpu *vcpu, uint64_t arg, void *data)
{
	(void)arg;
	(void)data;
	kvm_vcpu_nmi(vcpu);
	return 0;
}

/* ---- structures ---- */

#define GETTER(handler, type, function)                                         \
	static int64_t handler(struct kvm_vcpu *vcpu, uint64_t arg, void *data) \
	{                                                                       \
		(void)arg;                                                      \
		function(vcpu, (struct type *)data);                            \
		return 0;                                                       \
	}
#define SETTER(handler, type, function)                                         \
	static int64_t handler(struct kvm_vcpu *vcpu, uint64_t arg, void *data) \
	{                                                                       \
		(void)arg;                                                      \
		return function(vcpu, (const struct type *)data);               \
	}

GETTER(get_regs, kvm_regs, kvm_state_get_regs)
GETTER(get_sregs, kvm_sregs, kvm_state_get_sregs)
SETTER(set_sregs, kvm_sregs, kvm_state_set_sregs)
GETTER(get_sregs2, kvm_sregs2, kvm_state_get_sregs2)
SETTER(set_sregs2, kvm_sregs2, kvm_state_set_sregs2)
GETTER(get_mp_state, kvm_mp_state, kvm_state_get_mp)
SETTER(set_mp_state, kvm_mp_state, kvm_state_set_mp)
GETTER(get_events, kvm_vcpu_events, kvm_state_get_events)
SETTER(set_events, kvm_vcpu_events, kvm_state_set_events)
GETTER(get_fpu, kvm_fpu, kvm_state_get_fpu)
GETTER(get_debugregs, kvm_debugregs, kvm_state_get_debugregs)
SETTER(set_debugregs, kvm_debugregs, kvm_state_set_debugregs)
GETTER(get_xcrs, kvm_xcrs, kvm_state_get_xcrs)
SETTER(set_xcrs, kvm_xcrs, kvm_state_set_xcrs)

static int64_t set_regs(struct kvm_vcpu *vcpu, uint64_t arg, void *data)
{
	(void)arg;
	kvm_state_set_regs(vcpu, data);
	return 0;
}

static int64_t set_fpu(struct kvm_vcpu *vcpu, uint64_t arg, void *data)
{
	(void)arg;
	kvm_state_set_fpu(vcpu, data);
	return 0;
}

static int64_t get_lapic(struct kvm_vcpu *vcpu, uint64_t arg, void *data)
{
	(void)arg;
	return vcpu->apic == NULL ? -EINVAL : kvm_irq_get_lapic(vcpu, data);
}

static int64_t set_lapic(struct kvm_vcpu *vcpu, uint64_t arg, void *data)
{
	(void)arg;
	return vcpu->apic == NULL ? -EINVAL : kvm_irq_set_lapic(vcpu, data);
}

static int64_t set_guest_debug(struct kvm_vcpu *vcpu, uint64_t arg, void *data)
{
	(void)arg;
	return kvm_debug_set(vcpu, data);
}

static int64_t translate(struct kvm_vcpu *vcpu, uint64_t arg, void *data)
{
	const struct kvm_env_ops *ops = kvm_ops(vcpu->env);
	struct kvm_translation *t = data;
	struct walk_result result;
	enum walk_outcome outcome;

	(void)arg;
	ops->lock_read(vcpu->env, &vcpu->vm->memory);
	/* Rights of the page are not reported: as a supervisor reads, and SMAP does not count. */
	outcome = kvm_emul_translate(vcpu, t->linear_address, 0, &result);
	ops->unlock_read(vcpu->env, &vcpu->vm->memory);
	t->physical_address = outcome == WALK_OK ? result.gpa : UINT64_MAX;
	t->valid = outcome == WALK_OK;
	t->writeable = 1;
	t->usermode = 0;
	return 0;
}

/* ---- MSRs ---- */

/*
 * One KVM_GET_MSRS or KVM_SET_MSRS. All of the list is read before anything happens; the first
 * entry that is refused ends it.
 */
static int64_t msrs(struct kvm_vcpu *vcpu, uint64_t arg, bool set)
{
	const struct kvm_env_ops *ops = kvm_ops(vcpu->env);
	struct kvm_msr_entry *entries = (struct kvm_msr_entry *)vcpu->scratch;
	struct kvm_msrs head;
	uint32_t done = 0;

	if (ops->copy_in(vcpu->env, &head, arg, sizeof(head)) != 0) {
		return -EFAULT;
	}
	if (head.nmsrs >= MSRS_MAX) {
		return -E2BIG;
	}
	if (ops->copy_in(vcpu->env, entries, arg + sizeof(head), head.nmsrs * sizeof(*entries)) !=
	    0) {
		return -EFAULT;
	}
	for (; done < head.nmsrs; done++) {
		uint64_t value = entries[done].data;
		int r = set ? kvm_msr_set(vcpu, entries[done].index, value, true)
			    : kvm_msr_get(vcpu, entries[done].index, &value, true);

		if (r != 0) {
			break;
		}
		entries[done].data = value;
	}
	if (!set && ops->copy_out(vcpu->env, arg + sizeof(head), entries,
				  head.nmsrs * sizeof(*entries)) != 0) {
		return -EFAULT;
	}
	return done;
}

static int64_t get_msrs(struct kvm_vcpu *vcpu, uint64_t arg, void *data)
{
	(void)data;
	return msrs(vcpu, arg, false);
}

static int64_t set_msrs(struct kvm_vcpu *vcpu, uint64_t arg, void *data)
{
	(void)data;
	return msrs(vcpu, arg, true);
}

/* ---- CPUID ---- */

static int64_t set_cpuid2(struct kvm_vcpu *vcpu, uint64_t arg, void *data)
{
	const struct kvm_env_ops *ops = kvm_ops(vcpu->env);
	struct kvm_cpuid_entry2 *entries;
	struct kvm_cpuid2 head;
	int r;

	(void)data;
	if (ops->copy_in(vcpu->env, &head, arg, sizeof(head)) != 0) {
		return -EFAULT;
	}
	if (head.nent > KVM_CPUID_MAX) {
		return -E2BIG;
	}
	entries = ops->alloc(vcpu->env, KVM_STORE_TABLE, MAX(head.nent, 1u) * sizeof(*entries));
	if (entries == NULL) {
		return -ENOMEM;
	}
	r = ops->copy_in(vcpu->env, entries, arg + sizeof(head), head.nent * sizeof(*entries));
	if (r == 0) {
		r = kvm_cpuid_set(vcpu, entries, head.nent);
	}
	if (r != 0) {
		kvm_cpuid_free(vcpu->env, entries, head.nent);
	}
	return r;
}

static int64_t get_cpuid2(struct kvm_vcpu *vcpu, uint64_t arg, void *data)
{
	const struct kvm_env_ops *ops = kvm_ops(vcpu->env);
	struct kvm_cpuid2 head;

	(void)data;
	if (ops->copy_in(vcpu->env, &head, arg, sizeof(head)) != 0) {
		return -EFAULT;
	}
	if (head.nent < vcpu->cpuid_count) {
		return -E2BIG;
	}
	head.nent = vcpu->cpuid_count;
	if (head.nent != 0 && ops->copy_out(vcpu->env, arg + sizeof(head), vcpu->cpuid,
					    head.nent * sizeof(*vcpu->cpuid)) != 0) {
		return -EFAULT;
	}
	return ops->copy_out(vcpu->env, arg, &head, sizeof(head));
}

/* ---- XSAVE ---- */

static int64_t give_xsave(struct kvm_vcpu *vcpu, uint64_t arg, uint32_t bytes)
{
	kvm_state_get_xsave(vcpu, vcpu->scratch, bytes);
	return kvm_ops(vcpu->env)->copy_out(vcpu->env, arg, vcpu->scratch, bytes);
}

static int64_t get_xsave(struct kvm_vcpu *vcpu, uint64_t arg, void *data)
{
	(void)data;
	/* What does not fit cannot be had by this. */
	if (kvm_state_xsave_bytes(vcpu->env) > sizeof(struct kvm_xsave)) {
		return -EINVAL;
	}
	return give_xsave(vcpu, arg, sizeof(struct kvm_xsave));
}

static int64_t get_xsave2(struct kvm_vcpu *vcpu, uint64_t arg, void *data)
{
	(void)data;
	return give_xsave(vcpu, arg, kvm_state_xsave_bytes(vcpu->env));
}

static int64_t set_xsave(struct kvm_vcpu *vcpu, uint64_t arg, void *data)
{
	uint32_t bytes = kvm_state_xsave_bytes(vcpu->env);

	(void)data;
	if (kvm_ops(vcpu->env)->copy_in(vcpu->env, vcpu->scratch, arg, bytes) != 0) {
		return -EFAULT;
	}
	return kvm_state_set_xsave(vcpu, vcpu->scratch, bytes);
}

/* ---- the rest ---- */

static int64_t set_signal_mask(struct kvm_vcpu *vcpu, uint64_t arg, void *data)
{
	const struct kvm_env_ops *ops = kvm_ops(vcpu->env);
	struct kvm_signal_mask head;

	(void)data;
	if (arg == 0) {
		return ops->signal_mask(vcpu->env, vcpu, 0, 0);
	}
	if (ops->copy_in(vcpu->env, &head, arg, sizeof(head)) != 0) {
		return -EFAULT;
	}
	if (head.len != SIGSET_BYTES) {
		return -EINVAL;
	}
	return ops->signal_mask(vcpu->env, vcpu, arg + sizeof(head), head.len);
}

static int64_t set_tsc_khz(struct kvm_vcpu *vcpu, uint64_t arg, void *data)
{
	(void)data;
	return kvm_clock_set_khz(vcpu, (uint32_t)arg);
}

static int64_t get_tsc_khz(struct kvm_vcpu *vcpu, uint64_t arg, void *data)
{
	(void)arg;
	(void)data;
	return (int64_t)vcpu->tsc_khz;
}

static int64_t kvmclock_ctrl(struct kvm_vcpu *vcpu, uint64_t arg, void *data)
{
	(void)arg;
	(void)data;
	return kvm_clock_pause(vcpu);
}

static int64_t enable_cap(struct kvm_vcpu *vcpu, uint64_t arg, void *data)
{
	(void)arg;
	return kvm_cap_enable_vcpu(vcpu, data);
}

static int64_t has_attr(struct kvm_vcpu *vcpu, uint64_t arg, void *data)
{
	const struct kvm_device_attr *attr = data;

	(void)vcpu;
	(void)arg;
	return attr->group == KVM_VCPU_TSC_CTRL && attr->attr == KVM_VCPU_TSC_OFFSET ? 0 : -ENXIO;
}

static int64_t get_attr(struct kvm_vcpu *vcpu, uint64_t arg, void *data)
{
	const struct kvm_device_attr *attr = data;
	int64_t r = has_attr(vcpu, arg, data);

	return r != 0 ? r
		      : kvm_ops(vcpu->env)->copy_out(vcpu->env, attr->addr, &vcpu->tsc_offset,
						     sizeof(vcpu->tsc_offset));
}

static int64_t set_attr(struct kvm_vcpu *vcpu, uint64_t arg, void *data)
{
	const struct kvm_device_attr *attr = data;
	int64_t r = has_attr(vcpu, arg, data);
	uint64_t offset;

	if (r != 0) {
		return r;
	}
	if (kvm_ops(vcpu->env)->copy_in(vcpu->env, &offset, attr->addr, sizeof(offset)) != 0) {
		return -EFAULT;
	}
	kvm_clock_set_offset(vcpu, offset);
	return 0;
}

#define IOCTL_VCPU(request, argument, capability, handler)                \
	_Static_assert(KVM_CALL_##argument == KVM_CALL_USER ||            \
			       KVM_CALL_BYTES(request) <= KVM_PAGE_BYTES, \
		       "room for the structure");
#include "abi/kvm/ioctls.def"

static const struct {
	uint32_t request;
	enum kvm_call_argument argument;
	int64_t (*handler)(struct kvm_vcpu *vcpu, uint64_t arg, void *data);
} calls[] = {
#define IOCTL_VCPU(request, argument, capability, handler) \
	{(uint32_t)request, KVM_CALL_##argument, handler},
#include "abi/kvm/ioctls.def"
};

static __attribute__((noinline)) int64_t call_locked(struct kvm_vcpu *vcpu, uint32_t request,
						     uint64_t arg)
{
	struct kvm_env *env = vcpu->env;

	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		if (calls[i].request == request) {
			void *data = vcpu->scratch;
			int64_t r = kvm_call_begin(env, calls[i].argument, request, arg, data);

			return r != 0 ? r
				      : kvm_call_end(env, calls[i].argument, request, arg, data,
						     calls[i].handler(vcpu, arg, data));
		}
	}
	return -EINVAL;
}

int64_t kvm_vcpu_ioctl(struct kvm_vcpu *vcpu, uint32_t request, uint64_t arg)
{
	struct kvm_env *env = vcpu->env;
	int64_t r;

	if (!kvm_ops(env)->owns(env, vcpu->vm) ||
	    __atomic_load_n((bool *)&vcpu->vm->dead, __ATOMIC_RELAXED)) {
		return -EIO;
	}
	if (kvm_ops(env)->lock_killable(env, &vcpu->lock) != 0) {
		return -EINTR;
	}
	r = request == KVM_RUN && arg == 0 ? run(vcpu, arg, NULL) : call_locked(vcpu, request, arg);
	kvm_ops(env)->unlock(env, &vcpu->lock);
	return r;
}
