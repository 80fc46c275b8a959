/*
 * One virtual CPU, as all of lib/kvm and its backends see it.
 */
#pragma once

#include <linux/kvm.h>

#include "lib/kvm/backend.h"
#include "lib/kvm/env.h"
#include "lib/kvm/vm.h"

struct kvm_apic;
struct kvm_exits;

/** What a vCPU is asked to look at before it enters the guest; bits of vcpu->requests. */
enum kvm_request {
	KVM_REQ_KICK,	      /* leave the guest, that is all */
	KVM_REQ_EVENT,	      /* interrupts: kvm_irq_pending() may differ */
	KVM_REQ_NMI,	      /* vcpu->nmi_arrived */
	KVM_REQ_CLOCK,	      /* the kvmclock page is to be written anew */
	KVM_REQ_STEAL,	      /* so is the steal-time record */
	KVM_REQ_TRIPLE_FAULT, /* nothing can be delivered any more */
	KVM_REQ_EOI_EXIT,     /* vcpu->eoi_vector goes to user space */
	KVM_REQ_FILTER,	      /* vm->msr_filter: which MSRs the backend lets pass may differ */
	KVM_REQ_UNHALT,	      /* vcpu->kicked */
	KVM_REQ_DEAD,	      /* vm->dead */
	KVM_REQ_RING_FULL,    /* kvm_ring_is_full(), or was */
};

/** MSRs with nothing but a value; places in vcpu->msr. Those before KVM_MSR_OURS: KVM_REGS_MSRS. */
enum kvm_msr_place {
	KVM_MSR_STAR,
	KVM_MSR_LSTAR,
	KVM_MSR_CSTAR,
	KVM_MSR_SFMASK,
	KVM_MSR_KERNEL_GS_BASE,
	KVM_MSR_SYSENTER_CS,
	KVM_MSR_SYSENTER_ESP,
	KVM_MSR_SYSENTER_EIP,
	KVM_MSR_PAT,
	KVM_MSR_TSC_AUX,
	KVM_MSR_SPEC_CTRL,
	KVM_MSR_OURS,
	KVM_MSR_MISC_ENABLE = KVM_MSR_OURS,
	KVM_MSR_ARCH_CAPABILITIES,
	KVM_MSR_PERF_CAPABILITIES,
	KVM_MSR_UCODE_REV,
	KVM_MSR_PLATFORM_INFO,
	KVM_MSR_MISC_FEATURES,
	KVM_MSR_POWER_CTL,
	KVM_MSR_HWCR,
	KVM_MSR_VM_HSAVE_PA,
	KVM_MSR_TSC_ADJUST,
	KVM_MSR_XSS,
	KVM_MSR_MCG_STATUS,
	KVM_MSR_MCG_CTL,
	KVM_MSR_MC_BANKS, /* CTL, STATUS, ADDR, MISC of each bank */
	KVM_MSR_MTRR_DEF = KVM_MSR_MC_BANKS + 4 * 32,
	KVM_MSR_MTRR_FIXED,
	KVM_MSR_MTRR_VAR = KVM_MSR_MTRR_FIXED + 11,
	KVM_MSR_SYSTEM_TIME = KVM_MSR_MTRR_VAR + 16,
	KVM_MSR_WALL_CLOCK,
	KVM_MSR_STEAL_TIME,
	KVM_MSR_POLL_CONTROL,
	KVM_NMSRS,
};

/** Feature bits that decide in a hurry; made from CPUID when it is set. */
struct kvm_features {
	bool amd; /* vendor: AMD or Hygon */
	bool intel;
	bool hypercall; /* the KVM signature is there */
	uint8_t phys_bits;
	uint32_t kvm;	      /* EAX of the KVM features leaf */
	uint64_t cr4_allowed; /* bits the guest may set */
	uint64_t efer_allowed;
	uint64_t xcr0_allowed;
	uint64_t dr6_fixed; /* bits that read as 1 */
	bool rtm;
	bool pages_1g;
};

/** Events on their way, and what holds them off. Spec: AMD APM vol. 2, 8.5; Intel SDM vol. 3A, 6.9
 */
