/* Ioctls on /dev/kvm. */
#include <errno.h>
#include <linux/kvm.h>

#include "lib/kvm/call.h"
#include "lib/kvm/caps.h"
#include "lib/kvm/cpuid.h"
#include "lib/kvm/create.h"
#include "lib/kvm/kvm.h"
#include "lib/kvm/msr.h"

#define MSRS_MAX 256 /* of one KVM_GET_MSRS */

static int64_t get_api_version(struct kvm_env *env, uint64_t arg, void *data)
{
	(void)env;
	(void)arg;
	(void)data;
	return KVM_API_VERSION;
}

static int64_t create_vm(struct kvm_env *env, uint64_t arg, void *data)
{
	struct kvm_vm *vm;
	int64_t r;

	(void)data;
	if (arg != 0) {
		return -EINVAL; /* there is one type of VM */
	}
	r = kvm_vm_create(env, &vm);
	if (r != 0) {
		return r;
	}
	r = kvm_ops(env)->vm_fd(env, vm);
	if (r < 0) {
		kvm_vm_put(vm);
	}
	return r;
}

static int64_t check_extension(struct kvm_env *env, uint64_t arg, void *data)
{
	(void)data;
	return kvm_cap_check(env, arg);
}

static int64_t get_mmap_size(struct kvm_env *env, uint64_t arg, void *data)
{
	(void)env;
	(void)arg;
	(void)data;
	return KVM_MAP_PAGES * (int64_t)KVM_PAGE_BYTES;
}

/* A struct kvm_msr_list: the number always, the indices if there is room. */
static int64_t give_list(struct kvm_env *env, uint64_t arg, const uint32_t *list, uint32_t count)
{
	struct kvm_msr_list head;
	uint32_t room;

	if (kvm_ops(env)->copy_in(env, &head, arg, sizeof(head)) != 0) {
		return -EFAULT;
	}
	room = head.nmsrs;
	head.nmsrs = count;
	if (kvm_ops(env)->copy_out(env, arg, &head, sizeof(head)) != 0) {
		return -EFAULT;
	}
	if (room < count) {
		return -E2BIG;
	}
	return kvm_ops(env)->copy_out(env, arg + sizeof(head), list, count * sizeof(*list));
}

static int64_t get_msr_index_list(struct kvm_env *env, uint64_t arg, void *data)
{
	uint32_t list[KVM_MSR_LIST_MAX];

	(void)data;
	return give_list(env, arg, list, kvm_msr_list(env, list));
}

static int64_t get_feature_list(struct kvm_env *env, uint64_t arg, void *data)
{
	uint32_t list[KVM_MSR_LIST_MAX];

	(void)data;
	return give_list(env, arg, list, kvm_msr_feature_list(list));
}

static int64_t get_feature_msrs(struct kvm_env *env, uint64_t arg, void *data)
{
	struct kvm_msrs head;
	uint32_t done = 0;

	(void)data;
	if (kvm_ops(env)->copy_in(env, &head, arg, sizeof(head)) != 0) {
		return -EFAULT;
	}
	if (head.nmsrs >= MSRS_MAX) {
		return -E2BIG;
	}
	for (; done < head.nmsrs; done++) {
		uint64_t at = arg + sizeof(head) + done * sizeof(struct kvm_msr_entry);
		struct kvm_msr_entry entry;
		uint64_t value;

		if (kvm_ops(env)->copy_in(env, &entry, at, sizeof(entry)) != 0) {
			return -EFAULT;
		}
		if (kvm_msr_feature(env, entry.index, &value) != 0) {
			break;
		}
		entry.data = value;
		if (kvm_ops(env)->copy_out(env, at, &entry, sizeof(entry)) != 0) {
			return -EFAULT;
		}
	}
	return done;
}

static int64_t give_cpuid(struct kvm_env *env, uint64_t arg,
			  int (*fill)(struct kvm_env *env, struct kvm_cpuid_entry2 *entries,
				      uint32_t room, uint32_t *count))
{
	const struct kvm_env_ops *ops = kvm_ops(env);
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 *entries;
	uint32_t room;
	uint32_t count;
	int r;

	if (ops->copy_in(env, &head, arg, sizeof(head)) != 0) {
		return -EFAULT;
	}
	if (head.nent < 1) {
		return -E2BIG;
	}
	room = MIN(head.nent, (uint32_t)KVM_CPUID_MAX);
	entries = ops->alloc(env, KVM_STORE_TABLE, room * sizeof(*entries));
	if (entries == NULL) {
		return -ENOMEM;
	}
	r = fill(env, entries, room, &count);
	if (r == 0) {
		head.nent = count;
		r = ops->copy_out(env, arg + sizeof(head), entries, count * sizeof(*entries));
	}
	if (r == 0) {
		r = ops->copy_out(env, arg, &head, sizeof(head));
	}
	ops->free(env, KVM_STORE_TABLE, entries, room * sizeof(*entries));
	return r;
}

static int64_t get_supported_cpuid(struct kvm_env *env, uint64_t arg, void *data)
{
	(void)data;
	return give_cpuid(env, arg, kvm_cpuid_supported);
}

static int64_t get_emulated_cpuid(struct kvm_env *env, uint64_t arg, void *data)
{
	(void)data;
	return give_cpuid(env, arg, kvm_cpuid_emulated);
}

static int64_t has_attr(struct kvm_env *env, uint64_t arg, void *data)
{
	const struct kvm_device_attr *attr = data;

	(void)env;
	(void)arg;
	return attr->group == 0 && attr->attr == KVM_X86_XCOMP_GUEST_SUPP ? 0 : -ENXIO;
}

static int64_t get_attr(struct kvm_env *env, uint64_t arg, void *data)
{
	const struct kvm_device_attr *attr = data;
	int64_t r = has_attr(env, arg, data);

	return r != 0 ? r
		      : kvm_ops(env)->copy_out(env, attr->addr, &env->backend->xcr0,
					       sizeof(env->backend->xcr0));
}

static const struct {
	uint32_t request;
	enum kvm_call_argument argument;
	int64_t (*handler)(struct kvm_env *env, uint64_t arg, void *data);
} calls[] = {
#define IOCTL_SYSTEM(request, argument, capability, handler) \
	{(uint32_t)request, KVM_CALL_##argument, handler},
#include "abi/kvm/ioctls.def"
};

static __attribute__((noinline)) int64_t call(struct kvm_env *env, uint32_t request, uint64_t arg)
{
	uint64_t data[8];

	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		if (calls[i].request == request) {
			int64_t r = kvm_call_begin(env, calls[i].argument, request, arg, data);

			return r != 0 ? r
				      : kvm_call_end(env, calls[i].argument, request, arg, data,
						     calls[i].handler(env, arg, data));
		}
	}
	return -EINVAL;
}

int64_t kvm_system_ioctl(struct kvm_env *env, uint32_t request, uint64_t arg)
{
	/* What programs ask to see whether we are there. */
	if (request == KVM_GET_API_VERSION && arg == 0) {
		return KVM_API_VERSION;
	}
	return call(env, request, arg);
}
