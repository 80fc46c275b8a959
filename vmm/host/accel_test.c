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

static void automatic_choice_does_not_fall_for_the_trap(void **unused)
{
	enum accel chosen;

	(void)unused;
	assert_int_equal(accel_decide(ACCEL_AUTO, &good, &chosen), 0);
	assert_int_equal(chosen, ACCEL_KVM);
	assert_null(accel_why_not(&good));
	assert_true(accel_is_trap(&trap));
	assert_non_null(accel_why_not(&trap));
	assert_int_equal(accel_decide(ACCEL_AUTO, &trap, &chosen), -ENODEV);
	assert_int_equal(accel_decide(ACCEL_AUTO, &nothing, &chosen), -ENODEV);
	assert_int_equal(accel_decide(ACCEL_AUTO, &no_module, &chosen), -ENODEV);
	assert_int_equal(accel_decide(ACCEL_AUTO, &old, &chosen), -ENODEV);
}

static void insisting_takes_the_trap_but_not_nothing(void **unused)
{
	enum accel chosen = ACCEL_AUTO;

	(void)unused;
	assert_int_equal(accel_decide(ACCEL_KVM, &trap, &chosen), 0);
	assert_int_equal(chosen, ACCEL_KVM);
	assert_false(accel_is_trap(&nothing));
	assert_false(accel_is_trap(&good));
	assert_int_equal(accel_decide(ACCEL_KVM, &nothing, &chosen), -ENODEV);
	assert_int_equal(accel_decide(ACCEL_KVM, &no_module, &chosen), -ENODEV);
	assert_int_equal(accel_decide(ACCEL_KVM, &old, &chosen), -ENODEV);
	assert_int_equal(accel_decide(ACCEL_KVM, &good, &chosen), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(flags),
		cmocka_unit_test(automatic_choice_does_not_fall_for_the_trap),
		cmocka_unit_test(insisting_takes_the_trap_but_not_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
