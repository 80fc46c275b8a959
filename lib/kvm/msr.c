#include "lib/kvm/msr.h"

#include <errno.h>
#include <linux/kvm_para.h>
#include <string.h>

#include "lib/kvm/clock.h"
#include "lib/kvm/cpuid.h"
#include "lib/kvm/irq.h"
#include "lib/kvm/registers.h"
#include "lib/x86/msr.h"
#include "lib/x86/regs.h"

#define MC_BANKS     32
#define PAT_AT_START UINT64_C(0x0007040600070406)

#define MISC_ENABLE_EMON     BIT(7)
#define MISC_ENABLE_READONLY (BIT(7) | BIT(11) | BIT(12)) /* as a guest without counters has it */
#define MISC_ENABLE_AT_START (BIT(0) | BIT(11) | BIT(12)) /* fast strings; no BTS, no PEBS */
#define MISC_ENABLE_MONITOR  BIT(18)

#define X2APIC_COUNT 256

#define HWCR_IGNORED	  UINT64_C(0x148) /* flush filter, IGNNE emulation, TLB cache */
#define HWCR_MC_STATUS_WR BIT(18)

#define CPUID_FAULT_SUPPORTED BIT(31) /* of PLATFORM_INFO */
#define CPUID_FAULT_ENABLED   BIT(0)  /* of MISC_FEATURES_ENABLES */

#define MTRR_FIXED_PLACE(n) (KVM_MSR_MTRR_FIXED + (n))

enum flags {
	LISTED = 1,	    /* of KVM_GET_MSR_INDEX_LIST */
	HOST_WRITES = 2,    /* the guest cannot write it */
	CANONICAL = 4,	    /* it holds an address */
	MAKE_CANONICAL = 8, /* likewise, what is written is extended */
	REGS = 16,	    /* the backend has it: KVM_REGS_MSRS */
	IGNORED = 32,	    /* writes do nothing; it reads as .allowed */
	ONLY_READ = 64,	    /* writes are refused; it reads as .allowed */
};

struct row {
	uint32_t first;
	uint16_t count; /* of consecutive numbers, in consecutive places */
	uint16_t flags;
	uint16_t place;	  /* in vcpu->msr */
	uint64_t allowed; /* bits it may have; value of IGNORED and ONLY_READ */
	int (*get)(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t *value, bool host);
	int (*set)(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t value, bool host);
};

static bool is_canonical(struct kvm_vcpu *vcpu, uint64_t value)
{
	unsigned shift;

	kvm_regs_need(vcpu, KVM_REGS_MODE);
	shift = (vcpu->cpu.cr4 & CR4_LA57) != 0 ? 7 : 16;

	return (uint64_t)((int64_t)(value << shift) >> shift) == value;
}

/* ---- those with a mind of their own ---- */

static int get_tsc(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t *value, bool host)
{
	(void)msr;
	(void)host;
	*value = kvm_vcpu_guest_tsc(vcpu);
	return 0;
}

static int set_tsc(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t value, bool host)
{
	(void)msr;
	if (host) {
		kvm_clock_write_tsc(vcpu, value);
	} else {
		uint64_t adjust = value - kvm_vcpu_guest_tsc(vcpu);

		kvm_clock_move_tsc(vcpu, vcpu->tsc_offset + adjust);
		vcpu->msr[KVM_MSR_TSC_ADJUST] += adjust;
	}
	return 0;
}

static int set_tsc_adjust(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t value, bool host)
{
	(void)msr;
	if (!kvm_cpuid_has(vcpu, CPUID_FEATURES7, CPUID_EBX, BIT(1))) {
		return 0;
	}
	if (!host) {
		kvm_clock_move_tsc(vcpu, vcpu->tsc_offset + value - vcpu->msr[KVM_MSR_TSC_ADJUST]);
	}
	vcpu->msr[KVM_MSR_TSC_ADJUST] = value;
	return 0;
}

static int get_apic_base(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t *value, bool host)
{
	(void)msr;
	(void)host;
	*value = kvm_irq_apic_base(vcpu);
	return 0;
}

