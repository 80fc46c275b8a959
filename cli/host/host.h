/*
 * `yado host`: the first program of a bare machine, or a plain one on Linux.
 */
#pragma once

#include <stdio.h>

/** host_main() - the verb; argv[0] is "host". Return: the exit code, 0 or 1 or 2. */
int host_main(int argc, char **argv);

/** host_help() - `yado help host`. */
void host_help(FILE *out);
