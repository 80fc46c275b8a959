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

#include "core/lock.h"
#include "core/mem/page.h"
#include "core/mem/space.h"
#include "lib/kvm/backend.h"

/* Pages @gfn to @gfn + @pages show user memory from @user on. */
struct npt_range {
	uint64_t gfn, pages, user;
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

	_Atomic uint64_t generation;
	_Atomic uint64_t cpus; /* those that are in the guest, or about to be; bits */
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

/**
 * npt_enter() / npt_leave() - around the guest, on CPU @cpu.
 * Return: the generation that svm_asid_enter() wants.
 * Context: interrupts off.
 */
static inline uint64_t npt_enter(struct npt *npt, unsigned cpu)
{
	/*
	 * Pairs with npt_flush(), which counts first and then looks who is in: one of the two
	 * sees the other.
	 */
	atomic_fetch_or_explicit(&npt->cpus, BIT(cpu), memory_order_seq_cst);
	return atomic_load_explicit(&npt->generation, memory_order_seq_cst);
}

static inline void npt_leave(struct npt *npt, unsigned cpu)
{
	atomic_fetch_and_explicit(&npt->cpus, ~BIT(cpu), memory_order_release);
}
