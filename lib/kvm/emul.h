/*
 * Instructions that the CPU below does not execute by itself: those that reach devices, and those
 * that are intercepted. Plain loads and stores are carried out here (plain.h). All others are
 * lib/insn's, which env->emulate() reaches wherever it is; here is what it stands on.
 */
#pragma once

#include "lib/kvm/exits.h"
#include "lib/kvm/vcpu.h"
#include "lib/x86/walk.h"

/** The registers that any instruction depends on. */
#define KVM_EMUL_REGS (KVM_REGS_CORE | KVM_REGS_CONTROL | KVM_REGS_SEGMENTS)

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

/** kvm_emul_cr() - KVM_STOP_CR. Return, context: as kvm_emul_insn(). */
must_use bool kvm_emul_cr(struct kvm_vcpu *vcpu, const struct kvm_stop *stop);

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

/*
 * For env->emulate(): the emulator's operations, as struct insn_ops has them. A fault is in
 * vcpu->exits->fault. Whoever calls them may be wrong about their order, not about lengths: memory
 * 1 to 256 bytes, compare and exchange 1, 2, 4, 8, 16, ports 1, 2 or 4 and not more than 256 in
 * all. Context: within emulate().
 */

/** kvm_emul_fetch() - more code into vcpu->exits->code, up to the end of a page. Return: false:
 * there is none; an exception may be pending then, and the outcome is INSN_UNSUPPORTED. */
must_use bool kvm_emul_fetch(struct kvm_vcpu *vcpu);

/** kvm_emul_has_written() - is something written that user space must see before anything else
 * happens? */
static inline bool kvm_emul_has_written(const struct kvm_vcpu *vcpu)
{
	return vcpu->exits->written_count != 0 || vcpu->exits->string_out;
}

/** kvm_emul_raise() - Return: INSN_FAULT. */
enum insn_outcome kvm_emul_raise(struct kvm_vcpu *vcpu, enum insn_vector vector, uint32_t error);

/*
 * @access: INSN_ACCESS_ bits, and KVM_ACCESS_OPERAND: it is the only operand that the instruction
 * has in memory, and so, if it begins there, that which stopped the guest.
 */
must_use enum insn_outcome kvm_emul_read(struct kvm_vcpu *vcpu, uint64_t linear, void *data,
					 unsigned len, unsigned access);
must_use enum insn_outcome kvm_emul_write(struct kvm_vcpu *vcpu, uint64_t linear, const void *data,
					  unsigned len, unsigned access);
must_use enum insn_outcome kvm_emul_probe(struct kvm_vcpu *vcpu, uint64_t linear, unsigned len);
must_use enum insn_outcome kvm_emul_cmpxchg(struct kvm_vcpu *vcpu, uint64_t linear, const void *old,
					    const void *new, unsigned len);
must_use enum insn_outcome kvm_emul_port_in(struct kvm_vcpu *vcpu, uint16_t port, unsigned bytes,
					    void *data, unsigned *count);
must_use enum insn_outcome kvm_emul_port_out(struct kvm_vcpu *vcpu, uint16_t port, unsigned bytes,
					     const void *data, unsigned *count);