static int set_apic_base(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t value, bool host)
{
	int r = kvm_irq_set_apic_base(vcpu, value, host);

	(void)msr;
	if (r == 0) {
		kvm_cpuid_refresh(vcpu);
	}
	return r;
}

static int get_x2apic(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t *value, bool host)
{
	(void)host;
	return vcpu->apic == NULL ? -EINVAL : kvm_irq_x2apic_read(vcpu, msr, value);
}

static int set_x2apic(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t value, bool host)
{
	(void)host;
	return vcpu->apic == NULL ? -EINVAL : kvm_irq_x2apic_write(vcpu, msr, value);
}

static int get_tsc_deadline(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t *value, bool host)
{
	(void)msr;
	(void)host;
	*value = vcpu->apic == NULL ? 0 : kvm_irq_tsc_deadline(vcpu);
	return 0;
}

static int set_tsc_deadline(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t value, bool host)
{
	(void)msr;
	(void)host;
	if (vcpu->apic != NULL) {
		kvm_irq_set_tsc_deadline(vcpu, value);
	}
	return 0;
}

static int get_efer(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t *value, bool host)
{
	(void)msr;
	(void)host;
	kvm_regs_need(vcpu, KVM_REGS_CONTROL);
	*value = vcpu->cpu.efer;
	return 0;
}

static int set_efer(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t value, bool host)
{
	(void)msr;
	return kvm_reg_set_efer(vcpu, value, host);
}

static int get_segment_base(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t *value, bool host)
{
	(void)host;
	kvm_regs_need(vcpu, KVM_REGS_SEGMENTS);
	*value = vcpu->cpu.seg[msr == MSR_FS_BASE ? INSN_FS : INSN_GS].base;
	return 0;
}

static int set_segment_base(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t value, bool host)
{
	(void)host;
	kvm_regs_change(vcpu, KVM_REGS_SEGMENTS);
	vcpu->cpu.seg[msr == MSR_FS_BASE ? INSN_FS : INSN_GS].base = value;
	return 0;
}

static int set_tsc_aux(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t value, bool host)
{
	(void)msr;
	if (!host && !kvm_cpuid_has(vcpu, CPUID_EXT_FEATURES, CPUID_EDX, BIT(27)) &&
	    !kvm_cpuid_has(vcpu, CPUID_FEATURES7, CPUID_ECX, BIT(22))) {
		return -EINVAL;
	}
	if (vcpu->features.intel && value >> 32 != 0) {
		return -EINVAL;
	}
	/* AMD's CPUs ignore the upper half. */
	vcpu->msr[KVM_MSR_TSC_AUX] = (uint32_t)value;
	return 0;
}

static int set_sysenter(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t value, bool host)
{
	(void)host;
	/* AMD's SYSENTER is for 32-bit code, and the registers are as wide. */
	vcpu->msr[KVM_MSR_SYSENTER_CS + (msr - MSR_IA32_SYSENTER_CS)] =
		vcpu->env->backend->amd && !vcpu->features.intel ? (uint32_t)value : value;
	return 0;
}

static bool memory_type_valid(uint8_t type)
{
	return type < 8 && (0x73 & 1u << type) != 0; /* 0, 1, 4, 5, 6 */
}

static int set_pat(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t value, bool host)
{
	(void)msr;
	(void)host;
	for (unsigned i = 0; i < 8; i++) {
		uint8_t type = (uint8_t)(value >> i * 8);

		if (!memory_type_valid(type) && type != 7) {
			return -EINVAL;
		}
	}
	vcpu->msr[KVM_MSR_PAT] = value;
	return 0;
}

static int set_mtrr_fixed(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t value, bool host)
{
	unsigned n = msr == MSR_MTRR_FIX64K ? 0
		     : msr < MSR_MTRR_FIX4K ? 1 + (msr - MSR_MTRR_FIX16K)
					    : 3 + (msr - MSR_MTRR_FIX4K);

	(void)host;
	for (unsigned i = 0; i < 8; i++) {
		if (!memory_type_valid((uint8_t)(value >> i * 8))) {
			return -EINVAL;
		}
	}
	vcpu->msr[MTRR_FIXED_PLACE(n)] = value;
	return 0;
}

