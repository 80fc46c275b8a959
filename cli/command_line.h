/*
 * The options of `yado run`, from the command line and from the file of --config.
 */
#pragma once

#include "cli/config.h"

/**
 * command_line_parse() - fills in @c. The file's values come first; the command line replaces
 * scalars and adds to lists.
 * @c: from cli_config_init().
 * @argc, @argv: as main() gets them from the verb on: argv[0] is "run". getopt reorders them.
 * Return: 0, -EINVAL or another -errno, logged. With c->help set the rest is not looked at.
 */
must_use int command_line_parse(struct cli_config *c, int argc, char **argv);
