/*
 * One setting, described by data: its name, what values it takes and where the value goes. The
 * command line, the JSON file and the help text all work from these records.
 */
#pragma once

#include <jansson.h>

#include "cli/config.h"

enum field_type {
	FIELD_STRING, /* const char *; not empty, unless may_be_empty */
	FIELD_SIZE,   /* uint64_t, bytes; written with a suffix: 512M */
	FIELD_NUMBER, /* unsigned or uint64_t, min to max */
	FIELD_SWITCH, /* bool; on or off, in JSON true or false */
	FIELD_FLAG,   /* bool; true by being there, in JSON true or false */
	FIELD_CHOICE, /* an enum; the index in choices */
	FIELD_MAC,    /* struct mac_value */
	FIELD_GROUP,  /* several keys: KEY=VALUE,... or a JSON object */
};

struct mac_value {
	uint8_t mac[6];
	bool given;
};

struct field {
	const char *name;
	const char *value; /* how the help calls its value; NULL for a FIELD_FLAG */
	const char *help;  /* lines separated by '\n' */
	enum field_type type;
	bool list;		/* may be given more than once; in JSON an array */
	bool command_line_only; /* has no place in a JSON file */
	bool file_only;		/* has no place on the command line */
	bool may_be_empty;
	size_t offset, size; /* of the variable in its structure */
	uint64_t min, max;
	const char *const *choices; /* ends with NULL */
	const struct group *group;
};

#define GROUP_WORDS_MAX 96

/** The keys of a FIELD_GROUP, which are collected in a structure of their own first. */
struct group {
	const struct field *keys;
	size_t nkeys;
	const void *defaults; /* of the structure, @size bytes, at most GROUP_WORDS_MAX */
	size_t size;
	/* Checks the whole and puts it into @c. Return: 0 or -EINVAL, logged. */
	int (*finish)(struct cli_config *c, const char *where, const void *words);
};

/**
 * field_from_text() - one value as the command line gives it.
 * @where: what an error message starts with, such as `--memory`.
 * @base: the structure that @f->offset counts from; unused for groups.
 * Return: 0, -EINVAL or -ENOMEM, logged.
 */
must_use int field_from_text(struct cli_config *c, const char *where, const struct field *f,
			     void *base, const char *text);

/** field_from_json() - the same, as the JSON file gives it. A list is an array. */
must_use int field_from_json(struct cli_config *c, const char *where, const struct field *f,
			     void *base, const json_t *json);

/** field_find() - Return: the field of that name, or NULL. */
const struct field *field_find(const struct field *fields, size_t n, const char *name);