static int set_mtrr_default(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t value, bool host)
{
	(void)msr;
	(void)host;
	if ((value & ~UINT64_C(0xcff)) != 0 || !memory_type_valid((uint8_t)value)) {
		return -EINVAL;
	}
	vcpu->msr[KVM_MSR_MTRR_DEF] = value;
	return 0;
}

static int set_mtrr_variable(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t value, bool host)
{
	bool base = msr % 2 == 0;
	uint64_t reserved = ~(BIT(MIN(vcpu->features.phys_bits, 52)) - 1);

	(void)host;
	if (base ? !memory_type_valid((uint8_t)value) : false) {
		return -EINVAL;
	}
	reserved |= base ? 0xf00 : 0x7ff;
	if ((value & reserved) != 0) {
		return -EINVAL;
	}
	vcpu->msr[KVM_MSR_MTRR_VAR + (msr - MSR_MTRR_PHYS_BASE0)] = value;
	return 0;
}

static int set_mc(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t value, bool host)
{
	unsigned which = (msr - MSR_MC0_CTL) % 4;

	/* Control: all or nothing; Linux clears bit 10 of bank 4 for a BIOS's sake. */
	if (which == 0 && value != 0 && (value | BIT(10) | 1) != UINT64_MAX) {
		return -EINVAL;
	}
	if (which == 1 && !host && value != 0 &&
	    (vcpu->msr[KVM_MSR_HWCR] & HWCR_MC_STATUS_WR) == 0) {
		return -EINVAL;
	}
	vcpu->msr[KVM_MSR_MC_BANKS + (msr - MSR_MC0_CTL)] = value;
	return 0;
}

static int set_misc_enable(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t value, bool host)
{
	uint64_t old = vcpu->msr[KVM_MSR_MISC_ENABLE];

	(void)msr;
	if (!host) {
		if (((old ^ value) & MISC_ENABLE_READONLY & ~MISC_ENABLE_EMON) != 0) {
			return -EINVAL;
		}
		value = (value & ~MISC_ENABLE_EMON) | (old & MISC_ENABLE_EMON);
	}
	if ((vcpu->vm->quirks_off & KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT) != 0 &&
	    ((old ^ value) & MISC_ENABLE_MONITOR) != 0 &&
	    !kvm_cpuid_has(vcpu, CPUID_FEATURES, CPUID_ECX, BIT(0))) {
		return -EINVAL;
	}
	vcpu->msr[KVM_MSR_MISC_ENABLE] = value;
	if (((old ^ value) & MISC_ENABLE_MONITOR) != 0) {
		kvm_cpuid_refresh(vcpu);
	}
	return 0;
}

static int set_hwcr(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t value, bool host)
{
	(void)msr;
	(void)host;
	value &= ~HWCR_IGNORED;
	if (value != 0 && value != HWCR_MC_STATUS_WR) {
		return -EINVAL;
	}
	vcpu->msr[KVM_MSR_HWCR] = value;
	return 0;
}

static int get_platform_info(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t *value, bool host)
{
	(void)msr;
	if (!host && vcpu->vm->platform_info_hidden) {
		return -EINVAL;
	}
	*value = vcpu->msr[KVM_MSR_PLATFORM_INFO];
	return 0;
}

static int set_platform_info(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t value, bool host)
{
	(void)msr;
	(void)host;
	if ((value & CPUID_FAULT_SUPPORTED) == 0 &&
	    (vcpu->msr[KVM_MSR_MISC_FEATURES] & CPUID_FAULT_ENABLED) != 0) {
		return -EINVAL;
	}
	vcpu->msr[KVM_MSR_PLATFORM_INFO] = value;
	return 0;
}

