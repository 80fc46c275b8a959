#include "lib/kvm/dirty_ring.h"

#include <errno.h>
#include <string.h>

#include "lib/kvm/dirty.h"
#include "lib/kvm/fake_env.h"

#define PAGE	4096
#define BASE	0x100u /* page of slot 1 */
#define PAGES	1024u
#define ENTRIES 512u
#define BYTES	(ENTRIES * sizeof(struct kvm_dirty_gfn))

static _Alignas(PAGE) uint8_t memory[PAGES * PAGE];

static struct fake f;
static struct kvm_vcpu *vcpu;
static struct kvm_run *run;

static int64_t enable(uint64_t bytes)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_DIRTY_LOG_RING, .args = {bytes}};

	return vm_call(&f, KVM_ENABLE_CAP, &cap);
}

static int64_t reset(void)
{
	return vm_call(&f, KVM_RESET_DIRTY_RINGS, NULL);
}

static int set_up_bare(void **state)
{
	(void)state;
	fake_init(&f);
	(void)fake_vm(&f);
	return 0;
}

static int set_up(void **state)
{
	(void)set_up_bare(state);
	assert_int_equal(enable(BYTES), 0);
	assert_int_equal(
		fake_slot(&f, 1, KVM_MEM_LOG_DIRTY_PAGES, BASE * PAGE, PAGES * PAGE, memory), 0);
	vcpu = fake_vcpu(&f, 0);
	run = kvm_vcpu_mmap(vcpu, 0);
	f.changes = 0;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	fake_close(&f);
	fake_end(&f);
	return 0;
}

static struct kvm_dirty_gfn *entry_of(struct kvm_vcpu *of, unsigned n)
{
	struct kvm_dirty_gfn *page = kvm_vcpu_mmap(of, KVM_DIRTY_LOG_PAGE_OFFSET + n / 256);

	assert_non_null(page);
	return &page[n % 256];
}

/* The vCPU writes to page @page of slot 1. */
static void mark(struct kvm_vcpu *by, uint64_t page)
{
	kvm_dirty_mark(by, kvm_slots_by_id(&f.vm->slots, 1), BASE + page);
}

static void assert_entry(const struct kvm_dirty_gfn *entry, uint64_t page)
{
	assert_int_equal(entry->flags, KVM_DIRTY_GFN_F_DIRTY);
	assert_int_equal(entry->slot, 1);
	assert_int_equal(entry->offset, page);
}

static void sizes_are_checked(void **state)
{
	(void)state;
	assert_int_equal(reset(), -EINVAL);
	assert_int_equal(enable(0), -EINVAL);
	assert_int_equal(enable(2048), -EINVAL);
	assert_int_equal(enable(3 * PAGE), -EINVAL);
	assert_int_equal(enable(KVM_RING_MAX * UINT64_C(32)), -E2BIG);
	assert_int_equal(f.vm->dirty_ring, 0);
	assert_int_equal(enable(KVM_RING_MAX * UINT64_C(16)), 0);
	assert_int_equal(enable(PAGE), -EINVAL);
	vcpu = fake_vcpu(&f, 0);
	assert_non_null(kvm_vcpu_mmap(vcpu, KVM_MAP_END - 1));
	assert_null(kvm_vcpu_mmap(vcpu, KVM_MAP_END));
	assert_null(kvm_vcpu_mmap(vcpu, KVM_DIRTY_LOG_PAGE_OFFSET - 1));
	assert_int_equal(reset(), 0);
}

static void ring_comes_before_vcpus(void **state)
{
	(void)state;
	vcpu = fake_vcpu(&f, 0);
	assert_int_equal(enable(PAGE), -EINVAL);
	assert_null(kvm_vcpu_mmap(vcpu, KVM_DIRTY_LOG_PAGE_OFFSET));
}

