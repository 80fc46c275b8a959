#include "vmm/board/cpu_model.h"

#include <asm/kvm_para.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/bytes.h"
#include "lib/base/check.h"
#include "lib/x86/cpuid.h"
#include "vmm/log.h"

/* ---- the named models ---- */

#define SIGNATURE	 0x00830f10 /* family 17h, model 31h, stepping 0 */
#define CLFLUSH_LINE	 8	    /* quadwords */
#define PHYS_BITS	 40
#define VIRT_BITS	 48
#define XCR0_X87_SSE_AVX 7
#define XSAVE_LEGACY	 576 /* bytes: legacy area and header */
#define XSAVE_AVX	 256
/* FPU to MMX and FXSR of leaf 1, which AMD repeats in leaf 0x80000001. */
#define AMD_ALIASES 0x0183f3ff

/* Every feature of the models. */
static const struct feature {
	uint32_t function, index;
	enum cpuid_reg reg;
	uint8_t bit;
	uint8_t since; /* of x86-64-v2 or -v3 */
	/* The provider emulates it whatever it reports; see KVM_GET_SUPPORTED_CPUID. */
	bool given;
	const char *name;
} features[] = {
	{CPUID_FEATURES, 0, CPUID_EDX, 0, 2, false, "fpu"},
	{CPUID_FEATURES, 0, CPUID_EDX, 2, 2, false, "de"},
	{CPUID_FEATURES, 0, CPUID_EDX, 3, 2, false, "pse"},
	{CPUID_FEATURES, 0, CPUID_EDX, 4, 2, false, "tsc"},
	{CPUID_FEATURES, 0, CPUID_EDX, 5, 2, false, "msr"},
	{CPUID_FEATURES, 0, CPUID_EDX, 6, 2, false, "pae"},
	{CPUID_FEATURES, 0, CPUID_EDX, 7, 2, false, "mce"},
	{CPUID_FEATURES, 0, CPUID_EDX, 8, 2, false, "cx8"},
	{CPUID_FEATURES, 0, CPUID_EDX, 9, 2, false, "apic"},
	{CPUID_FEATURES, 0, CPUID_EDX, 11, 2, false, "sep"},
	{CPUID_FEATURES, 0, CPUID_EDX, 12, 2, false, "mtrr"},
	{CPUID_FEATURES, 0, CPUID_EDX, 13, 2, false, "pge"},
	{CPUID_FEATURES, 0, CPUID_EDX, 14, 2, false, "mca"},
	{CPUID_FEATURES, 0, CPUID_EDX, 15, 2, false, "cmov"},
	{CPUID_FEATURES, 0, CPUID_EDX, 16, 2, false, "pat"},
	{CPUID_FEATURES, 0, CPUID_EDX, 17, 2, false, "pse36"},
	{CPUID_FEATURES, 0, CPUID_EDX, 19, 2, false, "clflush"},
	{CPUID_FEATURES, 0, CPUID_EDX, 23, 2, false, "mmx"},
	{CPUID_FEATURES, 0, CPUID_EDX, 24, 2, false, "fxsr"},
	{CPUID_FEATURES, 0, CPUID_EDX, 25, 2, false, "sse"},
	{CPUID_FEATURES, 0, CPUID_EDX, 26, 2, false, "sse2"},
	{CPUID_FEATURES, 0, CPUID_ECX, 0, 2, false, "sse3"},
	{CPUID_FEATURES, 0, CPUID_ECX, 1, 3, false, "pclmulqdq"},
	{CPUID_FEATURES, 0, CPUID_ECX, 9, 2, false, "ssse3"},
	{CPUID_FEATURES, 0, CPUID_ECX, 12, 3, false, "fma"},
	{CPUID_FEATURES, 0, CPUID_ECX, 13, 2, false, "cx16"},
	{CPUID_FEATURES, 0, CPUID_ECX, 19, 2, false, "sse4.1"},
	{CPUID_FEATURES, 0, CPUID_ECX, 20, 2, false, "sse4.2"},
	{CPUID_FEATURES, 0, CPUID_ECX, 21, 2, false, "x2apic"},
	{CPUID_FEATURES, 0, CPUID_ECX, 22, 3, false, "movbe"},
	{CPUID_FEATURES, 0, CPUID_ECX, 23, 2, false, "popcnt"},
	{CPUID_FEATURES, 0, CPUID_ECX, 24, 2, true, "tsc-deadline"},
	{CPUID_FEATURES, 0, CPUID_ECX, 25, 3, false, "aes"},
	{CPUID_FEATURES, 0, CPUID_ECX, 26, 3, false, "xsave"},
	{CPUID_FEATURES, 0, CPUID_ECX, 28, 3, false, "avx"},
	{CPUID_FEATURES, 0, CPUID_ECX, 29, 3, false, "f16c"},
	{CPUID_FEATURES, 0, CPUID_ECX, 30, 3, false, "rdrand"},
	{CPUID_FEATURES, 0, CPUID_ECX, 31, 2, true, "hypervisor"},
	{CPUID_POWER, 0, CPUID_EAX, 2, 2, true, "arat"},
	{CPUID_FEATURES7, 0, CPUID_EBX, 0, 3, false, "fsgsbase"},
	{CPUID_FEATURES7, 0, CPUID_EBX, 3, 3, false, "bmi1"},
	{CPUID_FEATURES7, 0, CPUID_EBX, 5, 3, false, "avx2"},
	{CPUID_FEATURES7, 0, CPUID_EBX, 7, 3, false, "smep"},
	{CPUID_FEATURES7, 0, CPUID_EBX, 8, 3, false, "bmi2"},
	{CPUID_FEATURES7, 0, CPUID_EBX, 9, 3, false, "erms"},
	{CPUID_XSAVE, 0, CPUID_EAX, 0, 3, false, "x87 state"},
	{CPUID_XSAVE, 0, CPUID_EAX, 1, 3, false, "sse state"},
	{CPUID_XSAVE, 0, CPUID_EAX, 2, 3, false, "avx state"},
	{CPUID_XSAVE, 1, CPUID_EAX, 0, 3, false, "xsaveopt"},
	{CPUID_KVM_FEATURES, 0, CPUID_EAX, KVM_FEATURE_CLOCKSOURCE, 2, false, "kvmclock"},
	{CPUID_KVM_FEATURES, 0, CPUID_EAX, KVM_FEATURE_NOP_IO_DELAY, 2, false, "kvm-nopiodelay"},
	{CPUID_KVM_FEATURES, 0, CPUID_EAX, KVM_FEATURE_CLOCKSOURCE2, 2, false, "kvmclock2"},
	{CPUID_KVM_FEATURES, 0, CPUID_EAX, KVM_FEATURE_CLOCKSOURCE_STABLE_BIT, 2, false,
	 "kvmclock-stable"},
	{CPUID_EXT_FEATURES, 0, CPUID_ECX, 0, 2, false, "lahf_lm"},
	{CPUID_EXT_FEATURES, 0, CPUID_ECX, 5, 3, false, "lzcnt"},
	{CPUID_EXT_FEATURES, 0, CPUID_ECX, 22, 2, true, "topoext"},
	{CPUID_EXT_FEATURES, 0, CPUID_EDX, 11, 2, false, "syscall"},
	{CPUID_EXT_FEATURES, 0, CPUID_EDX, 20, 2, false, "nx"},
	{CPUID_EXT_FEATURES, 0, CPUID_EDX, 27, 2, false, "rdtscp"},
	{CPUID_EXT_FEATURES, 0, CPUID_EDX, 29, 2, false, "lm"},
};