static int set_misc_features(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t value, bool host)
{
	(void)msr;
	(void)host;
	if ((value & ~CPUID_FAULT_ENABLED) != 0 ||
	    (value != 0 && (vcpu->msr[KVM_MSR_PLATFORM_INFO] & CPUID_FAULT_SUPPORTED) == 0)) {
		return -EINVAL;
	}
	vcpu->msr[KVM_MSR_MISC_FEATURES] = value;
	return 0;
}

static int set_ucode_rev(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t value, bool host)
{
	(void)msr;
	if (host) {
		vcpu->msr[KVM_MSR_UCODE_REV] = value;
	}
	return 0; /* the guest's zero before CPUID(1) */
}

static int set_tsc_ratio(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t value, bool host)
{
	(void)vcpu;
	(void)msr;
	/* Nested scaling is not offered: the register is there for those who restore it. */
	return host && (value == 0 || value == BIT(32)) ? 0 : -EINVAL;
}

static int get_tsc_ratio(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t *value, bool host)
{
	(void)vcpu;
	(void)msr;
	*value = BIT(32);
	return host ? 0 : -EINVAL;
}

static int set_xss(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t value, bool host)
{
	(void)msr;
	if ((!host && !kvm_cpuid_has(vcpu, CPUID_XSAVE, CPUID_EAX, 0)) || value != 0) {
		return -EINVAL;
	}
	return 0;
}

/* Registers of the branch predictor's protection: there if CPUID shows them. */
static bool has_spec_ctrl(const struct kvm_vcpu *vcpu)
{
	return kvm_cpuid_has(vcpu, CPUID_FEATURES7, CPUID_EDX, BIT(26)) ||
	       kvm_cpuid_has(vcpu, CPUID_EXT_SIZES, CPUID_EBX, BIT(14)) ||
	       kvm_cpuid_has(vcpu, CPUID_EXT_SIZES, CPUID_EBX, BIT(15)) ||
	       kvm_cpuid_has(vcpu, CPUID_EXT_SIZES, CPUID_EBX, BIT(24));
}

static int get_spec_ctrl(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t *value, bool host)
{
	(void)msr;
	kvm_regs_need(vcpu, KVM_REGS_MSRS);
	*value = vcpu->msr[KVM_MSR_SPEC_CTRL];
	return host || has_spec_ctrl(vcpu) ? 0 : -EINVAL;
}

static int set_spec_ctrl(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t value, bool host)
{
	(void)msr;
	if ((!host && !has_spec_ctrl(vcpu)) || (value & ~UINT64_C(0x7)) != 0) {
		return -EINVAL;
	}
	vcpu->msr[KVM_MSR_SPEC_CTRL] = value;
	return 0;
}

static int set_pred_cmd(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t value, bool host)
{
	(void)msr;
	if ((!host && !has_spec_ctrl(vcpu) &&
	     !kvm_cpuid_has(vcpu, CPUID_EXT_SIZES, CPUID_EBX, BIT(12))) ||
	    value > 1) {
		return -EINVAL;
	}
	if (value != 0 && vcpu->env->backend->predict_anew != NULL) {
		vcpu->env->backend->predict_anew();
	}
	return 0;
}

static int get_zero(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t *value, bool host)
{
	(void)vcpu;
	(void)msr;
	(void)host;
	*value = 0;
	return 0;
}

/* ---- KVM's own: there if CPUID shows the feature, or enforcement is off ---- */

static bool has_feature(const struct kvm_vcpu *vcpu, unsigned feature)
{
	return !vcpu->enforce_pv_features || (vcpu->features.kvm & BIT(feature)) != 0;
}

static unsigned feature_of(uint32_t msr)
{
	switch (msr) {
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_SYSTEM_TIME:
		return KVM_FEATURE_CLOCKSOURCE;
	case MSR_KVM_STEAL_TIME:
		return KVM_FEATURE_STEAL_TIME;
	case MSR_KVM_POLL_CONTROL:
		return KVM_FEATURE_POLL_CONTROL;
	default:
		return KVM_FEATURE_CLOCKSOURCE2;
	}
}

