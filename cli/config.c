#include "cli/config.h"

#include <stdlib.h>
#include <string.h>

void cli_config_init(struct cli_config *c)
{
	*c = (struct cli_config){
		.vm =
			{
				.name = "yado",
				.cpus = 2,
				.memory_bytes = 512 * MIB,
				.console = {.kind = CONSOLE_TTY},
				.virtio_console = {.kind = CONSOLE_NONE},
				.sandbox = true,
			},
	};
}

void cli_config_fini(struct cli_config *c)
{
	for (size_t i = 0; i < c->nstrings; i++) {
		free(c->strings[i]);
	}
	free(c->strings);
	*c = (struct cli_config){0};
}

const char *cli_config_keep(struct cli_config *c, const char *text)
{
	char **strings = reallocarray(c->strings, c->nstrings + 1, sizeof(*strings));

	if (strings == NULL) {
		return NULL;
	}
	c->strings = strings;
	strings[c->nstrings] = strdup(text);
	if (strings[c->nstrings] == NULL) {
		return NULL;
	}
	return strings[c->nstrings++];
}
