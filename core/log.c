#include "core/log.h"

#include <stdatomic.h>

#include "core/format.h"
#include "core/hw/clock.h"
#include "core/hw/console.h"

static _Atomic unsigned threshold = LOG_DEBUG; /* relaxed: each message stands for itself */

void log_set_level(unsigned level)
{
	atomic_store_explicit(&threshold, level, memory_order_relaxed);
}

void log_at(enum log_level level, const char *fmt, ...)
{
	char line[LOG_LINE_BYTES];
	uint64_t now_us = clock_now_ns() / 1000;
	va_list args;

	if (level >= atomic_load_explicit(&threshold, memory_order_relaxed)) {
		return;
	}
	size_t len =
		format(line, sizeof(line), "[%5lu.%06lu] ", now_us / 1000000, now_us % 1000000);
	va_start(args, fmt);
	len += format_list(line + len, sizeof(line) - len, fmt, args);
	va_end(args);
	len = MIN(len, sizeof(line) - 1);
	line[len++] = '\n';
	console_write(line, len);
}
