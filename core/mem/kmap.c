#include "core/mem/kmap.h"

#include "core/hw/regs.h"
#include "core/lock.h"
#include "core/mem/page.h"
#include "core/mem/paging.h"

#define STACK_SLOT  (2 * KMAP_STACK_BYTES) /* a hole, then the stack */
#define STACK_ORDER 2
#define STACKS_MAX  65536
#define DEVICES_MAX (16 * GIB)

/* Behind all stacks of threads: a page that is a hole, a page that is a stack, ... */
#define EXCEPTIONS_BASE (KMAP_STACKS_BASE + STACKS_MAX * STACK_SLOT)
#define EXCEPTION_SLOT	(2 * PAGE_SIZE)

_Static_assert(KMAP_STACK_BYTES == PAGE_SIZE << STACK_ORDER, "");

/* At the very top of a stack that nobody uses. */
struct free_stack {
	struct free_stack *next;
};

static struct {
	struct spinlock lock;
	/* Guarded by lock. */
	struct free_stack *free;
	uint64_t stacks; /* made so far */
	uint64_t used;
	uint64_t exception_stacks; /* made so far */
	uint64_t devices_bytes;
} kmap = {.lock = SPINLOCK_INIT(LOCK_KMAP)};

static uint64_t make_stack(void)
{
	if (kmap.stacks == STACKS_MAX) {
		return 0;
	}
	hpa_t pa = page_alloc_zero(STACK_ORDER, PAGE_USE_STACK);
	if (page_is_none(pa)) {
		return 0;
	}
	uint64_t bottom = KMAP_STACKS_BASE + kmap.stacks * STACK_SLOT + KMAP_STACK_BYTES;
	/* If tables cannot be had, the slot is given up for ever: parts of it may be mapped. */
	kmap.stacks++;
	if (paging_map(bottom, pa.v, KMAP_STACK_BYTES, PTE_RW | PTE_NX) != 0) {
		return 0;
	}
	return bottom + KMAP_STACK_BYTES;
}

uint64_t kmap_stack_create(void)
{
	uint64_t top;

	spin_take(&kmap.lock);
	if (kmap.free != NULL) {
		top = (uint64_t)(kmap.free + 1);
		kmap.free = kmap.free->next;
	} else {
		top = make_stack();
	}
	kmap.used += top != 0;
	spin_give(&kmap.lock);
	return top;
}

void kmap_stack_destroy(uint64_t top)
{
	struct free_stack *f = (struct free_stack *)top - 1;

	spin_take(&kmap.lock);
	f->next = kmap.free;
	kmap.free = f;
	kmap.used--;
	spin_give(&kmap.lock);
}

uint64_t kmap_stacks(void)
{
	spin_take(&kmap.lock);
	uint64_t used = kmap.used;
	spin_give(&kmap.lock);
	return used;
}

uint64_t kmap_exception_stack(unsigned number)
{
	uint64_t bottom = EXCEPTIONS_BASE + number * EXCEPTION_SLOT + PAGE_SIZE;

	spin_take(&kmap.lock);
	if (number >= kmap.exception_stacks) {
		hpa_t pa = page_alloc_zero(0, PAGE_USE_STACK);
		if (!page_is_none(pa) &&
		    paging_map(bottom, pa.v, PAGE_SIZE, PTE_RW | PTE_NX) == 0) {
			kmap.exception_stacks = number + 1;
		} else if (!page_is_none(pa)) {
			page_free(pa, 0);
		}
	}
	bool is_made = number < kmap.exception_stacks;
	spin_give(&kmap.lock);
	return is_made ? bottom + PAGE_SIZE : 0;
}

bool kmap_is_guard(uint64_t va)
{
	uint64_t offset = va - KMAP_STACKS_BASE, number = (va - EXCEPTIONS_BASE) / PAGE_SIZE;

	return (offset < STACKS_MAX * STACK_SLOT && offset % STACK_SLOT < KMAP_STACK_BYTES) ||
	       (va >= EXCEPTIONS_BASE && number % 2 == 0 && number / 2 < kmap.exception_stacks);
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
