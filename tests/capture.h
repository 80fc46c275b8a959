/*
 * What a piece of code says on stderr, for tests of messages.
 */
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit.h"

struct capture {
	int stderr_fd, log;
	char text[4096];
};

/** capture_begin() - stderr goes to @c until capture_end(). */
static inline void capture_begin(struct capture *c)
{
	c->stderr_fd = dup(STDERR_FILENO);
	c->log = memfd_create("log", MFD_CLOEXEC);
	assert_true(c->stderr_fd >= 0 && c->log >= 0);
	dup2(c->log, STDERR_FILENO);
}

/** capture_end() - what was said is in @c->text. */
static inline void capture_end(struct capture *c)
{
	dup2(c->stderr_fd, STDERR_FILENO);
	close(c->stderr_fd);
	ssize_t n = pread(c->log, c->text, sizeof(c->text) - 1, 0);

	close(c->log);
	assert_true(n >= 0);
	c->text[n] = '\0';
}
