#include "core/svm/npt.h"

#include <errno.h>

#include "core/hw/ipi.h"
#include "core/hw/regs.h"
#include "core/mem/heap.h"
#include "lib/kvm/slots.h"

#define ENTRIES	   512
#define LEVELS	   4
#define LEVEL_BITS 9
#define HUGE_PAGES UINT64_C(512)
#define GFN_END	   (UINT64_C(1) << (LEVELS * LEVEL_BITS))

/* The CPU's own walk counts as an access of a user. No need for it to note A and D. */
#define TABLE_FLAGS (PTE_P | PTE_RW | PTE_US | PTE_A)
#define LEAF_FLAGS  (PTE_P | PTE_US | PTE_A | PTE_D)

/* Tables that are to be freed after a flush; linked by their first entries. */
struct freed {
	uint64_t first; /* 0: none */
};

static uint64_t *table_at(uint64_t entry)
{
	return phys_ptr(hpa(entry & PTE_ADDR));
}

static unsigned index_at(uint64_t gfn, unsigned level)
{
	return gfn >> (level - 1) * LEVEL_BITS & (ENTRIES - 1);
}

/* Pages that an entry of @level stands for: level 1 is the lowest. */
static uint64_t span(unsigned level)
{
	return UINT64_C(1) << (level - 1) * LEVEL_BITS;
}

static bool is_leaf(uint64_t entry, unsigned level)
{
	return level == 1 || (entry & PTE_PS) != 0;
}

static void set(uint64_t *entry, uint64_t value)
{
	/* One store: CPUs walk meanwhile. Release: a new table is empty before it is seen. */
	__atomic_store_n(entry, value, __ATOMIC_RELEASE);
}

/* ---- taking away ---- */

/* Unlinks the table in @entry and all below it. */
static void free_table(struct npt *npt, uint64_t entry, unsigned level, struct freed *freed)
{
	uint64_t *table = table_at(entry);

	for (unsigned i = 0; level > 1 && i < ENTRIES; i++) {
		if ((table[i] & PTE_P) != 0 && !is_leaf(table[i], level)) {
			free_table(npt, table[i], level - 1, freed);
		}
	}
	/*
	 * CPUs may walk here until the flush; the link in the first entry is not present for them.
	 * Other entries stay as they are: what they show is not freed before the flush, either.
	 */
	set(&table[0], freed->first & ~PTE_P);
	freed->first = entry & PTE_ADDR;
	npt->tables--;
}

static void give_back(struct freed *freed)
{
	while (freed->first != 0) {
		hpa_t page = hpa(freed->first);

		freed->first = *(uint64_t *)phys_ptr(page) & PTE_ADDR;
		page_free(page, 0);
	}
}

/* Takes [gfn, end) out of a table whose first page is @base. Return: was there something? */
static bool clear(struct npt *npt, uint64_t *table, unsigned level, uint64_t base, uint64_t gfn,
		  uint64_t end, struct freed *freed)
{
	unsigned first = gfn <= base ? 0 : (unsigned)((gfn - base) / span(level));
	bool any = false;

	for (unsigned i = first; i < ENTRIES; i++) {
		uint64_t at = base + i * span(level), entry = table[i];

		if (at >= end) {
			break;
		}
		if ((entry & PTE_P) == 0) {
			continue;
		}
		if (is_leaf(entry, level)) {
			set(&table[i], 0);
			any = true;
		} else if (gfn <= at && at + span(level) <= end) {
			set(&table[i], 0);
			free_table(npt, entry, level - 1, freed);
			any = true;
		} else {
			any |= clear(npt, table_at(entry), level - 1, at, gfn, end, freed);
		}
	}
	return any;
}

static void leave_guest(void *arg)
{
	(void)arg; /* to be interrupted is all */
}

/* The lock is held. */
static void flush_locked(struct npt *npt)
{
	uint64_t cpus = 0;

	atomic_fetch_add_explicit(&npt->generation, 1, memory_order_seq_cst);
	list_each(&npt->guests, node)
	{
		struct npt_guest *guest = container_of(node, struct npt_guest, in_npt);
		uint32_t cpu = atomic_load_explicit(&guest->cpu, memory_order_seq_cst);

		cpus |= cpu != NPT_NOWHERE ? BIT(cpu) : 0;
	}
	ipi_call(cpus, leave_guest, NULL);
}

void npt_flush(struct npt *npt)
{
	spin_take(&npt->lock);
	flush_locked(npt);
	spin_give(&npt->lock);
}

/* The lock is held; it is kept over the flush, so that nobody maps what is about to go. */
static void unmap_locked(struct npt *npt, uint64_t gfn, uint64_t pages)
{
	struct freed freed = {0};
	uint64_t end = MIN(gfn + pages, GFN_END);

	if (gfn < end && clear(npt, phys_ptr(npt->root), LEVELS, 0, gfn, end, &freed)) {
		flush_locked(npt);
	}
	give_back(&freed);
}

