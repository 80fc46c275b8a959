#include "vmm/host/accel.h"

#include <errno.h>

#include "tests/unit.h"

static const struct accel_facts good = {.hardware = true, .api_version = 12};
static const struct accel_facts trap = {.hardware = false, .device_error = 0};
static const struct accel_facts nothing = {.hardware = false, .device_error = -ENOENT};
static const struct accel_facts no_module = {.hardware = true, .device_error = -ENOENT};
static const struct accel_facts old = {.hardware = true, .api_version = 11};

static void flags(void **unused)
{
	(void)unused;
	assert_true(cpuinfo_has_virtualization("processor : 0\nflags\t\t: fpu vmx sse\n"));
	assert_true(cpuinfo_has_virtualization("flags\t\t: fpu sse svm"));
	assert_true(cpuinfo_has_virtualization("flags\t\t: svm\nbugs : x\n"));
	assert_false(cpuinfo_has_virtualization("flags\t\t: fpu vmxx svm_lock asvm\n"));
	assert_false(cpuinfo_has_virtualization("vmx flags\t: ept vpid svm\nmodel name : vmx\n"));
	assert_false(cpuinfo_has_virtualization("flags\t\t: fpu\nbugs\t\t: svm\n"));
	assert_false(cpuinfo_has_virtualization("flags"));
	assert_false(cpuinfo_has_virtualization(""));
}

static enum accel chosen_by(enum accel wanted, const struct accel_facts *facts, bool soft)
{
	enum accel chosen = ACCEL_AUTO;

	assert_int_equal(accel_decide(wanted, facts, soft, &chosen), 0);
	return chosen;
}

static void refused(enum accel wanted, const struct accel_facts *facts, bool soft)
{
	enum accel chosen = ACCEL_AUTO;

	assert_int_equal(accel_decide(wanted, facts, soft, &chosen), -ENODEV);
	assert_int_equal(chosen, ACCEL_AUTO);
}

static const struct accel_facts *const bad[] = {&trap, &nothing, &no_module, &old};

static void automatic_choice_does_not_fall_for_the_trap(void **unused)
{
	(void)unused;
	assert_null(accel_why_not(&good));
	assert_int_equal(chosen_by(ACCEL_AUTO, &good, true), ACCEL_KVM);
	assert_int_equal(chosen_by(ACCEL_AUTO, &good, false), ACCEL_KVM);
	assert_true(accel_is_trap(&trap));
	assert_false(accel_is_trap(&nothing));
	assert_false(accel_is_trap(&good));
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_non_null(accel_why_not(bad[i]));
		assert_int_equal(chosen_by(ACCEL_AUTO, bad[i], true), ACCEL_SOFT);
		refused(ACCEL_AUTO, bad[i], false);
	}
}

static void who_insists_gets_that_or_nothing(void **unused)
{
	(void)unused;
	assert_int_equal(chosen_by(ACCEL_KVM, &good, true), ACCEL_KVM);
	assert_int_equal(chosen_by(ACCEL_SOFT, &good, true), ACCEL_SOFT);
	refused(ACCEL_SOFT, &good, false);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		refused(ACCEL_KVM, bad[i], true);
		refused(ACCEL_KVM, bad[i], false);
		assert_int_equal(chosen_by(ACCEL_SOFT, bad[i], true), ACCEL_SOFT);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(flags),
		cmocka_unit_test(automatic_choice_does_not_fall_for_the_trap),
		cmocka_unit_test(who_insists_gets_that_or_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
