/*
 * The conformance suite: does what answers /dev/kvm keep the contract? One static program that
 * needs nothing but that. `conformance --help` says how.
 */
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/guest/bare/bare.h"
#include "tests/kvm/areas.h"
#include "tests/kvm/bare_machine.h"
#include "tests/kvm/door.h"
#include "tests/kvm/faults.h"

#define EXIT_USAGE  2
#define EXCEPT_MAX  80
#define SECONDS_MAX 60 /* for a case; under emulation they take up to some seconds */

static const char usage[] =
	"usage: conformance [OPTION]... [CASE]...\n"
	"\n"
	"Runs the cases, each in a process of its own, and ends with one line:\n"
	"N passed, N failed, N skipped. CASE is a name, an area or a pattern (\"slots/*\"); all "
	"by\n"
	"default. The exit status is 1 if a case failed.\n"
	"\n"
	"  -d, --device PATH   the provider (/dev/kvm)\n"
	"  -x, --except CASE   not these\n"
	"  -l, --list          the cases, and where their rules stand; runs nothing\n"
	"  -b, --list-bare     those that are bare payloads, and so run without a provider, too\n"
	"  -n, --here          runs the one CASE in this process, without a time limit: for gdb\n"
	"  -f, --fault NAME    with a provider that has this fault: its case must fail\n"
	"  -F, --faults        the faults; runs nothing\n"
	"  -p, --prove         runs each fault's case with it; passed means that the case caught "
	"it\n"
	"  -h, --help          this\n";

/* One a line. */
/* clang-format off */
static const struct test_case *const areas[] = {
	api_cases,
	backing_cases,
	clock_cases,
	coalesced_cases,
	cpu_cases,
	cpuid_cases,
	debug_cases,
	dirty_cases,
	dirty_ring_cases,
	entry_cases,
	events_cases,
	fpu_cases,
	inject_cases,
	ioeventfd_cases,
	irqchip_cases,
	irqfd_cases,
	lines_cases,
	mmio_cases,
	mmio_again_cases,
	mmio_edge_cases,
	mmio_rmw_cases,
	moved_cases,
	mp_cases,
	msr_cases,
	pio_cases,
	pio_string_cases,
	routing_cases,
	running_cases,
	slots_cases,
	split_cases,
	state_cases,
	steal_cases,
	translate_cases,
	user_exits_cases,
};
/* clang-format on */

static char *program;
static const char *device = "/dev/kvm";
static const struct fault *fault;
static char *except[EXCEPT_MAX];
static int except_count;

struct counts {
	unsigned int passed, failed, skipped;
};

/* A case of the tables, or of the bare image; in that order, by number. */
struct listed {
	const char *name;
	const char *spec;
	const struct test_case *host; /* or */
	struct bare_listed bare;
};

static bool listed(size_t index, struct listed *found)
{
	*found = (struct listed){0};
	for (size_t i = 0; i < sizeof(areas) / sizeof(areas[0]); i++) {
		for (const struct test_case *c = areas[i]; c->name != NULL; c++) {
			if (index-- == 0) {
				found->name = c->name;
				found->spec = c->spec;
				found->host = c;
				return true;
			}
		}
	}
	if (!bare_listed(index, &found->bare)) {
		return false;
	}
	found->name = found->bare.name;
	found->spec = found->bare.spec;
	return true;
}

static bool picks(const char *word, const char *name)
{
	size_t len = strlen(word);

	return fnmatch(word, name, 0) == 0 || (strncmp(word, name, len) == 0 && name[len] == '/');
}

static bool picked(char **words, int count, const char *name)
{
	for (int i = 0; i < except_count; i++) {
		if (picks(except[i], name)) {
			return false;
		}
	}
	for (int i = 0; i < count; i++) {
		if (picks(words[i], name)) {
			return true;
		}
	}
	return count == 0;
}

static _Noreturn void run_here(const struct listed *c)
{
	if (c->host != NULL) {
		c->host->run();
		test_pass();
	}
	bare_run_case(&c->bare);
}

/* ---- one case in a process ---- */

struct outcome {
	enum test_status status;
	char text[2048]; /* what it said, on one line */
};

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

