/*
 * Extended state (x87, SSE, AVX, ...) of guests. The kernel itself uses none, so the guest's stays
 * in the CPU between entries. If the thread loses its CPU meanwhile, the scheduler saves and loads
 * it as the thread's own: its area is the guest's for that time.
 */
#include "core/hw/asm.h"
#include "core/hw/context.h"
#include "core/hw/cpu.h"
#include "core/hw/svm.h"
#include "core/svm/internal.h"
#include "core/task/thread.h"

/* No interrupt handler touches that state, and nothing takes the CPU from a thread in the kernel.
 */

static inline void save(void *area)
{
	if (svm_features.xsaveopt) {
		asm_xsaveopt(area, svm_features.xcr0);
	} else {
		fpu_save(area, svm_features.xcr0);
	}
}

static inline void load(const void *area)
{
	if (svm_features.xsave) {
		asm_xrstor(area, svm_features.xcr0);
	} else {
		asm_fxrstor(area);
	}
}

rare bool svm_fpu_change(struct kvm_vcpu *vcpu)
{
	/* What the CPU itself has saved there it takes back. */
	if (!fpu_area_is_valid(vcpu->xsave, svm_features.xcr0)) {
		return false;
	}
	if (!svm_of(vcpu)->fpu_away) {
		load(vcpu->xsave);
	}
	return true;
}

void svm_fpu_enter(struct kvm_vcpu *vcpu)
{
	struct svm_vcpu *svm = svm_of(vcpu);
	const struct svm_cpu *cpu = cpu_this()->virt;
	struct user_state *user = &thread_current()->user;

	save(user->xsave);
	svm->host_xsave = user->xsave;
	user->xsave = vcpu->xsave;
	svm->fpu_away = false;
	/*
	 * It may be another thread that runs the vCPU now. Where that is not at home, it is saved
	 * when it comes: until then what is there is another vCPU's, whose thread may be next.
	 */
	if (cpu->last == svm) {
		svm_vmsave(cpu->host);
	}
	load(vcpu->xsave);
}

void svm_fpu_save(struct kvm_vcpu *vcpu)
{
	/*
	 * What was changed in the area and not entered yet is newer than what the CPU has. There
	 * is no thread that switches in between: the area is this one's.
	 */
	if (!svm_of(vcpu)->fpu_away && (vcpu->changed & KVM_REGS_FPU) == 0) {
		save(vcpu->xsave);
	}
}

void svm_fpu_commit(struct kvm_vcpu *vcpu)
{
	if (!svm_of(vcpu)->fpu_away && (vcpu->changed & KVM_REGS_FPU) != 0 &&
	    svm_fpu_change(vcpu)) {
		vcpu->changed &= ~(uint32_t)KVM_REGS_FPU;
	}
}

void svm_leave(struct kvm_vcpu *vcpu)
{
	struct svm_vcpu *svm = svm_of(vcpu);

	if (!svm->fpu_away) {
		struct user_state *user = &thread_current()->user;

		svm_fpu_save(vcpu);
		svm->fpu_away = true;
		user->xsave = svm->host_xsave;
		load(user->xsave);
	}
}
