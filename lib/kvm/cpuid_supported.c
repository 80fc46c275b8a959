#include <errno.h>
#include <linux/kvm_para.h>

#include "lib/kvm/cpuid.h"

#define LEAF_MAX     0x1f
#define EXT_LEAF_MAX 0x80000021

#define KVM_EXT_VIRT_BITS 48

/*
 * What lib/kvm and its backends can give a guest, if the CPU below has it; and what is emulated, so
 * that it is there always. Leaves that are not in here, nor dealt with by code, are zero.
 */
static const struct rule {
	uint32_t leaf, subleaf;
	uint32_t reg;
	uint32_t pass;
	uint32_t always;
} rules[] = {
	/* SSE3, PCLMULQDQ, SSSE3, FMA, CX16, PCID, SSE4.1, SSE4.2, MOVBE, POPCNT, AES, XSAVE, AVX,
	 * F16C, RDRAND; always x2APIC. The TSC-deadline timer is announced by a capability, as
	 * Linux does. */
	{0x1, 0, CPUID_ECX, 0x76da3203, 0x00200000},
	/* all but PSN, DS, ACPI, HTT, TM, PBE; always APIC */
	{0x1, 0, CPUID_EDX, 0x0f8bf9ff, 0x00000200},
	/* FSGSBASE, BMI1, AVX2, FDP_EXCPTN_ONLY, SMEP, BMI2, ERMS, INVPCID, ZERO_FCS_FDS, RDSEED,
	 * ADX, SMAP, CLFLUSHOPT, CLWB, SHA, AVX512*, but not HLE and RTM; always TSC_ADJUST */
	{0x7, 0, CPUID_EBX, 0xfdbf27e9, 0x00000002},
	/* AVX512_VBMI, UMIP, PKU, VBMI2, GFNI, VAES, VPCLMULQDQ, VNNI, BITALG, VPOPCNTDQ, LA57,
	 * RDPID, CLDEMOTE, MOVDIRI, MOVDIR64B */
	{0x7, 0, CPUID_ECX, 0x1a415f4e, 0},
	/* 4VNNIW, 4FMAPS, FSRM, VP2INTERSECT, MD_CLEAR, SERIALIZE, SPEC_CTRL, STIBP, SSBD; always
	 * ARCH_CAPABILITIES */
	{0x7, 0, CPUID_EDX, 0x8c00451c, 0x20000000},
	/* AVX_VNNI, AVX512_BF16 */
	{0x7, 1, CPUID_EAX, 0x00000030, 0},
	/* PSFD, IPRED_CTRL, RRSBA_CTRL, DDPD_U, BHI_CTRL, MCDT_NO */
	{0x7, 2, CPUID_EDX, 0x0000003f, 0},
	/* XSAVEOPT, XSAVEC, XGETBV1, XSAVES */
	{0xd, 1, CPUID_EAX, 0xf, 0},
	{0x80000001, 0, CPUID_EBX, 0xf000ffff, 0},
	/* LAHF, CMP_LEGACY, CR8_LEGACY, ABM, SSE4A, MISALIGNSSE, 3DNOWPREFETCH, XOP, FMA4, TBM,
	 * TOPOEXT */
	{0x80000001, 0, CPUID_ECX, 0x006109f3, 0},
	/* as leaf 1; SYSCALL, NX, MMXEXT, FXSR_OPT, 1 GiB pages, RDTSCP, LM, 3DNow! */
	{0x80000001, 0, CPUID_EDX, 0xefd3f9ff, 0x00000200},
	/* invariant TSC */
	{0x80000007, 0, CPUID_EDX, 0x100, 0},
	/* CLZERO, XSAVEERPTR, WBNOINVD, IBPB, IBRS, STIBP, STIBP_ALWAYS_ON, SSBD, VIRT_SSBD,
	 * SSB_NO, PSFD */
	{0x80000008, 0, CPUID_EBX, 0x1702d205, 0},
	/* NO_NESTED_DATA_BP, LFENCE_ALWAYS_SERIALIZING, VERW_CLEAR, NULL_SEL_CLR_BASE; always
	 * NO_SMM_CTL_MSR */
	{0x80000021, 0, CPUID_EAX, 0x65, 0x200},
	{0x80000021, 0, CPUID_ECX, 0x6, 0},
};

struct list {
	struct kvm_env *env;
	struct kvm_cpuid_entry2 *entries;
	uint32_t room;
	uint32_t count;
	bool full;
};

static void apply_rules(uint32_t leaf, uint32_t subleaf, uint32_t regs[4], const uint32_t host[4])
{
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
		const struct rule *rule = &rules[i];

		if (rule->leaf == leaf && rule->subleaf == subleaf) {
			regs[rule->reg] = (host[rule->reg] & rule->pass) | rule->always;
		}
	}
}

static bool has_subleaves(uint32_t leaf)
{
	return leaf == 0x4 || leaf == 0x7 || leaf == 0xb || leaf == 0xd || leaf == 0x14 ||
	       leaf == 0x1d || leaf == 0x1e || leaf == 0x1f || leaf == 0x8000001d;
}

