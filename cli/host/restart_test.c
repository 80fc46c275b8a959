#include "cli/host/restart.h"

#include <signal.h>

#include "tests/unit.h"
#include "vmm/vmm.h"

#define EXITED(code) ((code) << 8)

static void policies(void **unused)
{
	static const struct {
		int status;
		bool on_failure, always;
	} cases[] = {
		{EXITED(VM_END_POWEROFF), false, true},
		{EXITED(VM_END_FAILED), true, true},
		{EXITED(VM_END_USAGE), false, false},
		{EXITED(VM_END_RESET), true, true},
		{EXITED(VM_END_PANIC), true, true},
		{EXITED(VM_END_QUIT), false, true},
		{EXITED(127), true, true},
		{SIGKILL, true, true},
		{SIGSEGV | 0x80, true, true},
	};

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_false(restart_wanted(RESTART_NO, cases[i].status));
		assert_int_equal(restart_wanted(RESTART_ON_FAILURE, cases[i].status),
				 cases[i].on_failure);
		assert_int_equal(restart_wanted(RESTART_ALWAYS, cases[i].status), cases[i].always);
	}
}

/* Who dies at once is started fewer than 20 times in ten minutes, and never less often than once
 * in the longest time. */
static void no_storm(void **unused)
{
	struct restart r = {0};
	uint64_t now_ns = 0, last_ns = 0;
	unsigned starts = 0;

	(void)unused;
	while (now_ns < UINT64_C(600000000000)) {
		uint64_t delay_ns = restart_delay_ns(&r, 1000);

		assert_true(delay_ns >= last_ns && delay_ns <= RESTART_LONGEST_NS);
		last_ns = delay_ns;
		now_ns += delay_ns;
		starts++;
	}
	assert_true(starts > 10 && starts < 20);
	for (unsigned i = 0; i < 1000; i++) {
		assert_true(restart_delay_ns(&r, 0) == RESTART_LONGEST_NS);
	}
}

static void health_is_rewarded(void **unused)
{
	struct restart r = {0};

	(void)unused;
	assert_true(restart_delay_ns(&r, 0) == RESTART_FIRST_NS);
	assert_true(restart_delay_ns(&r, RESTART_HEALTHY_NS - 1) == 2 * RESTART_FIRST_NS);
	assert_true(restart_delay_ns(&r, 0) == 4 * RESTART_FIRST_NS);
	assert_true(restart_delay_ns(&r, RESTART_HEALTHY_NS) == RESTART_FIRST_NS);
	assert_true(restart_delay_ns(&r, 0) == 2 * RESTART_FIRST_NS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(policies),
		cmocka_unit_test(no_storm),
		cmocka_unit_test(health_is_rewarded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
