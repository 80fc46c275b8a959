#include "lib/kvm/events.h"

#include "lib/kvm/debug.h"
#include "lib/kvm/irq.h"
#include "lib/x86/regs.h"

#define EXC_DB 1
#define EXC_BP 3
#define EXC_OF 4
#define EXC_DF 8
#define EXC_PF 14

/* Vectors that push an error code: 8, 10 to 14, 17, 21, 29, 30. */
#define WITH_ERROR UINT32_C(0x60227d00)
/* 0, 10 to 13: two of them make a double fault. */
#define CONTRIBUTORY UINT32_C(0x3c01)
/* Faults but #DB, whose RFLAGS image has RF set: all but NMI, 3, 4, 8, 18. */
#define NOT_FAULTS UINT32_C(0x4011e)

#define DR6_ACTIVE_LOW UINT64_C(0xffff0ff0)
#define DR6_TRAPS      UINT64_C(0xf)
#define DR6_RESERVED   BIT(12) /* "enabled breakpoint", of the payload only */

bool kvm_event_has_error(uint8_t vector)
{
	return vector < 32 && (WITH_ERROR & UINT32_C(1) << vector) != 0;
}

static bool contributory(uint8_t vector)
{
	return vector < 32 && (CONTRIBUTORY & UINT32_C(1) << vector) != 0;
}

void kvm_event_deliver_payload(struct kvm_vcpu *vcpu)
{
	uint64_t payload = vcpu->events.exception.payload;

	if (!vcpu->events.exception.has_payload) {
		return;
	}
	if (vcpu->events.exception.vector == EXC_DB) {
		kvm_regs_change(vcpu, KVM_REGS_DEBUG);
		/* Bits that are active low are active high in the payload. */
		vcpu->dr6 = (vcpu->dr6 & ~DR6_TRAPS) | DR6_ACTIVE_LOW | payload;
		vcpu->dr6 ^= payload & DR6_ACTIVE_LOW;
		vcpu->dr6 &= ~DR6_RESERVED;
	} else if (vcpu->events.exception.vector == EXC_PF) {
		kvm_regs_change(vcpu, KVM_REGS_CONTROL);
		vcpu->cr2 = payload;
	}
	vcpu->events.exception.has_payload = false;
	vcpu->events.exception.payload = 0;
}

static void queue(struct kvm_vcpu *vcpu, uint8_t vector, uint32_t error, bool has_payload,
		  uint64_t payload)
{
	struct kvm_events *e = &vcpu->events;

	if (e->exception.pending || e->exception.injected) {
		uint8_t first = e->exception.vector;

		if (first == EXC_DF) {
			kvm_vcpu_note(vcpu, KVM_REQ_TRIPLE_FAULT);
			return;
		}
		if ((contributory(first) && contributory(vector)) ||
		    (first == EXC_PF && (contributory(vector) || vector == EXC_PF))) {
			vector = EXC_DF;
			error = 0;
			has_payload = false;
		}
		/* Otherwise the first one is dropped: its instruction raises it again. */
	}
	kvm_regs_need(vcpu, KVM_REGS_CONTROL);
	e->exception.pending = true;
	e->exception.injected = false;
	e->exception.vector = vector;
	/* Real mode pushes no error codes. */
	e->exception.has_error = kvm_event_has_error(vector) && (vcpu->cpu.cr0 & CR0_PE) != 0;
	e->exception.error = error;
	e->exception.has_payload = has_payload;
	e->exception.payload = payload;
	kvm_event_deliver_payload(vcpu);
	kvm_vcpu_note(vcpu, KVM_REQ_EVENT);
}

void kvm_event_exception(struct kvm_vcpu *vcpu, uint8_t vector, uint32_t error)
{
	queue(vcpu, vector, error, false, 0);
}

void kvm_event_exception_payload(struct kvm_vcpu *vcpu, uint8_t vector, uint32_t error,
				 uint64_t payload)
{
	queue(vcpu, vector, error, true, payload);
}

