#include "vmm/board/cpu_setup.h"

#include <errno.h>
#include <string.h>

#include "lib/base/bytes.h"
#include "vmm/board/cpu_model.h"
#include "vmm/log.h"

/* Intel SDM vol. 3A, "Local APIC": LVT registers and delivery modes. */
#define APIC_LVT0      0x350
#define APIC_LVT1      0x360
#define LVT_EXTINT     (7U << 8)
#define LVT_NMI	       (4U << 8)
#define LVT_MASKED     (1U << 16)
#define LVT_CLEAR_BITS (LVT_MASKED | 7U << 8)

/* Intel SDM vol. 3A, "Memory Type Range Registers"; vol. 4 for the others. */
#define MSR_MTRR_DEF_TYPE	 0x2ff
#define MTRR_ENABLED_WRITEBACK	 (1U << 11 | 6)
#define MSR_IA32_MISC_ENABLE	 0x1a0
#define MISC_ENABLE_FAST_STRINGS 1

static int report(unsigned index, const char *what, int error)
{
	if (error != 0) {
		log_error("vCPU %u: the provider refuses its %s: %s", index, what,
			  strerror(-error));
	}
	return error;
}

/* LINT0 is the PIC's INTR wire, on the boot CPU; LINT1 is NMI, on all. */
static int set_apic_wires(struct vcpu *v)
{
	struct kvm_lapic_state apic;
	int r = host_vcpu_get_lapic(&v->host, &apic);

	if (r != 0) {
		return r;
	}
	uint32_t lvt0 = load_le32(apic.regs + APIC_LVT0) & ~LVT_CLEAR_BITS;
	uint32_t lvt1 = load_le32(apic.regs + APIC_LVT1) & ~LVT_CLEAR_BITS;

	store_le32(apic.regs + APIC_LVT0, lvt0 | LVT_EXTINT | (v->index == 0 ? 0 : LVT_MASKED));
	store_le32(apic.regs + APIC_LVT1, lvt1 | LVT_NMI);
	return host_vcpu_set_lapic(&v->host, &apic);
}

static int set_msrs(struct vcpu *v)
{
	int r = host_vcpu_set_msr(&v->host, MSR_MTRR_DEF_TYPE, MTRR_ENABLED_WRITEBACK);

	if (r == 0) {
		r = host_vcpu_set_msr(&v->host, MSR_IA32_MISC_ENABLE, MISC_ENABLE_FAST_STRINGS);
	}
	return r;
}

static int set_entry(struct vcpu *v, const struct boot_entry *entry)
{
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	int r = host_vcpu_get_sregs(&v->host, &sregs);

	if (r != 0) {
		return r;
	}
	boot_entry_apply(entry, &regs, &sregs);
	r = host_vcpu_set_sregs(&v->host, &sregs);
	return r == 0 ? host_vcpu_set_regs(&v->host, &regs) : r;
}

int cpu_setup(struct vcpus *set, const struct vm_config *config, uint64_t ram_end,
	      const struct boot_entry *entry)
{
	union host_cpuid supported, cpuid;
	int r = host_cpuid_supported(set->vm, &supported);

	for (unsigned i = 0; r == 0 && i < set->n; i++) {
		struct vcpu *v = &set->vcpu[i];

		cpuid.table.nent = HOST_CPUID_MAX;
		r = cpu_model_build(config->cpu, &supported.table, set->n, i, ram_end,
				    &cpuid.table);
		if (r != 0) {
			return r;
		}
		r = report(i, "CPUID", host_vcpu_set_cpuid(&v->host, &cpuid.table));
		if (r == 0) {
			r = report(i, "local APIC", set_apic_wires(v));
		}
		if (r == 0) {
			r = report(i, "MSRs", set_msrs(v));
		}
		if (r == 0 && i == 0) {
			r = report(i, "registers", set_entry(v, entry));
		}
	}
	return r;
}