static unsigned place_of_kvm(uint32_t msr)
{
	switch (msr) {
	case MSR_KVM_STEAL_TIME:
		return KVM_MSR_STEAL_TIME;
	case MSR_KVM_POLL_CONTROL:
		return KVM_MSR_POLL_CONTROL;
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_WALL_CLOCK_NEW:
		return KVM_MSR_WALL_CLOCK;
	default:
		return KVM_MSR_SYSTEM_TIME;
	}
}

static int get_kvm(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t *value, bool host)
{
	(void)host;
	if (!has_feature(vcpu, feature_of(msr))) {
		return -ENOENT;
	}
	*value = vcpu->msr[place_of_kvm(msr)];
	return 0;
}

static int set_kvm(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t value, bool host)
{
	(void)host;
	if (!has_feature(vcpu, feature_of(msr))) {
		return -ENOENT;
	}
	switch (msr) {
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_WALL_CLOCK_NEW:
		vcpu->msr[KVM_MSR_WALL_CLOCK] = value;
		kvm_clock_write_wall(vcpu, value);
		return 0;
	case MSR_KVM_POLL_CONTROL:
		if (value > 1) {
			return -EINVAL;
		}
		vcpu->msr[KVM_MSR_POLL_CONTROL] = value;
		return 0;
	case MSR_KVM_STEAL_TIME:
		return kvm_clock_set_steal(vcpu, value);
	default:
		kvm_clock_set_page(vcpu, value);
		return 0;
	}
}

/* ---- the table, sorted ---- */

#define OUR(msr, n, flags, place, allowed)                \
	{                                                 \
		msr, n, flags, place, allowed, NULL, NULL \
	}
#define ZERO(msr, n)                              \
	{                                         \
		msr, n, IGNORED, 0, 0, NULL, NULL \
	}

