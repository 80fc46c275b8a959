/*
 * The walk of a guest's page tables: from a linear to a guest-physical address, with the checks
 * that the CPU makes, for 32-bit, PAE, 4-level and 5-level paging.
 * Spec: AMD APM vol. 2, ch. 5 "Page Translation and Protection"; Intel SDM vol. 3A, ch. 4
 */
#pragma once

#include "lib/base/types.h"

/** What the walk depends on; plain values, from wherever they are kept. */
struct walk_mode {
	uint64_t cr0, cr3, cr4, efer;
	const uint64_t *pdptr; /* four, of PAE paging */
	uint8_t phys_bits;     /* of the guest's physical addresses */
	bool pages_1g;	       /* does CPUID show them? */
	bool ac;	       /* RFLAGS.AC, which SMAP obeys */
	uint32_t pkru;	       /* with CR4.PKE */
};

/** How memory is accessed. */
#define WALK_WRITE    BIT(0)
#define WALK_FETCH    BIT(1)
#define WALK_USER     BIT(2) /* at CPL 3 */
#define WALK_IMPLICIT BIT(3) /* by the CPU itself, to a descriptor or TSS: SMAP minds no AC */
#define WALK_SET_AD   BIT(4) /* sets accessed and dirty bits; without it nothing is written */

struct walk_ops {
	/** @bytes (4 or 8) at @gpa. Return: 0, or -errno: no such memory. */
	int (*read)(void *ctx, uint64_t gpa, void *entry, unsigned bytes);
	/** Atomic. Return: 0; -EAGAIN if there was not @old any more; other -errno: no memory. */
	int (*cmpxchg)(void *ctx, uint64_t gpa, const void *old, const void *new, unsigned bytes);
};

enum walk_outcome {
	WALK_OK,
	WALK_FAULT,  /* #PF with .error */
	WALK_NOWHERE /* a table lies where no memory is: .gpa */
};

struct walk_result {
	uint64_t gpa;
	uint32_t error;	    /* of #PF */
	uint8_t page_shift; /* 12, 21, 22, 30; 12 without paging */
	bool writable;	    /* would this CPL's write be allowed? */
	bool user;
	bool global;
	bool dirty;  /* is the D bit set (now)? */
	uint8_t key; /* whose rights in PKRU bind accesses, if .user; 0 without protection keys */
};

/**
 * walk() - translates @linear, which is canonical.
 * @access: WALK_ bits.
 * Return: as above; *@result is what belongs to it.
 * Context: that of @ops. At most five levels, a few retries when the guest changes its tables.
 */
must_use enum walk_outcome walk(const struct walk_mode *mode, const struct walk_ops *ops, void *ctx,
				uint64_t linear, unsigned access, struct walk_result *result);