void kvm_event_interrupt(struct kvm_vcpu *vcpu, uint8_t vector)
{
	vcpu->events.interrupt.injected = true;
	vcpu->events.interrupt.soft = false;
	vcpu->events.interrupt.vector = vector;
	kvm_vcpu_note(vcpu, KVM_REQ_EVENT);
}

void kvm_event_take_nmis(struct kvm_vcpu *vcpu)
{
	/* One can be served and one wait; while one is served, one can wait. */
	uint32_t limit = vcpu->events.nmi.masked || vcpu->events.nmi.injected ? 1 : 2;
	uint32_t arrived;

	/* One that comes just now has its request with it. */
	if (__atomic_load_n((uint32_t *)&vcpu->nmi_arrived, __ATOMIC_RELAXED) != 0) {
		arrived = __atomic_exchange_n((uint32_t *)&vcpu->nmi_arrived, 0, __ATOMIC_ACQUIRE);
		vcpu->events.nmi.pending =
			(uint8_t)MIN(limit, vcpu->events.nmi.pending + MIN(arrived, 2u));
	}
}

bool kvm_event_interrupt_allowed(const struct kvm_vcpu *vcpu)
{
	return (vcpu->cpu.rflags & RFLAGS_IF) != 0 && !vcpu->cpu.interrupt_shadow;
}

bool kvm_event_nmi_allowed(const struct kvm_vcpu *vcpu)
{
	return !vcpu->events.nmi.masked && !vcpu->cpu.interrupt_shadow;
}

/* Is something half delivered? */
static bool half_delivered(const struct kvm_vcpu *vcpu)
{
	const struct kvm_events *e = &vcpu->events;

	return e->exception.injected || e->interrupt.injected || e->nmi.injected;
}

bool kvm_event_window_open(struct kvm_vcpu *vcpu)
{
	return kvm_event_interrupt_allowed(vcpu) && !half_delivered(vcpu) &&
	       !vcpu->events.exception.pending &&
	       (vcpu->vm->irqchip == KVM_IRQCHIP_NONE || kvm_irq_extint_free(vcpu));
}

bool kvm_event_wakes(struct kvm_vcpu *vcpu)
{
	const struct kvm_events *e = &vcpu->events;

	return e->exception.pending || half_delivered(vcpu) ||
	       (e->nmi.pending != 0 && kvm_event_nmi_allowed(vcpu)) ||
	       (kvm_event_interrupt_allowed(vcpu) && vcpu->apic != NULL &&
		kvm_irq_pending(vcpu) >= 0);
}

static void inject_exception(struct kvm_vcpu *vcpu)
{
	vcpu->inject = (struct kvm_event){
		.kind = KVM_EVENT_EXCEPTION,
		.vector = vcpu->events.exception.vector,
		.has_error = vcpu->events.exception.has_error,
		.error = vcpu->events.exception.error,
	};
}

static void inject_interrupt(struct kvm_vcpu *vcpu)
{
	vcpu->inject = (struct kvm_event){
		.kind = vcpu->events.interrupt.soft ? KVM_EVENT_SOFT_INTERRUPT
						    : KVM_EVENT_INTERRUPT,
		.vector = vcpu->events.interrupt.vector,
	};
}

static void inject_nmi(struct kvm_vcpu *vcpu)
{
	vcpu->inject = (struct kvm_event){.kind = KVM_EVENT_NMI, .vector = 2};
	vcpu->events.nmi.masked = true;
}

/* An exception that was not tried yet. */
static void start_exception(struct kvm_vcpu *vcpu)
{
	uint8_t vector = vcpu->events.exception.vector;

	if (vector != EXC_DB && (NOT_FAULTS & UINT32_C(1) << (vector & 31)) == 0) {
		kvm_regs_change(vcpu, KVM_REGS_CORE);
		vcpu->cpu.rflags |= RFLAGS_RF;
	}
	kvm_event_deliver_payload(vcpu);
	if (vector == EXC_DB) {
		kvm_regs_need(vcpu, KVM_REGS_DEBUG);
		if ((vcpu->dr7 & DR7_GD) != 0) {
			kvm_regs_change(vcpu, KVM_REGS_DEBUG);
			vcpu->dr7 &= ~DR7_GD;
			kvm_debug_update(vcpu);
		}
	}
	inject_exception(vcpu);
	vcpu->events.exception.pending = false;
	vcpu->events.exception.injected = true;
}