/* ---- what is where ---- */

/* The place of the first range whose gfn is not below @gfn. */
static uint32_t find_range(const struct npt *npt, uint64_t gfn)
{
	uint32_t low = 0, high = npt->count;

	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (npt->ranges[middle].gfn < gfn) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	return low;
}

static int grow(struct npt *npt)
{
	uint32_t room = npt->room == 0 ? 8 : 2 * npt->room;
	struct npt_range *ranges = mem_alloc(room * sizeof(*ranges));

	if (ranges == NULL) {
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < npt->count; i++) {
		ranges[i] = npt->ranges[i];
	}
	mem_free(npt->ranges, npt->room * sizeof(*ranges));
	npt->ranges = ranges;
	npt->room = room;
	return 0;
}

static bool is_range(const struct npt_range *range, const struct kvm_slot *slot)
{
	return range->gfn == slot->gfn && range->pages == slot->pages && range->user == slot->user;
}

static int remember(struct npt *npt, const struct kvm_slot *slot)
{
	struct npt_range range = {.gfn = slot->gfn, .pages = slot->pages, .user = slot->user};
	uint32_t at;

	/* Mostly the same as last time. */
	if (npt->last < npt->count && is_range(&npt->ranges[npt->last], slot)) {
		return 0;
	}
	at = find_range(npt, slot->gfn);
	while (at < npt->count && npt->ranges[at].gfn == range.gfn) {
		if (is_range(&npt->ranges[at], slot)) {
			npt->last = at;
			return 0;
		}
		at++;
	}
	if (npt->count == npt->room && grow(npt) != 0) {
		return -ENOMEM;
	}
	for (uint32_t i = npt->count++; i > at; i--) {
		npt->ranges[i] = npt->ranges[i - 1];
	}
	npt->ranges[at] = range;
	return 0;
}

/* Ranges that lie in [gfn, gfn + pages) are of no slot any more. */
static void forget(struct npt *npt, uint64_t gfn, uint64_t pages)
{
	uint32_t from = find_range(npt, gfn), kept = from;

	for (uint32_t i = from; i < npt->count; i++) {
		const struct npt_range *r = &npt->ranges[i];

		if (!range_inside(r->gfn, r->pages, gfn, pages)) {
			npt->ranges[kept++] = *r;
		}
	}
	npt->count = kept;
}

static void invalidate(struct space_notifier *n, uint64_t start, uint64_t end)
{
	struct npt *npt = container_of(n, struct npt, notifier);

	spin_take(&npt->lock);
	for (uint32_t i = 0; i < npt->count; i++) {
		const struct npt_range *r = &npt->ranges[i];
		uint64_t from = MAX(start, r->user);
		uint64_t to = MIN(end, r->user + r->pages * PAGE_SIZE);

		if (from < to) {
			uint64_t first = (from - r->user) / PAGE_SIZE;
			uint64_t last = (to - 1 - r->user) / PAGE_SIZE;

			unmap_locked(npt, r->gfn + first, last - first + 1);
		}
	}
	spin_give(&npt->lock);
}

/* ---- life ---- */

int npt_init(struct npt *npt, struct space *space)
{
	*npt = (struct npt){.space = space, .notifier.invalidate = invalidate, .generation = 1};
	npt->root = page_alloc_zero(0, PAGE_USE_SVM);
	if (page_is_none(npt->root)) {
		return -ENOMEM;
	}
	list_init(&npt->guests);
	spin_init(&npt->lock, LOCK_KVM_MMU);
	space_get(space);
	space_add_notifier(space, &npt->notifier);
	return 0;
}

void npt_fini(struct npt *npt)
{
	space_remove_notifier(npt->space, &npt->notifier);
	spin_take(&npt->lock);
	unmap_locked(npt, 0, GFN_END);
	spin_give(&npt->lock);
	page_free(npt->root, 0);
	mem_free(npt->ranges, npt->room * sizeof(*npt->ranges));
	space_put(npt->space);
}

void npt_add_guest(struct npt *npt, struct npt_guest *guest)
{
	npt_leave(guest);
	spin_take(&npt->lock);
	list_add_last(&npt->guests, &guest->in_npt);
	spin_give(&npt->lock);
}

void npt_remove_guest(struct npt *npt, struct npt_guest *guest)
{
	spin_take(&npt->lock);
	list_remove(&guest->in_npt);
	spin_give(&npt->lock);
}

/* ---- mapping ---- */

/* May 2 MiB be mapped at once? */
static bool fits_huge(const struct kvm_fault *fault, const struct space_shown *shown)
{
	const struct kvm_slot *slot = fault->slot;
	uint64_t gfn = ALIGN_DOWN(fault->gfn, HUGE_PAGES);

	return fault->large && shown->bytes == HUGE_SIZE &&
	       ((fault->gfn << PAGE_SHIFT ^ fault->user) & (HUGE_SIZE - 1)) < PAGE_SIZE &&
	       range_inside(gfn, HUGE_PAGES, slot->gfn, slot->pages);
}

