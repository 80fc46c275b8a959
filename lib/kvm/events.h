/*
 * Events on their way into a guest: exceptions, NMIs, interrupts; their order, and what becomes of
 * those that meet.
 * Spec: AMD APM vol. 2, 8.5 "Priorities", 8.2.9 "#DF"; Intel SDM vol. 3A, 6.9
 */
#pragma once

#include "lib/kvm/vcpu.h"

/**
 * kvm_event_exception() - the guest is to take an exception; with one on its way already it may
 * become a double or a triple fault.
 * @error: used if the vector has an error code.
 */
void kvm_event_exception(struct kvm_vcpu *vcpu, uint8_t vector, uint32_t error);

/** kvm_event_exception_payload() - likewise; @payload: CR2 of #PF, new bits of DR6 of #DB. */
void kvm_event_exception_payload(struct kvm_vcpu *vcpu, uint8_t vector, uint32_t error,
				 uint64_t payload);

/** kvm_event_has_error() - does that exception push an error code (in protected mode)? */
must_use bool kvm_event_has_error(uint8_t vector);

/** kvm_event_interrupt() - KVM_INTERRUPT without chips: it is delivered at the next entry. */
void kvm_event_interrupt(struct kvm_vcpu *vcpu, uint8_t vector);

/** kvm_event_deliver_payload() - CR2 or DR6 take what the pending exception brings. */
void kvm_event_deliver_payload(struct kvm_vcpu *vcpu);

/** kvm_event_take_nmis() - those that arrived become pending, two at most. */
void kvm_event_take_nmis(struct kvm_vcpu *vcpu);

/** kvm_event_prepare() - decides what the next entry delivers, and what window to wait for. */
void kvm_event_prepare(struct kvm_vcpu *vcpu);

/** kvm_event_stopped() - the guest stopped: what was not delivered is kept. */
void kvm_event_stopped(struct kvm_vcpu *vcpu, const struct kvm_event *undelivered);

/** kvm_event_interrupt_allowed() - RFLAGS.IF and no shadow. */
must_use bool kvm_event_interrupt_allowed(const struct kvm_vcpu *vcpu);

/** kvm_event_nmi_allowed() - not in an NMI's handler, no shadow. */
must_use bool kvm_event_nmi_allowed(const struct kvm_vcpu *vcpu);

/** kvm_event_window_open() - could user space hand over an interrupt (KVM_INTERRUPT) now? */
must_use bool kvm_event_window_open(struct kvm_vcpu *vcpu);

/** kvm_event_wakes() - is there something that ends a HLT? */
must_use bool kvm_event_wakes(struct kvm_vcpu *vcpu);
