#include "lib/kvm/emul_regs.h"

#include <errno.h>
#include <string.h>

#include "lib/base/bytes.h"
#include "lib/kvm/clock.h"
#include "lib/kvm/cpuid.h"
#include "lib/kvm/emul.h"
#include "lib/kvm/registers.h"
#include "lib/x86/regs.h"

#define AT_MXCSR    24 /* in the XSAVE area */
#define AT_ST	    32
#define AT_XMM	    160
#define AT_YMM_HIGH 576
#define XSTATE_X87  BIT(0)
#define XSTATE_SSE  BIT(1)
#define XSTATE_AVX  BIT(2)

#define FCW_INIT 0x37f

static uint8_t *xmm_of(struct kvm_vcpu *vcpu, unsigned reg)
{
	return vcpu->xsave + AT_XMM + 16 * (size_t)(reg & 15);
}

/* Parts of the area that are marked as initial may hold anything: make them what they stand for. */
static void need_part(struct kvm_vcpu *vcpu, uint64_t part, size_t at, size_t bytes)
{
	uint64_t parts = load_le64(vcpu->xsave + KVM_AT_XSTATE_BV);

	if (vcpu->env->backend->xcr0 != 0 && (parts & part) == 0) {
		memset(vcpu->xsave + at, 0, bytes);
	}
}

enum insn_outcome kvm_op_read_xmm(struct kvm_vcpu *vcpu, unsigned reg, void *data)
{

	if (reg > 15) {
		return INSN_UNSUPPORTED;
	}
	kvm_regs_need(vcpu, KVM_REGS_FPU);
	need_part(vcpu, XSTATE_SSE, AT_XMM, 256);
	memcpy(data, xmm_of(vcpu, reg), 16);
	return INSN_DONE;
}

enum insn_outcome kvm_op_write_xmm(struct kvm_vcpu *vcpu, unsigned reg, const void *data,
				   bool clear)
{
	uint64_t parts;

	if (reg > 15) {
		return INSN_UNSUPPORTED;
	}
	kvm_regs_change(vcpu, KVM_REGS_FPU);
	need_part(vcpu, XSTATE_SSE, AT_XMM, 256);
	memcpy(xmm_of(vcpu, reg), data, 16);
	parts = load_le64(vcpu->xsave + KVM_AT_XSTATE_BV);
	if (vcpu->env->backend->xcr0 != 0) {
		store_le64(vcpu->xsave + KVM_AT_XSTATE_BV, parts | XSTATE_SSE);
	}
	if (clear && (parts & XSTATE_AVX) != 0) {
		memset(vcpu->xsave + AT_YMM_HIGH + 16 * (size_t)reg, 0, 16);
	}
	return INSN_DONE;
}

enum insn_outcome kvm_op_x87_image(struct kvm_vcpu *vcpu, uint8_t **image)
{
	uint64_t parts;

	kvm_regs_change(vcpu, KVM_REGS_FPU);
	parts = load_le64(vcpu->xsave + KVM_AT_XSTATE_BV);
	if (vcpu->env->backend->xcr0 != 0 && (parts & XSTATE_X87) == 0) {
		memset(vcpu->xsave, 0, AT_MXCSR);
		store_le16(vcpu->xsave, FCW_INIT);
		memset(vcpu->xsave + AT_ST, 0, AT_XMM - AT_ST);
		store_le64(vcpu->xsave + KVM_AT_XSTATE_BV, parts | XSTATE_X87);
	}
	*image = vcpu->xsave;
	return INSN_DONE;
}

static enum insn_outcome done_or_gp(struct kvm_vcpu *vcpu, int r)
{
	return r == 0 ? INSN_DONE : kvm_emul_raise(vcpu, INSN_EXC_GP, 0);
}

enum insn_outcome kvm_op_read_cr(struct kvm_vcpu *vcpu, unsigned cr, uint64_t *value)
{

	switch (cr) {
	case 0:
		*value = vcpu->cpu.cr0;
		return INSN_DONE;
	case 2:
		*value = vcpu->cr2;
		return INSN_DONE;
	case 3:
		*value = vcpu->cr3;
		return INSN_DONE;
	case 4:
		*value = vcpu->cpu.cr4;
		return INSN_DONE;
	case 8:
		*value = kvm_reg_cr8(vcpu);
		return INSN_DONE;
	default:
		return kvm_emul_raise(vcpu, INSN_EXC_UD, 0);
	}
}

enum insn_outcome kvm_op_write_cr(struct kvm_vcpu *vcpu, unsigned cr, uint64_t value)
{

	switch (cr) {
	case 0:
		return done_or_gp(vcpu, kvm_reg_set_cr0(vcpu, value));
	case 2:
		kvm_regs_change(vcpu, KVM_REGS_CONTROL);
		vcpu->cr2 = value;
		return INSN_DONE;
	case 3:
		return done_or_gp(vcpu, kvm_reg_set_cr3(vcpu, value));
	case 4:
		return done_or_gp(vcpu, kvm_reg_set_cr4(vcpu, value));
	case 8:
		return done_or_gp(vcpu, kvm_reg_set_cr8(vcpu, value));
	default:
		return kvm_emul_raise(vcpu, INSN_EXC_UD, 0);
	}
}

/* DR4 and DR5 are DR6 and DR7, unless CR4.DE; with DR7.GD nobody but the handler has access. */
static enum insn_outcome check_dr(struct kvm_vcpu *vcpu, unsigned dr)
{

	kvm_regs_need(vcpu, KVM_REGS_DEBUG);
	if (dr > 7 || ((dr == 4 || dr == 5) && (vcpu->cpu.cr4 & CR4_DE) != 0)) {
		return kvm_emul_raise(vcpu, INSN_EXC_UD, 0);
	}
	if ((vcpu->dr7 & DR7_GD) != 0) {
		kvm_regs_change(vcpu, KVM_REGS_DEBUG);
		vcpu->dr6 = (vcpu->dr6 & ~UINT64_C(0xf)) | BIT(13) | vcpu->features.dr6_fixed;
		return kvm_emul_raise(vcpu, INSN_EXC_DB, 0);
	}
	return INSN_DONE;
}

enum insn_outcome kvm_op_read_dr(struct kvm_vcpu *vcpu, unsigned dr, uint64_t *value)
{
	enum insn_outcome outcome = check_dr(vcpu, dr);

	if (outcome == INSN_DONE) {
		*value = kvm_reg_get_dr(vcpu, dr);
	}
	return outcome;
}

enum insn_outcome kvm_op_write_dr(struct kvm_vcpu *vcpu, unsigned dr, uint64_t value)
{
	enum insn_outcome outcome = check_dr(vcpu, dr);

	return outcome == INSN_DONE ? done_or_gp(vcpu, kvm_reg_set_dr(vcpu, dr, value)) : outcome;
}