struct kvm_events {
	struct {
		bool pending;  /* not yet tried */
		bool injected; /* was being delivered when the guest stopped */
		bool has_error;
		bool has_payload;
		uint8_t vector;
		uint32_t error;
		uint64_t payload;
	} exception;
	struct {
		bool injected;
		bool soft;
		uint8_t vector;
	} interrupt;
	struct {
		uint8_t pending; /* 0 to 2 */
		bool injected;
		bool masked;
	} nmi;
};

struct kvm_vcpu {
	/* constant after creation */
	struct kvm_vm *vm;
	struct kvm_env *env;
	void *env_data;
	void *backend_data;
	uint32_t id;	     /* APIC ID */
	uint32_t index;	     /* in vm->vcpus */
	struct kvm_run *run; /* shared with user space, which may change it at any time */
	uint8_t *pio_page;   /* likewise: data of port I/O */
	uint8_t *scratch;    /* a page for copies of structures of user space */
	uint8_t *xsave;	     /* XSAVE area, standard format; backend->xsave_bytes */
	/* Where the backend says how many bytes of the instruction that KVM_STOP_MEMORY stopped the
	 * CPU has fetched, and then which; NULL: nowhere. */
	const uint8_t *fetched;

	/* atomic, from any thread */
	_Atomic uint32_t requests;
	_Atomic uint32_t nmi_arrived;
	_Atomic uint32_t kicked; /* KVM_HC_KICK_CPU: the HLT it is in, or else its next, ends */

	/* vcpu->lock; on the run path this thread's only */
	struct kvm_lock lock;

	/* registers, see backend.h */
	uint32_t loaded;
	uint32_t changed;
	struct insn_cpu cpu;
	uint64_t cr2, cr3, cr8; /* CR8 is here only without a local APIC */
	uint64_t xcr0;
	uint64_t db[4], dr6, dr7;
	uint64_t msr[KVM_NMSRS];
	uint64_t pdptr[4]; /* of PAE paging: loaded when CR3 is */

	/* orders to the backend, valid at enter() */
	struct kvm_event inject;
	union {
		struct {
			bool want_irq_window; /* stop when RFLAGS.IF and no shadow */
			bool want_nmi_window; /* stop when NMIs are not masked any more */
			bool single_step;     /* TF is set in RFLAGS on our behalf, whatever the
						 guest's was */
			bool intercept_db;    /* #DB comes to us */
			bool intercept_bp;    /* #BP too */
		};
		uint64_t any_order; /* of these */
	};
	uint64_t hw_db[4]; /* debug registers to run with: the guest's or user space's */
	uint64_t hw_dr7;
	uint64_t tsc_offset; /* guest's TSC = host's TSC * tsc_ratio + this */
	uint64_t tsc_ratio;  /* fixed point, backend->tsc_scale_bits; 0: 1 */
	uint64_t tsc_khz;    /* of the guest's TSC */

	/*
	 * What the guest is to find has been prepared ahead of its time: enter() waits until the
	 * host's TSC is there, last of all, with nothing left to do but to let the guest run. Then
	 * it sets this to 0 again (none), and `early` to the ticks that were left, or negative.
	 */
	uint64_t not_before;
	int64_t early;

	struct kvm_events events;
	struct kvm_features features;
	struct kvm_cpuid_entry2 *cpuid;
	uint32_t cpuid_count;
	bool ran; /* CPUID is fixed now */

	uint32_t mp_state; /* KVM_MP_STATE_* */
	uint8_t sipi_page;
	uint8_t eoi_vector;
	struct kvm_exits *exits; /* what waits for user space */

	/* guest debugging */
	uint32_t debug_control; /* KVM_GUESTDBG_* */
	uint64_t debug_regs[8];
	bool step_guest_tf; /* the guest's own TF, while it is set for us */

	/* time */
	bool clock_page_set; /* the guest asked for one, and it has memory */
	bool pv_time_guest_stopped;
	uint32_t clock_version;
	uint64_t steal_last_ns;

	uint64_t slot_generation; /* of slot_hint */
	struct kvm_slot *slot_hint;
	uint64_t code_generation; /* of slots, for code; 0: it is not known */
	struct kvm_code code;	  /* that stopped the guest last */
	uint8_t msr_hint;	  /* the row of msr.c that was found last */
	bool enforce_pv_features;

