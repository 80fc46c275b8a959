/* The backend: lives of VMs and vCPUs, and the way into the guest. */
#include <errno.h>

#include "core/hw/context.h"
#include "core/hw/cpu.h"
#include "core/hw/ipi.h"
#include "core/hw/irq.h"
#include "core/hw/regs.h"
#include "core/hw/svm.h"
#include "core/mem/heap.h"
#include "core/svm/internal.h"
#include "core/svm/svm.h"
#include "lib/kvm/cpuid.h"

#define MSRPM_ORDER 1

/* ---- life ---- */

static int vm_init(struct kvm_vm *vm)
{
	struct npt *npt = mem_alloc(sizeof(*npt));
	int r;

	if (npt == NULL) {
		return -ENOMEM;
	}
	r = npt_init(npt, space_current());
	if (r != 0) {
		mem_free(npt, sizeof(*npt));
		return r;
	}
	vm->backend_data = npt;
	return 0;
}

static void vm_fini(struct kvm_vm *vm)
{
	npt_fini(vm->backend_data);
	mem_free(vm->backend_data, sizeof(struct npt));
	vm->backend_data = NULL;
}

static struct npt *npt_of(const struct kvm_vm *vm)
{
	return vm->backend_data;
}

static void vcpu_free(struct svm_vcpu *svm)
{
	if (svm->vmcb != NULL) {
		page_free(phys_of(svm->vmcb), 0);
	}
	if (svm->msrpm != NULL) {
		page_free(phys_of(svm->msrpm), MSRPM_ORDER);
	}
	mem_free(svm, sizeof(*svm));
}

static int vcpu_init(struct kvm_vcpu *vcpu)
{
	struct svm_vcpu *svm = mem_alloc(sizeof(*svm));
	hpa_t vmcb = page_alloc_zero(0, PAGE_USE_SVM);
	hpa_t msrpm = page_alloc(MSRPM_ORDER, PAGE_USE_SVM);

	if (svm == NULL || page_is_none(vmcb) || page_is_none(msrpm)) {
		if (!page_is_none(vmcb)) {
			page_free(vmcb, 0);
		}
		if (!page_is_none(msrpm)) {
			page_free(msrpm, MSRPM_ORDER);
		}
		mem_free(svm, sizeof(*svm));
		return -ENOMEM;
	}
	svm->vmcb = phys_ptr(vmcb);
	svm->msrpm = phys_ptr(msrpm);
	svm->in_guest = SVM_NOWHERE;
	vcpu->backend_data = svm;
	svm_state_init(svm->vmcb);
	svm->vmcb->c.iopm_base_pa = phys_of(svm_iopm).v;
	svm->vmcb->c.msrpm_base_pa = msrpm.v;
	svm->vmcb->c.n_cr3 = npt_of(vcpu->vm)->root.v;
	svm_intercepts(vcpu);
	svm_msr_map(vcpu);
	return 0;
}

/* A CPU that remembers this VMCB would take another at the same place for it. */
static void forget_vcpu(void *arg)
{
	struct svm_cpu *cpu = cpu_this()->virt;

	if (cpu->last == arg) {
		cpu->last = NULL;
	}
}

static void vcpu_fini(struct kvm_vcpu *vcpu)
{
	struct svm_vcpu *svm = svm_of(vcpu);

	if (svm != NULL) {
		ipi_call(cpu_all(), forget_vcpu, svm);
		vcpu_free(svm);
		vcpu->backend_data = NULL;
	}
}

static void features_changed(struct kvm_vcpu *vcpu)
{
	if (svm_of(vcpu) != NULL) {
		svm_intercepts(vcpu);
		svm_msr_map(vcpu);
	}
}

/* ---- registers ---- */

static void load(struct kvm_vcpu *vcpu, uint32_t groups)
{
	svm_state_load(vcpu, groups & ~(uint32_t)KVM_REGS_FPU);
	if ((groups & KVM_REGS_FPU) != 0) {
		svm_fpu_save(vcpu);
		vcpu->loaded |= KVM_REGS_FPU;
	}
}

static void flush_guest_tlb(struct kvm_vcpu *vcpu)
{
	svm_of(vcpu)->flush = true;
}

/* ---- execution ---- */

