/* Ioctls on a VM. */
#include "lib/kvm/vm.h"

#include <errno.h>
#include <linux/kvm.h>

#include "lib/kvm/bus.h"
#include "lib/kvm/call.h"
#include "lib/kvm/caps.h"
#include "lib/kvm/clock.h"
#include "lib/kvm/create.h"
#include "lib/kvm/dirty.h"
#include "lib/kvm/dirty_ring.h"
#include "lib/kvm/irq.h"
#include "lib/kvm/kvm.h"
#include "lib/kvm/msr_filter.h"

#define MMU_PAGES_MIN 64 /* as Linux has it */
#define TSS_PAGES     3

/* The largest structure of an ioctl on a VM. */
#define DATA_BYTES 640

static int64_t irq_line_status(struct kvm_vm *vm, uint64_t arg, void *data)
{
	struct kvm_irq_level *line = data;
	int status = 0;
	int r = kvm_irq_line(vm, line->irq, line->level != 0, &status);

	(void)arg;
	line->status = status;
	return r;
}

static int64_t irq_line(struct kvm_vm *vm, uint64_t arg, void *data)
{
	return irq_line_status(vm, arg, data);
}

static int64_t signal_msi(struct kvm_vm *vm, uint64_t arg, void *data)
{
	(void)arg;
	return kvm_irq_signal_msi(vm, data);
}

/* One at a time, so that two readers do not share the bits between them. Neither: the rings. */
static int64_t with_log(struct kvm_vm *vm, const struct kvm_dirty_log *get,
			const struct kvm_clear_dirty_log *clear)
{
	const struct kvm_env_ops *ops = kvm_ops(vm->env);
	int r;

	ops->lock(vm->env, &vm->lock);
	ops->lock_read(vm->env, &vm->memory);
	if (get != NULL) {
		r = kvm_dirty_get(vm, get);
	} else if (clear != NULL) {
		r = kvm_dirty_clear(vm, clear);
	} else {
		r = kvm_ring_reset(vm);
	}
	ops->unlock_read(vm->env, &vm->memory);
	ops->unlock(vm->env, &vm->lock);
	return r;
}

static int64_t get_dirty_log(struct kvm_vm *vm, uint64_t arg, void *data)
{
	(void)arg;
	return with_log(vm, data, NULL);
}

static int64_t clear_dirty_log(struct kvm_vm *vm, uint64_t arg, void *data)
{
	(void)arg;
	return with_log(vm, NULL, data);
}

static int64_t reset_dirty_rings(struct kvm_vm *vm, uint64_t arg, void *data)
{
	(void)arg;
	(void)data;
	return with_log(vm, NULL, NULL);
}

static int64_t create_vcpu(struct kvm_vm *vm, uint64_t arg, void *data)
{
	(void)data;
	return kvm_vcpu_create(vm, arg);
}

static int64_t check_extension(struct kvm_vm *vm, uint64_t arg, void *data)
{
	(void)data;
	return kvm_cap_check(vm->env, arg);
}

static int64_t enable_cap(struct kvm_vm *vm, uint64_t arg, void *data)
{
	(void)arg;
	return kvm_cap_enable(vm, data);
}

static int64_t set_user_memory_region(struct kvm_vm *vm, uint64_t arg, void *data)
{
	const struct kvm_env_ops *ops = kvm_ops(vm->env);
	int r;

	(void)arg;
	ops->lock(vm->env, &vm->memory);
	r = kvm_slots_set(vm, data);
	ops->unlock(vm->env, &vm->memory);
	return r;
}

/* Only Intel CPUs without unrestricted guest need the two; the numbers are checked nevertheless. */
static int64_t set_tss_addr(struct kvm_vm *vm, uint64_t arg, void *data)
{
	(void)vm;
	(void)data;
	return arg > (uint32_t) - (TSS_PAGES * KVM_PAGE_BYTES) ? -EINVAL : 0;
}

