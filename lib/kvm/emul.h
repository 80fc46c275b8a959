/*
 * Instructions that the CPU below does not execute by itself: those that reach devices, and those
 * that are intercepted. lib/insn does it; here is what it stands on.
 */
#pragma once

#include "lib/kvm/exits.h"
#include "lib/kvm/vcpu.h"
#include "lib/x86/walk.h"

/** kvm_emul_init() - once for a vCPU. */
void kvm_emul_init(struct kvm_vcpu *vcpu);

/**
 * kvm_emul_insn() - one instruction, at RIP, or the rest of it if it waited for user space.
 * Return: true: user space has an exit; false: the guest goes on (perhaps with an exception).
 * Context: vCPU thread, vm->memory for reading.
 */
must_use bool kvm_emul_insn(struct kvm_vcpu *vcpu);

/**
 * kvm_emul_access() - as kvm_emul_insn(), for an instruction that was stopped at memory.
 * @gpa: where its operand begins, as the CPU says; so that need not be looked up again.
 * @write: it may be written to.
 */
must_use bool kvm_emul_access(struct kvm_vcpu *vcpu, uint64_t gpa, bool write);

/** kvm_emul_finish_load() - KVM_PENDING_MMIO_LOAD: what was at the address is known. */
void kvm_emul_finish_load(struct kvm_vcpu *vcpu, uint64_t value);

/**
 * kvm_emul_skip() - RIP goes behind the instruction that was carried out here.
 * @len: its length; 0: it is fetched and decoded.
 * Return: true: user space has an exit (a single step, or it could not be decoded).
 * Context: vCPU thread; takes vm->memory for reading if it has to decode.
 */
must_use bool kvm_emul_skip(struct kvm_vcpu *vcpu, unsigned len);

/**
 * kvm_emul_foreign_hypercall() - #UD stopped the guest: was it the other maker's VMCALL or VMMCALL?
 * Then it is patched to what this CPU knows, as Linux does (KVM_X86_QUIRK_FIX_HYPERCALL_INSN).
 * Return: false: the #UD is the guest's.
 * Context: vCPU thread, vm->memory for reading.
 */
must_use bool kvm_emul_foreign_hypercall(struct kvm_vcpu *vcpu);

/**
 * kvm_emul_translate() - a linear address by the guest's tables.
 * @access: WALK_ bits.
 */
must_use enum walk_outcome kvm_emul_translate(struct kvm_vcpu *vcpu, uint64_t linear,
					      unsigned access, struct walk_result *result);
