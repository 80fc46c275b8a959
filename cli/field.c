#include "cli/field.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/nearest.h"
#include "lib/base/check.h"
#include "vmm/log.h"

#define SHOWN 48 /* bytes of the user's words that an error message repeats */

const struct field *field_find(const struct field *fields, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(fields[i].name, name) == 0) {
			return &fields[i];
		}
	}
	return NULL;
}

static int unknown_key(const char *where, const struct field *fields, size_t n, const char *name)
{
	struct nearest near = {.word = name};
	char shown[SHOWN], hint[96];

	for (size_t i = 0; i < n; i++) {
		nearest_offer(&near, fields[i].name);
	}
	log_error("%s: unknown key \"%s\"%s", where, printable(name, shown, sizeof(shown)),
		  nearest_hint(&near, hint, sizeof(hint)));
	return -EINVAL;
}

static void store_number(const struct field *f, void *base, uint64_t value)
{
	/* Either unsigned, an enum, or uint64_t; the low bytes are the number. */
	check(f->size == 4 || f->size == 8);
	memcpy((char *)base + f->offset, &value, f->size);
}

static void store_bool(const struct field *f, void *base, bool value)
{
	check(f->size == sizeof(bool));
	memcpy((char *)base + f->offset, &value, sizeof(value));
}

/* Decimal digits only: no sign, no space, no other base. Return: the byte after them, or NULL. */
static const char *scan_number(const char *text, uint64_t *value)
{
	uint64_t v = 0;

	if (!isdigit((unsigned char)*text)) {
		return NULL;
	}
	for (; isdigit((unsigned char)*text); text++) {
		if (__builtin_mul_overflow(v, UINT64_C(10), &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*text - '0'), &v)) {
			return NULL;
		}
	}
	*value = v;
	return text;
}

static int set_size(const char *where, const struct field *f, void *base, const char *text)
{
	static const char suffixes[] = "KMGT";
	uint64_t value = 0;
	char shown[SHOWN];
	const char *end = scan_number(text, &value);
	const char *suffix = NULL;

	if (end != NULL && *end != '\0' && end[1] == '\0') {
		suffix = strchr(suffixes, toupper((unsigned char)*end));
	}
	if (suffix == NULL || value > UINT64_MAX >> (10 * (suffix - suffixes + 1))) {
		log_error("%s: \"%s\" is no size; write a number and K, M, G or T, such as 512M",
			  where, printable(text, shown, sizeof(shown)));
		return -EINVAL;
	}
	store_number(f, base, value << (10 * (suffix - suffixes + 1)));
	return 0;
}

static int set_number(const char *where, const struct field *f, void *base, uint64_t value)
{
	if (value < f->min || value > f->max) {
		log_error("%s: %llu is out of range; it takes %llu to %llu", where,
			  (unsigned long long)value, (unsigned long long)f->min,
			  (unsigned long long)f->max);
		return -EINVAL;
	}
	store_number(f, base, value);
	return 0;
}

static int set_number_text(const char *where, const struct field *f, void *base, const char *text)
{
	uint64_t value = 0;
	char shown[SHOWN];
	const char *end = scan_number(text, &value);

	if (end == NULL || *end != '\0') {
		log_error("%s: \"%s\" is no number; it takes %llu to %llu", where,
			  printable(text, shown, sizeof(shown)), (unsigned long long)f->min,
			  (unsigned long long)f->max);
		return -EINVAL;
	}
	return set_number(where, f, base, value);
}

static int set_switch(const char *where, const struct field *f, void *base, const char *text)
{
	char shown[SHOWN];
	bool on = strcmp(text, "on") == 0;

	if (!on && strcmp(text, "off") != 0) {
		log_error("%s: \"%s\" is neither on nor off", where,
			  printable(text, shown, sizeof(shown)));
		return -EINVAL;
	}
	store_bool(f, base, on);
	return 0;
}

