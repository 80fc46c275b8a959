/*
 * passt as a child process: start, last words, end.
 */
#pragma once

#include <sys/types.h>

#include "lib/base/types.h"

#define PASST_WORDS_MAX 256

struct passt_process {
	pid_t pid;  /* 0: none, or reaped */
	int err_fd; /* its stderr, non-blocking; -1 when closed */
	size_t line_len;
	char line[PASST_WORDS_MAX];  /* what came of a line so far */
	char words[PASST_WORDS_MAX]; /* the last line that says something */
};

/**
 * passt_process_start() - runs passt on @sock until it is ready.
 * @sock: its end of the connection; stays the caller's.
 * Return: 0, or -errno and logged.
 */
must_use int passt_process_start(struct passt_process *p, int sock, const char *args);

/** passt_process_drain() - reads what it said, so that it never waits for us. */
void passt_process_drain(struct passt_process *p);

/**
 * passt_process_end() - says how it ended, as far as known by now.
 * @text: filled with ": exit status 1: words", or with "".
 */
void passt_process_end(struct passt_process *p, char *text, size_t size);

/** passt_process_stop() - ends it; the connection is closed already. Waits a second at most. */
void passt_process_stop(struct passt_process *p);
