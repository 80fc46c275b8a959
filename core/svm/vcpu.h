/* What the files of core/svm share about a vCPU. */
#pragma once

#include <stdatomic.h>

#include "core/hw/svm.h"
#include "core/svm/npt.h"
#include "core/svm/vmcb.h"
#include "lib/kvm/backend.h"
#include "lib/kvm/irq.h"
#include "lib/kvm/vcpu.h"

struct svm_cpu;

/* The backend's data of a vCPU. Its thread's only, but for what is atomic. */
struct svm_vcpu {
	struct vmcb *vmcb; /* constant */
	hpa_t vmcb_pa;	   /* constant */
	struct npt *npt;   /* constant: the VM's */
	uint8_t *msrpm;	   /* constant; two pages */
	uint16_t tr_attr;  /* of TR when it was last loaded */
	bool flush;	   /* forget the guest's translations at the next entry */
	bool step_had_tf;  /* the guest's own TF when `stepping` began */
	union {
		struct {
			uint8_t tpr;	     /* V_TPR at the last entry */
			uint8_t soft_length; /* RIP was moved by that for an injected INT n, INT3,
						INTO */
			bool stepping;	     /* one instruction, for the NMI window */
			bool window;	     /* the VMCB asks for some window, or has a V_TPR */
			bool iret_pending;   /* the IRET that ends an NMI's handler comes next */
			bool flushing;	     /* the last entry flushed translations */
			bool fpu_away;	     /* the CPU has the thread's extended state */
		};
		uint64_t unusual; /* any of them: an entry or an exit has more to do */
	};
	union {
		struct {
			bool debugged;	    /* breakpoints are set */
			bool own_xcr0;	    /* the guest depends on its XCR0 */
			bool leave_at_once; /* after the injected event, for the NMI window */
			bool own_spec_ctrl; /* the guest's is not the kernel's, which is 0 */
		};
		uint32_t around; /* any of them: there is something to do around VMRUN */
	};
	uint64_t iret_rip;

	/* Where it last ran: if it is still there, the CPU has all that is not in the VMCB. */
	struct svm_cpu *home;
	uint64_t tlb_generation; /* of the VM's nested tables; 0: flush */

	/* Address space ID, and whose it is. */
	struct svm_cpu *asid_cpu;
	uint64_t asid_generation;
	uint32_t asid;

	/* The guest's extended state is in the CPU, or where the thread's own belongs; that waits
	 * here. */
	void *host_xsave;

	struct npt_guest guest;
};

static inline struct svm_vcpu *svm_of(const struct kvm_vcpu *vcpu)
{
	return vcpu->backend_data;
}

/* DR6 while no breakpoint has been hit: what differs afterwards is the guest's. */
#define SVM_DR6_AT_REST UINT64_C(0xffff0ff0)

/* What the CPUs of this machine can, as far as it matters here. Constant after start. */
struct svm_features {
	bool nrips, decode_assists, flush_by_asid, tsc_rate, clean, rdtscp, pause_filter;
	bool xsave, xsaveopt;
	uint32_t asids;
	uint64_t xcr0;	    /* the kernel's */
	bool ibpb;	    /* MSR_IA32_PRED_CMD has it */
	uint64_t spec_ctrl; /* bits of MSR_IA32_SPEC_CTRL; 0: there is none */
};

extern struct svm_features svm_features;

/** svm_state_init() - a new VMCB: what never changes. Maps and N_CR3 are the caller's. */
void svm_state_init(struct vmcb *vmcb);

/** svm_state_store_core() - puts KVM_REGS_CORE into the VMCB. To find out whether it has to be
 * takes as long. */
static inline void svm_state_store_core(const struct kvm_vcpu *vcpu, struct vmcb *vmcb)
{
	vmcb->s.rax = vcpu->cpu.gpr[0];
	vmcb->s.rsp = vcpu->cpu.gpr[4];
	vmcb->s.rip = vcpu->cpu.rip;
	vmcb->s.rflags = vcpu->cpu.rflags;
	vmcb->c.interrupt_shadow = vcpu->cpu.interrupt_shadow;
}

/** svm_state_store() - the other groups of registers in vcpu->changed. */
void svm_state_store(struct kvm_vcpu *vcpu);

/** svm_state_load() - the other way. KVM_REGS_FPU is not looked at. */
void svm_state_load(struct kvm_vcpu *vcpu, uint32_t groups);

/* Caching is the host's to decide: with these a guest would only be slow, and its neighbours. */
#define CR0_HIDDEN (CR0_CD | CR0_NW)

/** svm_copy_segments() - both sides have the same layout, and ES to GS in the same order: what is
 * often done is done by words. */
static inline void svm_copy_segments(void *to, const void *from, unsigned count)
{
	uint64_t *t = to;
	const uint64_t *f = from;

#pragma GCC unroll 12
	for (unsigned i = 0; i < 2 * count; i++) {
		t[i] = f[i];
	}
}

/** svm_state_load_control() - of KVM_REGS_CONTROL, but for CR2. */
static inline void svm_state_load_control(struct kvm_vcpu *vcpu, const struct vmcb *vmcb)
{
	/* With these bits set, each write of CR0 is emulated: the guest has not changed them. */
	uint64_t hidden = vmcb->c.intercept_cr_read != 0 ? vcpu->cpu.cr0 & CR0_HIDDEN : 0;

	vcpu->cpu.cr0 = vmcb->s.cr0 | hidden;
	vcpu->cr3 = vmcb->s.cr3;
	vcpu->cpu.cr4 = vmcb->s.cr4;
	vcpu->cpu.efer = vmcb->s.efer & ~EFER_SVME;
}

/** svm_state_load_mode() - of KVM_REGS_MODE, which emulation wants and little else. */
static inline void svm_state_load_mode(struct kvm_vcpu *vcpu, const struct vmcb *vmcb)
{
	vcpu->cpu.cpl = vmcb->s.cpl;
	svm_copy_segments(&vcpu->cpu.seg[INSN_CS], &vmcb->s.cs, 1);
	svm_state_load_control(vcpu, vmcb);
	vcpu->loaded |= KVM_REGS_MODE;
}

/** svm_state_load_core() - of KVM_REGS_CORE, which each exit wants. */
static inline void svm_state_load_core(struct kvm_vcpu *vcpu, const struct vmcb *vmcb)
{
	vcpu->cpu.gpr[0] = vmcb->s.rax;
	vcpu->cpu.gpr[4] = vmcb->s.rsp;
	vcpu->cpu.rip = vmcb->s.rip;
	vcpu->cpu.rflags = vmcb->s.rflags;
	vcpu->cpu.interrupt_shadow = (vmcb->c.interrupt_shadow & 1) != 0;
}

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
	return vcpu->any_order != 0 || vcpu->events.nmi.masked ||
	       (vcpu->apic != NULL ? kvm_irq_cr8(vcpu) : vcpu->cr8) != 0;
}

/** svm_window_store() - asks for the windows that the orders want. To be called if there is one, or
 * svm->window says that there was. */
void svm_window_store(struct kvm_vcpu *vcpu);

/** svm_exit_decode() - says in the backend's terms why the guest stopped. @stop: zero before. */
void svm_exit_decode(struct kvm_vcpu *vcpu, struct kvm_stop *stop);
