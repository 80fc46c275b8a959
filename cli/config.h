/*
 * What `yado run` was told, by the command line and by the file of --config.
 */
#pragma once

#include "vmm/config.h"

/** When `yado host` starts a VM again that has ended by itself. */
enum restart_policy {
	RESTART_NO,
	RESTART_ON_FAILURE, /* unless the guest shut itself down */
	RESTART_ALWAYS,
};

struct cli_config {
	struct vm_config vm;
	const char *file; /* --config, or NULL; as the other strings, owned by @strings */
	bool debian;	  /* the ready guest: `yado run debian` */
	bool prepare;	  /* make the ready guest, start nothing */
	bool help;	  /* --help was among the options: show it, do nothing else */
	bool console_given;
	enum restart_policy restart; /* the host's; `yado run` has no use for it */

	char **strings; /* all that the configuration points to */
	size_t nstrings;
};

/** cli_config_init() - the defaults; needs cli_config_fini(). */
void cli_config_init(struct cli_config *c);
void cli_config_fini(struct cli_config *c);

/** cli_config_keep() - a copy of @text that lives as long as @c. Return: NULL without memory. */
const char *cli_config_keep(struct cli_config *c, const char *text);