static void no_memory_for_a_ring(void **state)
{
	int64_t r = -ENOMEM;

	(void)state;
	assert_int_equal(enable(4 * PAGE), 0);
	for (int n = 1; r == -ENOMEM; n++) {
		f.fail_in = n;
		r = kvm_vm_ioctl(f.vm, KVM_CREATE_VCPU, 0);
		/* Those of a vCPU without one, the table, and the pages. */
		assert_true(r == -ENOMEM || n > 5);
	}
	f.fail_in = 0;
	assert_true(r >= 0);
}

static void writes_are_entered_in_order(void **state)
{
	struct kvm_vcpu *other = fake_vcpu(&f, 1);

	(void)state;
	mark(vcpu, 9);
	mark(vcpu, 3);
	mark(vcpu, 9);
	mark(other, 3);
	mark(other, PAGES - 1);
	assert_entry(entry_of(vcpu, 0), 9);
	assert_entry(entry_of(vcpu, 1), 3);
	assert_int_equal(entry_of(vcpu, 2)->flags, 0);
	assert_entry(entry_of(other, 0), PAGES - 1);
	assert_int_equal(entry_of(other, 1)->flags, 0);
}

static void logs_that_were_full_begin_anew(void **state)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = {3}};

	(void)state;
	assert_int_equal(vm_call(&f, KVM_ENABLE_CAP, &cap), 0);
	assert_int_equal(
		fake_slot(&f, 1, KVM_MEM_LOG_DIRTY_PAGES, BASE * PAGE, PAGES * PAGE, memory), 0);
	assert_int_equal(enable(PAGE), 0);
	assert_int_equal(fake_slot(&f, 2, KVM_MEM_LOG_DIRTY_PAGES, 0, PAGE, memory), 0);
	vcpu = fake_vcpu(&f, 0);
	mark(vcpu, 7);
	assert_entry(entry_of(vcpu, 0), 7);
	kvm_dirty_mark(vcpu, kvm_slots_by_id(&f.vm->slots, 2), 0);
	assert_int_equal(entry_of(vcpu, 1)->slot, 2);
}

static void reset_watches_again(void **state)
{
	(void)state;
	mark(vcpu, 70);
	mark(vcpu, 3);
	assert_int_equal(reset(), 0);
	entry_of(vcpu, 1)->flags = KVM_DIRTY_GFN_F_RESET; /* not its turn */
	assert_int_equal(reset(), 0);
	entry_of(vcpu, 1)->flags = KVM_DIRTY_GFN_F_DIRTY;
	entry_of(vcpu, 0)->flags = KVM_DIRTY_GFN_F_DIRTY | KVM_DIRTY_GFN_F_RESET;
	assert_int_equal(f.changes, 0);
	assert_int_equal(reset(), 1);
	assert_int_equal(entry_of(vcpu, 0)->flags, 0);
	assert_int_equal(f.changes, 1);
	assert_int_equal(f.change[0].what, 'p');
	assert_int_equal(f.change[0].gfn, BASE + 64);
	assert_int_equal(f.change[0].pages, 1 << 6);
	assert_int_equal(f.flushes, 1);
	mark(vcpu, 3);
	mark(vcpu, 70);
	assert_entry(entry_of(vcpu, 2), 70);
	assert_int_equal(entry_of(vcpu, 3)->flags, 0);
}

static void entries_may_say_anything(void **state)
{
	static const struct {
		uint32_t slot;
		uint64_t offset;
	} nonsense[] = {
		{1, PAGES}, {1, UINT64_MAX}, {2, 0}, {3, 0}, {1 << 16 | 1, 0}, {UINT32_MAX, 0},
	};

	(void)state;
	assert_int_equal(fake_slot(&f, 2, 0, 0, PAGE, memory), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(nonsense); i++) {
		mark(vcpu, i);
		entry_of(vcpu, i)->slot = nonsense[i].slot;
		entry_of(vcpu, i)->offset = nonsense[i].offset;
		entry_of(vcpu, i)->flags = KVM_DIRTY_GFN_F_RESET;
	}
	/* Nothing was entered behind them. */
	for (unsigned i = ARRAY_SIZE(nonsense); i < ENTRIES; i++) {
		entry_of(vcpu, i)->flags = KVM_DIRTY_GFN_F_RESET;
	}
	assert_int_equal(reset(), ARRAY_SIZE(nonsense));
	assert_int_equal(f.changes, 0);
	assert_int_equal(f.flushes, 0);
	assert_int_equal(reset(), 0);
}