/*
 * The entry for @gfn in a table of level @leaf, with tables made on the way. A leaf that is in the
 * way goes. NULL: no memory.
 */
static uint64_t *reach(struct npt *npt, uint64_t gfn, unsigned leaf)
{
	uint64_t *table = phys_ptr(npt->root);

	for (unsigned level = LEVELS; level > leaf; level--) {
		uint64_t *entry = &table[index_at(gfn, level)];

		if ((*entry & PTE_P) != 0 && is_leaf(*entry, level)) {
			set(entry, 0);
			flush_locked(npt);
		}
		if ((*entry & PTE_P) == 0) {
			hpa_t page = page_alloc_zero(0, PAGE_USE_SVM);

			if (page_is_none(page)) {
				return NULL;
			}
			npt->tables++;
			set(entry, page.v | TABLE_FLAGS);
		}
		table = table_at(*entry);
	}
	return &table[index_at(gfn, leaf)];
}

static int enter(struct npt *npt, const struct kvm_fault *fault, const struct space_shown *shown)
{
	bool huge = fits_huge(fault, shown);
	uint64_t *entry = reach(npt, fault->gfn, huge ? 2 : 1);
	uint64_t offset = fault->user & (shown->bytes - 1) & ~(PAGE_SIZE - 1);
	uint64_t value = LEAF_FLAGS, old;

	if (entry != NULL && huge && (*entry & PTE_P) != 0 && !is_leaf(*entry, 2)) {
		/* Small pages are there already: one more. */
		huge = false;
		entry = reach(npt, fault->gfn, 1);
	}
	if (entry == NULL) {
		return -ENOMEM;
	}
	value |= huge ? shown->page.v | PTE_PS : shown->page.v + offset;
	if (fault->write || (fault->may_write && shown->writable)) {
		value |= PTE_RW;
	}
	old = *entry;
	set(entry, value);
	if ((old & PTE_P) != 0 && ((old ^ value) & PTE_ADDR) != 0) {
		flush_locked(npt);
	}
	return 0;
}

/* The lock is held. */
static int map_locked(struct npt *npt, const struct kvm_fault *fault,
		      const struct space_shown *shown)
{
	int r = remember(npt, fault->slot);

	return r == 0 ? enter(npt, fault, shown) : r;
}

/* A page that has to be found, or made, first. */
static int map_found(struct npt *npt, const struct kvm_fault *fault, unsigned access)
{
	uint64_t seq = space_seq(npt->space);
	struct space_shown shown;
	int r = space_page(npt->space, fault->user, access, &shown.page, &shown.bytes,
			   &shown.writable);

	if (r != 0) {
		return r == -ENXIO ? -EFAULT : r;
	}
	spin_take(&npt->lock);
	r = space_seq(npt->space) == seq ? map_locked(npt, fault, &shown) : -EAGAIN;
	spin_give(&npt->lock);
	page_put(shown.page);
	return r;
}

int npt_map(struct npt *npt, const struct kvm_fault *fault)
{
	unsigned access = fault->write ? SPACE_WRITE : SPACE_READ;
	struct space_shown shown;
	int r;

	if (fault->gfn >= GFN_END) {
		return -EFAULT;
	}
	if (!space_shown(npt->space, fault->user, access, &shown)) {
		return map_found(npt, fault, access);
	}
	/* Nobody takes it out meanwhile. */
	spin_take(&npt->lock);
	r = map_locked(npt, fault, &shown);
	spin_give(&npt->lock);
	space_shown_end(npt->space);
	return r;
}

void npt_unmap(struct npt *npt, uint64_t gfn, uint64_t pages)
{
	spin_take(&npt->lock);
	unmap_locked(npt, gfn, pages);
	forget(npt, gfn, pages);
	spin_give(&npt->lock);
}

/* The lowest entry for @gfn that is present, and its level; NULL: none. */
static uint64_t *find(struct npt *npt, uint64_t gfn, unsigned *level)
{
	uint64_t *table = phys_ptr(npt->root);

	for (*level = LEVELS;; --*level) {
		uint64_t *entry = &table[index_at(gfn, *level)];

		if ((*entry & PTE_P) == 0) {
			return NULL;
		}
		if (is_leaf(*entry, *level)) {
			return entry;
		}
		table = table_at(*entry);
	}
}

/* A large page goes as a whole: its parts come back one by one, each with its own right. */
void npt_protect(struct npt *npt, uint64_t gfn, uint64_t mask)
{
	spin_take(&npt->lock);
	while (mask != 0) {
		unsigned bit = (unsigned)__builtin_ctzll(mask), level;
		uint64_t *entry = gfn + bit < GFN_END ? find(npt, gfn + bit, &level) : NULL;

		mask &= mask - 1;
		if (entry != NULL) {
			set(entry, level == 1 ? *entry & ~PTE_RW : 0);
		}
	}
	spin_give(&npt->lock);
}