/* MSRs that neither VMRUN nor VMLOAD switch. The kernel has no use for them. */
static void load_cpu_msrs(struct kvm_vcpu *vcpu, struct svm_cpu *cpu)
{
	uint64_t aux = vcpu->msr[KVM_MSR_TSC_AUX];

	if (cpu->tsc_aux != aux && svm_features.rdtscp) {
		cpu->tsc_aux = aux;
		asm_wrmsr(MSR_TSC_AUX, aux);
	}
	if (svm_features.tsc_rate) {
		uint64_t ratio = vcpu->tsc_ratio == 0 ? UINT64_C(1) << 32 : vcpu->tsc_ratio;

		if (cpu->tsc_ratio != ratio) {
			cpu->tsc_ratio = ratio;
			asm_wrmsr(MSR_TSC_RATIO, ratio);
		}
	}
}

#define DR7_OFF 0x400

/*
 * #VMEXIT clears DR7: what the others hold does not matter to the host. VMRUN loads DR7; it is
 * written here, too, since QEMU 7.2 sets its breakpoints by MOV only. While GIF is 0, matches are
 * discarded (AMD APM vol. 2, 15.17).
 */
static bool load_debug(const struct kvm_vcpu *vcpu)
{
	if ((vcpu->hw_dr7 & 0xff) == 0) {
		return false;
	}
	asm_write_dr0(vcpu->hw_db[0]);
	asm_write_dr1(vcpu->hw_db[1]);
	asm_write_dr2(vcpu->hw_db[2]);
	asm_write_dr3(vcpu->hw_db[3]);
	asm_write_dr7(vcpu->hw_dr7 & ~DR7_GD);
	return true;
}

/*
 * For some microseconds at most: lib/kvm takes care of that, so 32 bits are enough. They make the
 * loop short, and what comes behind it: the interrupt is late by that.
 */
static inline void wait_for_time(struct kvm_vcpu *vcpu)
{
	uint32_t due = (uint32_t)vcpu->not_before;

	vcpu->early = (int64_t)(vcpu->not_before - asm_rdtsc());
	vcpu->not_before = 0;
	if (vcpu->early > 0) {
		while ((int32_t)((uint32_t)asm_rdtsc() - due) < 0) {
			continue;
		}
	}
}

/* The guest itself, with its own XCR0. Interrupts are off. */
static inline void run_guest(struct kvm_vcpu *vcpu, struct svm_cpu *cpu)
{
	struct svm_vcpu *svm = svm_of(vcpu);
	uint64_t xcr0 = svm_features.xcr0;
	/* Without CR4.OSXSAVE, whose writes are intercepted, the guest does not depend on XCR0. */
	bool has_xcr0 = svm_features.xsave && (svm->vmcb->s.cr4 & CR4_OSXSAVE) != 0;
	bool other = has_xcr0 && vcpu->xcr0 != xcr0;
	bool debugged;

	load_cpu_msrs(vcpu, cpu);
	svm->vmcb->c.clean = svm_features.clean ? svm->fresh : 0;
	svm->fresh = VMCB_CLEAN_ALL;
	svm_clgi();
	debugged = load_debug(vcpu);
	if (other) {
		asm_xsetbv(0, vcpu->xcr0);
	}
	if (__builtin_expect(vcpu->not_before != 0, 0)) {
		wait_for_time(vcpu);
	}
	svm_run(phys_of(svm->vmcb), vcpu->cpu.gpr, cpu->host);
	if (debugged) {
		asm_write_dr7(DR7_OFF);
	}
	if (has_xcr0) {
		uint64_t now = asm_xgetbv(0);

		if (now != xcr0) {
			asm_xsetbv(0, xcr0);
		}
		/* XSETBV is intercepted, but QEMU 7.2 does not know how. */
		if (now != vcpu->xcr0) {
			vcpu->xcr0 = now;
			kvm_cpuid_refresh(vcpu);
		}
	}
	svm_stgi();
}

/* Does something else come first? To be asked with interrupts off, after saying that we enter. */
static bool must_not_enter(struct kvm_vcpu *vcpu)
{
	return kvm_vcpu_must_not_enter(vcpu) ||
	       atomic_load_explicit(&cpu_this()->work, memory_order_relaxed) != 0;
}

/* Return: has the guest run? */
static bool try_run(struct kvm_vcpu *vcpu)
{
	struct svm_vcpu *svm = svm_of(vcpu);
	struct npt *npt = npt_of(vcpu->vm);
	unsigned index;
	bool runs;

	irq_off();
	index = cpu_index();
	/* Pairs with svm_kick(): it has set a request before it looks here. */
	atomic_store_explicit(&svm->in_guest, index, memory_order_seq_cst);
	runs = !must_not_enter(vcpu);
	if (runs) {
		struct svm_cpu *cpu = cpu_this()->virt;

		svm_asid_enter(svm, cpu, npt_enter(npt, index));
		if (svm->leave_at_once) {
			ipi_reschedule(index); /* it waits until the guest runs */
		}
		run_guest(vcpu, cpu);
		npt_leave(npt, index);
	}
	atomic_store_explicit(&svm->in_guest, SVM_NOWHERE, memory_order_release);
	irq_on();
	return runs;
}

