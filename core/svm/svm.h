/*
 * AMD-V as lib/kvm's backend: struct kvm_backend over VMRUN.
 */
#pragma once

#include "lib/kvm/backend.h"

struct kvm_vm;
struct kvm_vcpu;

/**
 * svm_start() - turns AMD-V on, on all CPUs.
 * Return: the backend; NULL, and says why, if this machine has no AMD-V that can be used, or no
 * memory.
 * Context: start-up, all CPUs run.
 */
must_use const struct kvm_backend *svm_start(void);

/**
 * svm_leave() - the vCPU's thread goes back to ring 3: it has its own extended state again.
 * Context: the vCPU's thread.
 */
void svm_leave(struct kvm_vcpu *vcpu);

/**
 * svm_fpu_commit() - what was changed in vcpu->xsave goes to where the guest's state is now, before
 * the thread may lose its CPU. Context: the vCPU's thread.
 */
void svm_fpu_commit(struct kvm_vcpu *vcpu);

/** svm_kick() - has the vCPU come out of the guest, if it is there. Context: any. */
void svm_kick(struct kvm_vcpu *vcpu);
