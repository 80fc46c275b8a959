/* What the kernel's side of core/svm shares; what can be tested hosted is in vcpu.h. */
#pragma once

#include "core/svm/asid.h"
#include "core/svm/npt.h"
#include "core/svm/svm.h"
#include "core/svm/vcpu.h"

extern struct kvm_backend svm_backend; /* constant after svm_backend_init() */
void svm_backend_init(void);

extern uint8_t *svm_iopm;

/* Extended state: the guest's is in the CPU from the first entry of a KVM_RUN to its end. */

/** svm_fpu_enter() - before the guest, where the CPU does not have the guest's yet. Return: false:
 * that is none that a CPU takes. */
must_use bool svm_fpu_enter(struct kvm_vcpu *vcpu);

/** svm_fpu_change() - the same where it has, and KVM_REGS_FPU has changed. */
must_use bool svm_fpu_change(struct kvm_vcpu *vcpu);

/** svm_fpu_save() - vcpu->xsave gets what the guest has now. */
void svm_fpu_save(struct kvm_vcpu *vcpu);
