#include "tests/unit.h"

#include "lib/base/check.h"

/* In a test a broken invariant is a failed test, or what expect_assert_failure() waits for. */
_Noreturn void check_failed(const char *expression, const char *file, int line)
{
	mock_assert(0, expression, file, line);
	__builtin_unreachable();
}
