/*
 * Messages of the kernel. Each is one line, and goes to the console at once if its level is
 * important enough (`loglevel=`).
 */
#pragma once

#include "lib/base/types.h"

#define LOG_LINE_BYTES 256 /* longer lines are cut */

/* As Linux's, so that `loglevel=` means the same. */
enum log_level {
	LOG_EMERG,
	LOG_ALERT,
	LOG_CRIT,
	LOG_ERR,
	LOG_WARNING,
	LOG_NOTICE,
	LOG_INFO,
	LOG_DEBUG,
};

/**
 * log_at() - writes one line; the line end is added. Formats: format.h.
 * Context: any, interrupt handlers and NMIs excepted those that came while a line is written.
 */
void log_at(enum log_level level, const char *fmt, ...) printf_like(2, 3);

#define log_err(...)	 log_at(LOG_ERR, __VA_ARGS__)
#define log_warning(...) log_at(LOG_WARNING, __VA_ARGS__)
#define log_notice(...)	 log_at(LOG_NOTICE, __VA_ARGS__)
#define log_info(...)	 log_at(LOG_INFO, __VA_ARGS__)

/**
 * log_program() - as log_notice(), about what a program of ring 3 did: all of them together get
 * a line a second and a number at once, what is more is left out and counted.
 */
void log_program(const char *fmt, ...) printf_like(1, 2);

/** log_set_level() - messages below @level in number reach the console (0 to 8, 8: all). */
void log_set_level(unsigned level);