/* One table in the making. */
struct build {
	struct kvm_cpuid2 *out;
	unsigned room;
	bool full;
	struct kvm_cpuid_entry2 sink; /* takes what does not fit; never read */
	unsigned ncpus, index;
};

static bool has_index(uint32_t function)
{
	switch (function) {
	case CPUID_CACHES:
	case CPUID_FEATURES7:
	case CPUID_TOPOLOGY:
	case CPUID_XSAVE:
	case CPUID_EXT_CACHES:
		return true;
	default:
		return false;
	}
}

static const struct kvm_cpuid_entry2 *find(const struct kvm_cpuid2 *table, uint32_t function,
					   uint32_t index)
{
	for (unsigned i = 0; i < table->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &table->entries[i];

		if (e->function == function &&
		    ((e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) == 0 || e->index == index)) {
			return e;
		}
	}
	return NULL;
}

static struct kvm_cpuid_entry2 *find_out(const struct build *b, uint32_t function, uint32_t index)
{
	return (struct kvm_cpuid_entry2 *)(uintptr_t)find(b->out, function, index);
}

static struct kvm_cpuid_entry2 *add(struct build *b, uint32_t function, uint32_t index)
{
	if (b->out->nent == b->room) {
		b->full = true;
		return &b->sink;
	}
	struct kvm_cpuid_entry2 *e = &b->out->entries[b->out->nent++];
	*e = (struct kvm_cpuid_entry2){
		.function = function,
		.index = index,
		.flags = has_index(function) ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
	};
	return e;
}