static const struct row rows[] = {
	{MSR_IA32_TSC, 1, LISTED, 0, 0, get_tsc, set_tsc},
	{MSR_KVM_WALL_CLOCK, 2, LISTED, 0, 0, get_kvm, set_kvm},
	OUR(MSR_IA32_PLATFORM_ID, 1, ONLY_READ, 0, 0),
	{MSR_IA32_APIC_BASE, 1, 0, 0, 0, get_apic_base, set_apic_base},
	OUR(MSR_EBL_CR_POWERON, 1, ONLY_READ, 0, 0),
	OUR(MSR_EBC_FREQUENCY_ID, 1, ONLY_READ, 0, BIT(24)),
	{MSR_IA32_TSC_ADJUST, 1, LISTED, KVM_MSR_TSC_ADJUST, UINT64_MAX, NULL, set_tsc_adjust},
	{MSR_IA32_SPEC_CTRL, 1, REGS, 0, 0, get_spec_ctrl, set_spec_ctrl},
	{MSR_IA32_PRED_CMD, 1, 0, 0, 0, get_zero, set_pred_cmd},
	ZERO(MSR_IA32_BIOS_UPDT_TRIG, 1),
	{MSR_IA32_BIOS_SIGN_ID, 1, LISTED, KVM_MSR_UCODE_REV, 0, NULL, set_ucode_rev},
	ZERO(MSR_PERFCTR0, 2),
	OUR(MSR_FSB_FREQ, 1, ONLY_READ, 0, 3),
	{MSR_PLATFORM_INFO, 1, LISTED | HOST_WRITES, 0, 0, get_platform_info, set_platform_info},
	OUR(MSR_MTRR_CAP, 1, ONLY_READ, 0, 0x508),
	OUR(MSR_IA32_ARCH_CAPABILITIES, 1, LISTED | HOST_WRITES, KVM_MSR_ARCH_CAPABILITIES,
	    UINT64_MAX),
	OUR(MSR_BBL_CR_CTL3, 1, IGNORED, 0, 0xbe702111),
	{MSR_MISC_FEATURES_ENABLES, 1, LISTED, KVM_MSR_MISC_FEATURES, 0, NULL, set_misc_features},
	OUR(MSR_IA32_SYSENTER_CS, 1, LISTED | REGS, KVM_MSR_SYSENTER_CS, UINT64_MAX),
	{MSR_IA32_SYSENTER_ESP, 2, LISTED | REGS | MAKE_CANONICAL, KVM_MSR_SYSENTER_ESP, 0, NULL,
	 set_sysenter},
	OUR(MSR_IA32_MCG_CAP, 1, ONLY_READ, 0, MC_BANKS),
	OUR(MSR_IA32_MCG_STATUS, 1, LISTED, KVM_MSR_MCG_STATUS, UINT64_MAX),
	OUR(MSR_IA32_MCG_CTL, 1, LISTED | HOST_WRITES, KVM_MSR_MCG_CTL, 0),
	ZERO(MSR_PERFEVTSEL0, 2),
	OUR(MSR_IA32_PERF_STATUS, 1, ONLY_READ, 0, 1000 | UINT64_C(4) << 40),
	{MSR_IA32_MISC_ENABLE, 1, LISTED, KVM_MSR_MISC_ENABLE, 0, NULL, set_misc_enable},
	OUR(MSR_DEBUGCTL, 1, IGNORED, 0, 0),
	OUR(MSR_LAST_BRANCH_FROM, 4, ONLY_READ, 0, 0),
	OUR(MSR_POWER_CTL, 1, LISTED, KVM_MSR_POWER_CTL, UINT64_MAX),
	{MSR_MTRR_PHYS_BASE0, 16, 0, KVM_MSR_MTRR_VAR, 0, NULL, set_mtrr_variable},
	{MSR_MTRR_FIX64K, 1, 0, MTRR_FIXED_PLACE(0), 0, NULL, set_mtrr_fixed},
	{MSR_MTRR_FIX16K, 2, 0, MTRR_FIXED_PLACE(1), 0, NULL, set_mtrr_fixed},
	{MSR_MTRR_FIX4K, 8, 0, MTRR_FIXED_PLACE(3), 0, NULL, set_mtrr_fixed},
	{MSR_PAT, 1, LISTED | REGS, KVM_MSR_PAT, 0, NULL, set_pat},
	{MSR_MTRR_DEF_TYPE, 1, 0, KVM_MSR_MTRR_DEF, 0, NULL, set_mtrr_default},
	OUR(MSR_PERF_CAPABILITIES, 1, LISTED | HOST_WRITES, KVM_MSR_PERF_CAPABILITIES, 0),
	{MSR_MC0_CTL, 4 * MC_BANKS, 0, KVM_MSR_MC_BANKS, 0, NULL, set_mc},
	{MSR_IA32_TSC_DEADLINE, 1, LISTED, 0, 0, get_tsc_deadline, set_tsc_deadline},
	{MSR_X2APIC, X2APIC_COUNT, 0, 0, 0, get_x2apic, set_x2apic},
	{MSR_IA32_XSS, 1, 0, KVM_MSR_XSS, 0, NULL, set_xss},
	{MSR_KVM_WALL_CLOCK_NEW, 2, LISTED, 0, 0, get_kvm, set_kvm},
	{MSR_KVM_STEAL_TIME, 1, LISTED, 0, 0, get_kvm, set_kvm},
	{MSR_KVM_POLL_CONTROL, 1, LISTED, 0, 0, get_kvm, set_kvm},
	{MSR_EFER, 1, 0, 0, 0, get_efer, set_efer},
	OUR(MSR_STAR, 1, LISTED | REGS, KVM_MSR_STAR, UINT64_MAX),
	OUR(MSR_LSTAR, 2, LISTED | REGS | CANONICAL, KVM_MSR_LSTAR, UINT64_MAX),
	OUR(MSR_SFMASK, 1, LISTED | REGS, KVM_MSR_SFMASK, UINT64_MAX),
	{MSR_FS_BASE, 2, CANONICAL, 0, 0, get_segment_base, set_segment_base},
	OUR(MSR_KERNEL_GS_BASE, 1, LISTED | REGS | CANONICAL, KVM_MSR_KERNEL_GS_BASE, UINT64_MAX),
	{MSR_TSC_AUX, 1, LISTED | REGS, KVM_MSR_TSC_AUX, 0, NULL, set_tsc_aux},
	{MSR_TSC_RATIO, 1, 0, 0, 0, get_tsc_ratio, set_tsc_ratio},
	ZERO(MSR_K7_EVNTSEL0, 8),
	OUR(MSR_SYSCFG, 1, ONLY_READ, 0, 0),
	{MSR_HWCR, 1, LISTED, KVM_MSR_HWCR, 0, NULL, set_hwcr},
	OUR(MSR_K7_CLK_CTL, 1, IGNORED, 0, 0x20000000),
	ZERO(MSR_NB_CFG, 1),
	ZERO(MSR_PATCH_LOADER, 1),
	OUR(MSR_INT_PENDING, 1, ONLY_READ, 0, 0),
	OUR(MSR_MMIO_CONF_BASE, 1, 0, KVM_NMSRS, 0),
	OUR(MSR_PSTATE_CTL, 1, ONLY_READ, 0, 0),
	OUR(MSR_SMM_ADDR, 2, ONLY_READ, 0, 0),
	OUR(MSR_VM_CR, 1, 0, KVM_NMSRS, 0),
	ZERO(MSR_IGNNE, 1),
	OUR(MSR_VM_HSAVE_PA, 1, LISTED, KVM_MSR_VM_HSAVE_PA, ~UINT64_C(0xfff)),
	ZERO(MSR_DC_CFG, 2),
	OUR(MSR_DE_CFG, 1, 0, KVM_NMSRS, 0),
	ZERO(MSR_BU_CFG2, 1),
	ZERO(MSR_EX_CFG, 1),
};