/* Reads to the end, or the time limit. Return: false at that. */
static bool collect(int fd, char *text, size_t size)
{
	int64_t deadline = now_ms() + SECONDS_MAX * 1000;
	size_t len = 0;

	for (;;) {
		struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
		int64_t left = deadline - now_ms();
		char data[512];
		ssize_t n;

		if (left <= 0 || (n = poll(&poll_fd, 1, (int)left)) == 0) {
			return false;
		}
		n = n < 0 ? -1 : read(fd, data, sizeof(data));
		if (n == 0) {
			return true;
		}
		for (ssize_t i = 0; i < n && len + 1 < size; i++) {
			text[len++] = data[i] == '\n' ? ' ' : data[i];
			text[len] = '\0';
		}
	}
}

static pid_t spawn(const char *name, int out)
{
	posix_spawn_file_actions_t actions;
	char *argv[9] = {program, "--here", "--device", (char *)(uintptr_t)device};
	int argc = 4;
	pid_t pid = -1;

	if (fault != NULL) {
		argv[argc++] = "--fault";
		argv[argc++] = (char *)(uintptr_t)fault->name;
	}
	argv[argc] = (char *)(uintptr_t)name;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, out, STDERR_FILENO);
	errno = posix_spawn(&pid, program, &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	return errno == 0 ? pid : -1;
}

static struct outcome run_apart(const char *name)
{
	struct outcome outcome = {.status = TEST_FAILED};
	int fds[2], status = 0;
	pid_t pid;
	bool ended;

	if (pipe2(fds, O_CLOEXEC) != 0 || (pid = spawn(name, fds[1])) < 0) {
		snprintf(outcome.text, sizeof(outcome.text), "cannot start a process: %s",
			 strerror(errno));
		return outcome;
	}
	close(fds[1]);
	ended = collect(fds[0], outcome.text, sizeof(outcome.text));
	close(fds[0]);
	if (!ended) {
		kill(pid, SIGKILL);
	}
	waitpid(pid, &status, 0);
	if (!ended) {
		snprintf(outcome.text, sizeof(outcome.text), "not done after %d s", SECONDS_MAX);
	} else if (WIFSIGNALED(status)) {
		size_t len = strlen(outcome.text);

		snprintf(outcome.text + len, sizeof(outcome.text) - len, "killed by SIG%s",
			 sigabbrev_np(WTERMSIG(status)));
	} else if (WEXITSTATUS(status) == TEST_PASSED || WEXITSTATUS(status) == TEST_SKIPPED) {
		outcome.status = (enum test_status)WEXITSTATUS(status);
	}
	return outcome;
}

static void report(struct counts *counts, const char *name, const struct outcome *outcome)
{
	switch (outcome->status) {
	case TEST_PASSED:
		counts->passed++;
		printf("ok    %s\n", name);
		break;
	case TEST_SKIPPED:
		counts->skipped++;
		printf("skip  %s: %s\n", name, outcome->text);
		break;
	default:
		counts->failed++;
		printf("FAIL  %s: %s\n", name, outcome->text);
		break;
	}
	fflush(stdout);
}

static void run_cases(struct counts *counts, char **words, int count)
{
	struct listed c;

	for (size_t i = 0; listed(i, &c); i++) {
		if (picked(words, count, c.name)) {
			struct outcome outcome = run_apart(c.name);

			report(counts, c.name, &outcome);
		}
	}
}

/* The case must pass as it is, and fail with the fault. */
static struct outcome prove(const struct fault *tried)
{
	struct outcome outcome;

	fault = NULL;
	outcome = run_apart(tried->case_name);
	if (outcome.status != TEST_PASSED) {
		return outcome;
	}
	fault = tried;
	outcome = run_apart(tried->case_name);
	if (outcome.status == TEST_FAILED) {
		outcome.status = TEST_PASSED;
	} else {
		snprintf(outcome.text, sizeof(outcome.text), "%s does not notice",
			 tried->case_name);
		outcome.status = TEST_FAILED;
	}
	return outcome;
}

static void prove_faults(struct counts *counts, char **words, int count)
{
	const struct fault *tried;

	for (size_t i = 0; (tried = fault_listed(i)) != NULL; i++) {
		if (picked(words, count, tried->name)) {
			struct outcome outcome = prove(tried);

			report(counts, tried->name, &outcome);
		}
	}
}

