/*
 * Cases of the conformance suite, and what they say.
 *
 * A case is one function that finds out whether the provider keeps one rule. It runs in a process
 * of its own: what fails ends it, and what it made is left to the kernel to remove. Each area is a
 * file with a table of cases; main.c has the table of areas.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct test_case {
	const char *name; /* area/rule, the rule in a few words: "slots/deleted_memory_is_gone" */
	const char *spec; /* where the rule stands: "KVM API 4.35", "AMD APM vol. 2, 15.10" */
	void (*run)(void);
};

/* Ends a table. */
#define TEST_END                 \
	{                        \
		NULL, NULL, NULL \
	}

enum test_status {
	TEST_PASSED = 0,
	TEST_FAILED = 1,
	TEST_SKIPPED = 77,
};

/** test_pass() - ends the case: it passed. Coming back from it does the same. */
_Noreturn void test_pass(void);

/** test_fail_at() - ends the case: it failed; says why in one line. */
_Noreturn void test_fail_at(const char *file, int line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/** test_skip() - ends the case: it cannot be tried here, for the reason given. Never a pass. */
_Noreturn void test_skip(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define fail(...) test_fail_at(__FILE__, __LINE__, __VA_ARGS__)

#define expect(condition)                                \
	do {                                             \
		if (!(condition)) {                      \
			fail("expected %s", #condition); \
		}                                        \
	} while (0)

/* Both sides are compared, and shown, as 64-bit numbers. */
#define expect_eq(got, want) \
	test_expect_eq(__FILE__, __LINE__, #got, (uint64_t)(got), (uint64_t)(want))

/* For what returns -errno: expect_errno(kvm_ioctl(...), EINVAL). */
#define expect_errno(call, number) test_expect_errno(__FILE__, __LINE__, #call, (call), (number))

/* For what returns -errno: it succeeds. Return: its result. */
#define must(call) test_must(__FILE__, __LINE__, #call, (call))

void test_expect_eq(const char *file, int line, const char *what, uint64_t got, uint64_t want);
void test_expect_errno(const char *file, int line, const char *what, int64_t got, int number);
int test_must(const char *file, int line, const char *what, int64_t result);
