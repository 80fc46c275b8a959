/*
 * What can be said at the host's prompt: from a line of text to a command.
 */
#pragma once

#include "lib/base/types.h"

#define PROMPT_NAME_SIZE 65 /* a VM's name has 64 characters at most */
#define PROMPT_LINES	 100

enum prompt_verb {
	PROMPT_NOTHING, /* an empty line */
	PROMPT_LIST,
	PROMPT_START,
	PROMPT_STOP,
	PROMPT_CONSOLE,
	PROMPT_LOG,
	PROMPT_MEMORY,
	PROMPT_CPUS,
	PROMPT_POWEROFF,
	PROMPT_HELP,
};

struct prompt_command {
	enum prompt_verb verb;
	char name[PROMPT_NAME_SIZE]; /* empty: none was given */
	bool now;
	unsigned lines; /* PROMPT_LINES unless given */
};

/**
 * prompt_parse() - one line.
 * @why: what is wrong with it, as a sentence without an end.
 * Return: 0 or -EINVAL.
 */
must_use int prompt_parse(const char *text, struct prompt_command *out, char *why, size_t size);

/** prompt_help() - the commands, one a line. */
const char *prompt_help(void);
