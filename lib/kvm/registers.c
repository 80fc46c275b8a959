#include "lib/kvm/registers.h"

#include <errno.h>
#include <string.h>

#include "lib/kvm/cpuid.h"
#include "lib/kvm/debug.h"
#include "lib/kvm/exits.h"
#include "lib/kvm/irq.h"
#include "lib/kvm/memory.h"
#include "lib/kvm/msr.h"
#include "lib/x86/regs.h"

#define CR0_KNOWN                                                                                  \
	(CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | \
	 CR0_PG)
#define EFER_KNOWN (EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE | EFER_FFXSR)

#define PDPTE_RESERVED UINT64_C(0x1e6)

#define XCR0_X87    BIT(0)
#define XCR0_SSE    BIT(1)
#define XCR0_AVX    BIT(2)
#define XCR0_BNDS   (BIT(3) | BIT(4))
#define XCR0_AVX512 (BIT(5) | BIT(6) | BIT(7))

#define DR6_VOLATILE UINT64_C(0x1e80f)
#define DR6_AT_RESET UINT64_C(0xffff0ff0)

#define SIGNATURE_AT_RESET 0x600 /* family 6; where there is no CPUID yet */

static bool paging(const struct kvm_vcpu *vcpu)
{
	return (vcpu->cpu.cr0 & CR0_PG) != 0;
}

static bool long_mode(const struct kvm_vcpu *vcpu)
{
	return (vcpu->cpu.efer & EFER_LMA) != 0;
}

bool kvm_reg_is_pae(const struct kvm_vcpu *vcpu)
{
	return paging(vcpu) && (vcpu->cpu.cr4 & CR4_PAE) != 0 && !long_mode(vcpu);
}

static uint64_t beyond_phys(const struct kvm_vcpu *vcpu)
{
	return vcpu->features.phys_bits >= 64 ? 0 : ~(BIT(vcpu->features.phys_bits) - 1);
}

int kvm_reg_load_pdptrs(struct kvm_vcpu *vcpu, uint64_t cr3)
{
	uint64_t pdptr[4];
	int r = kvm_memory_read(vcpu, cr3 & 0xffffffe0, pdptr, sizeof(pdptr));

	if (r != 0) {
		return -EINVAL;
	}
	for (unsigned i = 0; i < 4; i++) {
		if ((pdptr[i] & PTE_P) != 0 &&
		    (pdptr[i] & (PDPTE_RESERVED | beyond_phys(vcpu))) != 0) {
			return -EINVAL;
		}
	}
	memcpy(vcpu->pdptr, pdptr, sizeof(pdptr));
	return 0;
}

void kvm_reg_refresh_pdptrs(struct kvm_vcpu *vcpu)
{
	if (kvm_memory_read(vcpu, vcpu->cr3 & 0xffffffe0, vcpu->pdptr, sizeof(vcpu->pdptr)) != 0) {
		memset(vcpu->pdptr, 0, sizeof(vcpu->pdptr));
	}
	for (unsigned i = 0; i < ARRAY_SIZE(vcpu->pdptr); i++) {
		vcpu->pdptr[i] &= ~PDPTE_RESERVED;
	}
}

bool kvm_reg_cr0_valid(uint64_t value)
{
	return value >> 32 == 0 && ((value & CR0_NW) == 0 || (value & CR0_CD) != 0) &&
	       ((value & CR0_PG) == 0 || (value & CR0_PE) != 0);
}

