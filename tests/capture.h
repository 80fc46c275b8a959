/*
 * For tests: what the code under test says on stderr.
 */
#pragma once

#include <stdio.h>
#include <unistd.h>

#include "tests/unit.h"

struct capture {
	FILE *file;
	int stderr_fd;
	char text[4096];
};

/** capture_begin() - from here on stderr goes into a file. */
static inline void capture_begin(struct capture *cap)
{
	cap->file = tmpfile();
	assert_non_null(cap->file);
	cap->stderr_fd = dup(STDERR_FILENO);
	assert_true(cap->stderr_fd >= 0);
	assert_int_equal(dup2(fileno(cap->file), STDERR_FILENO), STDERR_FILENO);
}

/** capture_end() - stderr is as before. Return: what was said. */
static inline const char *capture_end(struct capture *cap)
{
	assert_int_equal(dup2(cap->stderr_fd, STDERR_FILENO), STDERR_FILENO);
	close(cap->stderr_fd);
	rewind(cap->file);
	cap->text[fread(cap->text, 1, sizeof(cap->text) - 1, cap->file)] = '\0';
	fclose(cap->file);
	return cap->text;
}

/** assert_said() - one line, with @part in it, was said. */
#define assert_said(cap, part)                                                          \
	do {                                                                            \
		const char *said_ = capture_end(cap);                                   \
		if (strstr(said_, part) == NULL || said_[0] == '\0' ||                  \
		    strchr(said_, '\n') != said_ + strlen(said_) - 1) {                 \
			fail_msg("wanted \"%s\" in one line, got \"%s\"", part, said_); \
		}                                                                       \
	} while (0)

/** assert_silent() - nothing was said. */
#define assert_silent(cap) assert_string_equal(capture_end(cap), "")
