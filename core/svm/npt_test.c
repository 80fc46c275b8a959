/* Nested page tables over the real address spaces, hosted. */
#include "core/svm/npt.h"

#include <errno.h>

#include "core/hw/fake_hw.h"
#include "core/hw/ipi.h"
#include "core/hw/regs.h"
#include "lib/kvm/slots.h"
#include "tests/unit.h"

#define RW   (SPACE_READ | SPACE_WRITE)
#define HUGE (HUGE_SIZE / PAGE_SIZE)

static unsigned calls;
static uint64_t called;
static uint64_t used_before;

void ipi_call(uint64_t cpus, ipi_fn *fn, void *arg)
{
	(void)fn;
	(void)arg;
	calls++;
	called = cpus;
}

struct fixture {
	struct space *space;
	struct npt npt;
	struct kvm_slot slot;
	uint64_t va;
};

static uint64_t used(void)
{
	page_drain_cpu();
	return page_total() - page_used(PAGE_USE_FREE);
}

static int start(void **state)
{
	static struct fixture f;

	fake_machine_start(64);
	used_before = used();
	f = (struct fixture){.space = space_create()};
	assert_non_null(f.space);
	assert_int_equal(npt_init(&f.npt, f.space), 0);
	calls = 0;
	*state = &f;
	return 0;
}

static int stop(void **state)
{
	struct fixture *f = *state;

	npt_fini(&f->npt);
	space_put(f->space);
	assert_int_equal(f->npt.tables, 0);
	assert_int_equal(page_used(PAGE_USE_SVM), 0);
	assert_int_equal(page_used(PAGE_USE_USER), 0);
	assert_int_equal(page_used(PAGE_USE_HEAP), 0);
	assert_int_equal(used(), used_before);
	fake_machine_stop();
	return 0;
}

/* A slot of @pages from @gfn on, over new memory that is aligned for large pages. */
static void make_slot(struct fixture *f, uint64_t gfn, uint64_t pages, unsigned prot,
		      unsigned flags)
{
	assert_int_equal(space_map(f->space, UINT64_C(0x40000000), pages * PAGE_SIZE, prot,
				   SPACE_FIXED | flags, NULL, 0, &f->va),
			 0);
	f->slot = (struct kvm_slot){.gfn = gfn, .pages = pages, .user = f->va};
}

static int map(struct fixture *f, uint64_t gfn, bool write, bool may_write, bool large)
{
	struct kvm_fault fault = {
		.slot = &f->slot,
		.gfn = gfn,
		.user = f->slot.user + (gfn - f->slot.gfn) * PAGE_SIZE,
		.write = write,
		.may_write = may_write,
		.large = large,
	};

	return npt_map(&f->npt, &fault);
}

/* As the CPU walks: the lowest entry, or 0. */
static uint64_t see(struct fixture *f, uint64_t gfn, unsigned *level)
{
	uint64_t *table = phys_ptr(f->npt.root);

	for (*level = 4;; --*level) {
		uint64_t entry = table[gfn >> (*level - 1) * 9 & 511];

		if ((entry & PTE_P) == 0) {
			return 0;
		}
		assert_true((entry & PTE_US) != 0);
		if (*level == 1 || (entry & PTE_PS) != 0) {
			return entry;
		}
		table = phys_ptr(hpa(entry & PTE_ADDR));
	}
}

static uint64_t small(struct fixture *f, uint64_t gfn)
{
	unsigned level;
	uint64_t entry = see(f, gfn, &level);

	assert_true(entry == 0 || level == 1);
	return entry;
}

static uint8_t *behind(struct fixture *f, uint64_t gfn)
{
	unsigned level;
	uint64_t entry = see(f, gfn, &level);
	uint64_t offset = level == 2 ? gfn % HUGE * PAGE_SIZE : 0;

	assert_true(entry != 0);
	return (uint8_t *)phys_ptr(hpa((entry & PTE_ADDR) + offset));
}