static int set_choice(const char *where, const struct field *f, void *base, const char *text)
{
	struct nearest near = {.word = text};
	char shown[SHOWN], hint[96];

	for (uint64_t i = 0; f->choices[i] != NULL; i++) {
		if (strcmp(text, f->choices[i]) == 0) {
			store_number(f, base, i);
			return 0;
		}
		nearest_offer(&near, f->choices[i]);
	}
	log_error("%s: \"%s\" is none of %s%s", where, printable(text, shown, sizeof(shown)),
		  f->value, nearest_hint(&near, hint, sizeof(hint)));
	return -EINVAL;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9') {
		return c - '0';
	}
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int set_mac(const char *where, const struct field *f, void *base, const char *text)
{
	struct mac_value value = {.given = true};
	bool good = strlen(text) == 17;
	char shown[SHOWN];

	for (unsigned i = 0; good && i < 6; i++) {
		int high = hex_digit(text[3 * i]);
		int low = hex_digit(text[3 * i + 1]);

		good = high >= 0 && low >= 0 && (i == 5 || text[3 * i + 2] == ':');
		if (good) {
			value.mac[i] = (uint8_t)(high << 4 | low);
		}
	}
	if (!good) {
		log_error("%s: \"%s\" is no MAC address; write it as 52:54:00:12:34:56", where,
			  printable(text, shown, sizeof(shown)));
		return -EINVAL;
	}
	memcpy((char *)base + f->offset, &value, sizeof(value));
	return 0;
}

static int set_string(struct cli_config *c, const char *where, const struct field *f, void *base,
		      const char *text)
{
	if (*text == '\0' && !f->may_be_empty) {
		log_error("%s: it must not be empty", where);
		return -EINVAL;
	}

	const char *kept = cli_config_keep(c, text);

	if (kept == NULL) {
		log_error("%s: out of memory", where);
		return -ENOMEM;
	}
	memcpy((char *)base + f->offset, &kept, sizeof(kept));
	return 0;
}

/*
 * Cuts the next KEY or KEY=VALUE off @rest, in place. Two commas stand for one, so that a path can
 * hold any byte.
 */
static char *next_item(char **rest)
{
	char *item = *rest;
	char *to = item;
	const char *from = item;

	if (item == NULL) {
		return NULL;
	}
	while (*from != '\0' && (*from != ',' || from[1] == ',')) {
		from += *from == ',';
		*to++ = *from++;
	}
	*rest = *from == ',' ? item + (from - item) + 1 : NULL;
	*to = '\0';
	return item;
}

static int group_item(struct cli_config *c, const char *where, const struct group *g, void *words,
		      char *item, uint64_t *seen)
{
	char *value = strchr(item, '=');
	char inner[192];

	if (value != NULL) {
		*value++ = '\0';
	}

	const struct field *f = field_find(g->keys, g->nkeys, item);

	if (f == NULL) {
		return unknown_key(where, g->keys, g->nkeys, item);
	}
	snprintf(inner, sizeof(inner), "%s: %s", where, f->name);
	if ((*seen & BIT(f - g->keys)) != 0) {
		log_error("%s: it is given twice", inner);
		return -EINVAL;
	}
	*seen |= BIT(f - g->keys);
	if (f->type == FIELD_FLAG) {
		if (value != NULL) {
			log_error("%s: it takes no value", inner);
			return -EINVAL;
		}
		store_bool(f, words, true);
		return 0;
	}
	if (value == NULL) {
		log_error("%s: it needs a value, as in %s=%s", inner, f->name, f->value);
		return -EINVAL;
	}
	return field_from_text(c, inner, f, words, value);
}

static int group_from_text(struct cli_config *c, const char *where, const struct group *g,
			   const char *text)
{
	_Alignas(8) char words[GROUP_WORDS_MAX];
	char *copy = strdup(text);
	char *rest = copy;
	uint64_t seen = 0;
	int error = 0;

	check(g->size <= sizeof(words) && g->nkeys <= 64);
	if (copy == NULL) {
		log_error("%s: out of memory", where);
		return -ENOMEM;
	}
	memcpy(words, g->defaults, g->size);
	for (char *item = next_item(&rest); error == 0 && item != NULL; item = next_item(&rest)) {
		error = group_item(c, where, g, words, item, &seen);
	}
	free(copy);
	return error != 0 ? error : g->finish(c, where, words);
}

