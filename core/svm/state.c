/* A vCPU's registers between lib/kvm's struct and the VMCB. */
#include "core/hw/regs.h"
#include "core/hw/svm.h"
#include "core/svm/vcpu.h"

#define TSS_BUSY 2

_Static_assert(sizeof(struct vmcb_segment) == sizeof(struct insn_segment), "layout");
_Static_assert(offsetof(struct vmcb_segment, attr) == offsetof(struct insn_segment, attr), "");
_Static_assert(offsetof(struct vmcb_segment, limit) == offsetof(struct insn_segment, limit), "");
_Static_assert(offsetof(struct vmcb_segment, base) == offsetof(struct insn_segment, base), "");
_Static_assert(INSN_ES == 0 && INSN_CS == 1 && INSN_SS == 2 && INSN_DS == 3 && INSN_FS == 4 &&
		       INSN_GS == 5 && offsetof(struct vmcb_save, gs) == 5 * 16,
	       "AMD APM table B-2");

void svm_state_init(struct vmcb *vmcb)
{
	struct vmcb_control *c = &vmcb->c;

	c->intercept_dr_read = c->intercept_dr_write = 0xffff;
	c->intercept_cr_write = BIT(4);
	c->nested_paging = 1;
	c->virtual_interrupt = VMCB_V_INTR_MASKING;
	c->tlb_control = VMCB_TLB_FLUSH_ALL;
	vmcb->s.dr6 = SVM_DR6_AT_REST;
	vmcb->s.dr7 = BIT(10);
	vmcb->s.efer = EFER_SVME;
	vmcb->s.rflags = RFLAGS_FIXED;
}

static void store_control(struct kvm_vcpu *vcpu, struct vmcb *vmcb)
{
	bool hidden = (vcpu->cpu.cr0 & CR0_HIDDEN) != 0;
	uint16_t cr0 = hidden ? BIT(0) : 0;

	vmcb->s.cr0 = vcpu->cpu.cr0 & ~CR0_HIDDEN;
	vmcb->s.cr2 = vcpu->cr2;
	vmcb->s.cr3 = vcpu->cr3;
	vmcb->s.cr4 = vcpu->cpu.cr4;
	vmcb->s.efer = vcpu->cpu.efer | EFER_SVME;
	/* Without CR4.OSXSAVE, whose writes are intercepted, the guest does not depend on XCR0. */
	svm_of(vcpu)->own_xcr0 = svm_features.xsave && (vcpu->cpu.cr4 & CR4_OSXSAVE) != 0;
	/* What the guest cannot see in the register it is shown by emulation. */
	if (vmcb->c.intercept_cr_read != cr0) {
		vmcb->c.intercept_cr_read = cr0;
		vmcb->c.intercept_cr_write =
			(uint16_t)((vmcb->c.intercept_cr_write & ~BIT(0)) | cr0);
		vmcb->c.clean &= ~(uint32_t)VMCB_CLEAN_INTERCEPTS;
	}
	vmcb->c.clean &= ~(uint32_t)(VMCB_CLEAN_CONTROL | VMCB_CLEAN_CR2);
}

static void store_segments(struct kvm_vcpu *vcpu, struct vmcb *vmcb)
{
	svm_copy_segments(&vmcb->s.es, vcpu->cpu.seg, INSN_NSEGS);
	vmcb->s.cpl = vcpu->cpu.cpl;
	svm_copy_segments(&vmcb->s.ldtr, &vcpu->cpu.ldtr, 1);
	svm_copy_segments(&vmcb->s.tr, &vcpu->cpu.tr, 1);
	/* As the CPU had it: QEMU 7.2 does not know its own busy TSS again. */
	if (vcpu->cpu.tr.attr == (svm_of(vcpu)->tr_attr | TSS_BUSY)) {
		vmcb->s.tr.attr = svm_of(vcpu)->tr_attr;
	}
	vmcb->s.gdtr.limit = vcpu->cpu.gdtr.limit;
	vmcb->s.gdtr.base = vcpu->cpu.gdtr.base;
	vmcb->s.idtr.limit = vcpu->cpu.idtr.limit;
	vmcb->s.idtr.base = vcpu->cpu.idtr.base;
	vmcb->c.clean &= ~(uint32_t)(VMCB_CLEAN_SEGMENTS | VMCB_CLEAN_TABLES);
}