/* ---- the command line ---- */

static void list_cases(char **words, int count)
{
	struct listed c;

	for (size_t i = 0; listed(i, &c); i++) {
		if (picked(words, count, c.name)) {
			printf("%s\t%s\n", c.name, c.spec);
		}
	}
}

static void list_bare(char **words, int count)
{
	struct bare_listed c;

	for (size_t i = 0; bare_listed(i, &c); i++) {
		if (picked(words, count, c.name) && (c.needs & BARE_KVM) == 0) {
			puts(c.name);
		}
	}
}

static void list_faults(void)
{
	const struct fault *f;

	for (size_t i = 0; (f = fault_listed(i)) != NULL; i++) {
		printf("%s\t%s\n", f->name, f->case_name);
	}
}

static bool word_is_known(const char *word, bool faults)
{
	const struct fault *f;
	struct listed c;

	for (size_t i = 0; faults && (f = fault_listed(i)) != NULL; i++) {
		if (picks(word, f->name)) {
			return true;
		}
	}
	for (size_t i = 0; !faults && listed(i, &c); i++) {
		if (picks(word, c.name)) {
			return true;
		}
	}
	return false;
}

static _Noreturn void refuse(const char *what, const char *word)
{
	fprintf(stderr, "conformance: %s%s; see conformance --help\n", what, word);
	exit(EXIT_USAGE);
}

static _Noreturn void run_one_here(char **words, int count)
{
	struct listed c;

	for (size_t i = 0; count == 1 && listed(i, &c); i++) {
		if (strcmp(c.name, words[0]) == 0) {
			door_set_path(device);
			if (fault != NULL) {
				fault_put_in(fault);
			}
			run_here(&c);
		}
	}
	refuse("--here wants the whole name of one case", "");
}

int main(int argc, char **argv)
{
	/* clang-format off */
	static const struct option options[] = {
		{"device", required_argument, NULL, 'd'},
		{"list", no_argument, NULL, 'l'},
		{"list-bare", no_argument, NULL, 'b'},
		{"except", required_argument, NULL, 'x'},
		{"here", no_argument, NULL, 'n'},
		{"fault", required_argument, NULL, 'f'},
		{"faults", no_argument, NULL, 'F'},
		{"prove", no_argument, NULL, 'p'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	/* clang-format on */
	struct counts counts = {0};
	int option, action = 0;

	program = argv[0];
	while ((option = getopt_long(argc, argv, "d:x:lbnf:Fph", options, NULL)) != -1) {
		switch (option) {
		case 'd':
			device = optarg;
			break;
		case 'x':
			if (except_count == EXCEPT_MAX || !word_is_known(optarg, false)) {
				refuse("nothing more can be left out: ", optarg);
			}
			except[except_count++] = optarg;
			break;
		case 'f':
			fault = fault_find(optarg);
			if (fault == NULL) {
				refuse("there is no fault ", optarg);
			}
			break;
		case '?':
			return EXIT_USAGE;
		default:
			action = option;
		}
	}
	argv += optind;
	argc -= optind;
	for (int i = 0; i < argc; i++) {
		if (!word_is_known(argv[i], action == 'p')) {
			refuse("nothing is called ", argv[i]);
		}
	}
	if (action == 'h') {
		fputs(usage, stdout);
	} else if (action == 'l') {
		list_cases(argv, argc);
	} else if (action == 'b') {
		list_bare(argv, argc);
	} else if (action == 'F') {
		list_faults();
	} else if (action == 'n') {
		run_one_here(argv, argc);
	} else if (!door_is_linked(device) && access(device, R_OK | W_OK) != 0) {
		fprintf(stderr, "conformance: %s: %s; --device names the provider\n", device,
			strerror(errno));
		return EXIT_USAGE;
	} else {
		(action == 'p' ? prove_faults : run_cases)(&counts, argv, argc);
		printf("%u passed, %u failed, %u skipped\n", counts.passed, counts.failed,
		       counts.skipped);
	}
	return counts.failed != 0 ? 1 : 0;
}
