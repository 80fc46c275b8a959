#include "core/task/seccomp.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

#include "tests/unit.h"

#define N(p) (sizeof(p) / sizeof((p)[0]))

static void test_a_filter_decides_by_number_and_argument(void **state)
{
	const struct seccomp_instruction program[] = {
		{BPF_LD | BPF_W | BPF_ABS, 0, 0, 0},
		{BPF_JMP | BPF_JEQ | BPF_K, 0, 3, 16},
		{BPF_LD | BPF_W | BPF_ABS, 0, 0, 16 + 8},
		{BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0xae80},
		{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
		{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_TRAP},
	};
	struct seccomp_call call = {.number = 16, .argument = {3, 0xae80}};

	(void)state;
	assert_int_equal(seccomp_check(program, N(program)), 0);
	assert_int_equal(seccomp_run(program, N(program), &call), SECCOMP_RET_ALLOW);
	call.argument[1] = 0xae81;
	assert_int_equal(seccomp_run(program, N(program), &call), SECCOMP_RET_TRAP);
	call.number = 15;
	assert_int_equal(seccomp_run(program, N(program), &call), SECCOMP_RET_TRAP);
}

static void refuse(struct seccomp_instruction i)
{
	const struct seccomp_instruction program[] = {
		i,
		{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
	};

	assert_int_equal(seccomp_check(program, N(program)), -EINVAL);
}

static void test_what_could_leave_the_program_is_refused(void **state)
{
	const struct seccomp_instruction endless[] = {{BPF_LD | BPF_IMM, 0, 0, 1}};

	(void)state;
	refuse((struct seccomp_instruction){BPF_JMP | BPF_JA, 0, 0, 1});
	refuse((struct seccomp_instruction){BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 0});
	refuse((struct seccomp_instruction){BPF_JMP | BPF_JEQ | BPF_K, 0, 200, 0});
	refuse((struct seccomp_instruction){BPF_LD | BPF_W | BPF_ABS, 0, 0, 64});
	refuse((struct seccomp_instruction){BPF_LD | BPF_W | BPF_ABS, 0, 0, 2});
	refuse((struct seccomp_instruction){BPF_ST, 0, 0, BPF_MEMWORDS});
	refuse((struct seccomp_instruction){BPF_LDX | BPF_MEM, 0, 0, UINT32_MAX});
	refuse((struct seccomp_instruction){BPF_ALU | BPF_DIV | BPF_K, 0, 0, 0});
	refuse((struct seccomp_instruction){BPF_ALU | BPF_LSH | BPF_K, 0, 0, 32});
	refuse((struct seccomp_instruction){0xffff, 0, 0, 0});
	assert_int_equal(seccomp_check(endless, 1), -EINVAL);
	assert_int_equal(seccomp_check(endless, 0), -EINVAL);
}

static void test_division_by_a_register_that_is_zero(void **state)
{
	const struct seccomp_instruction program[] = {
		{BPF_LD | BPF_IMM, 0, 0, 7},
		{BPF_ALU | BPF_DIV | BPF_X, 0, 0, 0},
		{BPF_RET | BPF_A, 0, 0, 0},
	};
	const struct seccomp_call call = {0};

	(void)state;
	assert_int_equal(seccomp_check(program, N(program)), 0);
	assert_int_equal(seccomp_run(program, N(program), &call), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_filter_decides_by_number_and_argument),
		cmocka_unit_test(test_what_could_leave_the_program_is_refused),
		cmocka_unit_test(test_division_by_a_register_that_is_zero),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
