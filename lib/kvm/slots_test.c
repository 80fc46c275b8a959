#include <errno.h>
#include <string.h>

#include "lib/kvm/dirty.h"
#include "lib/kvm/fake_env.h"

#define PAGE 4096

static _Alignas(PAGE) uint8_t memory[256 * PAGE];

static struct fake f;

static int set_up(void **state)
{
	(void)state;
	fake_init(&f);
	(void)fake_vm(&f);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	fake_close(&f);
	fake_end(&f);
	return 0;
}

static void slots_are_found(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 100; i++) {
		/* Backwards, so that each goes before the others. */
		assert_int_equal(fake_slot(&f, i, 0, (100 - i) * 4 * PAGE, 2 * PAGE, memory), 0);
	}
	for (uint32_t i = 0; i < 100; i++) {
		uint64_t gfn = (100 - i) * UINT64_C(4);

		assert_int_equal(kvm_slots_find(&f.vm->slots, gfn)->id, i);
		assert_int_equal(kvm_slots_find(&f.vm->slots, gfn + 1)->id, i);
		assert_null(kvm_slots_find(&f.vm->slots, gfn + 2));
		assert_null(kvm_slots_find(&f.vm->slots, gfn - 1));
		assert_int_equal(kvm_slots_by_id(&f.vm->slots, i)->gfn, gfn);
	}
	assert_null(kvm_slots_by_id(&f.vm->slots, 100));
	assert_int_equal(fake_slot(&f, 50, 0, 0, 0, NULL), 0);
	assert_null(kvm_slots_find(&f.vm->slots, 200));
	assert_null(kvm_slots_by_id(&f.vm->slots, 50));
	assert_int_equal(f.vm->slots.count, 99);
}

static void what_is_refused(void **state)
{
	(void)state;
	assert_int_equal(fake_slot(&f, 1, 0, PAGE, 4 * PAGE, memory), 0);
	assert_int_equal(fake_slot(&f, 2, 0, 0, PAGE, memory), 0);
	assert_int_equal(fake_slot(&f, 3, 0, 4 * PAGE, PAGE, memory), -EEXIST);
	assert_int_equal(fake_slot(&f, 3, 0, 0, 2 * PAGE, memory), -EEXIST);
	assert_int_equal(fake_slot(&f, 3, 0, 0, 99 * PAGE, memory), -EEXIST);
	assert_int_equal(fake_slot(&f, 3, 0, 5 * PAGE + 1, PAGE, memory), -EINVAL);
	assert_int_equal(fake_slot(&f, 3, 0, 5 * PAGE, PAGE + 1, memory), -EINVAL);
	assert_int_equal(fake_slot(&f, 3, 0, 5 * PAGE, PAGE, memory + 1), -EINVAL);
	assert_int_equal(fake_slot(&f, 3, 4, 5 * PAGE, PAGE, memory), -EINVAL);
	assert_int_equal(fake_slot(&f, KVM_SLOTS_MAX, 0, 5 * PAGE, PAGE, memory), -EINVAL);
	assert_int_equal(fake_slot(&f, 2 << 16, 0, 5 * PAGE, PAGE, memory), -EINVAL);
	assert_int_equal(fake_slot(&f, 3, 0, UINT64_MAX - PAGE + 1, PAGE, memory), -EINVAL);
	assert_int_equal(fake_slot(&f, 3, 0, UINT64_C(1) << 48, PAGE, memory), -EINVAL);
	assert_int_equal(fake_slot(&f, 3, 0, 5 * PAGE, PAGE, (void *)(UINTPTR_MAX - PAGE + 1)),
			 -EINVAL);
	assert_int_equal(fake_slot(&f, 3, 0, 0, 0, NULL), -EINVAL);
	assert_int_equal(fake_slot(&f, 1, 0, PAGE, 5 * PAGE, memory), -EINVAL);
	assert_int_equal(fake_slot(&f, 1, 0, PAGE, 4 * PAGE, memory + PAGE), -EINVAL);
	assert_int_equal(fake_slot(&f, 1, KVM_MEM_READONLY, PAGE, 4 * PAGE, memory), -EINVAL);
	assert_int_equal(fake_slot(&f, 1, 0, 0, 4 * PAGE, memory), -EEXIST);
	/* The last possible page. */
	assert_int_equal(fake_slot(&f, 3, 0, (UINT64_C(1) << 48) - PAGE, PAGE, memory), 0);
	assert_int_equal(fake_slot(&f, KVM_SLOTS_MAX - 1, 0, 9 * PAGE, PAGE, memory), 0);
}