static void set(struct kvm_cpuid_entry2 *e, uint32_t eax, uint32_t ebx, uint32_t ecx, uint32_t edx)
{
	e->eax = eax;
	e->ebx = ebx;
	e->ecx = ecx;
	e->edx = edx;
}

static uint32_t *reg_of(struct kvm_cpuid_entry2 *e, enum cpuid_reg reg)
{
	switch (reg) {
	case CPUID_EAX:
		return &e->eax;
	case CPUID_EBX:
		return &e->ebx;
	case CPUID_ECX:
		return &e->ecx;
	default:
		return &e->edx;
	}
}

/* ---- topology, in every model ---- */

/* The extended topology: one thread a core, then all cores. */
static void add_topology(struct build *b)
{
	set(add(b, CPUID_TOPOLOGY, 0), 0, 1, CPUID_LEVEL_SMT << 8, b->index);
	set(add(b, CPUID_TOPOLOGY, 1), cpuid_bits_for(b->ncpus), b->ncpus,
	    CPUID_LEVEL_CORE << 8 | 1, b->index);
	set(add(b, CPUID_TOPOLOGY, 2), 0, 0, 2, b->index);
}

/* APIC ID and number of CPUs in leaf 1. */
static void set_apic_id(const struct build *b, struct kvm_cpuid_entry2 *e)
{
	e->ebx = (e->ebx & 0xffff) | b->ncpus << 16 | b->index << 24;
	e->edx = (e->edx & ~(uint32_t)CPUID_1_EDX_HTT) | (b->ncpus > 1 ? CPUID_1_EDX_HTT : 0);
}

/* Leaf 0x80000001: several cores rather than threads. */
static void set_cmp_legacy(const struct build *b, struct kvm_cpuid_entry2 *e)
{
	e->ecx &= ~(uint32_t)CPUID_EXT_ECX_CMP_LEGACY;
	e->ecx |= b->ncpus > 1 ? CPUID_EXT_ECX_CMP_LEGACY : 0;
}

/* Leaf 0x80000008, ECX: cores, and how many bits of the APIC ID count them. */
static uint32_t amd_cores(const struct build *b)
{
	return cpuid_bits_for(b->ncpus) << 12 | (b->ncpus - 1);
}

/* Leaf 0x8000001e: the core of this CPU; one node. */
static void set_amd_core(const struct build *b, struct kvm_cpuid_entry2 *e)
{
	set(e, b->index, b->index, 0, 0);
}

/* ---- building a named model ---- */

static int phys_bits_for(uint64_t ram_end)
{
	return ram_end <= BIT(PHYS_BITS) ? PHYS_BITS : 64 - __builtin_clzll(ram_end - 1);
}

static void add_vendor(struct build *b, uint32_t function, uint32_t max)
{
	set(add(b, function, 0), max, load_le32("Auth"), load_le32("cAMD"), load_le32("enti"));
}

static void add_brand(struct build *b, unsigned level)
{
	char brand[48] = {0};

	snprintf(brand, sizeof(brand), "Yado virtual CPU, x86-64-v%u", level);
	for (unsigned i = 0; i < 3; i++) {
		const char *p = brand + (size_t)i * 16;

		set(add(b, CPUID_EXT_BRAND + i, 0), load_le32(p), load_le32(p + 4),
		    load_le32(p + 8), load_le32(p + 12));
	}
}

/*
 * Caches as a Zen core has them: 32 KiB each of L1, 512 KiB of L2, and 16 MiB of L3 for all.
 * The TLB figures matter to nobody.
 */
static void add_cache_sizes(struct build *b)
{
	set(add(b, CPUID_EXT_L1, 0), 0xff40ff40, 0xff40ff40, 0x20080140, 0x20080140);
	set(add(b, CPUID_EXT_L2, 0), 0x48006400, 0x68006400, 0x02006140, 0x00808140);
}

