/*
 * The guest's memory as its instructions see it: linear addresses, by a TLB in front of the guest's
 * page tables and of the VM's map of physical pages.
 */
#pragma once

#include "lib/insn/emulate.h"
#include "lib/kvm/backend.h"

struct soft_vcpu;

#define SOFT_TLB   512 /* entries of each view */
#define SOFT_LARGE 256

/** No linear page has this tag. */
#define SOFT_NO_PAGE UINT64_MAX

struct soft_tlb_entry {
	uint64_t read, write, fetch; /* tags: the linear page, if it may be accessed so */
	uint8_t *host;
};

struct soft_mmu {
	/* What CPL 3 may do, and what the others may. */
	struct soft_tlb_entry tlb[2][SOFT_TLB];
	struct st_frame
		*frame;	  /* the translator's TLBs, or NULL; they hold no more than the above */
	uint64_t flushes; /* how often all was forgotten */
	uint64_t fetches; /* how often code was found by a walk */
	/* Parts of pages of 2 MiB or 4 MiB, and of 1 GiB, are in it: bits by a hash of the address.
	 */
	uint64_t large[SOFT_LARGE / 64], huge[SOFT_LARGE / 64];
	uint64_t cr3; /* whose translations they are, PCID included */
};

enum soft_access {
	SOFT_READ,
	SOFT_WRITE,
	SOFT_FETCH,
};

/**
 * soft_mmu_host() - the host's address of @linear, for an access within its page.
 * @system: by the CPU itself, whatever the CPL is.
 * Return: INSN_DONE; INSN_FAULT with vcpu->env.fault; INSN_EXIT: nothing is mapped there, which
 * vcpu->stop tells.
 * Context: vCPU thread, inside.
 */
must_use enum insn_outcome soft_mmu_host(struct soft_vcpu *vcpu, uint64_t linear,
					 enum soft_access access, bool system, uint8_t **host);

/** soft_mmu_read() / soft_mmu_write() - any length up to a page; as a whole or not at all. */
must_use enum insn_outcome soft_mmu_read(struct soft_vcpu *vcpu, uint64_t linear, void *data,
					 unsigned len, bool system);
must_use enum insn_outcome soft_mmu_write(struct soft_vcpu *vcpu, uint64_t linear, const void *data,
					  unsigned len, bool system);

/** soft_mmu_probe() - could all of it be written to? */
must_use enum insn_outcome soft_mmu_probe(struct soft_vcpu *vcpu, uint64_t linear, unsigned len,
					  bool system);

/** soft_mmu_cmpxchg() - INSN_AGAIN if there was something else. Across pages, too, it is atomic. */
must_use enum insn_outcome soft_mmu_cmpxchg(struct soft_vcpu *vcpu, uint64_t linear,
					    const void *old, const void *new, unsigned len);

/**
 * soft_mmu_fetch() - bytes of code at @linear, up to INSN_MAX; as many as are in this page, and
 * with @more those of the next one.
 * @len: set to how many there are.
 */
must_use enum insn_outcome soft_mmu_fetch(struct soft_vcpu *vcpu, uint64_t linear, uint8_t *bytes,
					  unsigned *len, bool more);

/** soft_mmu_protect() - forgets who may write to the page at @host. Context: as above. */
void soft_mmu_protect(struct soft_vcpu *vcpu, uint64_t host);

/** soft_mmu_forget_code() - code is found by a walk the next time. */
void soft_mmu_forget_code(struct soft_mmu *mmu);
/** soft_mmu_follow() - CR3 may have changed: a load that keeps translations keeps another PCID's.
 */
void soft_mmu_follow(struct soft_vcpu *vcpu);

/** soft_mmu_flush() - forgets all. soft_mmu_flush_page() - as INVLPG. */
void soft_mmu_flush(struct soft_mmu *mmu);
void soft_mmu_flush_page(struct soft_mmu *mmu, uint64_t linear);
