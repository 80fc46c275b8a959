#include "lib/kvm/create.h"

#include <errno.h>

#include "lib/kvm/bus.h"
#include "lib/kvm/caps.h"
#include "lib/kvm/clock.h"
#include "lib/kvm/cpuid.h"
#include "lib/kvm/dirty_ring.h"
#include "lib/kvm/exits.h"
#include "lib/kvm/irq.h"
#include "lib/kvm/kvm.h"
#include "lib/kvm/msr_filter.h"
#include "lib/kvm/state.h"

/* ---- VMs ---- */

static void init_locks(struct kvm_vm *vm)
{
	const struct kvm_env_ops *ops = kvm_ops(vm->env);

	ops->lock_init(vm->env, &vm->lock, KVM_LOCK_MUTEX);
	ops->lock_init(vm->env, &vm->memory, KVM_LOCK_RW);
	ops->lock_init(vm->env, &vm->ring_lock, KVM_LOCK_SPIN);
	ops->lock_init(vm->env, &vm->clock_lock, KVM_LOCK_SPIN);
	ops->lock_init(vm->env, &vm->irq_lock, KVM_LOCK_SPIN);
}

static void free_vm(struct kvm_vm *vm)
{
	struct kvm_env *env = vm->env;
	const struct kvm_env_ops *ops = kvm_ops(env);

	if (vm->ring_page != NULL) {
		ops->free(env, KVM_STORE_PAGES, vm->ring_page, KVM_PAGE_BYTES);
	}
	if (vm->vcpus != NULL) {
		ops->free(env, KVM_STORE_TABLE, vm->vcpus,
			  env->max_vcpus * sizeof(struct kvm_vcpu *));
	}
	ops->lock_fini(env, &vm->irq_lock);
	ops->lock_fini(env, &vm->clock_lock);
	ops->lock_fini(env, &vm->ring_lock);
	ops->lock_fini(env, &vm->memory);
	ops->lock_fini(env, &vm->lock);
	ops->free(env, KVM_STORE_VM, vm, sizeof(*vm));
}

int kvm_vm_create(struct kvm_env *env, struct kvm_vm **result)
{
	const struct kvm_env_ops *ops = kvm_ops(env);
	struct kvm_vm *vm = ops->alloc(env, KVM_STORE_VM, sizeof(*vm));
	int r;

	if (vm == NULL) {
		return -ENOMEM;
	}
	vm->env = env;
	vm->refs = 1;
	init_locks(vm);
	vm->ring_page = ops->alloc(env, KVM_STORE_PAGES, KVM_PAGE_BYTES);
	vm->vcpus = ops->alloc(env, KVM_STORE_TABLE, env->max_vcpus * sizeof(struct kvm_vcpu *));
	if (vm->ring_page == NULL || vm->vcpus == NULL) {
		r = -ENOMEM;
		goto free;
	}
	kvm_clock_vm_init(vm);
	r = env->backend->vm_init(vm);
	if (r != 0) {
		goto free;
	}
	r = kvm_irq_vm_init(vm);
	if (r != 0) {
		goto backend;
	}
	__atomic_fetch_add((uint32_t *)&env->vms, 1, __ATOMIC_RELAXED);
	*result = vm;
	return 0;

backend:
	env->backend->vm_fini(vm);
free:
	free_vm(vm);
	return r;
}

static void destroy_vcpu(struct kvm_vcpu *vcpu);

void kvm_vm_put(struct kvm_vm *vm)
{
	struct kvm_env *env = vm->env;

	/* Pairs with the other puts: whoever is last sees what they did. */
	if (__atomic_sub_fetch((uint32_t *)&vm->refs, 1, __ATOMIC_ACQ_REL) != 0) {
		return;
	}
	kvm_irq_vm_stop(vm);
	for (uint32_t i = 0; i < kvm_vm_count(vm); i++) {
		destroy_vcpu(kvm_vm_vcpu(vm, i));
	}
	kvm_irq_vm_fini(vm);
	kvm_bus_fini(vm);
	kvm_msr_filter_fini(vm);
	kvm_slots_fini(vm);
	env->backend->vm_fini(vm);
	free_vm(vm);
	__atomic_fetch_sub((uint32_t *)&env->vms, 1, __ATOMIC_RELAXED);
}

void kvm_vm_release(struct kvm_vm *vm)
{
	kvm_irq_vm_closed(vm);
	kvm_vm_put(vm);
}

/* ---- vCPUs ---- */

static size_t scratch_bytes(const struct kvm_env *env)
{
	return ALIGN_UP((size_t)kvm_state_xsave_bytes(env), (size_t)KVM_PAGE_BYTES);
}

static void free_if(struct kvm_env *env, enum kvm_store kind, void *p, size_t bytes)
{
	if (p != NULL) {
		kvm_ops(env)->free(env, kind, p, bytes);
	}
}

static void free_vcpu(struct kvm_vcpu *vcpu)
{
	struct kvm_env *env = vcpu->env;

	free_if(env, KVM_STORE_PAGES, vcpu->run, KVM_PAGE_BYTES);
	free_if(env, KVM_STORE_PAGES, vcpu->pio_page, KVM_PAGE_BYTES);
	free_if(env, KVM_STORE_VM, vcpu->scratch, scratch_bytes(env));
	free_if(env, KVM_STORE_VM, vcpu->xsave, env->backend->xsave_bytes);
	free_if(env, KVM_STORE_VM, vcpu->exits, sizeof(*vcpu->exits));
	kvm_cpuid_free(env, vcpu->cpuid, vcpu->cpuid_count);
	kvm_ring_fini(vcpu);
	kvm_ops(env)->lock_fini(env, &vcpu->lock);
	kvm_ops(env)->free(env, KVM_STORE_VM, vcpu, sizeof(*vcpu));
}