static void try_nmi(struct kvm_vcpu *vcpu)
{
	struct kvm_events *e = &vcpu->events;

	if (vcpu->inject.kind == KVM_EVENT_NONE && kvm_event_nmi_allowed(vcpu)) {
		e->nmi.pending--;
		e->nmi.injected = true;
		inject_nmi(vcpu);
	}
	vcpu->want_nmi_window = e->nmi.pending != 0;
}

static void try_interrupt(struct kvm_vcpu *vcpu)
{
	if (vcpu->inject.kind == KVM_EVENT_NONE && kvm_event_interrupt_allowed(vcpu)) {
		bool more;
		int vector = kvm_irq_accept(vcpu, &more);

		if (vector < 0) {
			return; /* nor is there one that waits */
		}
		vcpu->events.interrupt.injected = true;
		vcpu->events.interrupt.soft = false;
		vcpu->events.interrupt.vector = (uint8_t)vector;
		inject_interrupt(vcpu);
		if (!more) {
			return;
		}
	}
	vcpu->want_irq_window = kvm_irq_pending(vcpu) >= 0;
}

void kvm_event_prepare(struct kvm_vcpu *vcpu)
{
	struct kvm_events *e = &vcpu->events;

	vcpu->inject = (struct kvm_event){.kind = KVM_EVENT_NONE};
	vcpu->want_irq_window = false;
	vcpu->want_nmi_window = false;
	/* What was begun is finished first, unless an exception came of it. */
	if (e->exception.injected) {
		inject_exception(vcpu);
	} else if (e->exception.pending) {
		start_exception(vcpu);
	} else if (e->nmi.injected) {
		inject_nmi(vcpu);
	} else if (e->interrupt.injected) {
		inject_interrupt(vcpu);
	}
	if ((vcpu->debug_control & KVM_GUESTDBG_BLOCKIRQ) != 0) {
		return;
	}
	if (e->nmi.pending != 0) {
		try_nmi(vcpu);
	}
	if (vcpu->apic != NULL) {
		try_interrupt(vcpu);
	}
}

void kvm_event_stopped(struct kvm_vcpu *vcpu, const struct kvm_event *undelivered)
{
	struct kvm_events *e = &vcpu->events;
	bool ours = vcpu->inject.kind == undelivered->kind &&
		    vcpu->inject.vector == undelivered->vector;

	/* The event that entry was to deliver, or one of the guest's own that a stop cut short. */
	if (vcpu->inject.kind == KVM_EVENT_EXCEPTION) {
		e->exception.injected = false;
	} else if (vcpu->inject.kind == KVM_EVENT_NMI) {
		e->nmi.injected = false;
	} else if (vcpu->inject.kind != KVM_EVENT_NONE) {
		e->interrupt.injected = false;
	}
	vcpu->inject.kind = KVM_EVENT_NONE;
	switch (undelivered->kind) {
	case KVM_EVENT_EXCEPTION:
		if (!ours && (undelivered->vector == EXC_BP || undelivered->vector == EXC_OF)) {
			return; /* RIP is at INT3 or INTO: it happens again by itself */
		}
		e->exception.injected = true;
		e->exception.vector = undelivered->vector;
		e->exception.has_error = undelivered->has_error;
		e->exception.error = undelivered->error;
		break;
	case KVM_EVENT_NMI:
		e->nmi.injected = true;
		break;
	case KVM_EVENT_INTERRUPT:
	case KVM_EVENT_SOFT_INTERRUPT:
		e->interrupt.injected = true;
		e->interrupt.soft = undelivered->kind == KVM_EVENT_SOFT_INTERRUPT;
		e->interrupt.vector = undelivered->vector;
		break;
	default:
		return;
	}
	kvm_vcpu_note(vcpu, KVM_REQ_EVENT);
}
