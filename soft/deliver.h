/*
 * Exceptions and interrupts on their way through the guest's IDT, as the CPU does it.
 */
#pragma once

#include "lib/insn/emulate.h"
#include "lib/kvm/backend.h"

struct soft_vcpu;

/**
 * soft_deliver() - an event; what goes wrong becomes the exception that comes of it, to the double
 * fault and shutdown.
 * @return_rip: where the guest goes on after the handler.
 * Return: INSN_DONE: RIP is at a handler; INSN_EXIT: *vcpu->stop says why it is not, with what is
 * left to be delivered in .undelivered.
 * Context: vCPU thread, inside.
 * Spec: Intel SDM vol. 3A, 6.12 "Exception and Interrupt Handling", 6.14; AMD APM vol. 2, 8.7, 8.9
 */
must_use enum insn_outcome soft_deliver(struct soft_vcpu *vcpu, const struct kvm_event *event,
					uint64_t return_rip);

/**
 * soft_deliver_fault() - vcpu->env.fault, raised by the instruction at RIP; user space's debugger
 * may see it first. Return: as above.
 */
must_use enum insn_outcome soft_deliver_fault(struct soft_vcpu *vcpu);

/** soft_deliver_db() - #DB, with @hits the new bits of DR6. Return: as above. */
must_use enum insn_outcome soft_deliver_db(struct soft_vcpu *vcpu, uint64_t hits);
