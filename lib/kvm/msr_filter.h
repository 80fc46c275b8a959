/*
 * The filter of a VM: which MSRs its guest may read and write.
 * Spec: Linux Documentation/virt/kvm/api.rst, 4.97 KVM_X86_SET_MSR_FILTER
 */
#pragma once

#include <linux/kvm.h>

#include "lib/kvm/vm.h"

/**
 * kvm_msr_filter_set() - KVM_X86_SET_MSR_FILTER; all ranges empty: no filter.
 * Return: 0; -EINVAL; -EFAULT: a bitmap is not there; -ENOMEM.
 * Context: may sleep; takes vm->memory for writing.
 */
must_use int kvm_msr_filter_set(struct kvm_vm *vm, const struct kvm_msr_filter *filter);

/** kvm_msr_filter_allows() - may the guest? Context: vm->memory for reading. */
must_use bool kvm_msr_filter_allows(const struct kvm_vm *vm, uint32_t msr, bool write);

/** kvm_msr_filter_fini() - takes it away. */
void kvm_msr_filter_fini(struct kvm_vm *vm);
