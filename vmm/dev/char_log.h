/*
 * The other end of a wire that carries a log: whole lines become messages of yado, within the
 * bounds of log_guest(). It never sends anything back.
 */
#pragma once

#include "vmm/dev/char_backend.h"

#define CHAR_LOG_LINE 120

struct char_log {
	struct char_backend be;
	const char *what; /* what a message starts with; kept, not copied */
	unsigned len;	  /* loop thread only, as the line */
	char line[CHAR_LOG_LINE];
};

/** char_log_init() - gives @log->be its operations. What is not printable is left out. */
void char_log_init(struct char_log *log, const char *what);
