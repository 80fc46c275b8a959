#include "core/lock.h"

#include "core/hw/cpu.h"
#include "lib/base/check.h"

#define HELD_MAX 16

/* What each CPU holds, by rising rank; only kept where it is checked. An interrupt handler begins a
 * new row of ranks: it takes only locks that nobody holds with interrupts on. */
static struct {
	unsigned n;
	unsigned base;
	const struct spinlock *lock[HELD_MAX];
} held[CPU_MAX];

static void note_taken(const struct spinlock *l)
{
	__typeof__(held[0]) *h = &held[cpu_index()];

	check(h->n == h->base || h->lock[h->n - 1]->rank < l->rank);
	check(h->n < HELD_MAX);
	h->lock[h->n++] = l;
}

/* In any order. */
static void note_given(const struct spinlock *l)
{
	__typeof__(held[0]) *h = &held[cpu_index()];
	unsigned i = h->n;

	do {
		check(i > h->base); /* it is held at all */
		i--;
	} while (h->lock[i] != l);
	for (h->n--; i < h->n; i++) {
		h->lock[i] = h->lock[i + 1];
	}
}

unsigned spin_enter_irq(void)
{
	unsigned base = 0;

	if (DEBUG_LOCKS) {
		__typeof__(held[0]) *h = &held[cpu_index()];
		base = h->base;
		h->base = h->n;
	}
	return base;
}

void spin_leave_irq(unsigned base)
{
	if (DEBUG_LOCKS) {
		__typeof__(held[0]) *h = &held[cpu_index()];
		check(h->n == h->base); /* the handler gave back all it took */
		h->base = base;
	}
}

void spin_init(struct spinlock *l, enum lock_rank rank)
{
	atomic_init(&l->next, 0);
	atomic_init(&l->serving, 0);
	l->rank = rank;
}

void spin_take(struct spinlock *l)
{
	if (DEBUG_LOCKS) {
		note_taken(l); /* before: a wrong order is told even if it does not block */
	}
	cpu_this()->spin_depth++;
	uint32_t ticket = atomic_fetch_add_explicit(&l->next, 1, memory_order_relaxed);
	/* Pairs with the release in spin_give(). */
	while (atomic_load_explicit(&l->serving, memory_order_acquire) != ticket) {
		asm_pause();
	}
}

void spin_give(struct spinlock *l)
{
	if (DEBUG_LOCKS) {
		note_given(l);
	}
	/* Only the holder writes it. */
	uint32_t ticket = atomic_load_explicit(&l->serving, memory_order_relaxed);
	/* Pairs with the acquire in spin_take(). */
	atomic_store_explicit(&l->serving, ticket + 1, memory_order_release);
	cpu_this()->spin_depth--;
}

uint64_t spin_take_irq(struct spinlock *l)
{
	uint64_t flags = asm_irq_save();

	spin_take(l);
	return flags;
}

void spin_give_irq(struct spinlock *l, uint64_t flags)
{
	spin_give(l);
	asm_irq_restore(flags);
}
