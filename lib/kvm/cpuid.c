#include "lib/kvm/cpuid.h"

#include <errno.h>
#include <linux/kvm_para.h>
#include <string.h>

#include "lib/kvm/irq.h"
#include "lib/x86/regs.h"

#define ECX1_OSXSAVE  BIT(27)
#define ECX1_MONITOR  BIT(3)
#define EDX1_APIC     BIT(9)
#define ECX7_OSPKE    BIT(4)
#define ECX7_PKU      BIT(3)
#define EAX13_COMPACT 0xa /* XSAVEC, XSAVES */

#define APIC_BASE_ENABLE    BIT(11)
#define MISC_ENABLE_MONITOR BIT(18)

/* Virtual and physical address bits where CPUID does not tell. */
#define PHYS_BITS_OLD 36

uint32_t kvm_xsave_bytes(const struct kvm_backend *backend, uint64_t xcr0, bool compact)
{
	uint32_t bytes = 576;

	for (uint32_t i = 2; i < 63; i++) {
		uint32_t regs[4];
		uint32_t offset;

		if ((xcr0 & backend->xcr0 & BIT(i)) == 0) {
			continue;
		}
		backend->host_cpuid(CPUID_XSAVE, i, regs);
		offset = regs[CPUID_EBX];
		if (compact) {
			/* ECX bit 1: aligned to 64 bytes in the compacted format. */
			offset = (regs[CPUID_ECX] & 2) != 0 ? ALIGN_UP(bytes, 64u) : bytes;
		}
		bytes = MAX(bytes, offset + regs[CPUID_EAX]);
	}
	return bytes;
}

static struct kvm_cpuid_entry2 *find_in(struct kvm_cpuid_entry2 *entries, uint32_t count,
					uint32_t leaf, uint32_t subleaf)
{
	for (uint32_t i = 0; i < count; i++) {
		struct kvm_cpuid_entry2 *entry = &entries[i];

		if (entry->function == leaf &&
		    ((entry->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) == 0 ||
		     entry->index == subleaf)) {
			return entry;
		}
	}
	return NULL;
}

struct kvm_cpuid_entry2 *kvm_cpuid_find(const struct kvm_vcpu *vcpu, uint32_t leaf,
					uint32_t subleaf)
{
	return find_in(vcpu->cpuid, vcpu->cpuid_count, leaf, subleaf);
}

static uint32_t reg_of(const struct kvm_cpuid_entry2 *entry, enum cpuid_reg reg)
{
	switch (reg) {
	case CPUID_EAX:
		return entry->eax;
	case CPUID_EBX:
		return entry->ebx;
	case CPUID_ECX:
		return entry->ecx;
	default:
		return entry->edx;
	}
}

bool kvm_cpuid_has(const struct kvm_vcpu *vcpu, uint32_t leaf, enum cpuid_reg reg, uint32_t bits)
{
	const struct kvm_cpuid_entry2 *entry = kvm_cpuid_find(vcpu, leaf, 0);

	return entry != NULL && (reg_of(entry, reg) & bits) == bits;
}

static void set_bit(uint32_t *reg, uint32_t bit, bool on)
{
	*reg = on ? *reg | bit : *reg & ~bit;
}

static void refresh(struct kvm_vcpu *vcpu, struct kvm_cpuid_entry2 *entries, uint32_t count)
{
	const struct kvm_backend *backend = vcpu->env->backend;
	struct kvm_cpuid_entry2 *entry = find_in(entries, count, CPUID_FEATURES, 0);

	if (entry != NULL) {
		if (backend->xcr0 != 0) {
			set_bit(&entry->ecx, (uint32_t)ECX1_OSXSAVE,
				(vcpu->cpu.cr4 & CR4_OSXSAVE) != 0);
		}
		set_bit(&entry->edx, (uint32_t)EDX1_APIC,
			(kvm_irq_apic_base(vcpu) & APIC_BASE_ENABLE) != 0);
		if ((vcpu->vm->quirks_off & KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT) != 0) {
			set_bit(&entry->ecx, (uint32_t)ECX1_MONITOR,
				(vcpu->msr[KVM_MSR_MISC_ENABLE] & MISC_ENABLE_MONITOR) != 0);
		}
	}
	entry = find_in(entries, count, CPUID_FEATURES7, 0);
	if (entry != NULL && (entry->ecx & ECX7_PKU) != 0) {
		set_bit(&entry->ecx, (uint32_t)ECX7_OSPKE, (vcpu->cpu.cr4 & CR4_PKE) != 0);
	}
	entry = find_in(entries, count, CPUID_XSAVE, 0);
	if (entry != NULL) {
		entry->ebx = kvm_xsave_bytes(backend, vcpu->xcr0, false);
	}
	entry = find_in(entries, count, CPUID_XSAVE, 1);
	if (entry != NULL && (entry->eax & EAX13_COMPACT) != 0) {
		entry->ebx = kvm_xsave_bytes(backend, vcpu->xcr0, true);
	}
}

