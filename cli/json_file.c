#include "cli/json_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/nearest.h"
#include "cli/options.h"
#include "vmm/log.h"

static int unknown_key(const char *source, const char *key)
{
	struct nearest near = {.word = key};
	char shown[NEAREST_WORD_MAX], hint[96];

	for (size_t i = 0; i < noptions; i++) {
		if (!options[i].command_line_only) {
			nearest_offer(&near, options[i].name);
		}
	}
	log_error("%s: unknown key \"%s\"%s", source, printable(key, shown, sizeof(shown)),
		  nearest_hint(&near, hint, sizeof(hint)));
	return -EINVAL;
}

static int apply(struct cli_config *c, const char *source, const char *key, const json_t *value)
{
	const struct field *f = field_find(options, noptions, key);
	char where[160];

	if (f == NULL) {
		return unknown_key(source, key);
	}
	if (f->command_line_only) {
		log_error("%s: \"%s\" is for the command line only", source, key);
		return -EINVAL;
	}
	snprintf(where, sizeof(where), "%s: %s", source, key);
	return field_from_json(c, where, f, c, value);
}

int json_config_parse(struct cli_config *c, const char *source, const char *text, size_t len)
{
	json_error_t at;
	json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &at);
	char shown[128], shown_text[JSON_ERROR_TEXT_LENGTH];
	const char *key;
	json_t *value;
	int error = 0;

	source = printable(source, shown, sizeof(shown));
	if (root == NULL) {
		log_error("%s: line %d, column %d: %s", source, at.line, at.column,
			  printable(at.text, shown_text, sizeof(shown_text)));
		return -EINVAL;
	}
	if (!json_is_object(root)) {
		log_error("%s: it must be one JSON object, {...}", source);
		error = -EINVAL;
	}
	json_object_foreach(root, key, value)
	{
		error = apply(c, source, key, value);
		if (error != 0) {
			break;
		}
	}
	json_decref(root);
	if (error == 0 && c->vm.json) {
		log_init(NULL, true);
	}
	return error;
}

int json_file_read(struct cli_config *c, const char *path)
{
	FILE *file = fopen(path, "re");
	char *text = malloc(JSON_FILE_MAX + 1);
	size_t len = 0;
	int error = 0;

	if (file == NULL) {
		error = -errno;
		log_error("--config: cannot open \"%s\": %s", path, strerror(-error));
	} else if (text == NULL) {
		error = -ENOMEM;
		log_error("--config: out of memory");
	} else {
		len = fread(text, 1, JSON_FILE_MAX + 1, file);
		if (ferror(file)) {
			error = -errno;
			log_error("--config: cannot read \"%s\": %s", path, strerror(-error));
		} else if (len > JSON_FILE_MAX) {
			error = -EFBIG;
			log_error("--config: \"%s\" is larger than 1 MiB", path);
		}
	}
	if (error == 0) {
		error = json_config_parse(c, path, text, len);
	}
	free(text);
	if (file != NULL) {
		fclose(file);
	}
	return error;
}
