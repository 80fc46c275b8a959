#include "cli/host/prompt.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit.h"

static struct prompt_command parse(const char *text)
{
	struct prompt_command c;
	char why[160] = "";

	assert_int_equal(prompt_parse(text, &c, why, sizeof(why)), 0);
	assert_string_equal(why, "");
	return c;
}

static void refused(const char *text, const char *reason)
{
	struct prompt_command c;
	char why[160] = "";

	assert_int_equal(prompt_parse(text, &c, why, sizeof(why)), -EINVAL);
	if (strstr(why, reason) == NULL) {
		fail_msg("\"%s\" is refused with \"%s\", not \"%s\"", text, why, reason);
	}
	assert_null(strpbrk(why, "\n\r\033"));
}

static void commands(void **unused)
{
	static const struct {
		const char *text;
		enum prompt_verb verb;
		const char *name;
		bool now;
		unsigned lines;
	} cases[] = {
		{"", PROMPT_NOTHING, "", false, 100},
		{"  \t ", PROMPT_NOTHING, "", false, 100},
		{"list", PROMPT_LIST, "", false, 100},
		{" start  web ", PROMPT_START, "web", false, 100},
		{"start 7", PROMPT_START, "7", false, 100},
		{"stop web", PROMPT_STOP, "web", false, 100},
		{"stop web --now", PROMPT_STOP, "web", true, 100},
		{"stop --now web", PROMPT_STOP, "web", true, 100},
		{"console db-1.a", PROMPT_CONSOLE, "db-1.a", false, 100},
		{"log", PROMPT_LOG, "", false, 100},
		{"log 5", PROMPT_LOG, "", false, 5},
		{"log web", PROMPT_LOG, "web", false, 100},
		{"log web 20", PROMPT_LOG, "web", false, 20},
		{"log web 99999999999999999999", PROMPT_LOG, "web", false, 100000},
		{"memory", PROMPT_MEMORY, "", false, 100},
		{"cpus", PROMPT_CPUS, "", false, 100},
		{"poweroff", PROMPT_POWEROFF, "", false, 100},
		{"poweroff --now", PROMPT_POWEROFF, "", true, 100},
		{"help", PROMPT_HELP, "", false, 100},
	};

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct prompt_command c = parse(cases[i].text);

		assert_int_equal(c.verb, cases[i].verb);
		assert_string_equal(c.name, cases[i].name);
		assert_int_equal(c.now, cases[i].now);
		assert_int_equal(c.lines, cases[i].lines);
		if (cases[i].verb != PROMPT_NOTHING) {
			char word[16];

			assert_int_equal(sscanf(cases[i].text, " %15s", word), 1);
			assert_non_null(strstr(prompt_help(), word));
		}
	}
}

static void wrong_input(void **unused)
{
	char name[PROMPT_NAME_SIZE + 16];

	(void)unused;
	refused("lsit", "there is no command \"lsit\"; did you mean \"list\"?");
	refused("LIST", "there is no command \"LIST\"");
	refused("\033[2J", "there is no command \"?[2J\"");
	refused("start", "start needs a VM's name");
	refused("stop --now", "stop needs a VM's name");
	refused("start a b", "start has no use for \"b\"");
	refused("list web", "list has no use for \"web\"");
	refused("list 5", "list has no use for \"5\"");
	refused("start web --now", "start does not know \"--now\"");
	refused("stop web --force", "stop does not know \"--force\", only --now");
	refused("log a b c d e", "too many words");
	refused("log web x", "log has no use for \"x\"");
	memset(name, 'a', sizeof(name));
	memcpy(name, "start ", 6);
	name[6 + PROMPT_NAME_SIZE] = '\0';
	refused(name, "at most 64 characters");
	name[6 + PROMPT_NAME_SIZE - 1] = '\0';
	assert_int_equal(strlen(parse(name).name), PROMPT_NAME_SIZE - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(commands),
		cmocka_unit_test(wrong_input),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