void kvm_cpuid_refresh(struct kvm_vcpu *vcpu)
{
	kvm_regs_need(vcpu, KVM_REGS_CONTROL | KVM_REGS_FPU);
	refresh(vcpu, vcpu->cpuid, vcpu->cpuid_count);
}

/* ---- features that are asked for often ---- */

/* A CR4 bit that is the guest's if CPUID shows a feature. */
static const struct {
	uint64_t cr4;
	uint32_t leaf;
	uint32_t reg;
	uint32_t bit;
} cr4_rules[] = {
	{CR4_OSXSAVE, CPUID_FEATURES, CPUID_ECX, BIT(26)},
	{CR4_PCIDE, CPUID_FEATURES, CPUID_ECX, BIT(17)},
	{CR4_SMEP, CPUID_FEATURES7, CPUID_EBX, BIT(7)},
	{CR4_SMAP, CPUID_FEATURES7, CPUID_EBX, BIT(20)},
	{CR4_FSGSBASE, CPUID_FEATURES7, CPUID_EBX, BIT(0)},
	{CR4_PKE, CPUID_FEATURES7, CPUID_ECX, BIT(3)},
	{CR4_LA57, CPUID_FEATURES7, CPUID_ECX, BIT(16)},
	{CR4_UMIP, CPUID_FEATURES7, CPUID_ECX, BIT(2)},
};

#define CR4_ALWAYS                                                                                \
	(CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE | \
	 CR4_OSFXSR | CR4_OSXMMEXCPT)

static bool vendor_is(const struct kvm_cpuid_entry2 *entry, const char name[12])
{
	uint32_t words[3] = {entry->ebx, entry->edx, entry->ecx};

	return memcmp(words, name, sizeof(words)) == 0;
}

/* The KVM leaves may stand at any multiple of 0x100 above 0x40000000. */
static const struct kvm_cpuid_entry2 *kvm_signature(const struct kvm_vcpu *vcpu)
{
	for (uint32_t leaf = CPUID_KVM_SIGNATURE; leaf < CPUID_KVM_SIGNATURE + 0x10000;
	     leaf += 0x100) {
		const struct kvm_cpuid_entry2 *entry = kvm_cpuid_find(vcpu, leaf, 0);

		if (entry != NULL && entry->ebx == 0x4b4d564b && entry->ecx == 0x564b4d56 &&
		    entry->edx == 0x4d) {
			return entry;
		}
	}
	return NULL;
}

static void note_kvm_features(struct kvm_vcpu *vcpu)
{
	struct kvm_features *f = &vcpu->features;
	const struct kvm_cpuid_entry2 *signature = kvm_signature(vcpu);
	const struct kvm_cpuid_entry2 *entry =
		signature == NULL
			? NULL
			: kvm_cpuid_find(vcpu, signature->function | KVM_CPUID_FEATURES, 0);

	f->hypercall = signature != NULL;
	f->kvm = entry == NULL ? 0 : entry->eax;
}

static void note_vendor(struct kvm_vcpu *vcpu)
{
	struct kvm_features *f = &vcpu->features;
	const struct kvm_cpuid_entry2 *entry = kvm_cpuid_find(vcpu, CPUID_VENDOR, 0);

	f->amd = entry != NULL &&
		 (vendor_is(entry, "AuthenticAMD") || vendor_is(entry, "HygonGenuine"));
	f->intel = entry != NULL && vendor_is(entry, "GenuineIntel");
}

static uint8_t phys_bits(const struct kvm_vcpu *vcpu)
{
	const struct kvm_cpuid_entry2 *entry = kvm_cpuid_find(vcpu, CPUID_EXT_MAX, 0);

	if (entry == NULL || entry->eax < CPUID_EXT_SIZES) {
		return PHYS_BITS_OLD;
	}
	entry = kvm_cpuid_find(vcpu, CPUID_EXT_SIZES, 0);
	return entry == NULL ? PHYS_BITS_OLD : (uint8_t)(entry->eax & 0xff);
}

void kvm_cpuid_defaults(struct kvm_vcpu *vcpu)
{
	struct kvm_features *f = &vcpu->features;
	const struct kvm_cpuid_entry2 *entry;
	bool svm_host = vcpu->env->backend->amd;

	note_vendor(vcpu);
	note_kvm_features(vcpu);
	f->phys_bits = phys_bits(vcpu);
	f->cr4_allowed = CR4_ALWAYS;
	for (size_t i = 0; i < ARRAY_SIZE(cr4_rules); i++) {
		uint32_t leaf = cr4_rules[i].leaf, reg = cr4_rules[i].reg, bit = cr4_rules[i].bit;

		/* Before there is a CPUID, all may be set that the provider has. */
		if (vcpu->cpuid_count == 0 ? kvm_cpuid_supports(vcpu->env, leaf, reg, bit)
					   : kvm_cpuid_has(vcpu, leaf, reg, bit)) {
			f->cr4_allowed |= cr4_rules[i].cr4;
		}
	}
	f->efer_allowed = EFER_SCE;
	if (kvm_cpuid_has(vcpu, CPUID_EXT_FEATURES, CPUID_EDX, BIT(29))) {
		f->efer_allowed |= EFER_LME | EFER_LMA;
	}
	if (kvm_cpuid_has(vcpu, CPUID_EXT_FEATURES, CPUID_EDX, BIT(20))) {
		f->efer_allowed |= EFER_NXE;
	}
	if (kvm_cpuid_has(vcpu, CPUID_EXT_FEATURES, CPUID_EDX, BIT(25)) && svm_host) {
		f->efer_allowed |= EFER_FFXSR;
	}
	entry = kvm_cpuid_find(vcpu, CPUID_XSAVE, 0);
	f->xcr0_allowed = entry == NULL ? 0
					: (entry->eax | (uint64_t)entry->edx << 32) &
						  vcpu->env->backend->xcr0;
	f->rtm = kvm_cpuid_has(vcpu, CPUID_FEATURES7, CPUID_EBX, BIT(11));
	f->dr6_fixed =
		DR6_FIXED | (f->rtm ? 0 : DR6_RTM) |
		(kvm_cpuid_has(vcpu, CPUID_FEATURES7, CPUID_ECX, BIT(24)) ? 0 : DR6_BUS_LOCK);
	f->pages_1g = kvm_cpuid_has(vcpu, CPUID_EXT_FEATURES, CPUID_EDX, BIT(26));
}

