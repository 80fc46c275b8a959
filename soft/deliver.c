#include "soft/deliver.h"

#include "lib/x86/regs.h"
#include "soft/vcpu.h"

#define EXC_DB 1
#define EXC_BP 3
#define EXC_OF 4
#define EXC_DF 8
#define EXC_PF 14

/* 0, 10 to 13: two of them make a double fault. */
#define CONTRIBUTORY UINT32_C(0x3c01)

/* RIP is at @return_rip meanwhile; it is what it was if the event does not come through. */
static enum insn_outcome deliver_once(struct soft_vcpu *vcpu, const struct kvm_event *event,
				      uint64_t return_rip)
{
	struct insn_cpu *cpu = &vcpu->kvm->cpu;
	uint64_t rip = cpu->rip;
	enum insn_event kind = INSN_EVENT_INTERRUPT;
	enum insn_outcome r;

	if (event->kind == KVM_EVENT_SOFT_INTERRUPT) {
		kind = INSN_EVENT_SOFTWARE;
	} else if (event->kind == KVM_EVENT_EXCEPTION) {
		kind = event->vector == EXC_BP || event->vector == EXC_OF ? INSN_EVENT_SOFTWARE
		       : event->vector == EXC_DB			  ? INSN_EVENT_TRAP
									  : INSN_EVENT_FAULT;
	}
	cpu->rip = return_rip;
	r = insn_deliver(&vcpu->env, event->vector, event->error, kind);
	if (r != INSN_DONE && cpu->rip == return_rip) { /* not in another task */
		cpu->rip = rip;
	}
	return r;
}

static bool contributory(uint8_t vector)
{
	return vector < 32 && (CONTRIBUTORY & UINT32_C(1) << vector) != 0;
}

/* What comes of a fault in the delivery of @event. Return: false: nothing any more. */
static bool combine(struct soft_vcpu *vcpu, struct kvm_event *event)
{
	const struct insn_fault *fault = &vcpu->env.fault;
	bool exception = event->kind == KVM_EVENT_EXCEPTION;
	uint8_t first = event->vector;

	if (exception && first == EXC_DF) {
		return false;
	}
	if (fault->vector == EXC_PF) {
		vcpu->kvm->cr2 = fault->address;
	}
	*event = (struct kvm_event){
		.kind = KVM_EVENT_EXCEPTION,
		.vector = fault->vector,
		.has_error = fault->has_error && (vcpu->kvm->cpu.cr0 & CR0_PE) != 0,
		.error = fault->error,
	};
	if (exception &&
	    ((contributory(first) && contributory(fault->vector)) ||
	     (first == EXC_PF && (contributory(fault->vector) || fault->vector == EXC_PF)))) {
		event->vector = EXC_DF;
		event->error = 0;
		event->has_error = (vcpu->kvm->cpu.cr0 & CR0_PE) != 0;
	}
	return true;
}

enum insn_outcome soft_deliver(struct soft_vcpu *vcpu, const struct kvm_event *event,
			       uint64_t return_rip)
{
	struct kvm_event now = *event;
	enum insn_outcome r;

	for (;;) {
		r = deliver_once(vcpu, &now, return_rip);
		if (r != INSN_FAULT) {
			break;
		}
		if (!combine(vcpu, &now)) {
			vcpu->stop->reason = KVM_STOP_SHUTDOWN;
			return INSN_EXIT;
		}
		/* A fault belongs to the instruction at RIP, even to an INT n. */
		return_rip = vcpu->kvm->cpu.rip;
	}
	switch (r) {
	case INSN_DONE:
		return INSN_DONE;
	case INSN_UNSUPPORTED:
		vcpu->stop->reason = KVM_STOP_TASK_SWITCH;
		break;
	default:
		/* Also INSN_AGAIN, with no reason to stop: it is tried again. */
		vcpu->stop->undelivered = now;
		break;
	}
	return INSN_EXIT;
}

enum insn_outcome soft_deliver_fault(struct soft_vcpu *vcpu)
{
	const struct insn_fault *fault = &vcpu->env.fault;
	struct kvm_event event = {
		.kind = KVM_EVENT_EXCEPTION,
		.vector = fault->vector,
		.has_error = fault->has_error && (vcpu->kvm->cpu.cr0 & CR0_PE) != 0,
		.error = fault->error,
	};

	if (fault->vector == EXC_PF) {
		vcpu->kvm->cr2 = fault->address;
	} else if (fault->vector == EXC_DB) {
		return soft_deliver_db(vcpu, fault->dr6);
	}
	return soft_deliver(vcpu, &event, vcpu->kvm->cpu.rip);
}

enum insn_outcome soft_deliver_db(struct soft_vcpu *vcpu, uint64_t hits)
{
	struct kvm_vcpu *kvm = vcpu->kvm;
	const struct kvm_event event = {.kind = KVM_EVENT_EXCEPTION, .vector = EXC_DB};

	if (kvm->intercept_db) {
		vcpu->stop->reason = KVM_STOP_EXCEPTION;
		vcpu->stop->exception.vector = EXC_DB;
		vcpu->stop->exception.dr6 = hits;
		return INSN_EXIT;
	}
	kvm->dr6 = (kvm->dr6 & ~UINT64_C(0xf)) | hits;
	kvm->dr7 &= ~DR7_GD;
	kvm->hw_dr7 &= ~DR7_GD;
	return soft_deliver(vcpu, &event, kvm->cpu.rip);
}
