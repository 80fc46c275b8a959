/* The backend: lives of VMs and vCPUs, and the way into the guest. */
#include <errno.h>

#include "core/hw/context.h"
#include "core/hw/cpu.h"
#include "core/hw/ipi.h"
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
	svm->vmcb_pa = vmcb;
	svm->npt = npt_of(vcpu->vm);
	svm->fpu_away = true;
	svm->msrpm = phys_ptr(msrpm);
	npt_add_guest(svm->npt, &svm->guest);
	vcpu->backend_data = svm;
	vcpu->fetched = svm_features.decode_assists ? &svm->vmcb->c.fetched : NULL;
	svm_state_init(svm->vmcb);
	svm->vmcb->c.iopm_base_pa = phys_of(svm_iopm).v;
	svm->vmcb->c.msrpm_base_pa = msrpm.v;
	svm->vmcb->c.n_cr3 = svm->npt->root.v;
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
		npt_remove_guest(svm->npt, &svm->guest);
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
	if (groups == KVM_REGS_MODE) {
		svm_state_load_mode(vcpu, svm_of(vcpu)->vmcb);
		return;
	}
	svm_state_load(vcpu, groups & ~(uint32_t)KVM_REGS_FPU);
	if ((groups & KVM_REGS_FPU) != 0) {
		svm_fpu_save(vcpu);
		vcpu->loaded |= KVM_REGS_FPU;
	}
}

static void flush_guest_tlb(struct kvm_vcpu *vcpu)
{
	svm_of(vcpu)->flush = true;
	svm_of(vcpu)->tlb_generation = 0; /* that is looked at */
}

/* ---- execution ---- */

/*
 * Indirect branches are predicted by where others went before. Spec: AMD, "Indirect Branch Control
 * Extension"
 */
static void predict_anew(void)
{
	if (svm_features.ibpb) {
		asm_wrmsr(MSR_IA32_PRED_CMD, 1);
	}
}