int kvm_reg_set_cr0(struct kvm_vcpu *vcpu, uint64_t value)
{
	uint64_t old;

	kvm_regs_change(vcpu, KVM_REGS_CONTROL);
	kvm_regs_need(vcpu, KVM_REGS_SEGMENTS);
	old = vcpu->cpu.cr0;
	if (!kvm_reg_cr0_valid(value)) {
		return -EINVAL;
	}
	value = (value & CR0_KNOWN) | CR0_ET;
	if ((vcpu->cpu.efer & EFER_LME) != 0 && !paging(vcpu) && (value & CR0_PG) != 0 &&
	    ((vcpu->cpu.cr4 & CR4_PAE) == 0 || (vcpu->cpu.seg[INSN_CS].attr & INSN_SEG_L) != 0)) {
		return -EINVAL;
	}
	if ((vcpu->cpu.efer & EFER_LME) == 0 && (value & CR0_PG) != 0 &&
	    (vcpu->cpu.cr4 & CR4_PAE) != 0 && ((old ^ value) & (CR0_PG | CR0_CD | CR0_NW)) != 0 &&
	    kvm_reg_load_pdptrs(vcpu, vcpu->cr3) != 0) {
		return -EINVAL;
	}
	if ((value & CR0_PG) == 0 &&
	    ((long_mode(vcpu) && (vcpu->cpu.seg[INSN_CS].attr & INSN_SEG_L) != 0) ||
	     (vcpu->cpu.cr4 & CR4_PCIDE) != 0)) {
		return -EINVAL;
	}
	if ((vcpu->cpu.efer & EFER_LME) != 0 && ((old ^ value) & CR0_PG) != 0) {
		vcpu->cpu.efer = (value & CR0_PG) != 0 ? vcpu->cpu.efer | EFER_LMA
						       : vcpu->cpu.efer & ~EFER_LMA;
	}
	vcpu->cpu.cr0 = value;
	if (((old ^ value) & (CR0_PG | CR0_WP | CR0_PE)) != 0) {
		vcpu->env->backend->flush_guest_tlb(vcpu);
	}
	return 0;
}

int kvm_reg_set_cr3(struct kvm_vcpu *vcpu, uint64_t value)
{
	bool flush = true;

	kvm_regs_change(vcpu, KVM_REGS_CONTROL);
	if ((vcpu->cpu.cr4 & CR4_PCIDE) != 0) {
		flush = (value & CR3_NO_FLUSH) == 0;
		value &= ~CR3_NO_FLUSH;
	}
	if (long_mode(vcpu)) {
		if ((value & beyond_phys(vcpu)) != 0) {
			return -EINVAL;
		}
	} else {
		value &= UINT32_MAX;
		if (kvm_reg_is_pae(vcpu) && kvm_reg_load_pdptrs(vcpu, value) != 0) {
			return -EINVAL;
		}
	}
	vcpu->cr3 = value;
	if (flush) {
		vcpu->env->backend->flush_guest_tlb(vcpu);
	}
	return 0;
}

bool kvm_reg_cr4_valid(const struct kvm_vcpu *vcpu, uint64_t value)
{
	return (value & ~vcpu->features.cr4_allowed) == 0;
}

int kvm_reg_set_cr4(struct kvm_vcpu *vcpu, uint64_t value)
{
	uint64_t old;

	kvm_regs_change(vcpu, KVM_REGS_CONTROL);
	old = vcpu->cpu.cr4;
	if (!kvm_reg_cr4_valid(vcpu, value)) {
		return -EINVAL;
	}
	if (long_mode(vcpu)) {
		if ((value & CR4_PAE) == 0 || ((old ^ value) & CR4_LA57) != 0) {
			return -EINVAL;
		}
	} else if (paging(vcpu) && (value & CR4_PAE) != 0 &&
		   ((old ^ value) & (CR4_PGE | CR4_PSE | CR4_PAE | CR4_SMEP)) != 0 &&
		   kvm_reg_load_pdptrs(vcpu, vcpu->cr3) != 0) {
		return -EINVAL;
	}
	if ((value & CR4_PCIDE) != 0 && (old & CR4_PCIDE) == 0 &&
	    (!long_mode(vcpu) || (vcpu->cr3 & CR3_PCID) != 0)) {
		return -EINVAL;
	}
	vcpu->cpu.cr4 = value;
	if (((old ^ value) & (CR4_OSXSAVE | CR4_PKE)) != 0) {
		kvm_cpuid_refresh(vcpu);
	}
	if (((old ^ value) & (CR4_PGE | CR4_PSE | CR4_PAE | CR4_SMEP | CR4_SMAP | CR4_PCIDE |
			      CR4_PKE | CR4_LA57)) != 0) {
		vcpu->env->backend->flush_guest_tlb(vcpu);
	}
	return 0;
}