	/* the dirty ring; NULL without. Both are counted on and on */
	struct {
		struct kvm_dirty_gfn **pages; /* shared with user space; as kvm_run */
		uint32_t entered;	      /* vcpu->lock; release */
		uint32_t returned;	      /* vm->lock; release */
	} ring;

	struct kvm_apic *apic; /* the interrupt half's; NULL without local APICs */
	uint64_t apic_base;    /* IA32_APIC_BASE where there is no local APIC */
};

/**
 * kvm_vcpu_request() - has the vCPU look at something before it goes on with the guest, soon.
 * Context: any.
 */
void kvm_vcpu_request(struct kvm_vcpu *vcpu, enum kvm_request request);

/** kvm_vcpu_note() - as kvm_vcpu_request(), from the vCPU's own thread: no kick is needed. */
static inline void kvm_vcpu_note(struct kvm_vcpu *vcpu, enum kvm_request request)
{
	__atomic_fetch_or((uint32_t *)&vcpu->requests, 1u << request, __ATOMIC_RELEASE);
}

/** kvm_vcpu_take() - was there such a request? It is taken away. */
static inline bool kvm_vcpu_take(struct kvm_vcpu *vcpu, enum kvm_request request)
{
	uint32_t bit = 1u << request;

	if ((__atomic_load_n((uint32_t *)&vcpu->requests, __ATOMIC_RELAXED) & bit) == 0) {
		return false;
	}
	/* Pairs with the release of those who asked: what they wrote before is seen. */
	return (__atomic_fetch_and((uint32_t *)&vcpu->requests, ~bit, __ATOMIC_ACQUIRE) & bit) != 0;
}

/**
 * kvm_vcpu_must_not_enter() - asked by backend->enter() when kicks cannot be missed any more.
 * Context: any.
 */
static inline bool kvm_vcpu_must_not_enter(struct kvm_vcpu *vcpu)
{
	return __atomic_load_n((uint32_t *)&vcpu->requests, __ATOMIC_ACQUIRE) != 0;
}

/** kvm_regs_need() - @groups of registers are in the vCPU's struct afterwards. */
void kvm_regs_load(struct kvm_vcpu *vcpu, uint32_t groups);
static inline void kvm_regs_need(struct kvm_vcpu *vcpu, uint32_t groups)
{
	groups &= ~(uint32_t)KVM_REGS_CORE;
	if ((groups & ~vcpu->loaded) != 0) {
		kvm_regs_load(vcpu, groups & ~vcpu->loaded);
	}
}

/** kvm_regs_change() - as kvm_regs_need(); the caller is going to change them. */
static inline void kvm_regs_change(struct kvm_vcpu *vcpu, uint32_t groups)
{
	kvm_regs_need(vcpu, groups);
	vcpu->changed |= groups;
}

/** kvm_vcpu_nmi() - one NMI arrives. Context: any. */
void kvm_vcpu_nmi(struct kvm_vcpu *vcpu);

/** kvm_vcpu_eoi_exit() - user space is to hear of the EOI of @vector. Context: own thread. */
void kvm_vcpu_eoi_exit(struct kvm_vcpu *vcpu, uint8_t vector);

/** kvm_vcpu_reset() - registers as after power-on, or (@init) after INIT. Context: own thread. */
void kvm_vcpu_reset(struct kvm_vcpu *vcpu, bool init);

/** kvm_vcpu_init_reset() - INIT arrived: resets, APIC included. Context: own thread. */
void kvm_vcpu_init_reset(struct kvm_vcpu *vcpu);

/** kvm_vcpu_sipi() - execution starts at @page * 4096, in real mode. Context: own thread. */
void kvm_vcpu_sipi(struct kvm_vcpu *vcpu, uint8_t page);

/** kvm_vcpu_is_bootstrap() - is it the one that runs after power-on? */
static inline bool kvm_vcpu_is_bootstrap(const struct kvm_vcpu *vcpu)
{
	return vcpu->id == vcpu->vm->bootstrap_id;
}
