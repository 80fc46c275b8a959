#include "lib/kvm/dirty_ring.h"

#include <errno.h>
#include <string.h>

#include "lib/kvm/backend.h"
#include "lib/kvm/dirty.h"
#include "lib/kvm/kvm.h"

#define ENTRIES_PER_PAGE ((uint32_t)(KVM_PAGE_BYTES / sizeof(struct kvm_dirty_gfn)))

_Static_assert(KVM_RING_MAX / (KVM_PAGE_BYTES / sizeof(struct kvm_dirty_gfn)) == KVM_RING_PAGES_MAX,
	       "room in the mapping");

static uint32_t pages_of(const struct kvm_vm *vm)
{
	return vm->dirty_ring / ENTRIES_PER_PAGE;
}

/* Entries are counted on and on; there is a power of two of them. */
static struct kvm_dirty_gfn *entry_at(const struct kvm_vcpu *vcpu, uint32_t count)
{
	uint32_t place = count & (vcpu->vm->dirty_ring - 1);
	struct kvm_dirty_gfn *page = vcpu->ring.pages[place / ENTRIES_PER_PAGE];

	return &page[place % ENTRIES_PER_PAGE];
}

static uint32_t used(const struct kvm_vcpu *vcpu)
{
	/* Pairs with take_back(): it has read the entries that it gave free. */
	return vcpu->ring.entered - __atomic_load_n(&vcpu->ring.returned, __ATOMIC_ACQUIRE);
}

int kvm_ring_set_size(struct kvm_vm *vm, uint64_t bytes)
{
	const struct kvm_env_ops *ops = kvm_ops(vm->env);

	if (bytes < KVM_PAGE_BYTES || (bytes & (bytes - 1)) != 0) {
		return -EINVAL;
	}
	if (bytes > KVM_RING_MAX * sizeof(struct kvm_dirty_gfn)) {
		return -E2BIG;
	}
	if (vm->dirty_ring != 0 || kvm_vm_count(vm) != 0) {
		return -EINVAL;
	}
	ops->lock(vm->env, &vm->memory);
	vm->dirty_ring = (uint32_t)(bytes / sizeof(struct kvm_dirty_gfn));
	kvm_dirty_forget(vm);
	ops->unlock(vm->env, &vm->memory);
	return 0;
}

int kvm_ring_init(struct kvm_vcpu *vcpu)
{
	struct kvm_env *env = vcpu->env;
	uint32_t count = pages_of(vcpu->vm);

	if (count == 0) {
		return 0;
	}
	vcpu->ring.pages = kvm_ops(env)->alloc(env, KVM_STORE_TABLE, count * sizeof(void *));
	if (vcpu->ring.pages == NULL) {
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < count; i++) {
		vcpu->ring.pages[i] = kvm_ops(env)->alloc(env, KVM_STORE_PAGES, KVM_PAGE_BYTES);
		if (vcpu->ring.pages[i] == NULL) {
			return -ENOMEM;
		}
	}
	return 0;
}

void kvm_ring_fini(struct kvm_vcpu *vcpu)
{
	struct kvm_env *env = vcpu->env;
	uint32_t count = pages_of(vcpu->vm);

	if (vcpu->ring.pages == NULL) {
		return;
	}
	for (uint32_t i = 0; i < count && vcpu->ring.pages[i] != NULL; i++) {
		kvm_ops(env)->free(env, KVM_STORE_PAGES, vcpu->ring.pages[i], KVM_PAGE_BYTES);
	}
	kvm_ops(env)->free(env, KVM_STORE_TABLE, vcpu->ring.pages, count * sizeof(void *));
	vcpu->ring.pages = NULL;
}

void *kvm_ring_page(const struct kvm_vcpu *vcpu, uint64_t page)
{
	return page < pages_of(vcpu->vm) ? vcpu->ring.pages[page] : NULL;
}

bool kvm_ring_is_full(const struct kvm_vcpu *vcpu)
{
	return used(vcpu) >= vcpu->vm->dirty_ring - KVM_RING_RESERVED;
}

void kvm_dirty_enter(struct kvm_vcpu *vcpu, const struct kvm_slot *slot, uint64_t page)
{
	struct kvm_dirty_gfn *entry = entry_at(vcpu, vcpu->ring.entered);
	uint64_t bit = BIT(page % 64);

	/*
	 * Only user space that writes by ioctls to a vCPU which it keeps from running gets here.
	 * The page stays watched.
	 */
	if (used(vcpu) == vcpu->vm->dirty_ring) {
		return;
	}
	/* Acquire: after the reset that cleared it, if there was one. */
	if ((__atomic_fetch_or(&slot->dirty[page / 64], bit, __ATOMIC_ACQUIRE) & bit) != 0) {
		return;
	}
	__atomic_store_n(&entry->slot, slot->id, __ATOMIC_RELAXED);
	__atomic_store_n(&entry->offset, page, __ATOMIC_RELAXED);
	/* Pairs with user space, which looks at the flags first, then at the rest. */
	__atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_DIRTY, __ATOMIC_RELEASE);
	/* Likewise with take_back(). */
	__atomic_store_n(&vcpu->ring.entered, vcpu->ring.entered + 1, __ATOMIC_RELEASE);
	if (kvm_ring_is_full(vcpu)) {
		kvm_vcpu_note(vcpu, KVM_REQ_RING_FULL);
	}
}

/* The next entry that user space is done with. What stands there may be anything. */
static bool take_back(struct kvm_vcpu *vcpu, bool *watched)
{
	uint32_t returned = vcpu->ring.returned;
	struct kvm_dirty_gfn *entry = entry_at(vcpu, returned);
	uint32_t id;
	uint64_t page;

	if (returned == __atomic_load_n(&vcpu->ring.entered, __ATOMIC_ACQUIRE) ||
	    (__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_RESET) == 0) {
		return false;
	}
	id = __atomic_load_n(&entry->slot, __ATOMIC_RELAXED);
	page = __atomic_load_n(&entry->offset, __ATOMIC_RELAXED);
	__atomic_store_n(&entry->flags, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&vcpu->ring.returned, returned + 1, __ATOMIC_RELEASE);
	*watched |= kvm_dirty_watch(vcpu->vm, id, page);
	return true;
}

int kvm_ring_reset(struct kvm_vm *vm)
{
	bool watched = false;
	int count = 0;

	if (vm->dirty_ring == 0) {
		return -EINVAL;
	}
	for (uint32_t i = 0; i < kvm_vm_count(vm); i++) {
		/* At most a ring of each, however fast the vCPU fills it again. */
		for (uint32_t n = 0; n < vm->dirty_ring; n++) {
			if (!take_back(kvm_vm_vcpu(vm, i), &watched)) {
				break;
			}
			count++;
		}
	}
	if (watched) {
		vm->env->backend->flush(vm);
	}
	return count;
}
