#include "lib/kvm/call.h"

#include <errno.h>
#include <string.h>

int kvm_call_begin(struct kvm_env *env, enum kvm_call_argument argument, uint32_t request,
		   uint64_t arg, void *data)
{
	switch (argument) {
	case KVM_CALL_NONE:
		return arg == 0 ? 0 : -EINVAL;
	case KVM_CALL_IN:
	case KVM_CALL_INOUT:
		return kvm_ops(env)->copy_in(env, data, arg, KVM_CALL_BYTES(request));
	case KVM_CALL_OUT:
		memset(data, 0, KVM_CALL_BYTES(request));
		return 0;
	default:
		return 0;
	}
}

int64_t kvm_call_end(struct kvm_env *env, enum kvm_call_argument argument, uint32_t request,
		     uint64_t arg, const void *data, int64_t result)
{
	if (result < 0 || (argument != KVM_CALL_OUT && argument != KVM_CALL_INOUT)) {
		return result;
	}
	return kvm_ops(env)->copy_out(env, arg, data, KVM_CALL_BYTES(request)) == 0 ? result
										    : -EFAULT;
}
