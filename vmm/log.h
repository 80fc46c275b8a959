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

/** What takes messages in the place of stderr; without @fn they go to stderr. */
struct log_sink {
	/* @level: "error", "warning", "info" or "guest". @text: without mark and line end. */
	void (*fn)(void *ctx, const char *level, const char *text);
	void *ctx;
};

/** log_set_sink() - Return: the one before. Context: a process that has one thread. */
struct log_sink log_set_sink(struct log_sink sink);

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
