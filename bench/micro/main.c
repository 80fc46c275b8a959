/*
 * What a KVM provider's work costs, one row for each kind of exit or call. Nothing but the KVM API
 * is used, and few system calls besides: it is to run wherever there is a /dev/kvm.
 */
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bench/micro/clock.h"
#include "bench/micro/guest_clock.h"
#include "bench/micro/result.h"
#include "bench/micro/row.h"

#define EXIT_USAGE 2
#define ROWS_MAX   64

static const char usage[] =
	"usage: micro [--json --subject NAME] [ROW]...\n"
	"       micro --list\n"
	"\n"
	"Measures what exits from a guest and calls of KVM cost, in ticks of the TSC; where a "
	"tick\n"
	"is an instruction, it says so. Shows the least and the median of the samples of each "
	"ROW,\n"
	"or of all.\n"
	"\n"
	"  --list           say what there is to measure, from where to where\n"
	"  --json           print the median only, as one JSON object a line\n"
	"  --subject NAME   who is measured, for --json\n"
	"\n"
	"A row that cannot be measured here is skipped, and a line on standard error says why.\n"
	"Exit status: 0; 1 if something did not do what it should; 2 for wrong arguments.\n";

struct options {
	bool list, json, help;
	const char *subject;
	const struct row *rows[ROWS_MAX];
	unsigned count;
};

static const struct row *const topics[] = {exit_rows, apic_rows, wake_rows, memory_rows,
					   create_rows};

static void put(int fd, const char *text)
{
	size_t len = strlen(text);

	while (len > 0) {
		ssize_t n = write(fd, text, len);

		if (n <= 0) {
			_exit(1);
		}
		text += n;
		len -= (size_t)n;
	}
}

static void add_row(struct options *options, const struct row *row)
{
	if (options->count < ROWS_MAX) {
		options->rows[options->count++] = row;
	}
}

static const struct row *find_row(const char *name)
{
	for (unsigned t = 0; t < sizeof(topics) / sizeof(topics[0]); t++) {
		for (const struct row *row = topics[t]; row->name != NULL; row++) {
			if (strcmp(row->name, name) == 0) {
				return row;
			}
		}
	}
	return NULL;
}

static void add_all(struct options *options)
{
	for (unsigned t = 0; t < sizeof(topics) / sizeof(topics[0]); t++) {
		for (const struct row *row = topics[t]; row->name != NULL; row++) {
			add_row(options, row);
		}
	}
}

static int wrong(const char *what, const char *word)
{
	char line[256];

	snprintf(line, sizeof(line), "micro: %s \"%.100s\"; see micro --help\n", what, word);
	put(STDERR_FILENO, line);
	return EXIT_USAGE;
}

/* It goes into JSON as it is. */
static bool is_subject(const char *name)
{
	for (const char *c = name; *c != '\0'; c++) {
		if (!isalnum((unsigned char)*c) && strchr("-_.", *c) == NULL) {
			return false;
		}
	}
	return *name != '\0';
}

/* Return: 0 or EXIT_USAGE. */
static int parse(struct options *options, char **words)
{
	for (; *words != NULL; words++) {
		if (strcmp(*words, "--list") == 0) {
			options->list = true;
		} else if (strcmp(*words, "--json") == 0) {
			options->json = true;
		} else if (strcmp(*words, "--help") == 0) {
			options->help = true;
		} else if (strcmp(*words, "--subject") == 0) {
			if (words[1] == NULL || !is_subject(words[1])) {
				return wrong("--subject wants a name of letters, digits, - _ . and "
					     "got",
					     words[1] != NULL ? words[1] : "");
			}
			options->subject = *++words;
		} else if (**words == '-') {
			return wrong("there is no option", *words);
		} else if (find_row(*words) == NULL) {
			return wrong("there is no row", *words);
		} else {
			add_row(options, find_row(*words));
		}
	}
	if (options->json != (options->subject != NULL)) {
		return wrong("--json and --subject go together; missing is",
			     options->json ? "--subject" : "--json");
	}
	return 0;
}

static void print_list(void)
{
	struct options all = {0};
	char line[256];

	add_all(&all);
	for (unsigned i = 0; i < all.count; i++) {
		snprintf(line, sizeof(line), "%-22s %s (%s)\n", all.rows[i]->name,
			 all.rows[i]->what, all.rows[i]->spec);
		put(STDOUT_FILENO, line);
	}
}

static void print(const struct options *options, const struct row *row, const struct result *result,
		  const char *unit)
{
	long long least = result->ticks[0];
	long long median = result->ticks[result->count / 2];
	char line[256];

	if (options->json) {
		snprintf(line, sizeof(line),
			 "{\"bench\": \"micro\", \"row\": \"%s\", \"subject\": \"%s\", "
			 "\"value\": %lld, \"unit\": \"%s\"}\n",
			 row->name, options->subject, median, unit);
	} else {
		snprintf(line, sizeof(line), "%-22s %12lld %12lld %8u\n", row->name, least, median,
			 result->count);
	}
	put(STDOUT_FILENO, line);
}

static void complain(const char *name, enum verdict verdict, const struct result *result)
{
	char line[256];

	snprintf(line, sizeof(line), "micro: %s: %s: %s\n", name,
		 verdict == SKIPPED ? "skipped" : "failed", result->reason);
	put(STDERR_FILENO, line);
}

static enum verdict measure(const struct row *row, struct result *result)
{
	enum verdict verdict;

	result->count = 0;
	verdict = row->measure(row, result);
	if (verdict == MEASURED && result->count == 0) {
		return result_fail(result, "no samples");
	}
	if (verdict == MEASURED) {
		result_sort(result);
	}
	return verdict;
}

static int run(const struct options *options)
{
	static struct result result;
	const char *unit = clock_counts_instructions() ? "instructions" : "ticks";
	enum verdict verdict = guest_clock_check(&result);
	int status = 0;
	char line[256];

	if (verdict != MEASURED) {
		snprintf(line, sizeof(line), "micro: %s\n", result.reason);
		put(STDERR_FILENO, line);
		return 1;
	}
	if (!options->json) {
		snprintf(line, sizeof(line), "%-22s %12s %12s %8s   unit: %s\n", "row", "least",
			 "median", "samples", unit);
		put(STDOUT_FILENO, line);
	}
	for (unsigned i = 0; i < options->count; i++) {
		verdict = measure(options->rows[i], &result);
		if (verdict == MEASURED) {
			print(options, options->rows[i], &result, unit);
			continue;
		}
		complain(options->rows[i]->name, verdict, &result);
		status |= verdict == FAILED;
	}
	return status;
}

int main(int argc, char **argv)
{
	struct options options = {0};
	int status = argc > 0 ? parse(&options, argv + 1) : EXIT_USAGE;

	if (status != 0) {
		return status;
	}
	if (options.help) {
		put(STDOUT_FILENO, usage);
		return 0;
	}
	if (options.list) {
		print_list();
		return 0;
	}
	if (options.count == 0) {
		add_all(&options);
	}
	return run(&options);
}