static bool is_in(const struct row *row, uint32_t msr)
{
	return msr - row->first < row->count;
}

_Static_assert(ARRAY_SIZE(rows) <= UINT8_MAX, "msr_hint");

/* A guest often has the same one many times. */
static const struct row *find(struct kvm_vcpu *vcpu, uint32_t msr)
{
	size_t low = 0;
	size_t high = ARRAY_SIZE(rows);

	if (is_in(&rows[vcpu->msr_hint], msr)) {
		return &rows[vcpu->msr_hint];
	}
	while (low < high) {
		size_t middle = (low + high) / 2;

		if (rows[middle].first + rows[middle].count <= msr) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	if (low == ARRAY_SIZE(rows) || !is_in(&rows[low], msr)) {
		return NULL;
	}
	vcpu->msr_hint = (uint8_t)low;
	return &rows[low];
}

/* Those of the local APIC are used more than all others. */
static bool is_x2apic(uint32_t msr)
{
	return msr - MSR_X2APIC < X2APIC_COUNT;
}

int kvm_msr_get(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t *value, bool host)
{
	const struct row *row;

	if (is_x2apic(msr)) {
		return get_x2apic(vcpu, msr, value, host);
	}
	row = find(vcpu, msr);
	if (row == NULL) {
		return -ENOENT;
	}
	if (row->get != NULL) {
		return row->get(vcpu, msr, value, host);
	}
	if ((row->flags & (IGNORED | ONLY_READ)) != 0) {
		*value = row->allowed;
		return 0;
	}
	if (row->place == KVM_NMSRS) {
		*value = 0;
		return 0;
	}
	if ((row->flags & REGS) != 0) {
		kvm_regs_need(vcpu, KVM_REGS_MSRS);
	}
	*value = vcpu->msr[row->place + (msr - row->first)];
	return 0;
}

/* What the flags alone refuse or change. */
static int check_value(struct kvm_vcpu *vcpu, const struct row *row, uint64_t *value, bool host)
{
	if ((row->flags & ONLY_READ) != 0) {
		/* User space may write back what it found. */
		return host && *value == 0 && row->allowed == 0 ? 0 : -EINVAL;
	}
	if ((row->flags & HOST_WRITES) != 0 && !host) {
		return -EINVAL;
	}
	if ((row->flags & (CANONICAL | MAKE_CANONICAL)) == 0) {
		return 0;
	}
	kvm_regs_need(vcpu, KVM_REGS_CONTROL);
	if ((row->flags & MAKE_CANONICAL) != 0) {
		unsigned shift = (vcpu->cpu.cr4 & CR4_LA57) != 0 ? 7 : 16;

		*value = (uint64_t)((int64_t)(*value << shift) >> shift);
	}
	return is_canonical(vcpu, *value) ? 0 : -EINVAL;
}

int kvm_msr_set(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t value, bool host)
{
	const struct row *row;
	int r;

	if (is_x2apic(msr)) {
		return set_x2apic(vcpu, msr, value, host);
	}
	row = find(vcpu, msr);
	if (row == NULL) {
		return -ENOENT;
	}
	r = check_value(vcpu, row, &value, host);
	if (r != 0 || (row->flags & (IGNORED | ONLY_READ)) != 0) {
		return r;
	}
	if ((row->flags & REGS) != 0) {
		kvm_regs_change(vcpu, KVM_REGS_MSRS);
	}
	if (row->set != NULL) {
		return row->set(vcpu, msr, value, host);
	}
	if ((value & ~row->allowed) != 0) {
		return -EINVAL;
	}
	if (row->place != KVM_NMSRS) {
		vcpu->msr[row->place + (msr - row->first)] = value;
	}
	return 0;
}

uint32_t kvm_msr_list(const struct kvm_env *env, uint32_t list[KVM_MSR_LIST_MAX])
{
	uint32_t count = 0;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if ((rows[i].flags & LISTED) == 0 ||
		    (rows[i].first == MSR_KVM_STEAL_TIME && kvm_ops(env)->steal_ns == NULL)) {
			continue;
		}
		for (uint32_t j = 0; j < rows[i].count && count < KVM_MSR_LIST_MAX; j++) {
			list[count++] = rows[i].first + j;
		}
	}
	return count;
}

