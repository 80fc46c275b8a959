#include "cli/command_line.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/json_file.h"
#include "cli/nearest.h"
#include "cli/options.h"
#include "lib/base/check.h"
#include "vmm/log.h"

#define OPTIONS_MAX 32
#define FIRST_VALUE 256 /* what getopt returns for options[0]; above all characters */

static void make_getopt_table(struct option *table)
{
	check(noptions < OPTIONS_MAX);
	for (size_t i = 0; i < noptions; i++) {
		table[i] = (struct option){
			.name = options[i].name,
			.has_arg = options[i].type == FIELD_FLAG ? no_argument : required_argument,
			.val = FIRST_VALUE + (int)i,
		};
	}
	table[noptions] = (struct option){0};
}

/* The name in "--name" or "--name=value", or the word itself. */
static const char *option_name(const char *word, char *buf, size_t size)
{
	snprintf(buf, size, "%s", strncmp(word, "--", 2) == 0 ? word + 2 : word);
	buf[strcspn(buf, "=")] = '\0';
	return buf;
}

static int unknown_option(const char *word)
{
	char name[NEAREST_WORD_MAX], shown[NEAREST_WORD_MAX], dashed[NEAREST_WORD_MAX];
	struct nearest near = {.word = option_name(word, name, sizeof(name))};

	for (size_t i = 0; i < noptions; i++) {
		if (!options[i].file_only) {
			nearest_offer(&near, options[i].name);
		}
	}
	snprintf(dashed, sizeof(dashed), "--%s", near.best);
	near.best = dashed;

	char hint[96];

	log_error("unknown option \"%s\"%s", printable(word, shown, sizeof(shown)),
		  nearest_hint(&near, hint, sizeof(hint)));
	return -EINVAL;
}

/* What getopt found wrong: it leaves the option in optopt, or stopped at an unknown word. */
static int bad_option(int result, const char *word)
{
	if (optopt >= FIRST_VALUE) {
		const struct field *f = &options[optopt - FIRST_VALUE];

		if (result == ':') {
			log_error("--%s: it needs a value: %s", f->name, f->value);
		} else {
			log_error("--%s: it takes no value", f->name);
		}
		return -EINVAL;
	}
	if (optopt != 0) {
		char letter[] = {'-', (char)optopt, '\0'};

		return unknown_option(letter);
	}
	return unknown_option(word);
}

/*
 * The option getopt just returned, as the user wrote it. getopt accepts abbreviations; we do not,
 * as each new option would break some of them.
 */
static bool written_out(char **argv, const struct field *f)
{
	char name[NEAREST_WORD_MAX];
	const char *word = argv[optind - 1];

	if (optarg != NULL && optarg == word) {
		word = argv[optind - 2];
	}
	return strcmp(option_name(word, name, sizeof(name)), f->name) == 0;
}

/* One pass over the options; @apply is called for each. */
static int each_option(struct cli_config *c, int argc, char **argv,
		       int (*apply)(struct cli_config *c, const struct field *f, const char *arg))
{
	struct option table[OPTIONS_MAX];
	int result;
	int error = 0;

	make_getopt_table(table);
	optind = 0; /* glibc: start anew */
	opterr = 0;
	while (error == 0 && (result = getopt_long(argc, argv, ":h", table, NULL)) != -1) {
		if (result == 'h') {
			c->help = true;
			continue;
		}
		if (result == '?' || result == ':') {
			return bad_option(result, argv[optind - 1]);
		}

		const struct field *f = &options[result - FIRST_VALUE];

		if (!written_out(argv, f)) {
			return unknown_option(argv[optind - 1 - (optarg == argv[optind - 1])]);
		}
		error = apply(c, f, optarg);
	}
	return error;
}

/* The first pass: what decides how the second one is done. */
static int apply_early(struct cli_config *c, const struct field *f, const char *arg)
{
	if (strcmp(f->name, "config") == 0) {
		if (c->file != NULL) {
			log_error("--config: it can be given once only");
			return -EINVAL;
		}
		return field_from_text(c, "--config", f, c, arg);
	}
	if (strcmp(f->name, "json") == 0) {
		log_init(NULL, true);
	} else if (strcmp(f->name, "help") == 0) {
		c->help = true;
	}
	return 0;
}

static int apply(struct cli_config *c, const struct field *f, const char *arg)
{
	char where[32];

	if (strcmp(f->name, "config") == 0) {
		return 0;
	}
	if (f->file_only) {
		log_error("--%s: it stands in a file only, where `yado host` looks for it",
			  f->name);
		return -EINVAL;
	}
	if (f->type == FIELD_FLAG) {
		*(bool *)((char *)c + f->offset) = true;
		return 0;
	}
	snprintf(where, sizeof(where), "--%s", f->name);
	return field_from_text(c, where, f, c, arg);
}

static int guest_name(struct cli_config *c, int argc, char **argv)
{
	char shown[NEAREST_WORD_MAX];

	for (; optind < argc; optind++) {
		if (c->debian || strcmp(argv[optind], "debian") != 0) {
			log_error("there is no ready guest \"%s\"; the only one is \"debian\", "
				  "others start with --kernel",
				  printable(argv[optind], shown, sizeof(shown)));
			return -EINVAL;
		}
		c->debian = true;
	}
	return 0;
}

int command_line_parse(struct cli_config *c, int argc, char **argv)
{
	int error = each_option(c, argc, argv, apply_early);

	if (error != 0 || c->help) {
		return error;
	}
	if (c->file != NULL) {
		error = json_file_read(c, c->file);
	}
	if (error == 0) {
		error = each_option(c, argc, argv, apply);
	}
	if (error == 0) {
		error = guest_name(c, argc, argv);
	}
	if (error == 0 && c->prepare && !c->debian) {
		log_error("--prepare: there is nothing to prepare; it goes with `yado run debian`");
		error = -EINVAL;
	}
	return error;
}
