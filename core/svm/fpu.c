/*
 * Extended state (x87, SSE, AVX, ...) of guests. The kernel itself uses none, so the guest's stays
 * in the CPU between entries. If the thread loses its CPU meanwhile, the scheduler saves and loads
 * it as the thread's own: its area is the guest's for that time.
 */
#include "core/hw/context.h"
#include "core/hw/cpu.h"
#include "core/hw/irq.h"
#include "core/svm/internal.h"
#include "core/task/thread.h"

bool svm_fpu_enter(struct kvm_vcpu *vcpu)
{
	struct svm_vcpu *svm = svm_of(vcpu);
	struct user_state *user = &thread_current()->user;
	uint64_t mask = svm_features.xcr0;
	uint64_t flags;

	if (svm->fpu_live && (vcpu->changed & KVM_REGS_FPU) == 0) {
		return true;
	}
	/* What the CPU itself has saved there it takes back. */
	if ((vcpu->changed & KVM_REGS_FPU) != 0 && !fpu_area_is_valid(vcpu->xsave, mask)) {
		return false;
	}
	flags = irq_save();
	if (!svm->fpu_live) {
		user_state_save(user);
		svm->host_xsave = user->xsave;
		user->xsave = vcpu->xsave;
		svm->fpu_live = true;
	}
	fpu_load(vcpu->xsave, mask);
	irq_restore(flags);
	return true;
}

void svm_fpu_save(struct kvm_vcpu *vcpu)
{
	uint64_t flags;

	/*
	 * What was changed in the area and not entered yet is newer than what the CPU has. There
	 * is no thread that switches in between: the area is this one's.
	 */
	if (svm_of(vcpu)->fpu_live && (vcpu->changed & KVM_REGS_FPU) == 0) {
		flags = irq_save();
		fpu_save(vcpu->xsave, svm_features.xcr0);
		irq_restore(flags);
	}
}

void svm_leave(struct kvm_vcpu *vcpu)
{
	struct svm_vcpu *svm = svm_of(vcpu);
	struct user_state *user = &thread_current()->user;
	uint64_t flags;

	if (!svm->fpu_live) {
		return;
	}
	flags = irq_save();
	svm_fpu_save(vcpu);
	svm->fpu_live = false;
	user->xsave = svm->host_xsave;
	fpu_load(user->xsave, svm_features.xcr0);
	irq_restore(flags);
}
