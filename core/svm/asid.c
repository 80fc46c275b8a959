#include "core/svm/asid.h"

/* ID 0 is the host's. */
#define FIRST 1

void svm_asid_init(struct svm_cpu *cpu)
{
	cpu->generation = 1;
	cpu->next = FIRST;
}

static void give_new(struct svm_vcpu *svm, struct svm_cpu *cpu)
{
	if (cpu->next >= svm_features.asids) {
		cpu->generation++;
		cpu->next = FIRST;
		svm->vmcb->c.tlb_control = VMCB_TLB_FLUSH_ALL;
	}
	svm->asid = cpu->next++;
	svm->asid_cpu = cpu;
	svm->asid_generation = cpu->generation;
	svm->vmcb->c.asid = svm->asid;
	svm->vmcb->c.clean &= ~(uint32_t)VMCB_CLEAN_ASID;
}

bool svm_asid_enter(struct svm_vcpu *svm, struct svm_cpu *cpu, uint64_t generation)
{
	bool flush = svm->flush || svm->tlb_generation != generation;
	bool after_another = cpu->last != svm;

	svm->vmcb->c.tlb_control = VMCB_TLB_KEEP;
	svm->flush = false;
	svm->tlb_generation = generation;
	svm->home = cpu;
	/* A VMCB that was elsewhere meanwhile is not what this CPU may have kept of it. */
	if (svm->asid_cpu != cpu || after_another) {
		svm->vmcb->c.clean = 0;
		cpu->last = svm;
	}
	if (svm->asid_cpu != cpu || svm->asid_generation != cpu->generation) {
		give_new(svm, cpu);
	} else if (flush && svm_features.flush_by_asid) {
		svm->vmcb->c.tlb_control = VMCB_TLB_FLUSH_GUEST;
	} else if (flush) {
		give_new(svm, cpu); /* under a new tag there is nothing old */
	}
	svm->flushing = svm->vmcb->c.tlb_control != VMCB_TLB_KEEP;
	return after_another;
}

void svm_asid_refused(struct svm_vcpu *svm)
{
	if (svm->vmcb->c.tlb_control == VMCB_TLB_FLUSH_ALL) {
		svm->home->next = svm_features.asids; /* others rely on it: they wait, too */
	}
	svm->asid_generation = 0;
	svm->tlb_generation = 0;
}
