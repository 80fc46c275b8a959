/*
 * The commands of the host's prompt.
 */
#pragma once

#include "cli/host/inn.h"

/** commands_run() - does what one line says, and prints the answer. */
void commands_run(struct inn *inn, const char *text);
