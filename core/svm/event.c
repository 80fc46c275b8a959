/*
 * Events on their way into a guest: what VMRUN is to deliver, what it could not, and the windows in
 * which it could.
 *
 * INT n, INT3 and INTO push the address behind them. When one that the guest executed is
 * interrupted, RIP is at it and it is executed again. When one is injected, RIP is moved behind
 * it for that, and back if it was not delivered.
 *
 * NMI window. An NMI's handler ends with IRET, which is intercepted while NMIs are masked. But then
 * it has not run yet: where an NMI waits, the IRET is single-stepped; else NMIs are free when the
 * guest is next seen behind it.
 *
 * Spec: AMD APM vol. 2, 15.20 "Event Injection", 15.21.4 "Virtual Interrupts"
 */
#include "core/hw/regs.h"
#include "core/svm/vcpu.h"
#include "lib/kvm/irq.h"

#define EXC_BP 3
#define EXC_OF 4

#define SOFT_EXCEPTION_BYTES 1 /* INT3, INTO */
#define SOFT_INTERRUPT_BYTES 2 /* INT n */

static bool is_soft_exception(uint8_t vector)
{
	return vector == EXC_BP || vector == EXC_OF;
}

void svm_event_store(struct kvm_vcpu *vcpu)
{
	struct svm_vcpu *svm = svm_of(vcpu);
	const struct kvm_event *e = &vcpu->inject;
	uint64_t event = VMCB_EVENT_VALID | e->vector;

	svm->soft_length = 0;
	switch (e->kind) {
	case KVM_EVENT_EXCEPTION:
		event |= VMCB_EVENT_EXCEPTION;
		if (is_soft_exception(e->vector)) {
			svm->soft_length = SOFT_EXCEPTION_BYTES;
		}
		break;
	case KVM_EVENT_INTERRUPT:
		event |= VMCB_EVENT_INTERRUPT;
		break;
	case KVM_EVENT_SOFT_INTERRUPT:
		event |= VMCB_EVENT_SOFT;
		svm->soft_length = SOFT_INTERRUPT_BYTES;
		break;
	case KVM_EVENT_NMI:
		event |= VMCB_EVENT_NMI;
		break;
	default:
		event = 0;
		break;
	}
	if (e->has_error) {
		event |= VMCB_EVENT_HAS_ERROR | (uint64_t)e->error << 32;
	}
	svm->vmcb->c.eventinj = event;
	svm->vmcb->s.rip += svm->soft_length;
	if (svm->soft_length != 0) {
		svm->vmcb->c.nrip = svm->vmcb->s.rip; /* what CPUs with next RIP push */
	}
}

void svm_event_load(struct kvm_vcpu *vcpu, struct kvm_event *event)
{
	struct svm_vcpu *svm = svm_of(vcpu);
	uint64_t info = svm->vmcb->c.exitintinfo;
	uint8_t vector = (uint8_t)info;
	uint8_t moved = svm->soft_length;

	svm->vmcb->c.eventinj = 0;
	svm->soft_length = 0;
	event->kind = KVM_EVENT_NONE;
	if ((info & VMCB_EVENT_VALID) == 0) {
		return;
	}
	*event = (struct kvm_event){.kind = KVM_EVENT_NONE, .vector = vector};
	if ((info & VMCB_EVENT_HAS_ERROR) != 0) {
		event->has_error = true;
		event->error = (uint32_t)(info >> 32);
	}
	switch (info & VMCB_EVENT_TYPE) {
	case VMCB_EVENT_INTERRUPT:
		event->kind = KVM_EVENT_INTERRUPT;
		return;
	case VMCB_EVENT_NMI:
		event->kind = KVM_EVENT_NMI;
		return;
	case VMCB_EVENT_EXCEPTION:
		if (!is_soft_exception(vector)) {
			event->kind = KVM_EVENT_EXCEPTION;
			return;
		}
		event->kind = moved != 0 ? KVM_EVENT_EXCEPTION : KVM_EVENT_NONE;
		break;
	case VMCB_EVENT_SOFT:
		event->kind = moved != 0 ? KVM_EVENT_SOFT_INTERRUPT : KVM_EVENT_NONE;
		break;
	default:
		return;
	}
	svm->vmcb->s.rip -= moved;
}