static void moving_takes_mappings_away(void **state)
{
	(void)state;
	assert_int_equal(fake_slot(&f, 1, 0, PAGE, 4 * PAGE, memory), 0);
	assert_int_equal(f.changes, 0);
	/* Onto its own place, half. */
	assert_int_equal(fake_slot(&f, 1, 0, 2 * PAGE, 4 * PAGE, memory), 0);
	assert_null(kvm_slots_find(&f.vm->slots, 1));
	assert_int_equal(kvm_slots_find(&f.vm->slots, 5)->id, 1);
	assert_int_not_equal(f.changes, 0);
	assert_int_equal(f.change[0].what, 'u');
	assert_int_equal(f.change[0].gfn, 1);
	assert_int_equal(f.change[0].pages, 4);
	f.changes = 0;
	assert_int_equal(fake_slot(&f, 1, 0, 2 * PAGE, 4 * PAGE, memory), 0);
	assert_int_equal(f.changes, 0); /* nothing changed */
	assert_int_equal(fake_slot(&f, 1, 0, 0, 0, NULL), 0);
	assert_int_equal(f.change[0].gfn, 2);
}

static void other_address_space_is_apart(void **state)
{
	const uint32_t smm = 1 << 16;

	(void)state;
	assert_int_equal(fake_slot(&f, 1, 0, PAGE, 4 * PAGE, memory), 0);
	assert_int_equal(fake_slot(&f, smm | 1, KVM_MEM_LOG_DIRTY_PAGES, 0, 8 * PAGE, memory), 0);
	assert_int_equal(fake_slot(&f, smm | 2, 0, 7 * PAGE, PAGE, memory), -EEXIST);
	assert_int_equal(fake_slot(&f, smm | KVM_SLOTS_MAX, 0, 9 * PAGE, PAGE, memory), -EINVAL);
	assert_null(kvm_slots_find(&f.vm->slots, 0));
	assert_int_equal(kvm_slots_find(&f.vm->slots, 1)->id, 1);
	assert_int_equal(kvm_slots_find(&f.vm->smm_slots, 1)->id, smm | 1);
	assert_int_equal(kvm_slots_by_id(&f.vm->slots, 1)->pages, 4);
	/* No guest sees it: nothing is mapped. */
	assert_int_equal(fake_slot(&f, smm | 1, 0, PAGE, 8 * PAGE, memory), 0);
	assert_int_equal(fake_slot(&f, smm | 1, 0, 0, 0, NULL), 0);
	assert_int_equal(fake_slot(&f, smm | 1, 0, 0, 0, NULL), -EINVAL);
	assert_int_equal(f.changes, 0);
	assert_int_equal(f.vm->slots.count, 1);
	assert_int_equal(f.vm->smm_slots.count, 0);
	/* The last one is freed with the VM. */
	assert_int_equal(fake_slot(&f, smm, 0, 0, PAGE, memory), 0);
}

static void no_memory_changes_nothing(void **state)
{
	(void)state;
	f.fail_in = 1;
	assert_int_equal(fake_slot(&f, 1, 0, 0, PAGE, memory), -ENOMEM);
	f.fail_in = 2;
	assert_int_equal(fake_slot(&f, 1, 0, 0, PAGE, memory), -ENOMEM);
	f.fail_in = 2;
	assert_int_equal(fake_slot(&f, 1, KVM_MEM_LOG_DIRTY_PAGES, 0, PAGE, memory), -ENOMEM);
	assert_int_equal(f.vm->slots.count, 0);
	assert_int_equal(fake_slot(&f, 1, 0, 0, PAGE, memory), 0);
	f.fail_in = 1;
	assert_int_equal(fake_slot(&f, 1, KVM_MEM_LOG_DIRTY_PAGES, 0, PAGE, memory), -ENOMEM);
	assert_int_equal(kvm_slots_by_id(&f.vm->slots, 1)->flags, 0);
}

/* ---- dirty logs ---- */

static uint64_t bitmap[4];

static int64_t get_log(uint32_t slot)
{
	struct kvm_dirty_log log = {.slot = slot, .dirty_bitmap = bitmap};

	return vm_call(&f, KVM_GET_DIRTY_LOG, &log);
}

