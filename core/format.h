/*
 * printf-like formatting without a libc: %d %i %u %x %X %c %s %p %%, flags 0 and -, width and
 * precision (numbers or *), lengths hh h l ll z. Everything else is an error of the caller.
 */
#pragma once

#include <stdarg.h>

#include "lib/base/types.h"

/**
 * format() - writes the text and a terminating zero, cut to fit.
 * Return: how long the whole text is, as snprintf().
 */
size_t format(char *buf, size_t size, const char *fmt, ...) printf_like(3, 4);
size_t format_list(char *buf, size_t size, const char *fmt, va_list args) printf_like(3, 0);
