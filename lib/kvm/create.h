/*
 * How VMs and vCPUs come and go.
 */
#pragma once

#include "lib/kvm/vcpu.h"

/** kvm_vm_create() - a VM with one reference. Return: 0 or -ENOMEM, or what the backend says. */
must_use int kvm_vm_create(struct kvm_env *env, struct kvm_vm **vm);

/** kvm_vm_put() - gives a reference back; with the last one all goes. Context: may sleep. */
void kvm_vm_put(struct kvm_vm *vm);

/**
 * kvm_vcpu_create() - a vCPU with APIC ID @id, and its descriptor.
 * Return: the descriptor; -EINVAL: too many, or too large a number; -EEXIST; -ENOMEM; or what the
 * backend or the surroundings say.
 */
must_use int64_t kvm_vcpu_create(struct kvm_vm *vm, uint64_t id);
