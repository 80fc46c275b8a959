/*
 * The common part of all ioctls: a structure that comes in or goes out as a whole.
 */
#pragma once

#include "lib/kvm/env.h"

/** How an ioctl uses its argument; see abi/kvm/ioctls.def. */
enum kvm_call_argument {
	KVM_CALL_NONE,
	KVM_CALL_VALUE,
	KVM_CALL_IN,
	KVM_CALL_OUT,
	KVM_CALL_INOUT,
	KVM_CALL_USER,
};

/** Bytes of a structure, as the request's number says. Spec: Linux asm-generic/ioctl.h */
#define KVM_CALL_BYTES(request) ((request) >> 16 & 0x3fff)

/**
 * kvm_call_begin() - checks the argument, and brings the structure to @data.
 * @data: KVM_CALL_BYTES() are zeroed or filled.
 * Return: 0, -EINVAL, -EFAULT.
 */
must_use int kvm_call_begin(struct kvm_env *env, enum kvm_call_argument argument, uint32_t request,
			    uint64_t arg, void *data);

/** kvm_call_end() - brings the structure back if @result says so. Return: @result or -EFAULT. */
must_use int64_t kvm_call_end(struct kvm_env *env, enum kvm_call_argument argument,
			      uint32_t request, uint64_t arg, const void *data, int64_t result);