static int64_t set_identity_map_addr(struct kvm_vm *vm, uint64_t arg, void *data)
{
	const struct kvm_env_ops *ops = kvm_ops(vm->env);
	bool has_vcpus;

	(void)arg;
	(void)data;
	ops->lock(vm->env, &vm->lock);
	has_vcpus = kvm_vm_count(vm) != 0;
	ops->unlock(vm->env, &vm->lock);
	return has_vcpus ? -EINVAL : 0;
}

static int64_t set_nr_mmu_pages(struct kvm_vm *vm, uint64_t arg, void *data)
{
	(void)data;
	if (arg < MMU_PAGES_MIN || arg > UINT32_MAX) {
		return -EINVAL;
	}
	__atomic_store_n(&vm->mmu_pages, (uint32_t)arg, __ATOMIC_RELAXED);
	return 0;
}

static int64_t get_nr_mmu_pages(struct kvm_vm *vm, uint64_t arg, void *data)
{
	(void)arg;
	(void)data;
	return __atomic_load_n(&vm->mmu_pages, __ATOMIC_RELAXED);
}

static int64_t set_boot_cpu_id(struct kvm_vm *vm, uint64_t arg, void *data)
{
	const struct kvm_env_ops *ops = kvm_ops(vm->env);
	int r = 0;

	(void)data;
	ops->lock(vm->env, &vm->lock);
	if (kvm_vm_count(vm) != 0) {
		r = -EBUSY;
	} else {
		vm->bootstrap_id = (uint32_t)arg;
	}
	ops->unlock(vm->env, &vm->lock);
	return r;
}

static int64_t create_irqchip(struct kvm_vm *vm, uint64_t arg, void *data)
{
	const struct kvm_env_ops *ops = kvm_ops(vm->env);
	int r;

	(void)arg;
	(void)data;
	ops->lock(vm->env, &vm->lock);
	if (vm->irqchip != KVM_IRQCHIP_NONE) {
		r = -EEXIST;
	} else if (kvm_vm_count(vm) != 0) {
		r = -EINVAL;
	} else {
		r = kvm_irq_create_full(vm);
	}
	ops->unlock(vm->env, &vm->lock);
	return r;
}

static int64_t get_irqchip(struct kvm_vm *vm, uint64_t arg, void *data)
{
	(void)arg;
	return vm->irqchip != KVM_IRQCHIP_FULL ? -ENXIO : kvm_irq_get_chip(vm, data);
}

static int64_t set_irqchip(struct kvm_vm *vm, uint64_t arg, void *data)
{
	(void)arg;
	return vm->irqchip != KVM_IRQCHIP_FULL ? -ENXIO : kvm_irq_set_chip(vm, data);
}

static int64_t set_gsi_routing(struct kvm_vm *vm, uint64_t arg, void *data)
{
	const struct kvm_env_ops *ops = kvm_ops(vm->env);
	struct kvm_irq_routing head;
	struct kvm_irq_routing_entry *entries = NULL;
	size_t bytes;
	int r;

	(void)data;
	if (ops->copy_in(vm->env, &head, arg, sizeof(head)) != 0) {
		return -EFAULT;
	}
	if (vm->irqchip == KVM_IRQCHIP_NONE || head.nr > KVM_MAX_IRQ_ROUTES || head.flags != 0) {
		return -EINVAL;
	}
	bytes = head.nr * sizeof(*entries);
	if (head.nr != 0) {
		entries = ops->alloc(vm->env, KVM_STORE_TABLE, bytes);
		if (entries == NULL) {
			return -ENOMEM;
		}
		r = ops->copy_in(vm->env, entries, arg + sizeof(head), bytes);
		if (r != 0) {
			goto free;
		}
	}
	r = kvm_irq_set_routing(vm, entries, head.nr, head.flags);
free:
	if (entries != NULL) {
		ops->free(vm->env, KVM_STORE_TABLE, entries, bytes);
	}
	return r;
}

static int64_t irqfd(struct kvm_vm *vm, uint64_t arg, void *data)
{
	(void)arg;
	return kvm_irq_irqfd(vm, data);
}

static int64_t ioeventfd(struct kvm_vm *vm, uint64_t arg, void *data)
{
	(void)arg;
	return kvm_bus_ioeventfd(vm, data);
}