static void add_caches(struct build *b)
{
	uint32_t shared = (b->ncpus - 1) << 14;

	set(add(b, CPUID_EXT_CACHES, 0), 0x121, 0x01c0003f, 63, 0);
	set(add(b, CPUID_EXT_CACHES, 1), 0x122, 0x01c0003f, 63, 0);
	set(add(b, CPUID_EXT_CACHES, 2), 0x143, 0x01c0003f, 1023, 2);
	set(add(b, CPUID_EXT_CACHES, 3), 0x163 | shared, 0x03c0003f, 16383, 0);
	set(add(b, CPUID_EXT_CACHES, 4), 0, 0, 0, 0);
}

/* XSAVE area sizes in standard form; the provider keeps EBX of subleaf 0 after XCR0. */
static void add_xsave(struct build *b)
{
	set(add(b, CPUID_XSAVE, 0), 0, XSAVE_LEGACY, XSAVE_LEGACY + XSAVE_AVX, 0);
	set(add(b, CPUID_XSAVE, 1), 0, 0, 0, 0);
	set(add(b, CPUID_XSAVE, 2), XSAVE_AVX, XSAVE_LEGACY, 0, 0);
}

static void set_features(struct build *b, unsigned level)
{
	for (unsigned i = 0; i < ARRAY_SIZE(features); i++) {
		const struct feature *f = &features[i];

		if (f->since <= level) {
			struct kvm_cpuid_entry2 *e = find_out(b, f->function, f->index);

			*reg_of(e, f->reg) |= UINT32_C(1) << f->bit;
		}
	}
	uint32_t edx = find_out(b, CPUID_FEATURES, 0)->edx;
	find_out(b, CPUID_EXT_FEATURES, 0)->edx |= edx & AMD_ALIASES;
}

static void build_named(struct build *b, unsigned level, uint64_t ram_end)
{
	struct kvm_cpuid_entry2 *e;

	add_vendor(b, CPUID_VENDOR, level >= 3 ? CPUID_XSAVE : CPUID_TOPOLOGY);
	e = add(b, CPUID_FEATURES, 0);
	set(e, SIGNATURE, CLFLUSH_LINE << 8, 0, 0);
	set_apic_id(b, e);
	add(b, CPUID_POWER, 0);
	add(b, CPUID_FEATURES7, 0);
	add_topology(b);
	if (level >= 3) {
		add_xsave(b);
	}
	set(add(b, CPUID_KVM_SIGNATURE, 0), CPUID_KVM_FEATURES, load_le32("KVMK"),
	    load_le32("VMKV"), load_le32("M\0\0"));
	add(b, CPUID_KVM_FEATURES, 0);

	add_vendor(b, CPUID_EXT_MAX, CPUID_EXT_TOPOLOGY);
	e = add(b, CPUID_EXT_FEATURES, 0);
	set(e, SIGNATURE, 0, 0, 0);
	set_cmp_legacy(b, e);
	add_brand(b, level);
	add_cache_sizes(b);
	add(b, CPUID_EXT_POWER, 0);
	set(add(b, CPUID_EXT_SIZES, 0), VIRT_BITS << 8 | (uint32_t)phys_bits_for(ram_end), 0,
	    amd_cores(b), 0);
	add_caches(b);
	set_amd_core(b, add(b, CPUID_EXT_TOPOLOGY, 0));
	if (!b->full) {
		set_features(b, level);
	}
}

static bool supports(const struct kvm_cpuid2 *supported, const struct feature *f)
{
	const struct kvm_cpuid_entry2 *found = find(supported, f->function, f->index);

	if (found == NULL) {
		return false;
	}
	struct kvm_cpuid_entry2 e = *found;
	return (*reg_of(&e, f->reg) >> f->bit & 1) != 0;
}

/* Says in one line what the provider lacks. */
static int check_features(const struct kvm_cpuid2 *supported, enum cpu_model model, unsigned level)
{
	char lacks[512];
	size_t len = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(features); i++) {
		const struct feature *f = &features[i];

		if (f->since <= level && !f->given && !supports(supported, f) &&
		    len < sizeof(lacks)) {
			len += (size_t)snprintf(lacks + len, sizeof(lacks) - len, "%s%s",
						len > 0 ? ", " : "", f->name);
		}
	}
	if (len == 0) {
		return 0;
	}
	log_error("this host cannot run --cpu %s, it lacks: %s; use --cpu host%s",
		  cpu_model_name(model), lacks, level > 2 ? " or x86-64-v2" : "");
	return -ENOTSUP;
}

/* ---- building `host` ---- */

static bool is_amd(const struct kvm_cpuid2 *table)
{
	const struct kvm_cpuid_entry2 *e = find(table, CPUID_VENDOR, 0);

	return e != NULL && (e->ecx == load_le32("cAMD") || e->ecx == load_le32("uine"));
}

