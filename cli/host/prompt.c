#include "cli/host/prompt.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/nearest.h"

#define WORDS_MAX 4
#define WORD_SIZE 80
#define LINES_MAX 100000

enum name_rule {
	NAME_NONE,
	NAME_OPTIONAL,
	NAME_NEEDED
};

static const struct verb {
	const char *word;
	enum prompt_verb verb;
	enum name_rule name;
	bool now, lines;
} verbs[] = {
	{"list", PROMPT_LIST, NAME_NONE, false, false},
	{"start", PROMPT_START, NAME_NEEDED, false, false},
	{"stop", PROMPT_STOP, NAME_NEEDED, true, false},
	{"console", PROMPT_CONSOLE, NAME_NEEDED, false, false},
	{"log", PROMPT_LOG, NAME_OPTIONAL, false, true},
	{"memory", PROMPT_MEMORY, NAME_NONE, false, false},
	{"cpus", PROMPT_CPUS, NAME_NONE, false, false},
	{"poweroff", PROMPT_POWEROFF, NAME_NONE, true, false},
	{"help", PROMPT_HELP, NAME_NONE, false, false},
};

const char *prompt_help(void)
{
	return "list                 the VMs, and how they are\n"
	       "start NAME           start a VM; its file is read again\n"
	       "stop NAME [--now]    press a VM's power button, and end it after a minute; --now: "
	       "at "
	       "once\n"
	       "console NAME         show a VM; Ctrl-] 0 comes back\n"
	       "log [NAME] [LINES]   what a VM has said last, or the host (100 lines)\n"
	       "memory               whose it is\n"
	       "cpus                 how many there are, and for whom\n"
	       "poweroff [--now]     stop all VMs, then the machine\n"
	       "help                 this list\n";
}

/* Return: the number of words, or WORDS_MAX + 1 if there are more. */
static unsigned split(const char *text, char words[WORDS_MAX][WORD_SIZE])
{
	unsigned n = 0;

	for (;;) {
		text += strspn(text, " \t");
		if (*text == '\0') {
			return n;
		}
		if (n == WORDS_MAX) {
			return n + 1;
		}

		size_t len = strcspn(text, " \t");

		snprintf(words[n++], WORD_SIZE, "%.*s", (int)MIN(len, (size_t)WORD_SIZE - 1), text);
		text += len;
	}
}

static const struct verb *find(const char *word, char *why, size_t size)
{
	struct nearest near = {.word = word};
	char shown[NEAREST_WORD_MAX], hint[96];

	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (strcmp(verbs[i].word, word) == 0) {
			return &verbs[i];
		}
		nearest_offer(&near, verbs[i].word);
	}
	snprintf(why, size, "there is no command \"%s\"%s", printable(word, shown, sizeof(shown)),
		 nearest_hint(&near, hint, sizeof(hint)));
	return NULL;
}

static bool is_number(const char *word)
{
	return word[0] != '\0' && word[strspn(word, "0123456789")] == '\0';
}

/* One word behind the verb. */
static int take(const struct verb *v, struct prompt_command *out, const char *word, char *why,
		size_t size)
{
	char shown[NEAREST_WORD_MAX];

	if (word[0] == '-') {
		if (v->now && strcmp(word, "--now") == 0) {
			out->now = true;
			return 0;
		}
		snprintf(why, size, "%s does not know \"%s\"%s", v->word,
			 printable(word, shown, sizeof(shown)), v->now ? ", only --now" : "");
		return -EINVAL;
	}
	/* A name may be a number: where one is needed, or can be, the first word is it. */
	if (v->lines && is_number(word) && (out->name[0] != '\0' || v->name == NAME_OPTIONAL)) {
		unsigned long lines = strlen(word) < 9 ? strtoul(word, NULL, 10) : LINES_MAX;

		out->lines = (unsigned)MIN(lines, (unsigned long)LINES_MAX);
		return 0;
	}
	if (v->name == NAME_NONE || out->name[0] != '\0') {
		snprintf(why, size, "%s has no use for \"%s\"", v->word,
			 printable(word, shown, sizeof(shown)));
		return -EINVAL;
	}
	if (strlen(word) >= sizeof(out->name)) {
		snprintf(why, size, "a VM's name has at most %d characters", PROMPT_NAME_SIZE - 1);
		return -EINVAL;
	}
	strcpy(out->name, word);
	return 0;
}

int prompt_parse(const char *text, struct prompt_command *out, char *why, size_t size)
{
	char words[WORDS_MAX][WORD_SIZE];
	unsigned n = split(text, words);
	const struct verb *v;

	*out = (struct prompt_command){.verb = PROMPT_NOTHING, .lines = PROMPT_LINES};
	if (n == 0) {
		return 0;
	}
	v = find(words[0], why, size);
	if (v == NULL) {
		return -EINVAL;
	}
	if (n > WORDS_MAX) {
		snprintf(why, size, "too many words; help lists what there is");
		return -EINVAL;
	}
	out->verb = v->verb;
	for (unsigned i = 1; i < n; i++) {
		int error = take(v, out, words[i], why, size);

		if (error != 0) {
			return error;
		}
	}
	if (v->name == NAME_NEEDED && out->name[0] == '\0') {
		snprintf(why, size, "%s needs a VM's name, as in: %s NAME", v->word, v->word);
		return -EINVAL;
	}
	return 0;
}
