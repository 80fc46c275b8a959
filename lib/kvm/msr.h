/*
 * Model-specific registers: one table says which there are, what they may hold and who may ask.
 */
#pragma once

#include "lib/kvm/vcpu.h"

#define KVM_MSR_LIST_MAX 128

/**
 * kvm_msr_get() / kvm_msr_set() - reads or writes one.
 * @host: for user space, by ioctl; otherwise for the guest's RDMSR or WRMSR.
 * Return: 0; -ENOENT: there is none of that number, or not for this guest; -EINVAL: not this value.
 * A guest gets #GP for both.
 * Context: the vCPU's thread; a write may reach guest memory: vm->memory is not held.
 */
must_use int kvm_msr_get(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t *value, bool host);
must_use int kvm_msr_set(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t value, bool host);

/** kvm_msr_list() - numbers for KVM_GET_MSR_INDEX_LIST. Return: how many of KVM_MSR_LIST_MAX. */
uint32_t kvm_msr_list(const struct kvm_env *env, uint32_t list[KVM_MSR_LIST_MAX]);

/** kvm_msr_feature_list() - those of KVM_GET_MSR_FEATURE_INDEX_LIST. Return: how many. */
uint32_t kvm_msr_feature_list(uint32_t list[KVM_MSR_LIST_MAX]);

/** kvm_msr_feature() - what the provider supports in a feature MSR. Return: 0 or -ENOENT. */
must_use int kvm_msr_feature(const struct kvm_env *env, uint32_t msr, uint64_t *value);

/** kvm_msr_reset() - values after power-on, or (@init) after INIT. */
void kvm_msr_reset(struct kvm_vcpu *vcpu, bool init);
