#include "bench/micro/result.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

void result_add(struct result *result, int64_t ticks)
{
	if (result->count < SAMPLES_MAX) {
		result->ticks[result->count++] = ticks;
	}
}

static void explain(struct result *result, const char *format, va_list args)
	__attribute__((format(printf, 2, 0)));

static void explain(struct result *result, const char *format, va_list args)
{
	result->count = 0;
	vsnprintf(result->reason, sizeof(result->reason), format, args);
}

enum verdict result_skip(struct result *result, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	explain(result, format, args);
	va_end(args);
	return SKIPPED;
}

enum verdict result_fail(struct result *result, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	explain(result, format, args);
	va_end(args);
	return FAILED;
}

enum verdict result_errno(struct result *result, const char *what)
{
	bool unknown = errno == ENOSYS || errno == ENOTTY;

	(void)result_fail(result, "%s: %s", what, strerror(errno));
	return unknown ? SKIPPED : FAILED;
}

void result_sort(struct result *result)
{
	/* Insertion: there are few, and they are nearly equal. */
	for (unsigned i = 1; i < result->count; i++) {
		int64_t ticks = result->ticks[i];
		unsigned at = i;

		while (at > 0 && result->ticks[at - 1] > ticks) {
			result->ticks[at] = result->ticks[at - 1];
			at--;
		}
		result->ticks[at] = ticks;
	}
}
