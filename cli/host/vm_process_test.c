/*
 * A process starts this very program again, which then is what @acts says, in the place of a VM.
 */
#include "cli/host/vm_process.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/test_run.h"
#include "vmm/clock.h"

/* The VM's side */

static int act_say(void)
{
	return write(STDOUT_FILENO, "console", 7) == 7 &&
			       write(STDERR_FILENO, "one\nyado: t\033wo\n\nthree", 21) == 21
		       ? 3
		       : 9;
}

static int act_echo(void)
{
	char buf[64];
	ssize_t n;

	while ((n = read(STDIN_FILENO, buf, sizeof(buf))) != 0) {
		if (n > 0 && write(STDOUT_FILENO, buf, (size_t)n) != n) {
			return 9;
		}
		if (n > 0 && memchr(buf, '.', (size_t)n) != NULL) {
			return 0;
		}
		usleep(1000);
	}
	return 9;
}

static __attribute__((noreturn)) int act_flood(void)
{
	static const char bytes[4096];

	for (;;) {
		if (write(STDOUT_FILENO, bytes, sizeof(bytes)) < 0) {
			usleep(1000);
		}
	}
}

static int act_close(void)
{
	close(STDIN_FILENO);
	close(STDOUT_FILENO);
	close(STDERR_FILENO);
	usleep(300000);
	return 0;
}

static int act_wait(void)
{
	pause();
	return 9;
}

/* Is it alone, with nothing of its parent's but what it should have? */
static int act_look(void)
{
	sigset_t blocked;
	struct sigaction action;
	int death = 0;

	sigprocmask(SIG_SETMASK, NULL, &blocked);
	sigaction(SIGTERM, NULL, &action);
	prctl(PR_GET_PDEATHSIG, &death);
	return getsid(0) == getpid() && !sigismember(&blocked, SIGTERM) &&
			       action.sa_handler == SIG_DFL && death == SIGTERM
		       ? 0
		       : 9;
}

static const struct {
	const char *name;
	int (*act)(void);
} acts[] = {
	{"say", act_say},     {"echo", act_echo}, {"flood", act_flood},
	{"close", act_close}, {"wait", act_wait}, {"look", act_look},
};

/* The host's side */

struct owner {
	struct loop loop;
	struct vm_process process;
	bool deaf;
	size_t len;	   /* of all output */
	char output[4096]; /* the beginning of it */
	char messages[256];
	unsigned asked;
};

static bool wants_output(void *ctx)
{
	struct owner *o = ctx;

	o->asked++;
	return !o->deaf;
}

static void output(void *ctx, const uint8_t *buf, size_t n)
{
	struct owner *o = ctx;

	if (o->len < sizeof(o->output)) {
		memcpy(o->output + o->len, buf, MIN(n, sizeof(o->output) - o->len));
	}
	o->len += n;
}

static void message(void *ctx, const char *line)
{
	struct owner *o = ctx;

	assert_true(strlen(o->messages) + strlen(line) + 2 < sizeof(o->messages));
	strcat(strcat(o->messages, line), "|");
}

static const struct vm_process_ops ops = {wants_output, output, message};

static void open_owner(struct owner *o, const char *act)
{
	char *argv[] = {"act", (char *)(uintptr_t)act, NULL};

	memset(o, 0, sizeof(*o));
	assert_int_equal(loop_init(&o->loop), 0);
	assert_int_equal(vm_process_init(&o->process, &o->loop, &ops, o), 0);
	assert_int_equal(vm_process_start(&o->process, argv), 0);
	assert_true(o->process.pid > 0);
}

/* Waits for the end. Return: the status. */
static int close_owner(struct owner *o)
{
	int status;

	assert_int_equal(waitpid(o->process.pid, &status, 0), o->process.pid);
	vm_process_reaped(&o->process);
	assert_int_equal(o->process.pid, 0);
	vm_process_fini(&o->process);
	loop_fini(&o->loop);
	return status;
}

static bool never(void *arg)
{
	(void)arg;
	return false;
}

static void run_for(struct owner *o, unsigned ms)
{
	assert_false(test_run(&o->loop, never, NULL, ms));
}

static void output_and_messages(void **unused)
{
	struct owner o;

	(void)unused;
	open_owner(&o, "say");
	assert_int_equal(WEXITSTATUS(close_owner(&o)), 3);
	assert_int_equal(o.len, 7);
	assert_memory_equal(o.output, "console", 7);
	assert_string_equal(o.messages, "one|yado: two|three|");
}

static bool has_echo(void *arg)
{
	return ((struct owner *)arg)->len == 5;
}

static void input(void **unused)
{
	struct owner o;
	uint8_t much[VM_PROCESS_INPUT + 1];

	(void)unused;
	open_owner(&o, "echo");
	assert_int_equal(vm_process_input(&o.process, (const uint8_t *)"hello", 5), 5);
	assert_true(test_run(&o.loop, has_echo, &o, 5000));
	assert_memory_equal(o.output, "hello", 5);
	memset(much, 'x', sizeof(much));
	assert_int_equal(vm_process_input(&o.process, much, sizeof(much)), VM_PROCESS_INPUT);
	assert_int_equal(vm_process_input(&o.process, (const uint8_t *)".", 1), 1);
	assert_int_equal(close_owner(&o), 0);
	assert_int_equal(vm_process_input(&o.process, much, 1), 0);
}

/* What nobody reads waits at its side; then a second of it brings a second's share. */
static void flood(void **unused)
{
	struct owner o;

	(void)unused;
	open_owner(&o, "flood");
	o.deaf = true;
	vm_process_update(&o.process);
	run_for(&o, 200);
	assert_int_equal(o.len, 0);
	o.deaf = false;
	vm_process_update(&o.process);
	run_for(&o, 1000);
	assert_true(o.len > 64 * KIB && o.len <= 16 * 68 * KIB);
	vm_process_signal(&o.process, SIGKILL);
	assert_int_equal(WTERMSIG(close_owner(&o)), SIGKILL);
}

static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Closed descriptors are not looked at again and again. */
static void closed_console(void **unused)
{
	struct owner o;
	uint64_t before_ns;

	(void)unused;
	open_owner(&o, "close");
	run_for(&o, 100);
	before_ns = cpu_ns();
	run_for(&o, 100);
	assert_true(cpu_ns() - before_ns < 50000000);
	assert_true(o.process.console_ended && o.process.messages_ended);
	assert_int_equal(vm_process_input(&o.process, (const uint8_t *)"x", 1), 0);
	assert_int_equal(close_owner(&o), 0);
}

static void is_alone(void **unused)
{
	struct owner o;
	sigset_t set, before;

	(void)unused;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, &before);
	open_owner(&o, "look");
	assert_int_equal(close_owner(&o), 0);
	sigprocmask(SIG_SETMASK, &before, NULL);

	open_owner(&o, "wait");
	vm_process_signal(&o.process, SIGTERM);
	assert_int_equal(WTERMSIG(close_owner(&o)), SIGTERM);
	vm_process_signal(&o.process, SIGTERM); /* to nobody */
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(output_and_messages),
		cmocka_unit_test(input),
		cmocka_unit_test(flood),
		cmocka_unit_test(closed_console),
		cmocka_unit_test(is_alone),
	};

	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; argc == 2 && i < ARRAY_SIZE(acts); i++) {
		if (strcmp(argv[1], acts[i].name) == 0) {
			return acts[i].act();
		}
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
