/*
 * Address space IDs: the tags that keep translations of different guests apart in a CPU. Each CPU
 * gives out its own, in order; when they are used up all translations go, and a new generation
 * begins.
 * Spec: AMD APM vol. 2, 15.15 "TLB Flush", 15.16 "Global Page, CR3, CR0.PG"
 */
#pragma once

#include "core/mem/phys.h"
#include "core/svm/vcpu.h"

/* Of one CPU; behind struct cpu, virt. */
struct svm_cpu {
	hpa_t hsave; /* constant: where VMRUN saves the host */
	hpa_t host;  /* constant: a VMCB for what it does not save */
	uint64_t generation;
	uint32_t next;		     /* the next free one; above the last: none */
	uint64_t tsc_ratio, tsc_aux; /* what the MSRs hold */
	struct svm_vcpu *last;	     /* whose VMCB the CPU may have a copy of */
};

/**
 * svm_is_at_home() - is all of the vCPU on @cpu as it was when it left the guest, so that it can go
 * in again?
 * @generation: of the VM's nested tables.
 */
static inline bool svm_is_at_home(const struct svm_vcpu *svm, const struct svm_cpu *cpu,
				  uint64_t generation)
{
	/* No other has been here, nor has it been elsewhere. */
	return cpu->last == svm && svm->home == cpu && svm->tlb_generation == generation;
}

/** svm_asid_init() - no guest has run on @cpu yet. */
void svm_asid_init(struct svm_cpu *cpu);

/**
 * svm_asid_enter() - gives the vCPU an ID that is right on @cpu, and says in its VMCB what to
 * flush. It is at home there then.
 * @generation: of the VM's nested tables; another one than last time means a flush.
 * Return: has another been there, or may it have been?
 * Context: interrupts off, on @cpu.
 */
bool svm_asid_enter(struct svm_vcpu *svm, struct svm_cpu *cpu, uint64_t generation);

/**
 * svm_asid_refused() - the entry that was to flush was refused, before it did: the next one has a
 * new ID. Spec: AMD APM vol. 3, "VMRUN": TLB_CONTROL comes behind the consistency checks.
 */
void svm_asid_refused(struct svm_vcpu *svm);