/* Does an interrupt wait for the task priority to fall? Only then its writes matter. */
static bool held_by_tpr(struct kvm_vcpu *vcpu, uint8_t tpr)
{
	return tpr != 0 && vcpu->apic != NULL && kvm_irq_held_back(vcpu);
}

/* What the guest is stopped at: as soon as an interrupt can be taken (@open), at an IRET. */
static void store_intercepts(struct kvm_vcpu *vcpu, uint8_t tpr, bool open, bool iret)
{
	struct vmcb_control *c = &svm_of(vcpu)->vmcb->c;
	uint32_t first = c->intercept1 & ~(uint32_t)(VMCB_VINTR | VMCB_IRET);
	uint32_t exceptions = c->intercept_exceptions & ~(uint32_t)BIT(EXC_BP);
	uint16_t writes = c->intercept_cr_write & (uint16_t)~BIT(8);

	first |= (open ? VMCB_VINTR : 0) | (iret ? VMCB_IRET : 0);
	exceptions |= vcpu->intercept_bp ? (uint32_t)BIT(EXC_BP) : 0;
	/*
	 * Also while V_IRQ is set: QEMU 7.2 aborts at a write of CR8 by the guest that changes
	 * what is pending. There is no such write if it is intercepted.
	 */
	if (open || held_by_tpr(vcpu, tpr)) {
		writes |= BIT(8);
	}
	if (first != c->intercept1 || exceptions != c->intercept_exceptions ||
	    writes != c->intercept_cr_write) {
		c->intercept1 = first;
		c->intercept_exceptions = exceptions;
		c->intercept_cr_write = writes;
		c->clean &= ~(uint32_t)VMCB_CLEAN_INTERCEPTS;
	}
}

static void store_virtual_interrupt(struct svm_vcpu *svm, uint8_t tpr, bool open)
{
	struct vmcb_control *c = &svm->vmcb->c;
	uint32_t value = VMCB_V_INTR_MASKING | tpr;

	if (open) {
		value |= VMCB_V_IRQ | VMCB_V_PRIO_HIGHEST | VMCB_V_IGN_TPR;
	}
	if (value != c->virtual_interrupt) {
		c->virtual_interrupt = value;
		c->clean &= ~(uint32_t)VMCB_CLEAN_INTERRUPT;
	}
	svm->tpr = tpr;
}

__attribute__((noinline)) void svm_window_store(struct kvm_vcpu *vcpu)
{
	struct svm_vcpu *svm = svm_of(vcpu);
	bool wait_for_iret = vcpu->events.nmi.masked && !svm->iret_pending;
	uint8_t tpr = (uint8_t)(vcpu->apic != NULL ? kvm_irq_cr8(vcpu) : vcpu->cr8);
	/*
	 * QEMU 7.2 does not load the interrupt shadow, and would take an interrupt between STI and
	 * HLT: there the window comes after one instruction.
	 */
	bool shadow = vcpu->want_irq_window && vcpu->cpu.interrupt_shadow &&
		      vcpu->inject.kind == KVM_EVENT_NONE && !vcpu->single_step;
	bool open = vcpu->want_irq_window && !shadow;

	svm->window = svm_window_wanted(vcpu);
	store_intercepts(vcpu, tpr, open, wait_for_iret);
	store_virtual_interrupt(svm, tpr, open);
	/*
	 * The shadow of STI or MOV SS, or an IRET, is over after one instruction. Behind another
	 * event the NMI comes before any: the guest is left as soon as that has been delivered.
	 */
	svm->stepping = shadow || (vcpu->want_nmi_window && !wait_for_iret &&
				   vcpu->inject.kind == KVM_EVENT_NONE);
	svm->leave_at_once = vcpu->want_nmi_window && !wait_for_iret && !svm->stepping;
	if (svm->stepping) {
		svm->step_had_tf = (svm->vmcb->s.rflags & RFLAGS_TF) != 0;
		svm->vmcb->s.rflags |= RFLAGS_TF;
	}
}
