#include <errno.h>
#include <string.h>

#include "lib/base/bytes.h"
#include "lib/kvm/registers.h"
#include "lib/kvm/state.h"

/*
 * Places in the XSAVE area. Spec: Intel SDM vol. 1, 10.5.1 "FXSAVE Area", 13.4 "XSAVE Area"
 */
#define AT_FCW	      0
#define AT_FSW	      2
#define AT_FTW	      4
#define AT_FOP	      6
#define AT_FIP	      8
#define AT_FDP	      16
#define AT_MXCSR      24
#define AT_MXCSR_MASK 28
#define AT_ST	      32
#define AT_XMM	      160
#define AT_USER	      464 /* unused by the CPU */
#define AT_XSTATE_BV  512
#define AT_XCOMP_BV   520
#define HEADER_END    576

#define XSTATE_X87_SSE 3
#define MXCSR_KNOWN    UINT32_C(0x2ffff) /* with AMD's misaligned mode */

void kvm_state_get_fpu(struct kvm_vcpu *vcpu, struct kvm_fpu *fpu)
{
	const uint8_t *area = vcpu->xsave;

	kvm_regs_need(vcpu, KVM_REGS_FPU);
	memset(fpu, 0, sizeof(*fpu));
	memcpy(fpu->fpr, area + AT_ST, sizeof(fpu->fpr));
	fpu->fcw = load_le16(area + AT_FCW);
	fpu->fsw = load_le16(area + AT_FSW);
	fpu->ftwx = area[AT_FTW];
	fpu->last_opcode = load_le16(area + AT_FOP);
	fpu->last_ip = load_le64(area + AT_FIP);
	fpu->last_dp = load_le64(area + AT_FDP);
	memcpy(fpu->xmm, area + AT_XMM, sizeof(fpu->xmm));
	fpu->mxcsr = load_le32(area + AT_MXCSR);
}

void kvm_state_set_fpu(struct kvm_vcpu *vcpu, const struct kvm_fpu *fpu)
{
	uint8_t *area = vcpu->xsave;

	kvm_regs_change(vcpu, KVM_REGS_FPU);
	memcpy(area + AT_ST, fpu->fpr, sizeof(fpu->fpr));
	store_le16(area + AT_FCW, fpu->fcw);
	store_le16(area + AT_FSW, fpu->fsw);
	store_le16(area + AT_FTW, fpu->ftwx);
	store_le16(area + AT_FOP, fpu->last_opcode);
	store_le64(area + AT_FIP, fpu->last_ip);
	store_le64(area + AT_FDP, fpu->last_dp);
	memcpy(area + AT_XMM, fpu->xmm, sizeof(fpu->xmm));
	/* Loading reserved bits would be a fault in us; Linux takes what FXRSTOR takes. */
	store_le32(area + AT_MXCSR, fpu->mxcsr & MXCSR_KNOWN);
	if (vcpu->env->backend->xcr0 != 0) {
		store_le64(area + AT_XSTATE_BV, load_le64(area + AT_XSTATE_BV) | XSTATE_X87_SSE);
	}
}

uint32_t kvm_state_xsave_bytes(const struct kvm_env *env)
{
	return MAX(env->backend->xsave_bytes, (uint32_t)sizeof(struct kvm_xsave));
}

void kvm_state_get_xsave(struct kvm_vcpu *vcpu, void *area, uint32_t bytes)
{
	uint8_t *out = area;

	kvm_regs_need(vcpu, KVM_REGS_FPU);
	memset(out, 0, bytes);
	memcpy(out, vcpu->xsave, MIN(bytes, vcpu->env->backend->xsave_bytes));
	if (vcpu->env->backend->xcr0 == 0) {
		/* A CPU without XSAVE has the first two parts nevertheless. */
		store_le64(out + AT_XSTATE_BV, XSTATE_X87_SSE);
	}
}

int kvm_state_set_xsave(struct kvm_vcpu *vcpu, const void *area, uint32_t bytes)
{
	const uint8_t *in = area;
	const struct kvm_backend *backend = vcpu->env->backend;
	uint64_t features = load_le64(in + AT_XSTATE_BV);
	uint64_t known = backend->xcr0 == 0 ? XSTATE_X87_SSE : backend->xcr0;

	if ((features & ~known) != 0) {
		return -EINVAL;
	}
	if (backend->xcr0 != 0) {
		for (unsigned i = AT_XCOMP_BV; i < HEADER_END; i++) {
			if (in[i] != 0) {
				return -EINVAL; /* the compacted format, or reserved */
			}
		}
	}
	if ((load_le32(in + AT_MXCSR) & ~MXCSR_KNOWN) != 0) {
		return -EINVAL;
	}
	kvm_regs_change(vcpu, KVM_REGS_FPU);
	memset(vcpu->xsave, 0, backend->xsave_bytes);
	memcpy(vcpu->xsave, in, MIN(bytes, backend->xsave_bytes));
	memset(vcpu->xsave + AT_USER, 0, AT_XSTATE_BV - AT_USER);
	store_le32(vcpu->xsave + AT_MXCSR_MASK, 0);
	return 0;
}

void kvm_state_get_xcrs(struct kvm_vcpu *vcpu, struct kvm_xcrs *xcrs)
{
	memset(xcrs, 0, sizeof(*xcrs));
	if (vcpu->env->backend->xcr0 != 0) {
		kvm_regs_need(vcpu, KVM_REGS_FPU);
		xcrs->nr_xcrs = 1;
		xcrs->xcrs[0].value = vcpu->xcr0;
	}
}

int kvm_state_set_xcrs(struct kvm_vcpu *vcpu, const struct kvm_xcrs *xcrs)
{
	if (vcpu->env->backend->xcr0 == 0 || xcrs->nr_xcrs > KVM_MAX_XCRS || xcrs->flags != 0) {
		return -EINVAL;
	}
	for (uint32_t i = 0; i < xcrs->nr_xcrs; i++) {
		if (xcrs->xcrs[i].xcr == 0) {
			return kvm_reg_set_xcr0(vcpu, xcrs->xcrs[i].value);
		}
	}
	return 0;
}
