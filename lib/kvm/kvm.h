/*
 * The KVM API, whole: what every provider of ours (core, soft) does alike with its ioctls. A
 * provider gives a struct kvm_env (env.h: its surroundings) and a struct kvm_backend (backend.h:
 * who executes), and forwards its descriptors' calls to the functions below.
 *
 *	open("/dev/kvm")	nothing
 *	ioctl on it		kvm_system_ioctl()	-> may call env->vm_fd()
 *	ioctl on a VM		kvm_vm_ioctl()		-> may call env->vcpu_fd()
 *	ioctl on a vCPU		kvm_vcpu_ioctl()
 *	mmap of a vCPU		kvm_vcpu_mmap() for each page
 *	last close of a VM	kvm_vm_release()
 *	last close of a vCPU	kvm_vcpu_release()
 *
 * abi/kvm/ioctls.def has a record of each ioctl that is offered, abi/kvm/caps.def of each
 * capability.
 * Spec: Linux Documentation/virt/kvm/api.rst (6.1); section numbers in lib/kvm are its own
 */
#pragma once

#include <linux/kvm.h>

#include "lib/base/types.h"

struct kvm_env;
struct kvm_vm;
struct kvm_vcpu;

/**
 * Pages of a vCPU's mapping: struct kvm_run, port data, coalesced ring. Far behind them, from
 * KVM_DIRTY_LOG_PAGE_OFFSET on, is the dirty ring, if there is one. Nothing is behind that.
 */
#define KVM_MAP_PAGES	   3
#define KVM_RING_PAGES_MAX 256
#define KVM_MAP_END	   (KVM_DIRTY_LOG_PAGE_OFFSET + KVM_RING_PAGES_MAX)

/**
 * kvm_system_ioctl() / kvm_vm_ioctl() / kvm_vcpu_ioctl() - one call on a descriptor.
 * @request: the number as user space gave it; @arg: likewise, mostly a user address.
 * Return: as ioctl() in a kernel: 0 or more, or -errno. Unknown requests are -EINVAL on the
 * system's and a vCPU's descriptor, -ENOTTY on a VM's, as Linux has it.
 * Context: a thread of the process that gave @arg; may sleep; no lock is held.
 */
must_use int64_t kvm_system_ioctl(struct kvm_env *env, uint32_t request, uint64_t arg);
must_use int64_t kvm_vm_ioctl(struct kvm_vm *vm, uint32_t request, uint64_t arg);
must_use int64_t kvm_vcpu_ioctl(struct kvm_vcpu *vcpu, uint32_t request, uint64_t arg);

/**
 * kvm_vcpu_mmap() - the memory behind page @page of a vCPU's mapping.
 * Return: a page of KVM_STORE_PAGES, or NULL if there is none: an access is a bus error.
 * Context: any; the page stays as long as the vCPU's descriptor.
 */
void *kvm_vcpu_mmap(struct kvm_vcpu *vcpu, uint64_t page);

/** kvm_vm_release() / kvm_vcpu_release() - the descriptor is gone. Context: may sleep. */
void kvm_vm_release(struct kvm_vm *vm);
void kvm_vcpu_release(struct kvm_vcpu *vcpu);
