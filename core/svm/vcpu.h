/* What the files of core/svm share about a vCPU. */
#pragma once

#include <stdatomic.h>

#include "core/svm/vmcb.h"
#include "lib/kvm/backend.h"
#include "lib/kvm/irq.h"
#include "lib/kvm/vcpu.h"

struct svm_cpu;

#define SVM_NOWHERE UINT32_MAX

/* The backend's data of a vCPU. Its thread's only, but for what is atomic. */
struct svm_vcpu {
	struct vmcb *vmcb;   /* constant */
	uint8_t *msrpm;	     /* constant; two pages */
	uint32_t fresh;	     /* clean bits for the next VMRUN */
	uint8_t tpr;	     /* V_TPR at the last entry */
	uint16_t tr_attr;    /* of TR when it was last loaded */
	uint8_t soft_length; /* RIP was moved by that for an injected INT n, INT3, INTO */
	bool flush;	     /* forget the guest's translations at the next entry */
	bool stepping;	     /* one instruction, for the NMI window */
	bool step_had_tf;    /* the guest's own TF then */
	bool window;	     /* the VMCB asks for some window, or has a V_TPR */
	bool leave_at_once;  /* after the event that is injected, for the NMI window */
	bool iret_pending;   /* the IRET that ends an NMI's handler is about to run */
	uint64_t iret_rip;
	uint64_t tlb_generation; /* of the VM's nested tables, at the last entry */

	/* Address space ID, and whose it is. */
	struct svm_cpu *asid_cpu;
	uint64_t asid_generation;
	uint32_t asid;

	/* The extended state is in the CPU, or saved where the thread's own belongs. */
	bool fpu_live;
	void *host_xsave;

	_Atomic uint32_t in_guest; /* index of the CPU that runs it; SVM_NOWHERE */
};

static inline struct svm_vcpu *svm_of(const struct kvm_vcpu *vcpu)
{
	return vcpu->backend_data;
}

/* What the CPUs of this machine can, as far as it matters here. Constant after start. */
struct svm_features {
	bool nrips, decode_assists, flush_by_asid, tsc_rate, clean, rdtscp, pause_filter;
	bool xsave, xsaveopt;
	uint32_t asids;
	uint64_t xcr0; /* the kernel's */
};

extern struct svm_features svm_features;

/* The bits of EFER and so on that a guest does not see. */

/** svm_state_init() - a new VMCB: what never changes. Maps and N_CR3 are the caller's. */
void svm_state_init(struct vmcb *vmcb);

/** svm_state_store() - puts the groups of registers in vcpu->changed into the VMCB. */
void svm_state_store(struct kvm_vcpu *vcpu);

/** svm_state_load() - the other way. KVM_REGS_FPU is not looked at. */
void svm_state_load(struct kvm_vcpu *vcpu, uint32_t groups);

/** svm_state_load_core() - of KVM_REGS_CORE, which each exit wants. */
void svm_state_load_core(struct kvm_vcpu *vcpu);

/** svm_intercepts() - what of the vCPU's instructions and exceptions to intercept, from its
 * orders. */
void svm_intercepts(struct kvm_vcpu *vcpu);

/** svm_msr_map() - fills the MSR permission map: which MSRs the guest reaches by itself. */
void svm_msr_map(struct kvm_vcpu *vcpu);

/** svm_event_store() - enters vcpu->inject for delivery. */
void svm_event_store(struct kvm_vcpu *vcpu);

/** svm_event_load() - what was not delivered: into @event. */
void svm_event_load(struct kvm_vcpu *vcpu, struct kvm_event *event);

/** svm_window_wanted() - is there anything of a guest's state that svm_window_store() is about? */
static inline bool svm_window_wanted(struct kvm_vcpu *vcpu)
{
	return vcpu->want_irq_window || vcpu->want_nmi_window || vcpu->events.nmi.masked ||
	       vcpu->intercept_bp || (vcpu->apic != NULL ? kvm_irq_cr8(vcpu) : vcpu->cr8) != 0;
}

/** svm_window_store() - asks for the windows that the orders want. To be called if there is one, or
 * svm->window says that there was. */
void svm_window_store(struct kvm_vcpu *vcpu);

/** svm_exit_decode() - says in the backend's terms why the guest stopped. @stop: zero before. */
void svm_exit_decode(struct kvm_vcpu *vcpu, struct kvm_stop *stop);
