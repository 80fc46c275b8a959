#include "lib/kvm/debug.h"

#include <errno.h>
#include <string.h>

#include "lib/kvm/events.h"
#include "lib/kvm/registers.h"
#include "lib/x86/regs.h"

#define EXC_DB	       1
#define EXC_BP	       3
#define DR6_ACTIVE_LOW UINT64_C(0xffff0ff0)

void kvm_debug_update(struct kvm_vcpu *vcpu)
{
	const uint64_t *db = vcpu->db;
	uint64_t dr7 = vcpu->dr7;

	if ((vcpu->debug_control & KVM_GUESTDBG_USE_HW_BP) != 0) {
		db = vcpu->debug_regs;
		/* The upper half has to be 0, or a CPU that loads it is in for a #GP. */
		dr7 = (uint32_t)vcpu->debug_regs[7];
	}
	memcpy(vcpu->hw_db, db, sizeof(vcpu->hw_db));
	vcpu->hw_dr7 = dr7;
	vcpu->single_step = (vcpu->debug_control & KVM_GUESTDBG_SINGLESTEP) != 0;
	vcpu->intercept_db =
		(vcpu->debug_control & (KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_HW_BP)) != 0;
	vcpu->intercept_bp = (vcpu->debug_control & KVM_GUESTDBG_USE_SW_BP) != 0;
	vcpu->changed |= KVM_REGS_DEBUG;
}

int kvm_debug_set(struct kvm_vcpu *vcpu, const struct kvm_guest_debug *debug)
{
	uint32_t control = debug->control;

	kvm_regs_need(vcpu, KVM_REGS_DEBUG);
	if ((control & (KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP)) != 0) {
		if (vcpu->events.exception.pending) {
			return -EBUSY;
		}
		kvm_event_exception(vcpu, (control & KVM_GUESTDBG_INJECT_DB) != 0 ? EXC_DB : EXC_BP,
				    0);
	}
	vcpu->debug_control = (control & KVM_GUESTDBG_ENABLE) != 0 ? control : 0;
	for (unsigned i = 0; i < ARRAY_SIZE(vcpu->debug_regs); i++) {
		vcpu->debug_regs[i] = debug->arch.debugreg[i];
	}
	kvm_debug_update(vcpu);
	vcpu->env->backend->features_changed(vcpu);
	kvm_vcpu_note(vcpu, KVM_REQ_EVENT); /* interrupts may have been held off */
	return 0;
}

void kvm_debug_before(struct kvm_vcpu *vcpu)
{
	kvm_regs_change(vcpu, KVM_REGS_CORE);
	vcpu->step_guest_tf = (vcpu->cpu.rflags & RFLAGS_TF) != 0;
	vcpu->cpu.rflags |= RFLAGS_TF;
}

void kvm_debug_after(struct kvm_vcpu *vcpu)
{
	if (!vcpu->step_guest_tf) {
		kvm_regs_change(vcpu, KVM_REGS_CORE);
		vcpu->cpu.rflags &= ~RFLAGS_TF;
	}
}

static void exit_debug(struct kvm_vcpu *vcpu, uint32_t exception, uint64_t dr6)
{
	struct kvm_run *run = vcpu->run;

	run->exit_reason = KVM_EXIT_DEBUG;
	run->debug.arch.pc = kvm_reg_linear_rip(vcpu);
	run->debug.arch.exception = exception;
	run->debug.arch.dr6 = dr6;
	kvm_regs_need(vcpu, KVM_REGS_DEBUG);
	run->debug.arch.dr7 = vcpu->hw_dr7;
}

bool kvm_debug_exception(struct kvm_vcpu *vcpu, uint8_t vector, uint64_t dr6)
{
	if (vector == EXC_BP) {
		if (vcpu->intercept_bp) {
			exit_debug(vcpu, EXC_BP, 0);
			return true;
		}
		kvm_event_exception(vcpu, EXC_BP, 0);
		return false;
	}
	if (vcpu->intercept_db) {
		exit_debug(vcpu, EXC_DB, dr6 | DR6_ACTIVE_LOW);
		return true;
	}
	kvm_event_exception_payload(vcpu, EXC_DB, 0, dr6 & ~DR6_ACTIVE_LOW);
	return false;
}

rare bool kvm_debug_stepped(struct kvm_vcpu *vcpu, bool was_set)
{
	if (vcpu->single_step) {
		exit_debug(vcpu, EXC_DB, DR6_BS | DR6_ACTIVE_LOW);
		return true;
	}
	if (was_set) {
		kvm_event_exception_payload(vcpu, EXC_DB, 0, DR6_BS);
	}
	return false;
}
