/*
 * Control, debug and extended control registers: what may be written to them, and what follows.
 */
#pragma once

#include "lib/base/bytes.h"
#include "lib/kvm/vcpu.h"
#include "lib/x86/regs.h"

#define KVM_AT_XSTATE_BV 512 /* in an XSAVE area, as vcpu->xsave is */

/**
 * kvm_reg_set_cr0(), _cr3(), _cr4(), _cr8(), _xcr0() - as the guest's MOV or XSETBV writes it.
 * Return: 0; -EINVAL: #GP(0).
 * Context: the vCPU's thread; CR0, CR3 and CR4 may read guest memory: vm->memory for reading.
 * Spec: AMD APM vol. 2, 3.1 "System-Control Registers"
 */
must_use int kvm_reg_set_cr0(struct kvm_vcpu *vcpu, uint64_t value);
must_use int kvm_reg_set_cr3(struct kvm_vcpu *vcpu, uint64_t value);
must_use int kvm_reg_set_cr4(struct kvm_vcpu *vcpu, uint64_t value);
must_use int kvm_reg_set_cr8(struct kvm_vcpu *vcpu, uint64_t value);
must_use int kvm_reg_set_xcr0(struct kvm_vcpu *vcpu, uint64_t value);

/** kvm_reg_cr8() - the task priority, 0 to 15. */
must_use uint64_t kvm_reg_cr8(const struct kvm_vcpu *vcpu);

/** kvm_reg_set_efer() - @host: by user space, which may change LME while paging is on. */
must_use int kvm_reg_set_efer(struct kvm_vcpu *vcpu, uint64_t value, bool host);

/** kvm_reg_cr0_valid() / kvm_reg_cr4_valid() - could the register hold that? */
must_use bool kvm_reg_cr0_valid(uint64_t value);
must_use bool kvm_reg_cr4_valid(const struct kvm_vcpu *vcpu, uint64_t value);

/** kvm_reg_get_dr() / kvm_reg_set_dr() - the guest's debug register 0 to 7. 0 or -EINVAL. */
uint64_t kvm_reg_get_dr(struct kvm_vcpu *vcpu, unsigned dr);
must_use int kvm_reg_set_dr(struct kvm_vcpu *vcpu, unsigned dr, uint64_t value);

/**
 * kvm_reg_refresh_pdptrs() - reads the PDPTEs anew, which the CPU has checked when it took CR3.
 * What must be zero is taken as such: QEMU 7.2 marks them as accessed.
 */
void kvm_reg_refresh_pdptrs(struct kvm_vcpu *vcpu);

/** kvm_reg_load_pdptrs() - of PAE paging, from @cr3. Return: 0; -EINVAL: reserved bits are set. */
must_use int kvm_reg_load_pdptrs(struct kvm_vcpu *vcpu, uint64_t cr3);

/** kvm_reg_is_pae() - is paging on, with PAE, outside of long mode? */
must_use bool kvm_reg_is_pae(const struct kvm_vcpu *vcpu);

/**
 * kvm_reg_pkru(), kvm_reg_set_pkru() - the rights of protection keys, which are in vcpu->xsave.
 * Context: the vCPU's thread; KVM_REGS_FPU is loaded. To set it is for who executes the guest's
 * instructions himself. No vector registers.
 * Spec: Intel SDM vol. 1, 13.5.7 "PKRU State"; 13.6: it is in use unless it is 0
 */
static inline uint32_t kvm_reg_pkru(const struct kvm_vcpu *vcpu)
{
	unsigned at = vcpu->env->backend->pkru_at;
	bool there = at != 0 && (load_le64(vcpu->xsave + KVM_AT_XSTATE_BV) & XCR0_PKRU) != 0;

	return there ? load_le32(vcpu->xsave + at) : 0;
}

static inline void kvm_reg_set_pkru(struct kvm_vcpu *vcpu, uint32_t value)
{
	uint64_t parts = load_le64(vcpu->xsave + KVM_AT_XSTATE_BV) & ~XCR0_PKRU;

	store_le32(vcpu->xsave + vcpu->env->backend->pkru_at, value);
	store_le64(vcpu->xsave + KVM_AT_XSTATE_BV, parts | (value != 0 ? XCR0_PKRU : 0));
}

/** kvm_reg_linear_rip() - CS:RIP as a linear address. */
static inline uint64_t kvm_reg_linear_rip(struct kvm_vcpu *vcpu)
{
	kvm_regs_need(vcpu, KVM_REGS_MODE);
	if ((vcpu->cpu.efer & EFER_LMA) != 0 && (vcpu->cpu.seg[INSN_CS].attr & INSN_SEG_L) != 0) {
		return vcpu->cpu.rip;
	}
	return (uint32_t)(vcpu->cpu.seg[INSN_CS].base + vcpu->cpu.rip);
}