/* ---- setting ---- */

static bool valid(struct kvm_cpuid_entry2 *entries, uint32_t count)
{
	const struct kvm_cpuid_entry2 *entry = find_in(entries, count, CPUID_EXT_SIZES, 0);
	uint32_t bits = entry == NULL ? 0 : entry->eax >> 8 & 0xff;

	return bits == 0 || bits == 48 || bits == 57;
}

int kvm_cpuid_set(struct kvm_vcpu *vcpu, struct kvm_cpuid_entry2 *entries, uint32_t count)
{
	kvm_regs_need(vcpu, KVM_REGS_CONTROL | KVM_REGS_FPU);
	refresh(vcpu, entries, count);
	if (vcpu->ran) {
		if (count != vcpu->cpuid_count ||
		    (count != 0 && memcmp(entries, vcpu->cpuid, count * sizeof(*entries)) != 0)) {
			return -EINVAL;
		}
		kvm_cpuid_free(vcpu->env, entries, count);
		return 0;
	}
	if (!valid(entries, count)) {
		return -EINVAL;
	}
	kvm_cpuid_free(vcpu->env, vcpu->cpuid, vcpu->cpuid_count);
	vcpu->cpuid = entries;
	vcpu->cpuid_count = count;
	kvm_cpuid_defaults(vcpu);
	kvm_irq_cpuid_changed(vcpu);
	vcpu->env->backend->features_changed(vcpu);
	return 0;
}

void kvm_cpuid_free(struct kvm_env *env, struct kvm_cpuid_entry2 *entries, uint32_t count)
{
	if (entries != NULL) {
		kvm_ops(env)->free(env, KVM_STORE_TABLE, entries,
				   MAX(count, 1u) * sizeof(*entries));
	}
}

/* ---- asking ---- */

/*
 * Intel's CPUs answer a leaf above the highest with the highest basic one. AMD's give zeros.
 * Spec: Intel SDM vol. 2A, "CPUID"
 */
static const struct kvm_cpuid_entry2 *out_of_range(const struct kvm_vcpu *vcpu, uint32_t *leaf,
						   uint32_t subleaf)
{
	const struct kvm_cpuid_entry2 *basic = kvm_cpuid_find(vcpu, CPUID_VENDOR, 0);
	const struct kvm_cpuid_entry2 *first;

	if (basic == NULL || vcpu->features.amd) {
		return NULL;
	}
	if (*leaf >= 0x40000000 && *leaf <= 0x4fffffff) {
		first = kvm_cpuid_find(vcpu, *leaf & 0xffffff00, 0);
	} else {
		first = kvm_cpuid_find(vcpu, *leaf & 0x80000000, 0);
	}
	if (first != NULL && *leaf <= first->eax) {
		return NULL;
	}
	*leaf = basic->eax;
	return kvm_cpuid_find(vcpu, *leaf, subleaf);
}

void kvm_cpuid_query(struct kvm_vcpu *vcpu, uint32_t regs[4])
{
	uint32_t leaf = regs[CPUID_EAX];
	uint32_t subleaf = regs[CPUID_ECX];
	const struct kvm_cpuid_entry2 *entry = kvm_cpuid_find(vcpu, leaf, subleaf);

	if (entry == NULL) {
		entry = out_of_range(vcpu, &leaf, subleaf);
	}
	if (entry != NULL) {
		for (unsigned i = 0; i < 4; i++) {
			regs[i] = reg_of(entry, i);
		}
		return;
	}
	memset(regs, 0, 4 * sizeof(regs[0]));
	if (leaf == CPUID_TOPOLOGY || leaf == CPUID_TOPOLOGY_V2) {
		/* Subleaves that do not exist still tell their number and the APIC ID. */
		entry = kvm_cpuid_find(vcpu, leaf, 1);
		if (entry != NULL) {
			regs[CPUID_ECX] = subleaf & 0xff;
			regs[CPUID_EDX] = entry->edx;
		}
	}
}
