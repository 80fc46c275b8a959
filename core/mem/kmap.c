#include "core/mem/kmap.h"

#include "core/hw/regs.h"
#include "core/lock.h"
#include "core/mem/page.h"
#include "core/mem/paging.h"
#include "core/mem/tlb.h"

#define STACK_SLOT  (2 * KMAP_STACK_BYTES) /* a hole, then the stack */
#define STACK_ORDER 2
#define STACKS_MAX  65536
#define DEVICES_MAX (16 * GIB)

_Static_assert(KMAP_STACK_BYTES == PAGE_SIZE << STACK_ORDER, "");
_Static_assert(64 * STACK_SLOT == HUGE_SIZE, "a word of slots is a page table");

#define STACKS_KEPT 32 /* free ones that stay mapped, for the next thread */
#define STACKS_TRIM 16 /* how many of them are freed at once */

/* At the very top of a stack that nobody uses. */
struct free_stack {
	struct free_stack *next;
};

static struct {
	struct spinlock lock;
	/* Guarded by lock. */
	struct free_stack *free;
	unsigned kept; /* how many are in free */
	uint64_t used;
	uint64_t devices_bytes;
	uint64_t slots[STACKS_MAX / 64]; /* which of them have a stack; a word is 2 MiB */
} kmap = {.lock = SPINLOCK_INIT(LOCK_KMAP)};

static uint64_t stack_bottom(unsigned slot)
{
	return KMAP_STACKS_BASE + slot * STACK_SLOT + KMAP_STACK_BYTES;
}

/* The first slot without a stack; STACKS_MAX: there is none. */
static unsigned free_slot(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(kmap.slots); i++) {
		if (kmap.slots[i] != UINT64_MAX) {
			return i * 64 + (unsigned)__builtin_ctzll(~kmap.slots[i]);
		}
	}
	return STACKS_MAX;
}

static uint64_t make_stack(void)
{
	unsigned slot = free_slot();

	if (slot == STACKS_MAX) {
		return 0;
	}
	hpa_t pa = page_alloc_zero(STACK_ORDER, PAGE_USE_STACK);
	if (page_is_none(pa)) {
		return 0;
	}
	if (paging_map(stack_bottom(slot), pa.v, KMAP_STACK_BYTES, PTE_RW | PTE_NX) != 0) {
		(void)paging_unmap(stack_bottom(slot), KMAP_STACK_BYTES);
		page_free(pa, STACK_ORDER);
		return 0;
	}
	kmap.slots[slot / 64] |= BIT(slot % 64);
	return stack_bottom(slot) + KMAP_STACK_BYTES;
}

uint64_t kmap_stack_create(void)
{
	uint64_t top;

	spin_take(&kmap.lock);
	if (kmap.free != NULL) {
		top = (uint64_t)(kmap.free + 1);
		kmap.free = kmap.free->next;
		kmap.kept--;
	} else {
		top = make_stack();
	}
	kmap.used += top != 0;
	spin_give(&kmap.lock);
	return top;
}

/* Frees some of those that are kept. Many at once, since all CPUs are interrupted for it: none uses
 * a slot again before all have forgotten what was there. */
static void trim(void)
{
	uint64_t bottom[STACKS_TRIM];
	hpa_t stack[STACKS_TRIM], table[STACKS_TRIM];

	for (unsigned i = 0; i < STACKS_TRIM; i++) {
		bottom[i] = (uint64_t)(kmap.free + 1) - KMAP_STACK_BYTES;
		kmap.free = kmap.free->next;
		unsigned slot = (unsigned)((bottom[i] - KMAP_STACKS_BASE) / STACK_SLOT);
		stack[i] = paging_unmap(bottom[i], KMAP_STACK_BYTES);
		kmap.slots[slot / 64] &= ~BIT(slot % 64);
		table[i] = hpa(PAGE_NONE);
		if (kmap.slots[slot / 64] == 0) {
			table[i] = paging_unmap_table(bottom[i]);
		}
	}
	kmap.kept -= STACKS_TRIM;
	tlb_flush_kernel(bottom, STACKS_TRIM, KMAP_STACK_BYTES);
	for (unsigned i = 0; i < STACKS_TRIM; i++) {
		page_free(stack[i], STACK_ORDER);
		if (!page_is_none(table[i])) {
			page_free(table[i], 0);
		}
	}
}

void kmap_stack_destroy(uint64_t top)
{
	struct free_stack *f = (struct free_stack *)top - 1;

	spin_take(&kmap.lock);
	f->next = kmap.free;
	kmap.free = f;
	kmap.kept++;
	kmap.used--;
	if (kmap.kept > STACKS_KEPT) {
		trim();
	}
	spin_give(&kmap.lock);
}

uint64_t kmap_stacks(void)
{
	spin_take(&kmap.lock);
	uint64_t used = kmap.used;
	spin_give(&kmap.lock);
	return used;
}

bool kmap_is_guard(uint64_t va)
{
	uint64_t offset = va - KMAP_STACKS_BASE;

	return offset < STACKS_MAX * STACK_SLOT && offset % STACK_SLOT < KMAP_STACK_BYTES;
}

void *kmap_device(hpa_t pa, size_t len)
{
	uint64_t base = ALIGN_DOWN(pa.v, PAGE_SIZE);
	uint64_t bytes = ALIGN_UP(pa.v - base + len, PAGE_SIZE);
	void *p = NULL;

	spin_take(&kmap.lock);
	uint64_t va = KMAP_DEVICES_BASE + kmap.devices_bytes;
	if (bytes <= DEVICES_MAX - kmap.devices_bytes) {
		kmap.devices_bytes += bytes;
		if (paging_map(va, base, bytes, PTE_RW | PTE_NX | PTE_PCD | PTE_PWT) == 0) {
			p = (void *)(va + (pa.v - base));
		}
	}
	spin_give(&kmap.lock);
	return p;
}
