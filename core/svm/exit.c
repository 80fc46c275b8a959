/* Why the guest stopped: the hardware's words in lib/kvm's. */
#include "core/hw/regs.h"
#include "core/svm/asid.h"
#include "core/svm/vcpu.h"
#include "lib/kvm/irq.h"

#define EXC_DB 1
#define EXC_PF 14

#define DR6_BS BIT(14)

/* Vectors that push an error code: 8, 10 to 14, 17, 21, 29, 30. */
#define WITH_ERROR UINT32_C(0x60227d00)

/* What the guest has hit, and nothing any more. */
static uint64_t take_dr6(struct vmcb *vmcb)
{
	uint64_t hit = vmcb->s.dr6 ^ SVM_DR6_AT_REST;

	vmcb->s.dr6 = SVM_DR6_AT_REST;
	vmcb->c.clean &= ~(uint32_t)VMCB_CLEAN_DEBUG;
	return hit;
}

static void decode_exception(struct vmcb *vmcb, struct kvm_stop *stop)
{
	uint8_t vector = (uint8_t)(vmcb->c.exitcode - VMEXIT_EXCEPTION);

	stop->reason = KVM_STOP_EXCEPTION;
	stop->exception.vector = vector;
	stop->exception.has_error = (WITH_ERROR & UINT32_C(1) << vector) != 0;
	stop->exception.error = stop->exception.has_error ? (uint32_t)vmcb->c.exitinfo1 : 0;
	stop->exception.dr6 = vector == EXC_DB ? take_dr6(vmcb) : vmcb->c.exitinfo2;
}

static void decode_io(struct vmcb *vmcb, struct kvm_stop *stop)
{
	uint64_t info = vmcb->c.exitinfo1;

	stop->insn_len = (uint8_t)(vmcb->c.exitinfo2 - vmcb->s.rip);
	if ((info & VMCB_IO_STRING) != 0) {
		stop->reason = KVM_STOP_EMULATE;
		return;
	}
	stop->reason = KVM_STOP_IO;
	stop->io.port = VMCB_IO_PORT(info);
	stop->io.bytes = (uint8_t)VMCB_IO_SIZE(info);
	stop->io.in = (info & VMCB_IO_IN) != 0;
}

static void decode_memory(struct vmcb *vmcb, struct kvm_stop *stop)
{
	uint64_t info = vmcb->c.exitinfo1;

	stop->reason = KVM_STOP_MEMORY;
	stop->memory.gpa = vmcb->c.exitinfo2;
	stop->memory.write = (info & VMCB_NPF_WRITE) != 0;
	stop->memory.fetch = (info & VMCB_NPF_FETCH) != 0;
	stop->memory.exact = (info & (VMCB_NPF_WALK | VMCB_NPF_FETCH)) == 0;
}

/* Return: false: it is no MOV of a control register, or the CPU says nothing of its operands. */
static bool decode_cr(struct vmcb *vmcb, struct kvm_stop *stop)
{
	uint64_t code = vmcb->c.exitcode == VMEXIT_CR0_SEL ? VMEXIT_CR_WRITE : vmcb->c.exitcode;

	if (!svm_features.decode_assists || code >= VMEXIT_DR_READ) {
		return false;
	}
	stop->reason = KVM_STOP_CR;
	stop->cr.number = code % VMEXIT_CR_WRITE;
	stop->cr.gpr = VMCB_CR_GPR(vmcb->c.exitinfo1);
	stop->cr.write = code >= VMEXIT_CR_WRITE;
	return true;
}

/* Exits that say all by their number; one more than the reason, 0: unknown. */
#define SAYS(reason) ((reason) + 1)

