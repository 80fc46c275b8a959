/*
 * `yado run`: from the options to the end of the VM.
 */
#pragma once

#include <stdio.h>

/** run_main() - the verb; argv[0] is "run". Return: the exit code (enum vm_end). */
int run_main(int argc, char **argv);

/** run_help() - `yado help run`. */
void run_help(FILE *out);
