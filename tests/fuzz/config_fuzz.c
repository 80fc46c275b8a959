/*
 * Any bytes as a JSON file or as a command line: they are refused, or give a configuration that
 * keeps what the VMM relies on. The first byte chooses: 'j' JSON, else arguments, a line each.
 */
#include <stdlib.h>
#include <string.h>

#include "cli/check.h"
#include "cli/command_line.h"
#include "cli/json_file.h"
#include "tests/fuzz/input.h"

#define WORDS_MAX 64

static void must(bool condition)
{
	if (!condition) {
		abort();
	}
}

static void string_is_there(const char *text)
{
	must(text != NULL && text[0] != '\0');
}

/* What a successful parse promises. */
static void check_parsed(const struct vm_config *c)
{
	string_is_there(c->name);
	must(c->cpus >= 1 && c->cpus <= CONFIG_CPUS_MAX);
	must(c->cpu <= CPU_X86_64_V3 && c->accel <= ACCEL_SOFT);
	must(c->ndisks <= CONFIG_DISKS_MAX && c->nnets <= CONFIG_NETS_MAX);
	for (unsigned i = 0; i < c->ndisks; i++) {
		string_is_there(c->disk[i].path);
		must(c->disk[i].queues >= 1 && c->disk[i].queues <= 16);
	}
	for (unsigned i = 0; i < c->nnets; i++) {
		must(c->net[i].queue_pairs >= 1 && c->net[i].queue_pairs <= 8);
		must(c->net[i].tap != NULL || c->net[i].queue_pairs == 1);
		must(c->net[i].tap == NULL || c->net[i].passt_args == NULL);
	}
	must((c->vsock_cid == 0) == (c->vsock_socket == NULL));
	must((c->console.path != NULL) ==
	     (c->console.kind == CONSOLE_SOCKET || c->console.kind == CONSOLE_FILE));
}

/* What a successful check promises beyond that. */
static void check_accepted(const struct vm_config *c)
{
	string_is_there(c->kernel);
	must(c->memory_bytes >= 16 * MIB && c->memory_bytes <= TIB);
	must(c->memory_bytes % (4 * KIB) == 0 && c->balloon_bytes < c->memory_bytes);
	must(c->vsock_cid == 0 || (c->vsock_cid >= 3 && c->vsock_cid < 0xffffffff));
	must(strlen(c->name) <= 64);
	for (unsigned i = 0; i < c->ndisks; i++) {
		must(c->disk[i].serial == NULL || strlen(c->disk[i].serial) <= 20);
	}
}

/* @text is cut at its line ends. */
static int parse_words(struct cli_config *c, char *text)
{
	char *argv[WORDS_MAX + 2] = {"run"};
	int argc = 1;
	char *save = NULL;

	for (char *word = strtok_r(text, "\n", &save); word != NULL && argc <= WORDS_MAX;
	     word = strtok_r(NULL, "\n", &save)) {
		/* A file that happens to be there is no input of ours. */
		if (strstr(word, "config") != NULL) {
			return -1;
		}
		argv[argc++] = word;
	}
	return command_line_parse(c, argc, argv);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct host_facts host = {16 * GIB, 8 * GIB, 8};
	struct cli_config c;
	int error;

	if (size == 0) {
		return 0;
	}
	cli_config_init(&c);
	if (data[0] == 'j') {
		error = json_config_parse(&c, "vm.json", (const char *)data + 1, size - 1);
	} else {
		char *text = strndup((const char *)data + 1, size - 1);

		must(text != NULL);
		error = parse_words(&c, text);
		free(text);
	}
	if (error == 0 && !c.help) {
		check_parsed(&c.vm);
		if (config_check(&c.vm, &host) == 0) {
			check_accepted(&c.vm);
		}
	}
	cli_config_fini(&c);
	return 0;
}