/* As if it had never been tried. */
static void undo_entry(struct kvm_vcpu *vcpu, struct kvm_stop *stop)
{
	struct svm_vcpu *svm = svm_of(vcpu);

	*stop = (struct kvm_stop){.reason = KVM_STOP_NONE, .undelivered = vcpu->inject};
	svm->vmcb->s.rip -= svm->soft_length;
	svm->soft_length = 0;
	svm->vmcb->c.eventinj = 0;
	if (svm->stepping) {
		svm->stepping = false;
		if (!svm->step_had_tf) {
			svm->vmcb->s.rflags &= ~RFLAGS_TF;
		}
	}
}

static void enter(struct kvm_vcpu *vcpu, struct kvm_stop *stop)
{
	struct svm_vcpu *svm = svm_of(vcpu);

	if ((!svm->fpu_live || (vcpu->changed & KVM_REGS_FPU) != 0) && !svm_fpu_enter(vcpu)) {
		*stop = (struct kvm_stop){.reason = KVM_STOP_FAIL_ENTRY,
					  .undelivered = vcpu->inject,
					  .hardware = UINT32_MAX};
		return;
	}
	svm_state_store(vcpu);
	vcpu->changed = 0;
	if (vcpu->inject.kind != KVM_EVENT_NONE) {
		svm_event_store(vcpu);
	}
	if (svm->window || svm_window_wanted(vcpu)) {
		svm_window_store(vcpu);
	}
	if (!try_run(vcpu)) {
		undo_entry(vcpu, stop);
		return;
	}
	/* What the CPU has changes nothing of these; see state.c. */
	vcpu->loaded = KVM_REGS_DEBUG;
	svm_exit_decode(vcpu, stop);
	svm_state_load_core(vcpu);
}

void svm_kick(struct kvm_vcpu *vcpu)
{
	uint32_t cpu = atomic_load_explicit(&svm_of(vcpu)->in_guest, memory_order_seq_cst);

	if (cpu != SVM_NOWHERE && cpu != cpu_index()) {
		ipi_reschedule(cpu);
	}
}

/* ---- memory ---- */

static int map(struct kvm_vcpu *vcpu, const struct kvm_fault *fault)
{
	return npt_map(npt_of(vcpu->vm), fault);
}

static void unmap(struct kvm_vm *vm, uint64_t gfn, uint64_t pages)
{
	npt_unmap(npt_of(vm), gfn, pages);
}

static void write_protect(struct kvm_vm *vm, uint64_t gfn, uint64_t mask)
{
	npt_protect(npt_of(vm), gfn, mask);
}

static void flush(struct kvm_vm *vm)
{
	npt_flush(npt_of(vm));
}

/* ---- the table ---- */

static void host_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t regs[4])
{
	struct asm_cpuid r = asm_cpuid(leaf, subleaf);

	regs[CPUID_EAX] = r.eax;
	regs[CPUID_EBX] = r.ebx;
	regs[CPUID_ECX] = r.ecx;
	regs[CPUID_EDX] = r.edx;
}

struct kvm_backend svm_backend = {
	.name = "svm",
	.waits = true,
	.amd = true,
	.host_cpuid = host_cpuid,
	.vm_init = vm_init,
	.vm_fini = vm_fini,
	.vcpu_init = vcpu_init,
	.vcpu_fini = vcpu_fini,
	.load = load,
	.features_changed = features_changed,
	.enter = enter,
	.flush_guest_tlb = flush_guest_tlb,
	.map = map,
	.unmap = unmap,
	.write_protect = write_protect,
	.flush = flush,
};

void svm_backend_init(void)
{
	const struct cpu_features *f = cpu_features();

	svm_backend.phys_bits = (uint8_t)MIN(f->phys_bits, 48u);
	svm_backend.xcr0 = f->xsave ? f->xcr0 : 0;
	svm_backend.xsave_bytes = (uint32_t)MAX(fpu_area_bytes(), (size_t)576);
	svm_backend.tsc_scale_bits = svm_features.tsc_rate ? 32 : 0;
}