static void log_is_taken_and_begins_anew(void **state)
{
	struct kvm_vcpu *vcpu = fake_vcpu(&f, 0);
	struct kvm_slot *slot;

	(void)state;
	assert_int_equal(fake_slot(&f, 1, KVM_MEM_LOG_DIRTY_PAGES, 0x100 * PAGE, 70 * PAGE, memory),
			 0);
	assert_int_equal(fake_slot(&f, 2, 0, 0, PAGE, memory), 0);
	slot = kvm_slots_by_id(&f.vm->slots, 1);
	kvm_dirty_mark(vcpu, slot, 0x100);
	kvm_dirty_mark(vcpu, slot, 0x100 + 69);
	assert_true(kvm_dirty_is_marked(slot, 0x100));
	assert_false(kvm_dirty_is_marked(slot, 0x101));
	memset(bitmap, 0xff, sizeof(bitmap));
	assert_int_equal(get_log(1), 0);
	assert_int_equal(bitmap[0], 1);
	assert_int_equal(bitmap[1], 1 << 5);
	assert_int_equal(bitmap[2], UINT64_MAX);
	/* What was taken is watched again. */
	assert_int_equal(f.changes, 2);
	assert_int_equal(f.change[0].what, 'p');
	assert_int_equal(f.change[0].gfn, 0x100);
	assert_int_equal(f.change[1].gfn, 0x140);
	assert_int_equal(f.change[1].pages, 1 << 5);
	assert_int_equal(f.flushes, 1);
	assert_int_equal(get_log(1), 0);
	assert_int_equal(bitmap[0] | bitmap[1], 0);
	assert_int_equal(f.flushes, 1);
	assert_int_equal(get_log(2), -ENOENT);
	assert_int_equal(get_log(3), -ENOENT);
	assert_int_equal(get_log(KVM_SLOTS_MAX), -EINVAL);
	assert_int_equal(get_log(1 << 16 | 1), -ENOENT);
	assert_int_equal(get_log(2 << 16 | 1), -EINVAL);
	f.hole = (uintptr_t)bitmap;
	f.hole_end = f.hole + sizeof(bitmap);
	assert_int_equal(get_log(1), -EFAULT);
	f.hole = f.hole_end = 0;
}

static int64_t clear_log(uint64_t first, uint32_t pages)
{
	struct kvm_clear_dirty_log log = {
		.slot = 1, .first_page = first, .num_pages = pages, .dirty_bitmap = bitmap};

	return vm_call(&f, KVM_CLEAR_DIRTY_LOG, &log);
}

static void manual_log_is_cleared_by_hand(void **state)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = {3}};

	(void)state;
	assert_int_equal(vm_call(&f, KVM_ENABLE_CAP, &cap), 0);
	assert_int_equal(fake_slot(&f, 1, KVM_MEM_LOG_DIRTY_PAGES, 0, 70 * PAGE, memory), 0);
	assert_int_equal(get_log(1), 0);
	assert_true(bitmap[0] == UINT64_MAX); /* initially all */
	assert_int_equal(bitmap[1], 0x3f);
	assert_int_equal(f.changes, 0);
	bitmap[0] = 0xf0;
	assert_int_equal(clear_log(0, 64), 0);
	assert_int_equal(f.change[0].pages, 0xf0);
	assert_int_equal(get_log(1), 0);
	assert_true(bitmap[0] == ~UINT64_C(0xf0));
	bitmap[0] = UINT64_MAX;
	assert_int_equal(clear_log(64, 6), 0);
	assert_int_equal(get_log(1), 0);
	assert_int_equal(bitmap[1], 0);
	assert_int_equal(clear_log(1, 64), -EINVAL);
	assert_int_equal(clear_log(0, 63), -EINVAL);
	assert_int_equal(clear_log(0, 71), -EINVAL);
	assert_int_equal(clear_log(128, 0), -EINVAL);
	assert_int_equal(clear_log(UINT64_MAX - 63, 64), -EINVAL);
	assert_int_equal(clear_log(64, 64), -EINVAL);
	cap.args[0] = 2;
	assert_int_equal(vm_call(&f, KVM_ENABLE_CAP, &cap), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(slots_are_found, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_is_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(moving_takes_mappings_away, set_up, tear_down),
		cmocka_unit_test_setup_teardown(other_address_space_is_apart, set_up, tear_down),
		cmocka_unit_test_setup_teardown(no_memory_changes_nothing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(log_is_taken_and_begins_anew, set_up, tear_down),
		cmocka_unit_test_setup_teardown(manual_log_is_cleared_by_hand, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
