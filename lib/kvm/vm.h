/*
 * One virtual machine, as all of lib/kvm and its backends see it.
 */
#pragma once

#include "lib/kvm/env.h"
#include "lib/kvm/slots.h"

struct kvm_irq;
struct kvm_doorbell;
struct kvm_msr_filter_table;

enum kvm_irqchip_form {
	KVM_IRQCHIP_NONE,
	KVM_IRQCHIP_SPLIT,
	KVM_IRQCHIP_FULL,
};

/** Most vCPU numbers (APIC IDs): KVM_CAP_MAX_VCPU_ID. */
#define KVM_VCPU_IDS 4096

/** A range of ports or memory whose writes wait in a ring. */
struct kvm_zone {
	uint64_t addr;
	uint32_t bytes;
	bool pio;
};
#define KVM_ZONES_MAX	  100
#define KVM_DOORBELLS_MAX 1000

struct kvm_vm {
	/* constant after creation */
	struct kvm_env *env;
	void *env_data;	    /* the surroundings' own */
	void *backend_data; /* the backend's own */

	_Atomic uint32_t refs; /* descriptors of the VM and of its vCPUs */
	_Atomic bool dead;     /* nothing runs any more: an error that leaves no way on */

	/* vm->lock; once set it stays, and vCPUs read it without */
	struct kvm_lock lock;
	uint8_t irqchip;       /* enum kvm_irqchip_form */
	uint32_t bootstrap_id; /* of the vCPU that starts running */
	uint32_t max_vcpu_id;  /* KVM_CAP_MAX_VCPU_ID; KVM_VCPU_IDS unless set */
	uint32_t mmu_pages;    /* KVM_SET_NR_MMU_PAGES: means nothing here, nothing is shadowed */
	uint64_t quirks_off;   /* KVM_X86_QUIRK_*: behaviour that is switched off */
	uint32_t msr_exits;    /* KVM_MSR_EXIT_REASON_* that go to user space */
	bool exception_payload;
	bool triple_fault_event;
	bool exit_on_emulation_failure;
	bool hypercall_exits; /* KVM_CAP_EXIT_HYPERCALL: KVM_HC_MAP_GPA_RANGE */
	bool platform_info_hidden;
	uint32_t dirty_manual; /* flags of KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 */
	uint32_t dirty_ring; /* entries of each vCPU's ring; 0: logs are bitmaps. vm->memory too */
	uint64_t disabled_exits;
	uint64_t default_tsc_khz;

	/* appended with vm->lock held; read up to vcpu_count by anybody */
	struct kvm_vcpu **vcpus;
	_Atomic uint32_t vcpu_count; /* release; pairs with readers' acquire */

	/* vm->memory */
	struct kvm_lock memory;
	struct kvm_slots slots;
	struct kvm_slots smm_slots;	/* what CPUs in SMM would see: kept, and that is all */
	struct kvm_doorbell *doorbells; /* KVM_IOEVENTFD; a list */
	uint32_t doorbell_count;
	uint32_t doorbell_last; /* that was rung; atomic, any value will do */
	struct kvm_zone *zones; /* KVM_REGISTER_COALESCED_MMIO */
	uint32_t zone_count;
	void *ring_page;	   /* struct kvm_coalesced_mmio_ring, shared with user space */
	struct kvm_lock ring_lock; /* spin: who adds to the ring */
	struct kvm_msr_filter_table *msr_filter;

	/* clock_lock, a spin lock */
	struct kvm_lock clock_lock;
	int64_t clock_offset_ns; /* kvmclock is now_ns() plus this */
	struct kvm_tsc_write {
		uint64_t value;
		uint64_t at_ns;
		uint64_t offset;
		uint64_t khz;
	} tsc_write; /* the last from outside: those close together mean the same TSC */

	/* the interrupt half's: lib/kvm/irq*.c */
	struct kvm_lock irq_lock;
	struct kvm_irq *irq;
};

/** kvm_vm_vcpu() - vCPU number @index in order of creation, below vcpu_count. */
static inline struct kvm_vcpu *kvm_vm_vcpu(struct kvm_vm *vm, uint32_t index)
{
	return vm->vcpus[index];
}

/** kvm_vm_count() - how many vCPUs there are; their structs are complete. */
static inline uint32_t kvm_vm_count(struct kvm_vm *vm)
{
	return __atomic_load_n((uint32_t *)&vm->vcpu_count, __ATOMIC_ACQUIRE);
}