static void add(struct list *list, uint32_t leaf, uint32_t subleaf, const uint32_t regs[4])
{
	if (list->count == list->room) {
		list->full = true;
		return;
	}
	list->entries[list->count++] = (struct kvm_cpuid_entry2){
		.function = leaf,
		.index = subleaf,
		.flags = has_subleaves(leaf) ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
		.eax = regs[CPUID_EAX],
		.ebx = regs[CPUID_EBX],
		.ecx = regs[CPUID_ECX],
		.edx = regs[CPUID_EDX],
	};
}

/* Caches, as the CPU has them, until there is no more. */
static void add_caches(struct list *list, uint32_t leaf)
{
	for (uint32_t i = 0; i < 16; i++) {
		uint32_t regs[4];

		list->env->backend->host_cpuid(leaf, i, regs);
		add(list, leaf, i, regs);
		if ((regs[CPUID_EAX] & 0x1f) == 0) {
			break;
		}
	}
}

static void add_features7(struct list *list)
{
	uint32_t last = 0;

	for (uint32_t i = 0; i <= last; i++) {
		uint32_t host[4];
		uint32_t regs[4] = {0};

		list->env->backend->host_cpuid(CPUID_FEATURES7, i, host);
		if (i == 0) {
			last = MIN(host[CPUID_EAX], 2u);
			regs[CPUID_EAX] = last;
		}
		apply_rules(CPUID_FEATURES7, i, regs, host);
		add(list, CPUID_FEATURES7, i, regs);
	}
}

static void add_xsave(struct list *list)
{
	const struct kvm_backend *backend = list->env->backend;
	uint64_t xcr0 = backend->xcr0;
	uint32_t host[4];
	uint32_t regs[4] = {(uint32_t)xcr0, kvm_xsave_bytes(backend, xcr0, false),
			    kvm_xsave_bytes(backend, xcr0, false), (uint32_t)(xcr0 >> 32)};

	if (xcr0 == 0) {
		add(list, CPUID_XSAVE, 0, (const uint32_t[4]){0});
		return;
	}
	add(list, CPUID_XSAVE, 0, regs);
	backend->host_cpuid(CPUID_XSAVE, 1, host);
	for (unsigned i = 0; i < 4; i++) {
		regs[i] = 0;
	}
	apply_rules(CPUID_XSAVE, 1, regs, host);
	if ((regs[CPUID_EAX] & 0xa) != 0) {
		regs[CPUID_EBX] = kvm_xsave_bytes(backend, xcr0, true);
	}
	add(list, CPUID_XSAVE, 1, regs);
	for (uint32_t i = 2; i < 63; i++) {
		if ((xcr0 & BIT(i)) != 0) {
			backend->host_cpuid(CPUID_XSAVE, i, regs);
			regs[CPUID_ECX] &= ~(uint32_t)BIT(2);
			regs[CPUID_EDX] = 0;
			add(list, CPUID_XSAVE, i, regs);
		}
	}
}

/* Leaves of which something else than the rules has to be said. */
static void adjust(struct list *list, uint32_t leaf, uint32_t regs[4], const uint32_t host[4])
{
	const struct kvm_backend *backend = list->env->backend;
	uint32_t virt_bits = host[CPUID_EAX] >> 8 & 0xff;

	switch (leaf) {
	case CPUID_VENDOR:
	case CPUID_EXT_MAX:
	case CPUID_EXT_BRAND:
	case CPUID_EXT_BRAND + 1:
	case CPUID_EXT_BRAND + 2:
	case CPUID_EXT_L1:
		for (unsigned i = 0; i < 4; i++) {
			regs[i] = host[i];
		}
		break;
	case 2:
		for (unsigned i = 0; i < 4; i++) {
			regs[i] = host[i];
		}
		break;
	case CPUID_FEATURES:
	case CPUID_EXT_FEATURES:
		regs[CPUID_EAX] = host[CPUID_EAX];
		regs[CPUID_EBX] = host[CPUID_EBX];
		break;
	case CPUID_POWER:
		regs[CPUID_EAX] = (uint32_t)CPUID_6_EAX_ARAT;
		break;
	case CPUID_TOPOLOGY:
	case CPUID_TOPOLOGY_V2:
		/* No topology: user space has to give one. */
		regs[CPUID_EDX] = host[CPUID_EDX];
		break;
	case CPUID_EXT_L2:
		for (unsigned i = 0; i < 4; i++) {
			regs[i] = host[i];
		}
		regs[CPUID_EDX] &= ~(uint32_t)0x30000;
		break;
	case CPUID_EXT_SIZES:
		regs[CPUID_EAX] = backend->phys_bits | MAX(virt_bits, (uint32_t)KVM_EXT_VIRT_BITS)
							       << 8;
		regs[CPUID_ECX] = host[CPUID_ECX] & ~(uint32_t)0xffff0f00;
		break;
	case 0x80000019:
		regs[CPUID_EAX] = host[CPUID_EAX];
		regs[CPUID_EBX] = host[CPUID_EBX];
		break;
	case 0x8000001a:
		regs[CPUID_EAX] = host[CPUID_EAX] & 7;
		break;
	default:
		break;
	}
	apply_rules(leaf, 0, regs, host);
}