static const uint8_t reasons[] = {
	[0 ... 0x3f] = SAYS(KVM_STOP_EMULATE), /* CR, DR */
	[VMEXIT_INTR] = SAYS(KVM_STOP_NONE),	     [VMEXIT_NMI] = SAYS(KVM_STOP_NONE),
	[VMEXIT_SMI] = SAYS(KVM_STOP_NONE),	     [VMEXIT_INIT] = SAYS(KVM_STOP_NONE),
	[VMEXIT_VINTR] = SAYS(KVM_STOP_IRQ_WINDOW),  [VMEXIT_CR0_SEL] = SAYS(KVM_STOP_EMULATE),
	[VMEXIT_RDPMC] = SAYS(KVM_STOP_RDPMC),	     [VMEXIT_CPUID] = SAYS(KVM_STOP_CPUID),
	[VMEXIT_RSM] = SAYS(KVM_STOP_UNDEFINED),     [VMEXIT_INVD] = SAYS(KVM_STOP_FLUSH),
	[VMEXIT_PAUSE] = SAYS(KVM_STOP_PAUSE),	     [VMEXIT_HLT] = SAYS(KVM_STOP_HLT),
	[VMEXIT_INVLPGA] = SAYS(KVM_STOP_UNDEFINED), [VMEXIT_TASK] = SAYS(KVM_STOP_TASK_SWITCH),
	[VMEXIT_SHUTDOWN] = SAYS(KVM_STOP_SHUTDOWN), [VMEXIT_VMRUN] = SAYS(KVM_STOP_UNDEFINED),
	[VMEXIT_VMMCALL] = SAYS(KVM_STOP_HYPERCALL), [VMEXIT_VMLOAD] = SAYS(KVM_STOP_UNDEFINED),
	[VMEXIT_VMSAVE] = SAYS(KVM_STOP_UNDEFINED),  [VMEXIT_STGI] = SAYS(KVM_STOP_UNDEFINED),
	[VMEXIT_CLGI] = SAYS(KVM_STOP_UNDEFINED),    [VMEXIT_SKINIT] = SAYS(KVM_STOP_UNDEFINED),
	[VMEXIT_RDTSCP] = SAYS(KVM_STOP_UNDEFINED),  [VMEXIT_WBINVD] = SAYS(KVM_STOP_FLUSH),
	[VMEXIT_MONITOR] = SAYS(KVM_STOP_MONITOR),   [VMEXIT_MWAIT] = SAYS(KVM_STOP_MWAIT),
	[VMEXIT_XSETBV] = SAYS(KVM_STOP_XSETBV),     [VMEXIT_RDPRU] = SAYS(KVM_STOP_UNDEFINED),
	[VMEXIT_INVLPGB] = SAYS(KVM_STOP_UNDEFINED), [VMEXIT_INVPCID] = SAYS(KVM_STOP_UNDEFINED),
	[VMEXIT_MCOMMIT] = SAYS(KVM_STOP_UNDEFINED), [VMEXIT_TLBSYNC] = SAYS(KVM_STOP_UNDEFINED),
};

/* The guest has come to where NMIs are taken again. */
static void nmis_are_free(struct kvm_vcpu *vcpu)
{
	svm_of(vcpu)->iret_pending = false;
	vcpu->events.nmi.masked = false;
}

/* The step is over, wherever it has led. Return: was it the reason for the exit? */
static bool end_step(struct kvm_vcpu *vcpu)
{
	struct svm_vcpu *svm = svm_of(vcpu);
	struct vmcb *vmcb = svm->vmcb;
	bool ours;

	svm->stepping = false;
	if (svm->step_had_tf) {
		return false; /* the guest, or who debugs it, steps itself */
	}
	vmcb->s.rflags &= ~RFLAGS_TF;
	ours = vmcb->c.exitcode == VMEXIT_EXCEPTION + EXC_DB &&
	       (vmcb->s.dr6 ^ SVM_DR6_AT_REST) == DR6_BS;
	return ours && take_dr6(vmcb) != 0;
}

/* What comes before the exit's own reason, where there is more. Return: false: and instead of it.
 */