static void store_msrs(struct kvm_vcpu *vcpu, struct vmcb *vmcb)
{
	vmcb->s.star = vcpu->msr[KVM_MSR_STAR];
	vmcb->s.lstar = vcpu->msr[KVM_MSR_LSTAR];
	vmcb->s.cstar = vcpu->msr[KVM_MSR_CSTAR];
	vmcb->s.sfmask = vcpu->msr[KVM_MSR_SFMASK];
	vmcb->s.kernel_gs_base = vcpu->msr[KVM_MSR_KERNEL_GS_BASE];
	vmcb->s.sysenter_cs = vcpu->msr[KVM_MSR_SYSENTER_CS];
	vmcb->s.sysenter_esp = vcpu->msr[KVM_MSR_SYSENTER_ESP];
	vmcb->s.sysenter_eip = vcpu->msr[KVM_MSR_SYSENTER_EIP];
	vmcb->s.g_pat = vcpu->msr[KVM_MSR_PAT];
	svm_of(vcpu)->own_spec_ctrl = (vcpu->msr[KVM_MSR_SPEC_CTRL] & svm_features.spec_ctrl) != 0;
	vmcb->c.tsc_offset = vcpu->tsc_offset;
	vmcb->c.clean &= ~(uint32_t)(VMCB_CLEAN_NESTED | VMCB_CLEAN_INTERCEPTS);
	svm_of(vcpu)->home = NULL; /* nor are those right that the CPU has */
}

/* The guest runs with what the orders say; DR6 at rest shows what comes to it. */
static void store_debug(struct kvm_vcpu *vcpu, struct vmcb *vmcb)
{
	svm_of(vcpu)->debugged = (vcpu->hw_dr7 & 0xff) != 0;
	vmcb->s.dr7 = vcpu->hw_dr7;
	vmcb->s.dr6 = SVM_DR6_AT_REST;
	vmcb->c.clean &= ~(uint32_t)VMCB_CLEAN_DEBUG;
}

__attribute__((noinline)) void svm_state_store(struct kvm_vcpu *vcpu)
{
	struct vmcb *vmcb = svm_of(vcpu)->vmcb;
	uint32_t changed = vcpu->changed;

	if ((changed & KVM_REGS_CONTROL) != 0) {
		store_control(vcpu, vmcb);
	}
	if ((changed & KVM_REGS_SEGMENTS) != 0) {
		store_segments(vcpu, vmcb);
	}
	if ((changed & KVM_REGS_MSRS) != 0) {
		store_msrs(vcpu, vmcb);
	}
	if ((changed & KVM_REGS_DEBUG) != 0) {
		store_debug(vcpu, vmcb);
	}
}

static void load_segments(struct kvm_vcpu *vcpu, struct vmcb *vmcb)
{
	struct insn_segment *ss = &vcpu->cpu.seg[INSN_SS];

	svm_copy_segments(vcpu->cpu.seg, &vmcb->s.es, INSN_NSEGS);
	/* SYSRET leaves another DPL behind than the CPL that it means. */
	ss->attr = (uint16_t)((ss->attr & ~0x60u) | (unsigned)vmcb->s.cpl << 5);
	svm_copy_segments(&vcpu->cpu.ldtr, &vmcb->s.ldtr, 1);
	svm_copy_segments(&vcpu->cpu.tr, &vmcb->s.tr, 1);
	svm_of(vcpu)->tr_attr = vcpu->cpu.tr.attr;
	vcpu->cpu.tr.attr |= TSS_BUSY; /* some CPUs do not tell */
	vcpu->cpu.gdtr.limit = (uint16_t)vmcb->s.gdtr.limit;
	vcpu->cpu.gdtr.base = vmcb->s.gdtr.base;
	vcpu->cpu.idtr.limit = (uint16_t)vmcb->s.idtr.limit;
	vcpu->cpu.idtr.base = vmcb->s.idtr.base;
}

static void load_msrs(struct kvm_vcpu *vcpu, const struct vmcb *vmcb)
{
	vcpu->msr[KVM_MSR_STAR] = vmcb->s.star;
	vcpu->msr[KVM_MSR_LSTAR] = vmcb->s.lstar;
	vcpu->msr[KVM_MSR_CSTAR] = vmcb->s.cstar;
	vcpu->msr[KVM_MSR_SFMASK] = vmcb->s.sfmask;
	vcpu->msr[KVM_MSR_KERNEL_GS_BASE] = vmcb->s.kernel_gs_base;
	vcpu->msr[KVM_MSR_SYSENTER_CS] = vmcb->s.sysenter_cs;
	vcpu->msr[KVM_MSR_SYSENTER_ESP] = vmcb->s.sysenter_esp;
	vcpu->msr[KVM_MSR_SYSENTER_EIP] = vmcb->s.sysenter_eip;
}

void svm_state_load(struct kvm_vcpu *vcpu, uint32_t groups)
{
	struct vmcb *vmcb = svm_of(vcpu)->vmcb;

	if ((groups & KVM_REGS_CORE) != 0) {
		svm_state_load_core(vcpu, vmcb);
	}
	if ((groups & KVM_REGS_MODE) != 0) {
		svm_state_load_mode(vcpu, vmcb);
	}
	if ((groups & KVM_REGS_CONTROL) != 0) {
		vcpu->cr2 = vmcb->s.cr2;
		svm_state_load_control(vcpu, vmcb);
	}
	if ((groups & KVM_REGS_SEGMENTS) != 0) {
		load_segments(vcpu, vmcb);
	}
	if ((groups & KVM_REGS_MSRS) != 0) {
		load_msrs(vcpu, vmcb);
	}
	vcpu->loaded |= groups;
}
