/*
 * The software CPU as lib/kvm sees it.
 */
#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "soft/access.h"
#include "soft/kvm/surroundings.h"
#include "soft/ops.h"

/* The area of x87 and SSE, and its header; then AVX. */
#define XSAVE_BYTES 576
#define XCR0_AVX    4

#define LEAF_FEATURES	  1
#define LEAF_FEATURES7	  7
#define LEAF_EXT_FEATURES 0x80000001
#define LEAF_EXT_SIZES	  0x80000008

/* What lib/insn executes, or the host's CPU for it; of other features a guest is not told. */
#define ECX1_KNOWN 0xf7da3203 /* SSE3 to RDRAND, and that there is a hypervisor */
#define ECX1_AVX   0x30001000 /* FMA, AVX, F16C */
#define EBX7_KNOWN 0x219c27eb /* FSGSBASE to SHA, without AVX-512 */
#define EBX7_AVX   0x00000020 /* AVX2 */
#define ECX7_KNOWN 0x0840070c /* UMIP, PKU, GFNI, VAES, VPCLMULQDQ, RDPID, MOVDIRI */
#define ECX7_PKU   UINT32_C(0x00000008)
#define ECX7_AVX   0x00000600 /* VAES, VPCLMULQDQ */
#define EDX7_KNOWN 0x00000010 /* FSRM */
/* LAHF, CMP_LEGACY, CR8 in 32-bit code, ABM, SSE4A, prefetches */
#define ECX81_KNOWN 0x00000173
/* Not FXSR_OPT and 3DNow! */
#define EDX81_KNOWN 0x3dffffff
/* CLZERO, XSAVEERPTR, WBNOINVD; nothing that defends against speculation */
#define EBX88_KNOWN 0x00000205

/* So many pages are mapped with the one that is accessed, where nothing forbids it. */
#define AROUND 512

/*
 * Family, model and stepping. Programs conclude from them what there is (GCC's target_clones with
 * "arch="), so a guest of a CPU with AVX-512, which it has not, is shown an older one: Zen 3,
 * Haswell.
 */
static uint32_t signature(uint32_t host)
{
	uint32_t regs[4];

	if (__get_cpuid_count(LEAF_FEATURES7, 0, &regs[0], &regs[1], &regs[2], &regs[3]) == 0 ||
	    (regs[1] & (uint32_t)bit_AVX512F) == 0) {
		return host;
	}
	return __builtin_cpu_is("amd") ? 0xa00f11 : 0x306c3;
}

static void host_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t regs[4])
{
	bool avx = (soft_backend.xcr0 & XCR0_AVX) != 0;

	__cpuid_count(leaf, subleaf, regs[0], regs[1], regs[2], regs[3]);
	switch (leaf) {
	case LEAF_FEATURES:
		regs[0] = signature(regs[0]);
		regs[2] &= avx ? ECX1_KNOWN : ECX1_KNOWN & ~ECX1_AVX;
		break;
	case LEAF_FEATURES7:
		regs[0] = 0;
		regs[1] &= subleaf != 0 ? 0 : avx ? EBX7_KNOWN : EBX7_KNOWN & ~EBX7_AVX;
		regs[2] &= subleaf != 0 ? 0 : avx ? ECX7_KNOWN : ECX7_KNOWN & ~ECX7_AVX;
		regs[2] &= soft_backend.pkru_at != 0 ? UINT32_MAX : ~ECX7_PKU;
		regs[3] &= subleaf != 0 ? 0 : EDX7_KNOWN;
		break;
	case LEAF_EXT_FEATURES:
		regs[2] &= ECX81_KNOWN;
		regs[3] &= EDX81_KNOWN;
		break;
	case LEAF_EXT_SIZES:
		regs[1] &= EBX88_KNOWN;
		break;
	default:
		break;
	}
}

/* ---- life ---- */

static int vm_init(struct kvm_vm *vm)
{
	struct soft_vm *soft = calloc(1, sizeof(*soft));

	if (soft == NULL) {
		return -ENOMEM;
	}
	soft_code_init(&soft->code);
	pthread_mutex_init(&soft->alone, NULL);
	vm->backend_data = soft;
	return 0;
}

static void vm_fini(struct kvm_vm *vm)
{
	struct soft_vm *soft = vm->backend_data;

	if (soft != NULL) {
		soft_map_fini(&soft->map);
		soft_code_fini(&soft->code);
		pthread_mutex_destroy(&soft->alone);
		free(soft);
		vm->backend_data = NULL;
	}
}

static int vcpu_init(struct kvm_vcpu *kvm)
{
	struct soft_vcpu *vcpu = aligned_alloc(64, sizeof(*vcpu));
	int r;

	if (vcpu == NULL) {
		return -ENOMEM;
	}
	memset(vcpu, 0, sizeof(*vcpu));
	r = soft_native_init(&vcpu->native);
	if (r == 0) {
		r = soft_thread_init(kvm);
	}
	if (r != 0) {
		soft_native_fini(&vcpu->native);
		free(vcpu);
		return r;
	}
	vcpu->kvm = kvm;
	vcpu->vm = kvm->vm->backend_data;
	vcpu->engine = soft_engine_chosen();
	pthread_mutex_init(&vcpu->mail.lock, NULL);
	soft_ops_init(vcpu);
	soft_mmu_init(&vcpu->mmu, NULL);
	r = vcpu->engine->init(vcpu);
	if (r != 0) {
		vcpu->engine->fini(vcpu);
		soft_thread_fini(kvm);
		soft_native_fini(&vcpu->native);
		pthread_mutex_destroy(&vcpu->mail.lock);
		free(vcpu);
		return r;
	}
	vcpu->engine->forget(vcpu);
	kvm->backend_data = vcpu;
	kvm->loaded = KVM_REGS_ALL;
	return 0;
}

