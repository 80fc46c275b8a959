/* What of a guest's doings comes to us. Only what has to. */
#include "core/svm/vcpu.h"
#include "lib/kvm/cpuid.h"

#define EXC_DB 1
#define EXC_UD 6
#define EXC_AC 17

/* Always. Those of virtualization are #UD to a guest that cannot know of them. */
#define INTERCEPT1                                                                           \
	(VMCB_INTR | VMCB_NMI | VMCB_INIT | VMCB_RDPMC | VMCB_CPUID | VMCB_RSM | VMCB_INVD | \
	 VMCB_INVLPGA | VMCB_IOIO | VMCB_MSR | VMCB_SHUTDOWN | VMCB_CR0_SEL)
#define INTERCEPT2                                                                       \
	(VMCB_VMRUN | VMCB_VMMCALL | VMCB_VMLOAD | VMCB_VMSAVE | VMCB_STGI | VMCB_CLGI | \
	 VMCB_SKINIT | VMCB_WBINVD | VMCB_XSETBV | VMCB_RDPRU)
#define INTERCEPT3 (VMCB_INVLPGB | VMCB_MCOMMIT | VMCB_TLBSYNC)

#define MSRPM_BYTES 8192

#define PAUSE_COUNT 3000

#define CPUID_EXT_EDX_RDTSCP BIT(27)
#define CPUID_7_EBX_INVPCID  BIT(10)

void svm_intercepts(struct kvm_vcpu *vcpu)
{
	struct vmcb_control *c = &svm_of(vcpu)->vmcb->c;
	uint64_t off = vcpu->vm->disabled_exits;

	c->intercept1 = (uint32_t)INTERCEPT1;
	c->intercept2 = (uint32_t)INTERCEPT2;
	c->intercept3 = (uint32_t)INTERCEPT3;
	if ((off & KVM_X86_DISABLE_EXITS_HLT) == 0) {
		c->intercept1 |= (uint32_t)VMCB_HLT;
	}
	if ((off & KVM_X86_DISABLE_EXITS_PAUSE) == 0 && svm_features.pause_filter) {
		c->intercept1 |= (uint32_t)VMCB_PAUSE;
		c->pause_filter_count = PAUSE_COUNT;
	}
	if ((off & KVM_X86_DISABLE_EXITS_MWAIT) == 0) {
		c->intercept2 |= (uint32_t)(VMCB_MONITOR | VMCB_MWAIT);
	}
	/* Instructions that the CPU has and the guest's CPUID has not. */
	if (!kvm_cpuid_has(vcpu, CPUID_EXT_FEATURES, CPUID_EDX, CPUID_EXT_EDX_RDTSCP)) {
		c->intercept2 |= (uint32_t)VMCB_RDTSCP;
	}
	if (!kvm_cpuid_has(vcpu, CPUID_FEATURES7, CPUID_EBX, CPUID_7_EBX_INVPCID)) {
		c->intercept3 |= (uint32_t)VMCB_INVPCID;
	}
	/*
	 * A guest can make either of these two come for ever while it is being delivered, and then
	 * no interrupt ends the guest (CVE-2015-8104, CVE-2015-5307).
	 */
	c->intercept_exceptions = BIT(EXC_DB) | BIT(EXC_AC);
	/* VMCALL, by which guests call other makers' hypervisors. */
	c->intercept_exceptions |= BIT(EXC_UD);
	svm_of(vcpu)->vmcb->c.clean &= ~(uint32_t)VMCB_CLEAN_INTERCEPTS;
	svm_of(vcpu)->window = true; /* those of windows are to be made anew */
}

/* Two bits for each MSR: reads, writes. Spec: AMD APM vol. 2, 15.11 "MSR Intercepts" */
static void pass(uint8_t *map, uint32_t msr)
{
	uint32_t at;

	if (msr < 0x2000) {
		at = msr;
	} else {
		at = 0x2000 + (msr - UINT32_C(0xc0000000));
	}
	map[at / 4] &= (uint8_t) ~(3u << at % 4 * 2);
}

void svm_msr_map(struct kvm_vcpu *vcpu)
{
	/* SYSENTER, STAR to SFMASK, FS_BASE, GS_BASE, KERNEL_GS_BASE: all switched by VMLOAD. */
	static const uint32_t passed[] = {
		0x174,	    0x175,	0x176,	    0xc0000081, 0xc0000082,
		0xc0000083, 0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102,
	};
	uint8_t *map = svm_of(vcpu)->msrpm;

	for (unsigned i = 0; i < MSRPM_BYTES; i++) {
		map[i] = 0xff;
	}
	/* A filter may say no to any of them. */
	for (unsigned i = 0; vcpu->vm->msr_filter == NULL && i < ARRAY_SIZE(passed); i++) {
		pass(map, passed[i]);
	}
	svm_of(vcpu)->vmcb->c.clean &= ~(uint32_t)VMCB_CLEAN_MAPS;
}
