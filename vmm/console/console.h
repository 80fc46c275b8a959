/*
 * Where a console's bytes go: the user's terminal, a Unix socket, a file, or nowhere.
 */
#pragma once

#include "vmm/config.h"
#include "vmm/dev/char_backend.h"
#include "vmm/loop.h"

struct console;

/** What the user at the terminal can ask for. All run on the loop thread; any may be NULL. */
struct console_commands {
	void (*quit)(void *ctx);
	void (*pause)(void *ctx); /* pauses, or continues */
	void (*power_button)(void *ctx);
	void (*balloon)(void *ctx, uint64_t bytes); /* what the guest shall give back */
	void (*resized)(void *ctx);		    /* console_size() has changed */
};

/**
 * console_create() - opens what @config says.
 * @commands: constant while the console lives; for a terminal only.
 * Return: 0 or -errno, logged.
 */
must_use int console_create(struct console **out, const struct console_config *config,
			    struct loop *loop, const struct console_commands *commands, void *ctx);

/**
 * console_destroy() - restores the terminal, removes the socket, closes all. NULL is allowed.
 * Context: loop thread, or after the loop has stopped; the front end is gone.
 */
void console_destroy(struct console *con);

/**
 * console_backend() - the end for a front end. Its input_ready() may be called on any thread.
 * The front end sets its callbacks before the loop runs.
 */
struct char_backend *console_backend(struct console *con);

/**
 * console_resume() - the process was stopped and goes on (SIGCONT): the terminal is made raw again.
 * For those who block SIGCONT; otherwise the console hears of it itself. Context: any thread.
 */
void console_resume(struct console *con);

/** console_size() - of the terminal's window; 0 and 0 where there is none. */
void console_size(const struct console *con, uint16_t *columns, uint16_t *rows);

/** console_restore_terminal() - what crash handlers call. Context: any, signal handlers too. */
void console_restore_terminal(void);