int kvm_reg_set_efer(struct kvm_vcpu *vcpu, uint64_t value, bool host)
{
	uint64_t old;

	kvm_regs_change(vcpu, KVM_REGS_CONTROL);
	old = vcpu->cpu.efer;
	if ((value & ~EFER_KNOWN) != 0) {
		return -EINVAL;
	}
	if (!host && ((value & ~(vcpu->features.efer_allowed | EFER_SCE)) != 0 ||
		      (paging(vcpu) && ((old ^ value) & EFER_LME) != 0))) {
		return -EINVAL;
	}
	vcpu->cpu.efer = (value & ~EFER_LMA) | (old & EFER_LMA);
	if (((old ^ value) & EFER_NXE) != 0) {
		vcpu->env->backend->flush_guest_tlb(vcpu);
	}
	return 0;
}

uint64_t kvm_reg_cr8(const struct kvm_vcpu *vcpu)
{
	return vcpu->apic != NULL ? kvm_irq_cr8(vcpu) : vcpu->cr8;
}

int kvm_reg_set_cr8(struct kvm_vcpu *vcpu, uint64_t value)
{
	if ((value & ~UINT64_C(0xf)) != 0) {
		return -EINVAL;
	}
	if (vcpu->apic != NULL) {
		kvm_irq_set_cr8(vcpu, value);
	} else {
		vcpu->cr8 = value;
	}
	return 0;
}

int kvm_reg_set_xcr0(struct kvm_vcpu *vcpu, uint64_t value)
{
	uint64_t allowed = vcpu->features.xcr0_allowed | XCR0_X87;

	if ((value & XCR0_X87) == 0 || (value & ~allowed) != 0 ||
	    ((value & XCR0_AVX) != 0 && (value & XCR0_SSE) == 0) ||
	    ((value & XCR0_BNDS) != 0 && (value & XCR0_BNDS) != XCR0_BNDS) ||
	    ((value & XCR0_AVX512) != 0 &&
	     (value & (XCR0_AVX512 | XCR0_AVX)) != (XCR0_AVX512 | XCR0_AVX))) {
		return -EINVAL;
	}
	kvm_regs_change(vcpu, KVM_REGS_FPU);
	vcpu->xcr0 = value;
	kvm_cpuid_refresh(vcpu);
	return 0;
}

uint64_t kvm_reg_get_dr(struct kvm_vcpu *vcpu, unsigned dr)
{
	kvm_regs_need(vcpu, KVM_REGS_DEBUG);
	if (dr < 4) {
		return vcpu->db[dr];
	}
	return dr % 2 == 0 ? vcpu->dr6 : vcpu->dr7;
}

int kvm_reg_set_dr(struct kvm_vcpu *vcpu, unsigned dr, uint64_t value)
{
	kvm_regs_change(vcpu, KVM_REGS_DEBUG);
	if (dr >= 4 && value >> 32 != 0) {
		return -EINVAL;
	}
	if (dr < 4) {
		vcpu->db[dr] = value;
	} else if (dr % 2 == 0) {
		vcpu->dr6 = (value & DR6_VOLATILE) | vcpu->features.dr6_fixed;
	} else {
		vcpu->dr7 = (value & DR7_WRITABLE) | DR7_FIXED;
	}
	kvm_debug_update(vcpu);
	return 0;
}

/* ---- reset ---- */

static struct insn_segment real_mode_data(uint16_t type)
{
	return (struct insn_segment){.limit = 0xffff, .attr = INSN_SEG_P | type};
}

static void reset_segments(struct kvm_vcpu *vcpu)
{
	struct insn_cpu *cpu = &vcpu->cpu;

	for (unsigned i = 0; i < INSN_NSEGS; i++) {
		cpu->seg[i] = real_mode_data(INSN_SEG_S | SEG_DATA_RW_ACCESSED);
	}
	cpu->seg[INSN_CS] = real_mode_data(INSN_SEG_S | SEG_CODE_RX_ACCESSED);
	cpu->seg[INSN_CS].selector = 0xf000;
	cpu->seg[INSN_CS].base = 0xffff0000;
	cpu->ldtr = real_mode_data(2);
	cpu->tr = real_mode_data(SEG_TSS_BUSY);
	cpu->gdtr = (struct insn_table_register){.limit = 0xffff};
	cpu->idtr = (struct insn_table_register){.limit = 0xffff};
}

