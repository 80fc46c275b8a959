/*
 * vmm/log.h for fuzzers: of what is said only the end by check() is of interest there.
 */
#include <stdarg.h>
#include <stdio.h>

#include "vmm/log.h"

void log_error(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
}

void log_warn(const char *fmt, ...)
{
	(void)fmt;
}

void log_info(const char *fmt, ...)
{
	(void)fmt;
}

void log_guest(const char *fmt, ...)
{
	(void)fmt;
}