static __attribute__((noinline)) bool look_around(struct kvm_vcpu *vcpu, struct kvm_stop *stop)
{
	struct svm_vcpu *svm = svm_of(vcpu);
	struct vmcb *vmcb = svm->vmcb;
	bool stepped = svm->stepping && end_step(vcpu);
	uint8_t tpr = (uint8_t)(vmcb->c.virtual_interrupt & 0xf);

	if (tpr != svm->tpr) {
		svm->tpr = tpr;
		if (vcpu->apic != NULL) {
			kvm_irq_set_cr8(vcpu, tpr);
		} else {
			vcpu->cr8 = tpr;
		}
	}
	if ((uint32_t)vmcb->c.exitcode == UINT32_MAX) {
		return true;
	}
	svm_event_load(vcpu, &stop->undelivered);
	if (svm->iret_pending && vmcb->s.rip != svm->iret_rip) {
		nmis_are_free(vcpu);
	}
	if (stepped || (svm->leave_at_once && vmcb->c.exitcode == VMEXIT_INTR)) {
		stop->reason = KVM_STOP_NMI_WINDOW;
		return false;
	}
	if (vmcb->c.exitcode == VMEXIT_IRET) {
		svm->iret_pending = true;
		svm->iret_rip = vmcb->s.rip;
		return false;
	}
	return true;
}

/* The guest was refused: nothing of what was to be delivered was looked at. */
static rare void refused(struct kvm_vcpu *vcpu, struct kvm_stop *stop)
{
	struct svm_vcpu *svm = svm_of(vcpu);

	stop->reason = KVM_STOP_FAIL_ENTRY;
	stop->hardware = (uint32_t)svm->vmcb->c.exitcode; /* of some CPUs' no more is right */
	stop->undelivered = vcpu->inject;
	svm->vmcb->s.rip -= svm->soft_length;
	svm->soft_length = 0;
	if (svm->flushing) {
		svm_asid_refused(svm);
	}
}

static inline void decode(struct kvm_vcpu *vcpu, struct vmcb *vmcb, struct kvm_stop *stop)
{
	uint64_t code = vmcb->c.exitcode;

	if (code == VMEXIT_IOIO) {
		decode_io(vmcb, stop);
		return;
	}
	if (code == VMEXIT_NPF) {
		decode_memory(vmcb, stop);
		return;
	}
	/* Instructions, not faults or interrupts: the CPU may know where the next one is. */
	if (svm_features.nrips && (code > VMEXIT_VINTR || code < VMEXIT_EXCEPTION) &&
	    code < VMEXIT_NPF && vmcb->c.nrip - vmcb->s.rip - 1 < INSN_MAX) {
		stop->insn_len = (uint8_t)(vmcb->c.nrip - vmcb->s.rip);
		if ((vmcb->c.exitinfo1 & VMCB_CR_MOV) != 0 && decode_cr(vmcb, stop)) {
			return;
		}
	} else {
		svm_state_load_mode(vcpu, vmcb); /* it will be looked for */
	}
	if (code < ARRAY_SIZE(reasons) && reasons[code] != 0) {
		stop->reason = reasons[code] - 1;
	} else if (code == VMEXIT_MSR) {
		stop->reason = vmcb->c.exitinfo1 != 0 ? KVM_STOP_MSR_WRITE : KVM_STOP_MSR_READ;
	} else if (code < VMEXIT_INTR) {
		decode_exception(vmcb, stop);
	} else if ((uint32_t)code == UINT32_MAX) {
		refused(vcpu, stop);
	} else {
		stop->reason = KVM_STOP_UNKNOWN;
		stop->hardware = code;
	}
}

/* Nothing but the exit itself: no event, no window, no priority that changed. */
static bool is_plain(const struct svm_vcpu *svm)
{
	const struct vmcb_control *c = &svm->vmcb->c;

	/* IRET stops a guest only where there was a window to be made. */
	return svm->unusual == 0 && (c->exitintinfo & VMCB_EVENT_VALID) == 0 &&
	       (c->virtual_interrupt & VMCB_V_TPR) == 0;
}

void svm_exit_decode(struct kvm_vcpu *vcpu, struct kvm_stop *stop)
{
	struct svm_vcpu *svm = svm_of(vcpu);

	if (is_plain(svm) || look_around(vcpu, stop)) {
		decode(vcpu, svm->vmcb, stop);
	}
	svm->vmcb->c.eventinj = 0;
}
