/*
 * The kernel's command line.
 */
#pragma once

#include "core/boot/boot.h"
#include "lib/base/types.h"

/** options_complain - told of each word that is not understood, with the reason. */
typedef void options_complain(void *ctx, const char *word, const char *reason);

/**
 * options_parse() - words are separated by blanks; the last of a key counts. What follows a word
 * "--" is for the first program.
 * @cmdline: changed while it is read.
 * Return: 0; -EINVAL if a key is known and its value is not: then complain() has said so, and the
 * machine is not to start. Unknown keys are only complained of.
 */
must_use int options_parse(struct boot_options *o, char *cmdline, options_complain *complain,
			   void *ctx);
