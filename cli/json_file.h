/*
 * The JSON file of --config: one object, its keys named as the options.
 */
#pragma once

#include "cli/config.h"

#define JSON_FILE_MAX (UINT64_C(1) << 20) /* bytes; a configuration is far smaller */

/** json_file_read() - reads @path into @c. Return: 0, -EINVAL or another -errno, logged. */
must_use int json_file_read(struct cli_config *c, const char *path);

/**
 * json_config_parse() - the same for text in memory.
 * @source: what messages call it.
 * @text: @len bytes, any.
 */
must_use int json_config_parse(struct cli_config *c, const char *source, const char *text,
			       size_t len);