static void vcpu_fini(struct kvm_vcpu *kvm)
{
	soft_thread_fini(kvm);
	if (kvm->backend_data != NULL) {
		soft_vcpu_of(kvm)->engine->fini(soft_vcpu_of(kvm));
		soft_native_fini(&soft_vcpu_of(kvm)->native);
		pthread_mutex_destroy(&soft_vcpu_of(kvm)->mail.lock);
	}
	free(kvm->backend_data);
	kvm->backend_data = NULL;
}

/* ---- registers: those in struct kvm_vcpu are the CPU's ---- */

static void load(struct kvm_vcpu *kvm, uint32_t groups)
{
	kvm->loaded |= groups;
}

static void features_changed(struct kvm_vcpu *kvm)
{
	soft_vcpu_of(kvm)->engine->forget(soft_vcpu_of(kvm));
}

static void flush_guest_tlb(struct kvm_vcpu *kvm)
{
	if (soft_vcpu_of(kvm) != NULL) {
		soft_mmu_flush(&soft_vcpu_of(kvm)->mmu);
	}
}

/* ---- memory ---- */

static struct soft_map *map_of(struct kvm_vm *vm)
{
	return &((struct soft_vm *)vm->backend_data)->map;
}

/*
 * The neighbours come along: a guest that gets new memory would stop for each page. Whether they
 * can be accessed shows when they are.
 */
static void map_around(struct kvm_vcpu *kvm, const struct kvm_fault *fault, uint64_t entry)
{
	const struct kvm_slot *slot = fault->slot;
	uint64_t first = MAX(ALIGN_DOWN(fault->gfn, AROUND), slot->gfn);
	uint64_t end = MIN(ALIGN_DOWN(fault->gfn, AROUND) + AROUND, slot->gfn + slot->pages);

	soft_map_add(map_of(kvm->vm), first, end - first,
		     entry - ((fault->gfn - first) << KVM_PAGE_SHIFT));
}

static int map(struct kvm_vcpu *kvm, const struct kvm_fault *fault)
{
	uint64_t entry = fault->user | SOFT_MAP_PRESENT;
	void *page = (void *)(uintptr_t)fault->user;
	uint64_t probe;
	int r = soft_access_load(&probe, page, sizeof(probe));

	/* A write of what is there shows whether it may be written to, and lets the host copy. */
	if (r == 0 && (fault->write || fault->may_write)) {
		r = soft_access_cmpxchg(page, &probe, &probe, sizeof(probe));
		if (r == -EFAULT && !fault->write) {
			r = 0;
		} else if (r != -EFAULT) {
			entry |= SOFT_MAP_WRITE;
			r = 0;
		}
	}
	if (r != 0) {
		return r;
	}
	r = soft_map_set(map_of(kvm->vm), fault->gfn, entry);
	if (r == 0 && fault->large) {
		map_around(kvm, fault, entry);
	}
	return r;
}

static void unmap(struct kvm_vm *vm, uint64_t gfn, uint64_t pages)
{
	soft_map_clear(map_of(vm), gfn, pages);
	soft_vcpu_shoot(vm);
}

static void write_protect(struct kvm_vm *vm, uint64_t gfn, uint64_t mask)
{
	while (mask != 0) {
		unsigned bit = (unsigned)__builtin_ctzll(mask);

		soft_map_protect(map_of(vm), gfn + bit, 1);
		mask &= mask - 1;
	}
}

/* The facts of the host are entered before the first VM. */
struct kvm_backend soft_backend = {
	.name = "soft",
	.amd = true,
	.phys_bits = SOFT_PHYS_BITS,
	.xsave_bytes = XSAVE_BYTES,
	.host_cpuid = host_cpuid,
	.vm_init = vm_init,
	.vm_fini = vm_fini,
	.vcpu_init = vcpu_init,
	.vcpu_fini = vcpu_fini,
	.load = load,
	.features_changed = features_changed,
	.enter = soft_vcpu_enter,
	.flush_guest_tlb = flush_guest_tlb,
	.map = map,
	.unmap = unmap,
	.write_protect = write_protect,
	.flush = soft_vcpu_shoot,
};

int soft_backend_init(void)
{
	uint32_t regs[4];

	soft_backend.xcr0 = soft_native_features();
	if (soft_backend.xcr0 == 0) {
		return -ENODEV;
	}
	soft_backend.arch_capabilities = soft_defences(DEFENCES_OF_HOST);
	soft_backend.pkru_at = soft_native_pkru_at();
	for (uint32_t i = 2; i < 64; i++) {
		if ((soft_backend.xcr0 >> i & 1) != 0) {
			soft_native_component(i, soft_backend.pkru_at, regs);
			soft_backend.xsave_bytes = MAX(soft_backend.xsave_bytes, regs[0] + regs[1]);
		}
	}
	return 0;
}