static int64_t register_coalesced(struct kvm_vm *vm, uint64_t arg, void *data)
{
	(void)arg;
	return kvm_bus_register(vm, data);
}

static int64_t unregister_coalesced(struct kvm_vm *vm, uint64_t arg, void *data)
{
	(void)arg;
	return kvm_bus_unregister(vm, data);
}

static int64_t make_pit(struct kvm_vm *vm, uint32_t flags)
{
	int r;

	kvm_ops(vm->env)->lock(vm->env, &vm->lock);
	r = kvm_irq_create_pit(vm, flags);
	kvm_ops(vm->env)->unlock(vm->env, &vm->lock);
	return r;
}

static int64_t create_pit(struct kvm_vm *vm, uint64_t arg, void *data)
{
	(void)arg;
	(void)data;
	return make_pit(vm, KVM_PIT_SPEAKER_DUMMY);
}

static int64_t create_pit2(struct kvm_vm *vm, uint64_t arg, void *data)
{
	(void)arg;
	return make_pit(vm, ((const struct kvm_pit_config *)data)->flags);
}

static int64_t get_pit2(struct kvm_vm *vm, uint64_t arg, void *data)
{
	(void)arg;
	return kvm_irq_get_pit(vm, data);
}

static int64_t set_pit2(struct kvm_vm *vm, uint64_t arg, void *data)
{
	(void)arg;
	return kvm_irq_set_pit(vm, data);
}

static int64_t reinject_control(struct kvm_vm *vm, uint64_t arg, void *data)
{
	(void)arg;
	(void)data;
	return kvm_irq_reinject(vm);
}

static int64_t get_clock(struct kvm_vm *vm, uint64_t arg, void *data)
{
	(void)arg;
	kvm_clock_get(vm, data);
	return 0;
}

static int64_t set_clock(struct kvm_vm *vm, uint64_t arg, void *data)
{
	(void)arg;
	return kvm_clock_set(vm, data);
}

static int64_t set_vm_tsc_khz(struct kvm_vm *vm, uint64_t arg, void *data)
{
	(void)data;
	if (vm->env->backend->tsc_scale_bits == 0) {
		return -EINVAL;
	}
	vm->default_tsc_khz = (uint32_t)arg;
	return 0;
}

static int64_t get_vm_tsc_khz(struct kvm_vm *vm, uint64_t arg, void *data)
{
	(void)arg;
	(void)data;
	return (int64_t)(vm->default_tsc_khz != 0 ? vm->default_tsc_khz : vm->env->tsc_khz);
}

static int64_t set_msr_filter(struct kvm_vm *vm, uint64_t arg, void *data)
{
	(void)arg;
	return kvm_msr_filter_set(vm, data);
}

#define IOCTL_VM(request, argument, capability, handler)              \
	_Static_assert(KVM_CALL_##argument == KVM_CALL_USER ||        \
			       KVM_CALL_BYTES(request) <= DATA_BYTES, \
		       "room for the structure");
#include "abi/kvm/ioctls.def"

static const struct {
	uint32_t request;
	enum kvm_call_argument argument;
	int64_t (*handler)(struct kvm_vm *vm, uint64_t arg, void *data);
} calls[] = {
#define IOCTL_VM(request, argument, capability, handler) \
	{(uint32_t)request, KVM_CALL_##argument, handler},
#include "abi/kvm/ioctls.def"
};

int64_t kvm_vm_ioctl(struct kvm_vm *vm, uint32_t request, uint64_t arg)
{
	struct kvm_env *env = vm->env;
	uint64_t data[DATA_BYTES / sizeof(uint64_t)];

	if (!kvm_ops(env)->owns(env, vm) || __atomic_load_n((bool *)&vm->dead, __ATOMIC_RELAXED)) {
		return -EIO;
	}
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		if (calls[i].request == request) {
			int64_t r = kvm_call_begin(env, calls[i].argument, request, arg, data);

			return r != 0 ? r
				      : kvm_call_end(env, calls[i].argument, request, arg, data,
						     calls[i].handler(vm, arg, data));
		}
	}
	return -ENOTTY;
}
