/*
 * The one list of what `yado run` can be told. The command line, the JSON file and the help text
 * come from it.
 */
#pragma once

#include <stdio.h>

#include "cli/field.h"

/** The options; their offsets count from struct cli_config. */
extern const struct field options[];
extern const size_t noptions;

/** options_help() - the options and their keys, as `yado help run` lists them. */
void options_help(FILE *out);