/* ---- features that MSRs announce ---- */

static const struct {
	uint32_t msr;
	uint64_t value;
} features[] = {
	{MSR_IA32_BIOS_SIGN_ID, 0x01000065},
	{MSR_IA32_ARCH_CAPABILITIES, 0}, /* the backend's */
	{MSR_PERF_CAPABILITIES, 0},
	{MSR_DE_CFG, 0},
};

uint32_t kvm_msr_feature_list(uint32_t list[KVM_MSR_LIST_MAX])
{
	for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
		list[i] = features[i].msr;
	}
	return ARRAY_SIZE(features);
}

int kvm_msr_feature(const struct kvm_env *env, uint32_t msr, uint64_t *value)
{
	if (msr == MSR_IA32_ARCH_CAPABILITIES) {
		*value = env->backend->arch_capabilities;
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
		if (features[i].msr == msr) {
			*value = features[i].value;
			return 0;
		}
	}
	return -ENOENT;
}

void kvm_msr_reset(struct kvm_vcpu *vcpu, bool init)
{
	if (init) {
		/* INIT leaves nearly all of them. Spec: Intel SDM vol. 3A, table 9-1 */
		return;
	}
	memset(vcpu->msr, 0, sizeof(vcpu->msr));
	vcpu->msr[KVM_MSR_PAT] = PAT_AT_START;
	vcpu->msr[KVM_MSR_MISC_ENABLE] = MISC_ENABLE_AT_START;
	vcpu->msr[KVM_MSR_PLATFORM_INFO] = CPUID_FAULT_SUPPORTED;
	vcpu->msr[KVM_MSR_UCODE_REV] = features[0].value;
	vcpu->msr[KVM_MSR_ARCH_CAPABILITIES] = vcpu->env->backend->arch_capabilities;
	vcpu->msr[KVM_MSR_POLL_CONTROL] = 1;
	for (unsigned bank = 0; bank < MC_BANKS; bank++) {
		vcpu->msr[KVM_MSR_MC_BANKS + 4 * bank] = UINT64_MAX;
	}
	vcpu->changed |= KVM_REGS_MSRS;
	vcpu->loaded |= KVM_REGS_MSRS;
}