static void add_leaf(struct list *list, uint32_t leaf)
{
	uint32_t host[4];
	uint32_t regs[4] = {0};

	switch (leaf) {
	case CPUID_CACHES:
	case CPUID_EXT_CACHES:
		add_caches(list, leaf);
		return;
	case CPUID_FEATURES7:
		add_features7(list);
		return;
	case CPUID_XSAVE:
		add_xsave(list);
		return;
	default:
		break;
	}
	list->env->backend->host_cpuid(leaf, 0, host);
	adjust(list, leaf, regs, host);
	if (leaf == CPUID_FEATURES && list->env->backend->xcr0 == 0) {
		regs[CPUID_ECX] &= ~(uint32_t)(BIT(26) | BIT(28) | BIT(12) | BIT(29));
	}
	if (leaf == CPUID_FEATURES) {
		/* The APIC ID is user space's to say. */
		regs[CPUID_EBX] &= 0x00ffffff;
	}
	if (leaf == CPUID_VENDOR) {
		regs[CPUID_EAX] = MIN(regs[CPUID_EAX], (uint32_t)LEAF_MAX);
	}
	if (leaf == CPUID_EXT_MAX) {
		regs[CPUID_EAX] = MIN(regs[CPUID_EAX], (uint32_t)EXT_LEAF_MAX);
	}
	add(list, leaf, 0, regs);
}

static void add_range(struct list *list, uint32_t first)
{
	uint32_t place = list->count;
	uint32_t last;

	add_leaf(list, first);
	last = list->full ? 0 : list->entries[place].eax;
	for (uint32_t leaf = first + 1; leaf <= last && !list->full; leaf++) {
		add_leaf(list, leaf);
	}
}

static void add_kvm(struct list *list)
{
	uint32_t features = BIT(KVM_FEATURE_CLOCKSOURCE) | BIT(KVM_FEATURE_NOP_IO_DELAY) |
			    BIT(KVM_FEATURE_CLOCKSOURCE2) |
			    BIT(KVM_FEATURE_CLOCKSOURCE_STABLE_BIT) | BIT(KVM_FEATURE_PV_UNHALT) |
			    BIT(KVM_FEATURE_POLL_CONTROL) | BIT(KVM_FEATURE_PV_SCHED_YIELD);

	if (kvm_ops(list->env)->steal_ns != NULL) {
		features |= BIT(KVM_FEATURE_STEAL_TIME);
	}
	add(list, CPUID_KVM_SIGNATURE, 0,
	    (const uint32_t[4]){CPUID_KVM_FEATURES, 0x4b4d564b, 0x564b4d56, 0x4d});
	add(list, CPUID_KVM_FEATURES, 0, (const uint32_t[4]){features, 0, 0, 0});
}

int kvm_cpuid_supported(struct kvm_env *env, struct kvm_cpuid_entry2 *entries, uint32_t room,
			uint32_t *count)
{
	struct list list = {.env = env, .entries = entries, .room = room};

	add_range(&list, CPUID_VENDOR);
	add_range(&list, CPUID_EXT_MAX);
	add_kvm(&list);
	*count = list.count;
	return list.full ? -E2BIG : 0;
}

bool kvm_cpuid_supports(struct kvm_env *env, uint32_t leaf, enum cpuid_reg reg, uint32_t bits)
{
	struct kvm_cpuid_entry2 entries[4];
	struct list list = {.env = env, .entries = entries, .room = ARRAY_SIZE(entries)};

	add_leaf(&list, leaf);
	if (list.count == 0) {
		return false;
	}
	uint32_t regs[4] = {
		[CPUID_EAX] = entries[0].eax,
		[CPUID_EBX] = entries[0].ebx,
		[CPUID_ECX] = entries[0].ecx,
		[CPUID_EDX] = entries[0].edx,
	};
	return (regs[reg] & bits) == bits;
}

int kvm_cpuid_emulated(struct kvm_env *env, struct kvm_cpuid_entry2 *entries, uint32_t room,
		       uint32_t *count)
{
	struct list list = {.env = env, .entries = entries, .room = room};

	/* MOVBE is in the emulator; a backend that never stops at it cannot use that, as in Linux.
	 */
	add(&list, CPUID_VENDOR, 0, (const uint32_t[4]){CPUID_FEATURES7, 0, 0, 0});
	add(&list, CPUID_FEATURES, 0, (const uint32_t[4]){0, 0, BIT(22), 0});
	add(&list, CPUID_FEATURES7, 0, (const uint32_t[4]){0, 0, 0, 0});
	*count = list.count;
	return list.full ? -E2BIG : 0;
}
