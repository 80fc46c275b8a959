/*
 * execve(): the current process becomes another program.
 */
#pragma once

#include "lib/base/types.h"

#define EXEC_ARGUMENT_BYTES (128 * KIB) /* of argv[] and envp[] together; more are -E2BIG */

/* Argument and environment strings, one behind the other, each with its zero. */
struct exec_strings {
	char *bytes;
	size_t len;
	unsigned arguments, environment;
};

/** exec_strings_init() / exec_strings_fini() - Return: 0, -ENOMEM. */
must_use int exec_strings_init(struct exec_strings *s);
void exec_strings_fini(struct exec_strings *s);

/** exec_strings_add() - one argument; after exec_strings_environment() one of the environment.
 * Return: 0, -E2BIG. */
must_use int exec_strings_add(struct exec_strings *s, const char *text, bool environment);

struct node;

/**
 * exec_program() - loads the program; the caller then goes to ring 3 with the frame it finds.
 * @name: for /proc and the thread's name.
 * Return: 0, or -errno: nothing has changed, unless the process ends.
 * Context: thread of ring 3 (or one that is about to become one), no lock.
 */
must_use int exec_program(struct node *program, const char *name, struct exec_strings *s);