static void destroy_vcpu(struct kvm_vcpu *vcpu)
{
	kvm_irq_vcpu_fini(vcpu);
	vcpu->env->backend->vcpu_fini(vcpu);
	free_vcpu(vcpu);
}

static struct kvm_vcpu *alloc_vcpu(struct kvm_vm *vm, uint32_t id)
{
	struct kvm_env *env = vm->env;
	const struct kvm_env_ops *ops = kvm_ops(env);
	struct kvm_vcpu *vcpu = ops->alloc(env, KVM_STORE_VM, sizeof(*vcpu));

	if (vcpu == NULL) {
		return NULL;
	}
	vcpu->vm = vm;
	vcpu->env = env;
	vcpu->id = id;
	ops->lock_init(env, &vcpu->lock, KVM_LOCK_MUTEX);
	vcpu->run = ops->alloc(env, KVM_STORE_PAGES, KVM_PAGE_BYTES);
	vcpu->pio_page = ops->alloc(env, KVM_STORE_PAGES, KVM_PAGE_BYTES);
	vcpu->scratch = ops->alloc(env, KVM_STORE_VM, scratch_bytes(env));
	vcpu->xsave = ops->alloc(env, KVM_STORE_VM, env->backend->xsave_bytes);
	vcpu->exits = ops->alloc(env, KVM_STORE_VM, sizeof(*vcpu->exits));
	if (vcpu->run == NULL || vcpu->pio_page == NULL || vcpu->scratch == NULL ||
	    vcpu->xsave == NULL || vcpu->exits == NULL || kvm_ring_init(vcpu) != 0) {
		free_vcpu(vcpu);
		return NULL;
	}
	return vcpu;
}

/* Everything but the place in the VM. */
static int init_vcpu(struct kvm_vcpu *vcpu)
{
	int r;

	vcpu->loaded = KVM_REGS_ALL;
	kvm_cpuid_defaults(vcpu);
	r = vcpu->env->backend->vcpu_init(vcpu);
	if (r != 0) {
		return r;
	}
	r = kvm_irq_vcpu_init(vcpu);
	if (r != 0) {
		vcpu->env->backend->vcpu_fini(vcpu);
		return r;
	}
	kvm_vcpu_reset(vcpu, false);
	kvm_irq_vcpu_reset(vcpu, false);
	kvm_clock_vcpu_init(vcpu);
	vcpu->mp_state = vcpu->vm->irqchip == KVM_IRQCHIP_NONE || kvm_vcpu_is_bootstrap(vcpu)
				 ? KVM_MP_STATE_RUNNABLE
				 : KVM_MP_STATE_UNINITIALIZED;
	return 0;
}

static bool id_taken(struct kvm_vm *vm, uint32_t id)
{
	for (uint32_t i = 0; i < kvm_vm_count(vm); i++) {
		if (kvm_vm_vcpu(vm, i)->id == id) {
			return true;
		}
	}
	return false;
}

static int64_t create_locked(struct kvm_vm *vm, uint32_t id)
{
	struct kvm_vcpu *vcpu;
	int64_t r;

	if (kvm_vm_count(vm) >= vm->env->max_vcpus ||
	    id >= (vm->max_vcpu_id != 0 ? vm->max_vcpu_id : KVM_VCPU_IDS)) {
		return -EINVAL;
	}
	if (id_taken(vm, id)) {
		return -EEXIST;
	}
	vcpu = alloc_vcpu(vm, id);
	if (vcpu == NULL) {
		return -ENOMEM;
	}
	vcpu->index = kvm_vm_count(vm);
	r = init_vcpu(vcpu);
	if (r != 0) {
		free_vcpu(vcpu);
		return r;
	}
	kvm_vcpu_note(vcpu, KVM_REQ_FILTER); /* one set from here on may not find it yet */
	__atomic_fetch_add((uint32_t *)&vm->refs, 1, __ATOMIC_RELAXED);
	vm->vcpus[vcpu->index] = vcpu;
	r = kvm_ops(vm->env)->vcpu_fd(vm->env, vcpu);
	if (r < 0) {
		__atomic_fetch_sub((uint32_t *)&vm->refs, 1, __ATOMIC_RELAXED);
		vm->vcpus[vcpu->index] = NULL;
		destroy_vcpu(vcpu);
		return r;
	}
	/* Pairs with kvm_vm_count(): the struct is complete. */
	__atomic_store_n((uint32_t *)&vm->vcpu_count, vcpu->index + 1, __ATOMIC_RELEASE);
	kvm_irq_vcpu_added(vm);
	return r;
}

int64_t kvm_vcpu_create(struct kvm_vm *vm, uint64_t id)
{
	const struct kvm_env_ops *ops = kvm_ops(vm->env);
	int64_t r;

	/* Linux looks at the lower half only. */
	if ((uint32_t)id >= KVM_VCPU_IDS) {
		return -EINVAL;
	}
	ops->lock(vm->env, &vm->lock);
	r = create_locked(vm, (uint32_t)id);
	ops->unlock(vm->env, &vm->lock);
	return r;
}

void kvm_vcpu_release(struct kvm_vcpu *vcpu)
{
	kvm_vm_put(vcpu->vm);
}

void *kvm_vcpu_mmap(struct kvm_vcpu *vcpu, uint64_t page)
{
	switch (page) {
	case 0:
		return vcpu->run;
	case 1:
		return vcpu->pio_page;
	case 2:
		return vcpu->vm->ring_page;
	default:
		return page < KVM_DIRTY_LOG_PAGE_OFFSET
			       ? NULL
			       : kvm_ring_page(vcpu, page - KVM_DIRTY_LOG_PAGE_OFFSET);
	}
}
