/*
 * The operations of lib/insn's emulator on a software CPU, common to all engines.
 */
#pragma once

#include "lib/insn/emulate.h"
#include "lib/kvm/backend.h"

struct soft_vcpu;
struct kvm_vcpu;

/** soft_ops_init() - vcpu->env. */
void soft_ops_init(struct soft_vcpu *vcpu);

/** soft_stop() - the instruction at RIP, of vcpu->insn_len, is lib/kvm's. Return: INSN_EXIT. */
enum insn_outcome soft_stop(struct soft_vcpu *vcpu, enum kvm_stop_reason reason);

/** soft_breakpoints() - bits of DR6 for those on the instruction at @linear. */
must_use uint64_t soft_breakpoints(const struct kvm_vcpu *kvm, uint64_t linear);