static void shows_what_the_vmm_sees(void **state)
{
	struct fixture *f = *state;
	uint8_t byte = 0x5a;

	make_slot(f, 16, 8, RW, SPACE_NOHUGE);
	assert_int_equal(map(f, 19, true, true, false), 0);
	assert_int_equal(small(f, 18), 0);
	assert_true((small(f, 19) & PTE_RW) != 0);
	assert_int_equal(space_write(f->space, f->va + 3 * PAGE_SIZE + 7, &byte, 1), 0);
	assert_int_equal(behind(f, 19)[7], 0x5a);
	behind(f, 19)[8] = 0xa5;
	assert_int_equal(space_read(f->space, &byte, f->va + 3 * PAGE_SIZE + 8, 1), 0);
	assert_int_equal(byte, 0xa5);
	assert_int_equal(calls, 0); /* nothing was taken away */
}

static void rights(void **state)
{
	struct fixture *f = *state;

	make_slot(f, 0, 4, RW, SPACE_NOHUGE);
	assert_int_equal(map(f, 0, false, false, false), 0);
	assert_true(small(f, 0) != 0 && (small(f, 0) & PTE_RW) == 0);
	assert_int_equal(map(f, 0, true, true, false), 0);
	assert_true((small(f, 0) & PTE_RW) != 0);
	assert_int_equal(space_protect(f->space, f->va, 4 * PAGE_SIZE, SPACE_READ), 0);
	assert_int_equal(small(f, 0), 0); /* it was told */
	assert_int_equal(map(f, 0, true, true, false), -EFAULT);
	assert_int_equal(map(f, 0, false, true, false), 0);
	assert_true((small(f, 0) & PTE_RW) == 0);
	assert_int_equal(map(f, UINT64_C(1) << 36, false, true, false), -EFAULT);
}

static void memory_that_goes_is_unmapped(void **state)
{
	struct fixture *f = *state;
	struct npt_guest guest, other;
	uint64_t generation;

	npt_add_guest(&f->npt, &guest);
	npt_add_guest(&f->npt, &other);
	make_slot(f, 100, 16, RW, SPACE_NOHUGE);
	for (uint64_t gfn = 100; gfn < 116; gfn++) {
		assert_int_equal(map(f, gfn, true, true, false), 0);
	}
	npt_enter(&guest, 5);
	generation = npt_generation(&f->npt);
	assert_int_equal(space_unmap(f->space, f->va + 4 * PAGE_SIZE, 2 * PAGE_SIZE), 0);
	assert_true(small(f, 103) != 0 && small(f, 106) != 0);
	assert_int_equal(small(f, 104), 0);
	assert_int_equal(small(f, 105), 0);
	assert_true(calls > 0);
	assert_int_equal(called, BIT(5)); /* who is in the guest comes out */
	npt_leave(&guest);
	assert_true(npt_generation(&f->npt) > generation);
	npt_flush(&f->npt);
	assert_int_equal(called, 0); /* nobody */
	npt_remove_guest(&f->npt, &guest);
	npt_remove_guest(&f->npt, &other);
	assert_int_equal(map(f, 104, true, true, false), -EFAULT);
}

static void two_slots_over_one_memory(void **state)
{
	struct fixture *f = *state;

	make_slot(f, 100, 16, RW, SPACE_NOHUGE);
	assert_int_equal(map(f, 101, true, true, false), 0);
	f->slot.gfn = 5000;
	assert_int_equal(map(f, 5001, true, true, false), 0);
	assert_int_equal(f->npt.count, 2);
	npt_unmap(&f->npt, 5000, 16);
	assert_int_equal(f->npt.count, 1);
	assert_int_equal(small(f, 5001), 0);
	assert_true(small(f, 101) != 0);
	assert_int_equal(space_unmap(f->space, f->va, 16 * PAGE_SIZE), 0);
	assert_int_equal(small(f, 101), 0);
}

static void many_slots_are_kept_in_order(void **state)
{
	struct fixture *f = *state;

	make_slot(f, 0, 64, RW, SPACE_NOHUGE);
	for (uint64_t i = 0; i < 40; i++) {
		uint64_t n = i * 7 % 40; /* out of order */

		f->slot = (struct kvm_slot){
			.gfn = 1000 + n, .pages = 1, .user = f->va + n * PAGE_SIZE};
		assert_int_equal(map(f, 1000 + n, true, true, false), 0);
		assert_int_equal(map(f, 1000 + n, true, true, false), 0);
	}
	assert_int_equal(f->npt.count, 40);
	for (uint32_t i = 0; i < 40; i++) {
		assert_int_equal(f->npt.ranges[i].gfn, 1000 + i);
	}
	npt_unmap(&f->npt, 1010, 20);
	assert_int_equal(f->npt.count, 20);
}

