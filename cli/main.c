/*
 * The yado command: picks the verb.
 */
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cli/doctor.h"
#include "cli/host/host.h"
#include "cli/nearest.h"
#include "cli/run.h"
#include "lib/base/types.h"
#include "soft/engine.h"
#include "vmm/log.h"
#include "vmm/vmm.h"

struct verb {
	const char *name;
	const char *summary;
	int (*main)(int argc, char **argv);
	void (*help)(FILE *out);
};

static int help_main(int argc, char **argv);

static int no_arguments(int argc, char **argv)
{
	if (argc > 1) {
		char shown[NEAREST_WORD_MAX];

		log_error("`yado %s` takes no arguments; \"%s\" is one", argv[0],
			  printable(argv[1], shown, sizeof(shown)));
		return VM_END_USAGE;
	}
	return 0;
}

static int doctor_main(int argc, char **argv)
{
	struct doctor_facts facts;
	int status = no_arguments(argc, argv);

	if (status != 0) {
		return status;
	}
	doctor_probe(&facts, soft_engine_chosen()->name);
	doctor_report(stdout, &facts);
	return 0;
}

static void doctor_help(FILE *out)
{
	fputs("usage: yado doctor\n\n"
	      "Says what this machine offers a VM, why not, and what to do. The exit status is 0\n"
	      "if a guest can run here, else 1.\n",
	      out);
}

#ifdef __clang__
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif

#ifdef __OPTIMIZE__
#define OPTIMIZED "optimized"
#else
#define OPTIMIZED "not optimized"
#endif

static int version_main(int argc, char **argv)
{
	int status = no_arguments(argc, argv);

	if (status != 0) {
		return status;
	}
	printf("yado %s\nbuilt by %s, %s\n", YADO_VERSION, COMPILER, OPTIMIZED);
	return 0;
}

static void version_help(FILE *out)
{
	fputs("usage: yado version\n\nSays which yado this is and how it was built.\n", out);
}

static void help_help(FILE *out)
{
	fputs("usage: yado help [COMMAND]\n\nLists the commands, or explains one.\n", out);
}

static const struct verb verbs[] = {
	{"run", "start a VM", run_main, run_help},
	{"host", "start all VMs of this machine, and share its console among them", host_main,
	 host_help},
	{"doctor", "what this machine offers, and what to do about the rest", doctor_main,
	 doctor_help},
	{"version", "which yado this is", version_main, version_help},
	{"help", "this list, or how a command is used", help_main, help_help},
};

static void usage(FILE *out)
{
	fputs("usage: yado COMMAND [ARGUMENT]...\n\n", out);
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		fprintf(out, "  %-10s%s\n", verbs[i].name, verbs[i].summary);
	}
	fputs("\nThe manual page is yado(1).\n", out);
}

static const struct verb *find_verb(const char *name)
{
	struct nearest near = {.word = name};
	char shown[NEAREST_WORD_MAX], hint[96];

	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (strcmp(verbs[i].name, name) == 0) {
			return &verbs[i];
		}
		nearest_offer(&near, verbs[i].name);
	}
	log_error("unknown command \"%s\"%s", printable(name, shown, sizeof(shown)),
		  nearest_hint(&near, hint, sizeof(hint)));
	return NULL;
}

static int help_main(int argc, char **argv)
{
	if (argc == 1) {
		usage(stdout);
		return 0;
	}

	const struct verb *verb = find_verb(argv[1]);

	if (verb == NULL) {
		return VM_END_USAGE;
	}
	verb->help(stdout);
	return 0;
}

/* The first program of a machine is told by its name what to do. */
static bool is_init(const char *program)
{
	const char *slash = strrchr(program, '/');

	return strcmp(slash != NULL ? slash + 1 : program, "init") == 0;
}

int main(int argc, char **argv)
{
	/* A reader of our output that goes away is an error of one write, not the end of a VM. */
	signal(SIGPIPE, SIG_IGN);
	/* More arenas would have malloc() open a file of /proc some day, inside the sandbox. */
	mallopt(M_ARENA_MAX, 1);
	if (argc > 0 && is_init(argv[0])) {
		return host_main(argc, argv);
	}
	if (argc < 2) {
		usage(stderr);
		return VM_END_USAGE;
	}

	const char *name = argv[1];

	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
		name = "help";
	} else if (strcmp(name, "--version") == 0) {
		name = "version";
	}

	const struct verb *verb = find_verb(name);

	if (verb == NULL) {
		return VM_END_USAGE;
	}
	if (argc == 3 && verb->help != NULL &&
	    (strcmp(argv[2], "--help") == 0 || strcmp(argv[2], "-h") == 0)) {
		verb->help(stdout);
		return 0;
	}
	return verb->main(argc - 1, argv + 1);
}
