/*
 * Nested page tables of a VM: guest-physical to physical, 4 KiB and 2 MiB. They show what the
 * VMM's address space shows, and hold no pages: a notifier of the space takes entries away before
 * pages go (core/mem/space.h).
 *
 * The notifier has user addresses, and cannot wait for the lock of the memory slots. So the tables
 * remember themselves which user addresses are where in the guest.
 *
 * Who takes an entry away flushes: the generation is counted up, and CPUs that are in the guest
 * come out of it by an IPI; each looks at the generation before it goes in (svm_asid_enter()).
 *
 * Spec: AMD APM vol. 2, 15.25 "Nested Paging"
 */
#pragma once

#include <stdatomic.h>

#include "core/list.h"
#include "core/lock.h"
#include "core/mem/page.h"
#include "core/mem/space.h"
#include "lib/kvm/backend.h"

/* Pages @gfn to @gfn + @pages show user memory from @user on. */
struct npt_range {
	uint64_t gfn, pages, user;
};

#define NPT_NOWHERE UINT32_MAX

/* A vCPU of the VM, and where it is. */
struct npt_guest {
	struct list in_npt;   /* npt->lock */
	_Atomic uint32_t cpu; /* that is in the guest, or about to be; NPT_NOWHERE */
};

struct npt {
	/* Constant after init. */
	struct space *space;
	hpa_t root;
	struct space_notifier notifier;

	struct spinlock lock;	  /* LOCK_KVM_MMU */
	struct npt_range *ranges; /* sorted by gfn; may be out of date: then too much is flushed */
	uint32_t count, room;
	uint32_t last; /* the range that was wanted last; any value will do */
	uint64_t tables;
	struct list guests;

	_Atomic uint64_t generation; /* from 1 on */
};

/** npt_init() - empty tables over @space, which is held. Return: 0 or -ENOMEM. */
must_use int npt_init(struct npt *npt, struct space *space);

/** npt_fini() - Context: no vCPU runs any more; may sleep. */
void npt_fini(struct npt *npt);

/**
 * npt_map() - maps the page of a fault, or 2 MiB around it.
 * @slot: of the fault: gfn, pages and user of all of it.
 * Return: 0; -EAGAIN: the space changed meanwhile; -EFAULT, -ENOMEM.
 * Context: thread; no spinlock held, interrupts on. So too the following.
 */
must_use int npt_map(struct npt *npt, const struct kvm_fault *fault);

/** npt_unmap() - takes pages away. When it returns no CPU uses them. */
void npt_unmap(struct npt *npt, uint64_t gfn, uint64_t pages);

/** npt_protect() - takes the right to write from pages @gfn + i with bit i of @mask. No flush. */
void npt_protect(struct npt *npt, uint64_t gfn, uint64_t mask);

/** npt_flush() - when it returns, no CPU uses what was there before. */
void npt_flush(struct npt *npt);

/** npt_add_guest() / npt_remove_guest() - the life of a vCPU. Context: as above. */
void npt_add_guest(struct npt *npt, struct npt_guest *guest);
void npt_remove_guest(struct npt *npt, struct npt_guest *guest);

/**
 * npt_enter() / npt_leave() - around the guest, on CPU @cpu. What is looked at behind npt_enter()
 * is looked at before the guest runs: whoever changes it looks at guest->cpu then.
 * Context: interrupts off, or GIF 0.
 */
static inline void npt_enter(struct npt_guest *guest, unsigned cpu)
{
	atomic_store_explicit(&guest->cpu, cpu, memory_order_seq_cst);
}

static inline void npt_leave(struct npt_guest *guest)
{
	atomic_store_explicit(&guest->cpu, NPT_NOWHERE, memory_order_release);
}

/** npt_generation() - which svm_asid_enter() wants; behind npt_enter(). */
static inline uint64_t npt_generation(const struct npt *npt)
{
	/* Pairs with a flush, which counts first and then looks who is in: one sees the other. */
	return atomic_load_explicit(&npt->generation, memory_order_seq_cst);
}