int field_from_text(struct cli_config *c, const char *where, const struct field *f, void *base,
		    const char *text)
{
	switch (f->type) {
	case FIELD_STRING:
		return set_string(c, where, f, base, text);
	case FIELD_SIZE:
		return set_size(where, f, base, text);
	case FIELD_NUMBER:
		return set_number_text(where, f, base, text);
	case FIELD_SWITCH:
	case FIELD_FLAG:
		return set_switch(where, f, base, text);
	case FIELD_CHOICE:
		return set_choice(where, f, base, text);
	case FIELD_MAC:
		return set_mac(where, f, base, text);
	case FIELD_GROUP:
		return group_from_text(c, where, f->group, text);
	}
	return -EINVAL;
}

static int wrong_type(const char *where, const char *wanted, const json_t *json)
{
	static const char *const names[] = {
		[JSON_OBJECT] = "an object",
		[JSON_ARRAY] = "an array",
		[JSON_STRING] = "a string",
		[JSON_INTEGER] = "a number",
		[JSON_REAL] = "a number with a fraction",
		[JSON_TRUE] = "true",
		[JSON_FALSE] = "false",
		[JSON_NULL] = "null",
	};

	log_error("%s: it must be %s, not %s", where, wanted, names[json_typeof(json)]);
	return -EINVAL;
}

static int group_from_json(struct cli_config *c, const char *where, const struct group *g,
			   const json_t *json)
{
	_Alignas(8) char words[GROUP_WORDS_MAX];
	const char *key;
	json_t *value;

	if (json_is_string(json)) {
		return group_from_text(c, where, g, json_string_value(json));
	}
	if (!json_is_object(json)) {
		return wrong_type(where, "an object, or a string as on the command line", json);
	}
	check(g->size <= sizeof(words));
	memcpy(words, g->defaults, g->size);
	/* jansson walks objects only through pointers that are not const; it changes nothing. */
	json_object_foreach((json_t *)(uintptr_t)json, key, value)
	{
		const struct field *f = field_find(g->keys, g->nkeys, key);
		char inner[192];

		if (f == NULL) {
			return unknown_key(where, g->keys, g->nkeys, key);
		}
		snprintf(inner, sizeof(inner), "%s: %s", where, f->name);

		int error = field_from_json(c, inner, f, words, value);

		if (error != 0) {
			return error;
		}
	}
	return g->finish(c, where, words);
}

static int scalar_from_json(struct cli_config *c, const char *where, const struct field *f,
			    void *base, const json_t *json)
{
	switch (f->type) {
	case FIELD_GROUP:
		return group_from_json(c, where, f->group, json);
	case FIELD_SWITCH:
	case FIELD_FLAG:
		if (!json_is_boolean(json)) {
			return wrong_type(where, "true or false", json);
		}
		store_bool(f, base, json_is_true(json));
		return 0;
	case FIELD_NUMBER:
		if (!json_is_integer(json)) {
			return wrong_type(where, "a whole number", json);
		}
		if (json_integer_value(json) < 0) {
			log_error("%s: it must not be negative", where);
			return -EINVAL;
		}
		return set_number(where, f, base, (uint64_t)json_integer_value(json));
	case FIELD_SIZE:
		if (!json_is_string(json)) {
			return wrong_type(where, "a string such as \"512M\"", json);
		}
		return set_size(where, f, base, json_string_value(json));
	default:
		if (!json_is_string(json)) {
			return wrong_type(where, "a string", json);
		}
		return field_from_text(c, where, f, base, json_string_value(json));
	}
}

int field_from_json(struct cli_config *c, const char *where, const struct field *f, void *base,
		    const json_t *json)
{
	int error = 0;

	if (!f->list) {
		return scalar_from_json(c, where, f, base, json);
	}
	if (!json_is_array(json)) {
		return wrong_type(where, "an array", json);
	}
	for (size_t i = 0; error == 0 && i < json_array_size(json); i++) {
		char inner[192];

		snprintf(inner, sizeof(inner), "%s[%zu]", where, i);
		error = scalar_from_json(c, inner, f, base, json_array_get(json, i));
	}
	return error;
}
