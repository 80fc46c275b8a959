/* AMD-V on the CPUs of this machine: is it there, and turning it on. */
#include "core/hw/cpu.h"

#include "core/hw/ipi.h"
#include "core/hw/irq.h"
#include "core/hw/regs.h"
#include "core/hw/svm.h"
#include "core/log.h"
#include "core/mem/heap.h"
#include "core/svm/internal.h"
#include "lib/x86/cpuid.h"

#define CPUID_SVM	  UINT32_C(0x8000000a)
#define SVM_EDX_PAUSE	  BIT(10)
#define EXT_EDX_RDTSCP	  BIT(27)
#define CPUID_EXT_FEATURE UINT32_C(0x80000001)

#define SIZES_EBX_IBPB	BIT(12)
#define SIZES_EBX_IBRS	BIT(14)
#define SIZES_EBX_STIBP BIT(15)
#define SIZES_EBX_SSBD	BIT(24)
#define SPEC_CTRL_IBRS	BIT(0)
#define SPEC_CTRL_STIBP BIT(1)
#define SPEC_CTRL_SSBD	BIT(2)

#define TSC_RATIO_ONE (UINT64_C(1) << 32)

struct svm_features svm_features;

uint8_t *svm_iopm; /* all ones: each port comes to us */

static uint64_t spec_ctrl_bits(uint32_t sizes_ebx)
{
	return ((sizes_ebx & SIZES_EBX_IBRS) != 0 ? SPEC_CTRL_IBRS : 0) |
	       ((sizes_ebx & SIZES_EBX_STIBP) != 0 ? SPEC_CTRL_STIBP : 0) |
	       ((sizes_ebx & SIZES_EBX_SSBD) != 0 ? SPEC_CTRL_SSBD : 0);
}

static void read_features(void)
{
	const struct cpu_features *f = cpu_features();
	uint32_t sizes_ebx = asm_cpuid(CPUID_EXT_SIZES, 0).ebx;

	svm_features = (struct svm_features){
		.nrips = f->nrips,
		.decode_assists = f->decode_assists,
		.flush_by_asid = f->flush_by_asid,
		.tsc_rate = f->tsc_rate,
		.clean = f->vmcb_clean,
		.rdtscp = (asm_cpuid(CPUID_EXT_FEATURE, 0).edx & EXT_EDX_RDTSCP) != 0,
		.pause_filter = (asm_cpuid(CPUID_SVM, 0).edx & SVM_EDX_PAUSE) != 0,
		.asids = f->svm_asids,
		.xsave = f->xsave,
		.xsaveopt = f->xsaveopt,
		.xcr0 = f->xcr0,
		.ibpb = (sizes_ebx & SIZES_EBX_IBPB) != 0,
		.spec_ctrl = spec_ctrl_bits(sizes_ebx),
	};
}

/* Firmware may have switched it off, and locked that. */
static bool is_locked(void)
{
	return (asm_rdmsr(MSR_VM_CR) & (VM_CR_SVMDIS | VM_CR_LOCK)) == (VM_CR_SVMDIS | VM_CR_LOCK);
}

static void turn_on(void *arg)
{
	struct svm_cpu *all = arg;
	struct svm_cpu *cpu = &all[cpu_index()];
	uint64_t vm_cr = asm_rdmsr(MSR_VM_CR);

	if ((vm_cr & VM_CR_SVMDIS) != 0) {
		asm_wrmsr(MSR_VM_CR, vm_cr & ~VM_CR_SVMDIS);
	}
	asm_wrmsr(MSR_EFER, asm_rdmsr(MSR_EFER) | EFER_SVME);
	asm_wrmsr(MSR_VM_HSAVE_PA, cpu->hsave.v);
	if (svm_features.tsc_rate) {
		cpu->tsc_ratio = TSC_RATIO_ONE;
		asm_wrmsr(MSR_TSC_RATIO, TSC_RATIO_ONE);
	}
	if (svm_features.rdtscp) {
		asm_wrmsr(MSR_TSC_AUX, 0);
	}
	svm_asid_init(cpu);
	cpu_this()->virt = cpu;
}

/* Two pages for each CPU. They stay for as long as the kernel. */
static bool make_room(struct svm_cpu *all)
{
	for (unsigned i = 0; i < cpu_count(); i++) {
		all[i].hsave = page_alloc_zero(0, PAGE_USE_SVM);
		all[i].host = page_alloc_zero(0, PAGE_USE_SVM);
		if (page_is_none(all[i].hsave) || page_is_none(all[i].host)) {
			return false;
		}
	}
	return true;
}

/* 12 KiB, of which the CPU looks at 8 and a few bytes. */
static bool make_iopm(void)
{
	hpa_t pages = page_alloc(2, PAGE_USE_SVM);

	if (page_is_none(pages)) {
		return false;
	}
	svm_iopm = phys_ptr(pages);
	for (unsigned i = 0; i < 3 * PAGE_SIZE; i++) {
		svm_iopm[i] = 0xff;
	}
	return true;
}

const struct kvm_backend *svm_start(void)
{
	struct svm_cpu *all;

	read_features();
	if (!cpu_features()->svm || !cpu_features()->npt || svm_features.asids < 2) {
		log_err("svm: this CPU has no AMD-V with nested paging");
		return NULL;
	}
	if (is_locked()) {
		log_err("svm: AMD-V is switched off by the firmware, in its settings");
		return NULL;
	}
	all = mem_alloc(cpu_count() * sizeof(*all));
	if (all == NULL || !make_room(all) || !make_iopm()) {
		log_err("svm: there is no memory");
		return NULL;
	}
	ipi_call(cpu_all(), turn_on, all);
	svm_backend_init();
	return &svm_backend;
}