static void full_ring_is_an_exit(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		unsigned first = round * (ENTRIES - KVM_RING_RESERVED);
		unsigned entered = ENTRIES - KVM_RING_RESERVED;

		for (unsigned i = 0; i < entered - 1; i++) {
			mark(vcpu, (first + i) % PAGES);
		}
		assert_int_equal(vcpu_call(vcpu, KVM_RUN, NULL), 0);
		assert_int_equal(run->exit_reason, KVM_EXIT_HLT);
		mark(vcpu, (first + entered - 1) % PAGES);
		for (unsigned again = 0; again < 2; again++) {
			run->exit_reason = 0;
			f.enters = 0;
			assert_int_equal(vcpu_call(vcpu, KVM_RUN, NULL), 0);
			assert_int_equal(run->exit_reason, KVM_EXIT_DIRTY_RING_FULL);
			assert_int_equal(f.enters, 0);
		}
		for (unsigned i = 0; i < entered; i++) {
			struct kvm_dirty_gfn *entry = entry_of(vcpu, (first + i) % ENTRIES);

			assert_entry(entry, (first + i) % PAGES);
			entry->flags = KVM_DIRTY_GFN_F_RESET;
		}
		f.changes = 0;
		assert_int_equal(reset(), entered);
		assert_int_equal(vcpu_call(vcpu, KVM_RUN, NULL), 0);
		assert_int_equal(run->exit_reason, KVM_EXIT_HLT);
	}
}

static void nothing_is_entered_twice_at_one_place(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ENTRIES + 10; i++) {
		mark(vcpu, i);
	}
	for (unsigned i = 0; i < ENTRIES; i++) {
		assert_entry(entry_of(vcpu, i), i);
	}
	/* What had no room is watched still. */
	assert_false(kvm_dirty_is_marked(kvm_slots_by_id(&f.vm->slots, 1), BASE + ENTRIES));
	entry_of(vcpu, 0)->flags = KVM_DIRTY_GFN_F_RESET;
	assert_int_equal(reset(), 1);
	mark(vcpu, ENTRIES + 5);
	assert_entry(entry_of(vcpu, 0), ENTRIES + 5);
}

static void ring_excludes_the_log(void **state)
{
	uint64_t bitmap[PAGES / 64];
	struct kvm_dirty_log log = {.slot = 1, .dirty_bitmap = bitmap};

	(void)state;
	assert_int_equal(vm_call(&f, KVM_GET_DIRTY_LOG, &log), -ENXIO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(sizes_are_checked, set_up_bare, tear_down),
		cmocka_unit_test_setup_teardown(ring_comes_before_vcpus, set_up_bare, tear_down),
		cmocka_unit_test_setup_teardown(no_memory_for_a_ring, set_up_bare, tear_down),
		cmocka_unit_test_setup_teardown(logs_that_were_full_begin_anew, set_up_bare,
						tear_down),
		cmocka_unit_test_setup_teardown(writes_are_entered_in_order, set_up, tear_down),
		cmocka_unit_test_setup_teardown(reset_watches_again, set_up, tear_down),
		cmocka_unit_test_setup_teardown(entries_may_say_anything, set_up, tear_down),
		cmocka_unit_test_setup_teardown(full_ring_is_an_exit, set_up, tear_down),
		cmocka_unit_test_setup_teardown(nothing_is_entered_twice_at_one_place, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(ring_excludes_the_log, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