/* XSAVE's initial state. Spec: AMD APM vol. 2, 11.5.2; Linux gives x87's after FNINIT */
static void reset_fpu(struct kvm_vcpu *vcpu)
{
	memset(vcpu->xsave, 0, vcpu->env->backend->xsave_bytes);
	vcpu->xsave[0] = 0x7f;
	vcpu->xsave[1] = 0x03;
	vcpu->xsave[24] = 0x80;
	vcpu->xsave[25] = 0x1f;
	vcpu->xcr0 = XCR0_X87;
}

void kvm_vcpu_reset(struct kvm_vcpu *vcpu, bool init)
{
	struct insn_cpu *cpu = &vcpu->cpu;
	const struct kvm_cpuid_entry2 *entry = kvm_cpuid_find(vcpu, CPUID_FEATURES, 0);
	uint64_t cache = CR0_CD | CR0_NW;

	if (init) {
		kvm_exit_before_move(vcpu);
		kvm_regs_need(vcpu, KVM_REGS_ALL);
		cache = cpu->cr0 & (CR0_CD | CR0_NW);
	} else {
		reset_fpu(vcpu);
		kvm_msr_reset(vcpu, false);
		vcpu->apic_base = 0xfee00000 | BIT(11) | (kvm_vcpu_is_bootstrap(vcpu) ? BIT(8) : 0);
	}
	memset(&vcpu->events, 0, sizeof(vcpu->events));
	memset(cpu->gpr, 0, sizeof(cpu->gpr));
	cpu->gpr[2] = entry == NULL ? SIGNATURE_AT_RESET : entry->eax;
	cpu->rip = 0xfff0;
	cpu->rflags = RFLAGS_FIXED;
	cpu->cr0 = cache | CR0_ET;
	cpu->cr4 = 0;
	cpu->efer = 0;
	cpu->cpl = 0;
	cpu->interrupt_shadow = false;
	vcpu->cr2 = 0;
	vcpu->cr3 = 0;
	vcpu->cr8 = 0;
	reset_segments(vcpu);
	memset(vcpu->db, 0, sizeof(vcpu->db));
	vcpu->dr6 = DR6_AT_RESET;
	vcpu->dr7 = DR7_FIXED;
	vcpu->loaded = KVM_REGS_ALL;
	vcpu->changed = KVM_REGS_ALL;
	kvm_debug_update(vcpu);
	kvm_cpuid_refresh(vcpu);
	vcpu->env->backend->flush_guest_tlb(vcpu);
}

void kvm_vcpu_init_reset(struct kvm_vcpu *vcpu)
{
	kvm_vcpu_reset(vcpu, true);
	kvm_irq_vcpu_reset(vcpu, true);
}

void kvm_vcpu_sipi(struct kvm_vcpu *vcpu, uint8_t page)
{
	kvm_exit_before_move(vcpu);
	kvm_regs_change(vcpu, KVM_REGS_CORE | KVM_REGS_SEGMENTS);
	vcpu->cpu.seg[INSN_CS].selector = (uint16_t)(page << 8);
	vcpu->cpu.seg[INSN_CS].base = (uint64_t)page << 12;
	vcpu->cpu.rip = 0;
}

void kvm_regs_load(struct kvm_vcpu *vcpu, uint32_t groups)
{
	/* What is changed in others must not be overwritten later by what is only looked at. */
	if ((groups & (KVM_REGS_CONTROL | KVM_REGS_SEGMENTS)) != 0) {
		groups |= KVM_REGS_MODE & ~vcpu->loaded;
	}
	vcpu->env->backend->load(vcpu, groups);
	vcpu->loaded |= groups;
}
