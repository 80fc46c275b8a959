#include "lib/kvm/msr_filter.h"

#include <errno.h>

#include "lib/kvm/vcpu.h"

#define BITMAP_BYTES_MAX 0x600 /* of a range, as Linux has it */
#define FLAGS_KNOWN	 ((uint32_t)KVM_MSR_FILTER_DEFAULT_DENY)
#define ACCESS_KNOWN	 ((uint32_t)(KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE))

#define X2APIC_FIRST 0x800
#define X2APIC_LAST  0x8ff

struct kvm_msr_filter_table {
	bool default_allow;
	uint32_t count;
	struct {
		uint32_t flags;
		uint32_t first;
		uint32_t count;
		uint8_t bitmap[BITMAP_BYTES_MAX];
	} range[KVM_MSR_FILTER_MAX_RANGES];
};

static size_t bitmap_bytes(uint32_t msrs)
{
	return ((size_t)msrs + 63) / 64 * 8;
}

static int add_range(struct kvm_vm *vm, struct kvm_msr_filter_table *table,
		     const struct kvm_msr_filter_range *range)
{
	size_t bytes = bitmap_bytes(range->nmsrs);

	if (range->nmsrs == 0) {
		return 0;
	}
	if ((range->flags & ~ACCESS_KNOWN) != 0 || range->flags == 0 || bytes > BITMAP_BYTES_MAX) {
		return -EINVAL;
	}
	table->range[table->count].flags = range->flags;
	table->range[table->count].first = range->base;
	table->range[table->count].count = range->nmsrs;
	return kvm_ops(vm->env)->copy_in(vm->env, table->range[table->count++].bitmap,
					 (uintptr_t)range->bitmap, bytes);
}

static void drop(struct kvm_vm *vm, struct kvm_msr_filter_table *table)
{
	if (table != NULL) {
		kvm_ops(vm->env)->free(vm->env, KVM_STORE_TABLE, table, sizeof(*table));
	}
}

int kvm_msr_filter_set(struct kvm_vm *vm, const struct kvm_msr_filter *filter)
{
	const struct kvm_env_ops *ops = kvm_ops(vm->env);
	struct kvm_msr_filter_table *table;
	struct kvm_msr_filter_table *old;
	bool empty = true;
	int r = 0;

	if ((filter->flags & ~FLAGS_KNOWN) != 0) {
		return -EINVAL;
	}
	for (unsigned i = 0; i < KVM_MSR_FILTER_MAX_RANGES; i++) {
		empty = empty && filter->ranges[i].nmsrs == 0;
	}
	/* To deny all without a word about any is a mistake of somebody. */
	if (empty && (filter->flags & KVM_MSR_FILTER_DEFAULT_DENY) != 0) {
		return -EINVAL;
	}
	table = ops->alloc(vm->env, KVM_STORE_TABLE, sizeof(*table));
	if (table == NULL) {
		return -ENOMEM;
	}
	table->default_allow = (filter->flags & KVM_MSR_FILTER_DEFAULT_DENY) == 0;
	for (unsigned i = 0; i < KVM_MSR_FILTER_MAX_RANGES && r == 0; i++) {
		r = add_range(vm, table, &filter->ranges[i]);
	}
	if (r != 0) {
		drop(vm, table);
		return r;
	}
	ops->lock(vm->env, &vm->memory);
	old = vm->msr_filter;
	vm->msr_filter = table;
	ops->unlock(vm->env, &vm->memory);
	for (uint32_t i = 0; i < kvm_vm_count(vm); i++) {
		kvm_vcpu_request(kvm_vm_vcpu(vm, i), KVM_REQ_FILTER);
	}
	drop(vm, old);
	return 0;
}

bool kvm_msr_filter_allows(const struct kvm_vm *vm, uint32_t msr, bool write)
{
	const struct kvm_msr_filter_table *table = vm->msr_filter;
	uint32_t access = write ? KVM_MSR_FILTER_WRITE : KVM_MSR_FILTER_READ;

	/* The APIC's are not filtered. */
	if (table == NULL || (msr >= X2APIC_FIRST && msr <= X2APIC_LAST)) {
		return true;
	}
	for (uint32_t i = 0; i < table->count; i++) {
		uint32_t at = msr - table->range[i].first;

		if (at < table->range[i].count && (table->range[i].flags & access) != 0) {
			return (table->range[i].bitmap[at / 8] & 1u << at % 8) != 0;
		}
	}
	return table->default_allow;
}

void kvm_msr_filter_fini(struct kvm_vm *vm)
{
	drop(vm, vm->msr_filter);
	vm->msr_filter = NULL;
}