static void large_pages(void **state)
{
	struct fixture *f = *state;
	unsigned level;

	make_slot(f, 2 * HUGE, 2 * HUGE, RW, 0);
	assert_int_equal(map(f, 2 * HUGE + 3, true, true, true), 0);
	assert_true(see(f, 2 * HUGE + 200, &level) != 0);
	assert_int_equal(level, 2);
	behind(f, 2 * HUGE + 3)[1] = 9;
	uint8_t byte = 0;
	assert_int_equal(space_read(f->space, &byte, f->va + 3 * PAGE_SIZE + 1, 1), 0);
	assert_int_equal(byte, 9);
	/* A log was started: the whole goes, and comes back in parts. */
	npt_protect(&f->npt, 2 * HUGE, BIT(3));
	assert_int_equal(see(f, 2 * HUGE, &level), 0);
	assert_int_equal(map(f, 2 * HUGE + 3, false, false, false), 0);
	assert_true((small(f, 2 * HUGE + 3) & PTE_RW) == 0);
	assert_int_equal(behind(f, 2 * HUGE + 3)[1], 9);
	/* With a table there, large ones wait. */
	assert_int_equal(map(f, 2 * HUGE + 4, true, true, true), 0);
	assert_true(small(f, 2 * HUGE + 4) != 0);
	npt_unmap(&f->npt, 2 * HUGE, 2 * HUGE);
	assert_int_equal(map(f, 2 * HUGE + 4, true, true, true), 0);
	assert_true(see(f, 2 * HUGE, &level) != 0 && level == 2);
	/* A small one in a large one's place. */
	assert_int_equal(map(f, 2 * HUGE + 5, true, true, false), 0);
	assert_int_equal(small(f, 2 * HUGE + 4), 0);
	assert_true(small(f, 2 * HUGE + 5) != 0);
}

static void large_pages_only_where_they_fit(void **state)
{
	struct fixture *f = *state;
	unsigned level;

	make_slot(f, 2 * HUGE + 1, 2 * HUGE, RW, 0); /* shifted against user memory */
	assert_int_equal(map(f, 3 * HUGE, true, true, true), 0);
	assert_true(see(f, 3 * HUGE, &level) != 0);
	assert_int_equal(level, 1);
	f->slot = (struct kvm_slot){.gfn = 8 * HUGE, .pages = HUGE - 1, .user = f->va};
	assert_int_equal(map(f, 8 * HUGE, true, true, true), 0); /* the slot is too short */
	assert_true(see(f, 8 * HUGE, &level) != 0);
	assert_int_equal(level, 1);
}

static void protects_by_mask(void **state)
{
	struct fixture *f = *state;

	make_slot(f, 64, 64, RW, SPACE_NOHUGE);
	for (uint64_t gfn = 64; gfn < 128; gfn += 2) {
		assert_int_equal(map(f, gfn, true, true, false), 0);
	}
	npt_protect(&f->npt, 64, BIT(0) | BIT(1) | BIT(62));
	assert_true((small(f, 64) & PTE_RW) == 0 && small(f, 64) != 0);
	assert_int_equal(small(f, 65), 0);
	assert_true((small(f, 126) & PTE_RW) == 0);
	assert_true((small(f, 66) & PTE_RW) != 0);
	npt_protect(&f->npt, UINT64_MAX - 62, UINT64_MAX);
	assert_int_equal(calls, 0); /* the flush is the caller's */
	npt_flush(&f->npt);
	assert_int_equal(calls, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(shows_what_the_vmm_sees, start, stop),
		cmocka_unit_test_setup_teardown(rights, start, stop),
		cmocka_unit_test_setup_teardown(memory_that_goes_is_unmapped, start, stop),
		cmocka_unit_test_setup_teardown(two_slots_over_one_memory, start, stop),
		cmocka_unit_test_setup_teardown(many_slots_are_kept_in_order, start, stop),
		cmocka_unit_test_setup_teardown(large_pages, start, stop),
		cmocka_unit_test_setup_teardown(large_pages_only_where_they_fit, start, stop),
		cmocka_unit_test_setup_teardown(protects_by_mask, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
