/*
 * What yado says to its user, on stderr: one line a message, "yado: ..." or, with --json, one JSON
 * object. An error is said once, where it arose, with what the user can do about it.
 */
#pragma once

#include "lib/base/types.h"

/**
 * log_init() - chooses the form.
 * @vm: the VM's name to put into messages, or NULL; kept, not copied.
 * @json: objects {"level", "vm", "message"} instead of text.
 */
void log_init(const char *vm, bool json);

/**
 * log_raw_terminal() - stderr is a terminal in raw mode now, or no longer: lines need a carriage
 * return. Context: any thread, signal handlers.
 */
void log_raw_terminal(bool raw);

/** What takes messages in the place of stderr; @level: "error", "warning", "info" or "guest". */
typedef void log_sink_fn(void *ctx, const char *level, const char *text);

/**
 * log_set_sink() - messages go to @sink from now on, without mark and line end; NULL: to stderr.
 * Context: a process that has one thread.
 */
void log_set_sink(log_sink_fn *sink, void *ctx);

/** log_error() - something failed, and this is why and what to do. */
void log_error(const char *fmt, ...) printf_like(1, 2);

/** log_warn() - something is not as the user may expect, and yado goes on. */
void log_warn(const char *fmt, ...) printf_like(1, 2);

/** log_info() - a fact the user wants to see, such as why the VM ended. */
void log_info(const char *fmt, ...) printf_like(1, 2);

/**
 * log_guest() - the guest did something wrong, and the device did what its specification says.
 * At most 100 such lines a run, so that a guest cannot fill the host's log.
 */
void log_guest(const char *fmt, ...) printf_like(1, 2);
