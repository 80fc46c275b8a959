#include "tests/kvm/test.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Threads may be in the middle of anything: no clean-up, but what was said is written. */
static _Noreturn void end(enum test_status status)
{
	fflush(stdout);
	_exit(status);
}

void test_pass(void)
{
	end(TEST_PASSED);
}

void test_fail_at(const char *file, int line, const char *format, ...)
{
	const char *base = strrchr(file, '/');
	va_list args;

	printf("%s:%d: ", base != NULL ? base + 1 : file, line);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	end(TEST_FAILED);
}

void test_skip(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	end(TEST_SKIPPED);
}

void test_expect_eq(const char *file, int line, const char *what, uint64_t got, uint64_t want)
{
	if (got != want) {
		test_fail_at(file, line, "%s: got 0x%" PRIx64 ", want 0x%" PRIx64, what, got, want);
	}
}

void test_expect_errno(const char *file, int line, const char *what, int64_t got, int number)
{
	if (got >= 0) {
		test_fail_at(file, line, "%s: got %" PRId64 ", want -%s", what, got,
			     strerrorname_np(number));
	} else if (got != -number) {
		test_fail_at(file, line, "%s: got -%s, want -%s", what, strerrorname_np((int)-got),
			     strerrorname_np(number));
	}
}

int test_must(const char *file, int line, const char *what, int64_t result)
{
	if (result < 0) {
		test_fail_at(file, line, "%s: %s", what, strerror((int)-result));
	}
	return (int)result;
}