/* Whom a cache is shared with: level 3 by all, others by nobody. Leaves 4 and 0x8000001d. */
static uint32_t cache_eax(uint32_t eax, uint32_t sharing, uint32_t cores)
{
	bool shared = (eax >> 5 & 7) >= 3;

	return (eax & 0x3fff) | (shared ? sharing << 14 : 0) | cores << 26;
}

static void fix_host_entry(const struct build *b, bool amd, struct kvm_cpuid_entry2 *e)
{
	uint32_t ids = (UINT32_C(1) << cpuid_bits_for(b->ncpus)) - 1;

	switch (e->function) {
	case CPUID_VENDOR:
		e->eax = MAX(e->eax, CPUID_TOPOLOGY);
		break;
	case CPUID_FEATURES:
		set_apic_id(b, e);
		e->ecx |= CPUID_1_ECX_X2APIC | CPUID_1_ECX_TSC_DEADLINE | CPUID_1_ECX_HYPERVISOR;
		break;
	case CPUID_CACHES:
		/* An entry of type 0 ends the list and says nothing. */
		if ((e->eax & 0x1f) != 0) {
			e->eax = cache_eax(e->eax, ids, ids);
		}
		break;
	case CPUID_EXT_CACHES:
		if ((e->eax & 0x1f) != 0) {
			e->eax = cache_eax(e->eax, b->ncpus - 1, 0);
		}
		break;
	case CPUID_EXT_FEATURES:
		if (amd) {
			set_cmp_legacy(b, e);
		}
		break;
	case CPUID_EXT_SIZES:
		e->ecx = amd ? amd_cores(b) : 0;
		break;
	case CPUID_EXT_TOPOLOGY:
		set_amd_core(b, e);
		break;
	default:
		break;
	}
}

static void build_host(struct build *b, const struct kvm_cpuid2 *supported)
{
	bool amd = is_amd(supported);

	for (unsigned i = 0; i < supported->nent; i++) {
		const struct kvm_cpuid_entry2 *from = &supported->entries[i];

		/* The host's own topology; ours is all in leaf 0xb. */
		if (from->function == CPUID_TOPOLOGY || from->function == CPUID_TOPOLOGY_V2 ||
		    from->function == CPUID_EXT_TOPOLOGY_V2) {
			continue;
		}
		struct kvm_cpuid_entry2 *e = add(b, from->function, from->index);
		*e = *from;
		fix_host_entry(b, amd, e);
	}
	add_topology(b);
}

/* ---- all models ---- */

const char *cpu_model_name(enum cpu_model model)
{
	switch (model) {
	case CPU_X86_64_V2:
		return "x86-64-v2";
	case CPU_X86_64_V3:
		return "x86-64-v3";
	default:
		return "host";
	}
}

static int check_phys_bits(const struct kvm_cpuid2 *supported, uint64_t ram_end)
{
	const struct kvm_cpuid_entry2 *e = find(supported, CPUID_EXT_SIZES, 0);
	unsigned bits = e != NULL ? e->eax & 0xff : 36;

	if (bits < 64 && (ram_end - 1) >> bits != 0) {
		log_error("this host's CPU reaches %u bits of a guest's memory, too few for the "
			  "VM's; use less --memory",
			  bits);
		return -ENOTSUP;
	}
	return 0;
}

int cpu_model_build(enum cpu_model model, const struct kvm_cpuid2 *supported, unsigned ncpus,
		    unsigned index, uint64_t ram_end, struct kvm_cpuid2 *out)
{
	struct build b = {.out = out, .room = out->nent, .ncpus = ncpus, .index = index};
	unsigned level = model == CPU_X86_64_V3 ? 3 : 2;
	int error;

	check(ncpus >= 1 && ncpus <= CONFIG_CPUS_MAX && index < ncpus && ram_end > 0);
	error = check_phys_bits(supported, ram_end);
	if (error == 0 && model != CPU_HOST) {
		error = check_features(supported, model, level);
	}
	if (error != 0) {
		return error;
	}

	out->nent = 0;
	out->padding = 0;
	if (model == CPU_HOST) {
		build_host(&b, supported);
	} else {
		build_named(&b, level, ram_end);
	}
	if (b.full) {
		log_error("the CPU's description takes more than %u CPUID entries", b.room);
		return -E2BIG;
	}
	return 0;
}