/* MSRs that neither VMRUN nor VMLOAD switch. The kernel has no use for them. */
static void load_cpu_msrs(const struct kvm_vcpu *vcpu, struct svm_cpu *cpu)
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
static void load_debug(const struct kvm_vcpu *vcpu)
{
	asm_write_dr0(vcpu->hw_db[0]);
	asm_write_dr1(vcpu->hw_db[1]);
	asm_write_dr2(vcpu->hw_db[2]);
	asm_write_dr3(vcpu->hw_db[3]);
	asm_write_dr7(vcpu->hw_dr7 & ~DR7_GD);
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

/* What few guests need around VMRUN. */
static void load_around(const struct kvm_vcpu *vcpu, const struct svm_vcpu *svm)
{
	if (svm->leave_at_once) {
		ipi_reschedule(cpu_index()); /* it waits until the guest runs */
	}
	if (svm->debugged) {
		load_debug(vcpu);
	}
	if (svm->own_xcr0 && vcpu->xcr0 != svm_features.xcr0) {
		asm_xsetbv(0, vcpu->xcr0);
	}
	if (svm->own_spec_ctrl) {
		asm_wrmsr(MSR_IA32_SPEC_CTRL,
			  vcpu->msr[KVM_MSR_SPEC_CTRL] & svm_features.spec_ctrl);
	}
}

static void unload_around(struct kvm_vcpu *vcpu, const struct svm_vcpu *svm)
{
	if (svm->own_spec_ctrl) {
		asm_wrmsr(MSR_IA32_SPEC_CTRL, 0);
	}
	if (svm->debugged) {
		asm_write_dr7(DR7_OFF);
	}
	if (svm->own_xcr0) {
		uint64_t now = asm_xgetbv(0);

		if (now != svm_features.xcr0) {
			asm_xsetbv(0, svm_features.xcr0);
		}
		/* XSETBV is intercepted, but QEMU 7.2 does not know how. */
		if (now != vcpu->xcr0) {
			vcpu->xcr0 = now;
			kvm_cpuid_refresh(vcpu);
		}
	}
}

static __attribute__((noinline)) void run_with_around(struct kvm_vcpu *vcpu, struct svm_vcpu *svm,
						      const struct svm_cpu *cpu)
{
	load_around(vcpu, svm);
	svm_run(svm->vmcb_pa, vcpu->cpu.gpr, cpu->host);
	vcpu->changed = 0;
	unload_around(vcpu, svm);
}

/* The vCPU comes to this CPU, or something has changed that the CPU keeps. GIF is 0. */
static __attribute__((noinline)) void arrive(struct kvm_vcpu *vcpu, struct svm_cpu *cpu,
					     uint64_t generation)
{
	if (svm_asid_enter(svm_of(vcpu), cpu, generation)) {
		predict_anew();
	}
	load_cpu_msrs(vcpu, cpu);
	svm_vmsave(cpu->host);
}

/* Does something else come first? */
static inline bool must_not_enter(struct kvm_vcpu *vcpu, const struct cpu *cpu)
{
	return kvm_vcpu_must_not_enter(vcpu) ||
	       (atomic_load_explicit(&cpu->work, memory_order_relaxed) & ~CPU_WORK_ARRIVED) != 0;
}

/*
 * GIF alone holds interrupts off: RFLAGS.IF stays 1, as VMRUN wants it.
 * Return: has the guest run?
 */
static inline bool try_run(struct kvm_vcpu *vcpu, struct svm_vcpu *svm)
{
	struct cpu *cpu;
	bool runs;

	svm_clgi();
	cpu = cpu_this();
	/* Whoever has a request for the vCPU has set it before he looks where it is. */
	npt_enter(&svm->guest, cpu->index);
	runs = !must_not_enter(vcpu, cpu);
	if (runs) {
		struct svm_cpu *home = cpu->virt;
		uint64_t generation = npt_generation(svm->npt);

		if (!svm_is_at_home(svm, home, generation)) {
			arrive(vcpu, home, generation);
		}
		if (__builtin_expect(vcpu->not_before != 0, 0)) {
			wait_for_time(vcpu);
		}
		if (svm->around == 0) {
			svm_run(svm->vmcb_pa, vcpu->cpu.gpr, home->host);
		} else {
			run_with_around(vcpu, svm, home);
		}
		svm->vmcb->c.clean = VMCB_CLEAN_ALL;
	}
	npt_leave(&svm->guest);
	svm_stgi();
	return runs;
}

/* As if it had never been tried. */
static rare void undo_entry(struct kvm_vcpu *vcpu, struct kvm_stop *stop)
{
	struct svm_vcpu *svm = svm_of(vcpu);

	stop->undelivered = vcpu->inject;
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

/* Is there more to an entry than KVM_REGS_CORE? */
static inline bool is_plain(struct kvm_vcpu *vcpu, const struct svm_vcpu *svm)
{
	return svm->unusual == 0 && (vcpu->changed & ~(uint32_t)KVM_REGS_CORE) == 0 &&
	       vcpu->inject.kind == KVM_EVENT_NONE && !svm_window_wanted(vcpu);
}

/* What that is. Return: false: the guest's extended state is none. */
static __attribute__((noinline)) bool prepare(struct kvm_vcpu *vcpu, struct svm_vcpu *svm)
{
	if ((vcpu->changed & KVM_REGS_FPU) != 0 && !svm_fpu_change(vcpu)) {
		return false;
	}
	if (svm->fpu_away) {
		svm_fpu_enter(vcpu);
		if (is_plain(vcpu, svm)) {
			return true;
		}
	}
	if (svm->flushing) {
		svm->flushing = false;
		svm->vmcb->c.tlb_control = VMCB_TLB_KEEP;
	}
	if ((vcpu->changed & ~(uint32_t)KVM_REGS_CORE) != 0) {
		svm_state_store(vcpu);
	}
	if (vcpu->inject.kind != KVM_EVENT_NONE) {
		svm_event_store(vcpu);
	}
	if (svm->window || svm_window_wanted(vcpu)) {
		svm_window_store(vcpu);
	}
	return true;
}

static void enter(struct kvm_vcpu *vcpu, struct kvm_stop *stop)
{
	struct svm_vcpu *svm = svm_of(vcpu);

	svm_state_store_core(vcpu, svm->vmcb);
	if (!is_plain(vcpu, svm) && !prepare(vcpu, svm)) {
		stop->reason = KVM_STOP_FAIL_ENTRY;
		stop->undelivered = vcpu->inject;
		stop->hardware = UINT32_MAX;
		return;
	}
	if (!try_run(vcpu, svm)) {
		vcpu->changed = 0;
		undo_entry(vcpu, stop);
		return;
	}
	/* What the CPU has changes nothing of KVM_REGS_DEBUG; see state.c. */
	vcpu->loaded = KVM_REGS_CORE | KVM_REGS_DEBUG;
	vcpu->changed = 0;
	svm_exit_decode(vcpu, stop);
	svm_state_load_core(vcpu, svm->vmcb);
}

void svm_kick(struct kvm_vcpu *vcpu)
{
	uint32_t cpu = atomic_load_explicit(&svm_of(vcpu)->guest.cpu, memory_order_seq_cst);

	if (cpu != NPT_NOWHERE && cpu != cpu_index()) {
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
	.predict_anew = predict_anew,
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
	svm_backend.pkru_at =
		(svm_backend.xcr0 & XCR0_PKRU) != 0 ? asm_cpuid(CPUID_XSAVE, 9).ebx : 0;
	svm_backend.tsc_scale_bits = svm_features.tsc_rate ? 32 : 0;
}
