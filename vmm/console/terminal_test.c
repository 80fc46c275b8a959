/*
 * The console on a terminal: a pseudo-terminal, and processes that end in all the ways there are.
 */
#include "vmm/console/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "vmm/console/test_front.h"
#include "vmm/sandbox.h"

static struct loop loop;
static struct test_front front;
static int master = -1, slave = -1;
static struct termios cooked;

struct asked {
	unsigned quit, pause, power, balloon, resized;
	uint64_t bytes;
};

static void on_quit(void *ctx)
{
	((struct asked *)ctx)->quit++;
}

static void on_pause(void *ctx)
{
	((struct asked *)ctx)->pause++;
}

static void on_power(void *ctx)
{
	((struct asked *)ctx)->power++;
}

static void on_balloon(void *ctx, uint64_t bytes)
{
	((struct asked *)ctx)->balloon++;
	((struct asked *)ctx)->bytes = bytes;
}

static void on_resized(void *ctx)
{
	((struct asked *)ctx)->resized++;
}

static const struct console_commands commands = {on_quit, on_pause, on_power, on_balloon,
						 on_resized};
static struct asked asked;

static int set_up(void **unused)
{
	struct winsize size = {.ws_col = 100, .ws_row = 30};

	(void)unused;
	asked = (struct asked){0};
	if (openpty(&master, &slave, NULL, NULL, &size) != 0 || tcgetattr(slave, &cooked) != 0) {
		return -1;
	}
	return loop_init(&loop);
}

static int tear_down(void **unused)
{
	(void)unused;
	loop_fini(&loop);
	close(master);
	close(slave);
	return 0;
}

static bool is_raw(void *unused)
{
	struct termios now;

	(void)unused;
	assert_int_equal(tcgetattr(slave, &now), 0);
	return (now.c_lflag & (ICANON | ECHO | ISIG)) == 0;
}

static void assert_cooked(void)
{
	struct termios now;

	assert_int_equal(tcgetattr(slave, &now), 0);
	assert_int_equal(now.c_iflag, cooked.c_iflag);
	assert_int_equal(now.c_oflag, cooked.c_oflag);
	assert_int_equal(now.c_cflag, cooked.c_cflag);
	assert_int_equal(now.c_lflag, cooked.c_lflag);
	assert_memory_equal(now.c_cc, cooked.c_cc, sizeof(now.c_cc));
}

static struct console *create_on_terminal(void)
{
	struct console_config config = {.kind = CONSOLE_TTY};
	struct console *con;
	int in = dup(STDIN_FILENO), out = dup(STDOUT_FILENO);

	fflush(stdout);
	dup2(slave, STDIN_FILENO);
	dup2(slave, STDOUT_FILENO);

	int error = console_create(&con, &config, &loop, &commands, &asked);

	dup2(in, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	close(in);
	close(out);
	assert_int_equal(error, 0);
	test_front_attach(&front, con);
	return con;
}

static void type(const char *text)
{
	assert_int_equal(write(master, text, strlen(text)), strlen(text));
}

/* The terminal shows @part soon. */
static void shows(const char *part)
{
	static char text[8192];
	size_t len = 0;
	uint64_t deadline = clock_now_ns() + 2000000000;

	assert_int_equal(fcntl(master, F_SETFL, O_NONBLOCK), 0);
	text[0] = '\0';
	while (strstr(text, part) == NULL && clock_now_ns() < deadline) {
		ssize_t n;

		(void)test_run(&loop, NULL, NULL, 2);
		n = read(master, text + len, sizeof(text) - 1 - len);
		len += n > 0 ? (size_t)n : 0;
		text[len] = '\0';
	}
	if (strstr(text, part) == NULL) {
		fail_msg("no \"%s\" in \"%s\"", part, text);
	}
}

static void raw_while_it_lasts(void **unused)
{
	struct console *con = create_on_terminal();
	uint16_t columns, rows;

	(void)unused;
	assert_true(is_raw(NULL));
	assert_int_equal(fcntl(slave, F_GETFL) & O_NONBLOCK, 0); /* the shell's is as it was */
	console_size(con, &columns, &rows);
	assert_int_equal(columns, 100);
	assert_int_equal(rows, 30);
	type("ls\r\x03"); /* Ctrl-C is the guest's */
	test_front_gets(&front, &loop, "ls\r\x03");
	assert_int_equal(front.be->ops->write(front.be, (const uint8_t *)"a\nb", 3), 3);
	shows("a\nb"); /* nothing is translated */
	console_destroy(con);
	assert_cooked();
}

static bool all_asked(void *unused)
{
	(void)unused;
	return asked.quit == 1 && asked.pause == 1 && asked.power == 1 && asked.balloon == 1;
}

static void commands_even_while_the_guest_takes_no_input(void **unused)
{
	struct console *con = create_on_terminal();
	char text[512];

	(void)unused;
	front.room = 0;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	for (int i = 0; i < 12; i++) { /* more than anything buffers */
		type(text);
		(void)test_run(&loop, NULL, NULL, 2);
	}
	type("\x1dq\x1dp\x1d"
	     "b\x1dm256\r");
	assert_true(test_run(&loop, all_asked, NULL, 2000));
	assert_int_equal(asked.bytes, 256 * MIB);
	type("\x1d?");
	shows("press its power button");
	type("\x1dz");
	shows("no such command");
	console_destroy(con);
	assert_cooked();
}

static void the_escape_key_itself(void **unused)
{
	struct console *con = create_on_terminal();

	(void)unused;
	type("a\x1d\x1d"
	     "b");
	test_front_gets(&front, &loop,
			"a\x1d"
			"b");
	console_destroy(con);
}

static bool was_resized(void *unused)
{
	(void)unused;
	return asked.resized > 0;
}

static void the_window_changes(void **unused)
{
	struct console *con = create_on_terminal();
	struct winsize size = {.ws_col = 80, .ws_row = 24};
	uint16_t columns, rows;

	(void)unused;
	assert_int_equal(ioctl(master, TIOCSWINSZ, &size), 0);
	raise(SIGWINCH);
	assert_true(test_run(&loop, was_resized, NULL, 2000));
	console_size(con, &columns, &rows);
	assert_int_equal(columns, 80);
	assert_int_equal(rows, 24);
	console_destroy(con);
}

static void the_terminal_goes_away(void **unused)
{
	struct console *con = create_on_terminal();

	(void)unused;
	close(master);
	master = -1;
	assert_false(test_run(&loop, NULL, NULL, 20));
	assert_int_equal(front.be->ops->write(front.be, (const uint8_t *)"lost", 4), 4);
	console_destroy(con);
}

static void one_terminal_a_process(void **unused)
{
	struct console *con = create_on_terminal();

	(void)unused;
	assert_int_equal(terminal_init(slave, 0), -EBUSY);
	console_destroy(con);
	console_restore_terminal(); /* harmless afterwards */
	assert_cooked();
}

/* A child with the terminal raw, which then does @act; it never returns from it. */
static pid_t child(void (*act)(void))
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		/* cmocka and the sanitizers have handlers, which would be left alone. */
		for (int i = 1; i < SIGRTMIN; i++) {
			signal(i, SIG_DFL);
		}
		alarm(20);
		(void)create_on_terminal();
		act();
		_exit(77);
	}
	return pid;
}

static void wait_raw(void)
{
	uint64_t deadline = clock_now_ns() + 5000000000;

	while (!is_raw(NULL) && clock_now_ns() < deadline) {
		usleep(1000);
	}
	assert_true(is_raw(NULL));
}

static void act_loop(void)
{
	if (loop_run(&loop) != 0) {
		_exit(78);
	}
}

static void ended_by_signals(void **unused)
{
	static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGABRT,
				      SIGSEGV, SIGBUS, SIGILL, SIGFPE,	SIGTRAP};

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		pid_t pid = child(act_loop);
		int status;

		wait_raw();
		assert_int_equal(kill(pid, signals[i]), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), signals[i]);
		assert_cooked();
	}
}

static void act_crash(void)
{
	int *volatile nowhere = (int *)4096;

	*nowhere = 1;
}

static void act_abort(void)
{
	abort();
}

static void act_refused(void)
{
	if (sandbox_enter(ACCEL_KVM) == 0) {
		(void)open("/dev/null", O_RDONLY);
	}
}

/* Without the sanitizers' own exit handlers, which look for leaks. */
static void act_exit(void)
{
	terminal_restore();
	_exit(3);
}

static void ended_by_itself(void **unused)
{
	static const struct {
		void (*act)(void);
		int signal;
	} ends[] = {
		{act_crash, SIGSEGV}, {act_abort, SIGABRT}, {act_refused, SIGSYS}, {act_exit, 0}};

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		pid_t pid = child(ends[i].act);
		int status;

		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(WIFSIGNALED(status) ? WTERMSIG(status) : 0, ends[i].signal);
		assert_cooked();
	}
}

static void stopped_and_continued(void **unused)
{
	pid_t pid = child(act_loop);
	int status;

	(void)unused;
	wait_raw();
	for (int i = 0; i < 2; i++) {
		assert_int_equal(kill(pid, SIGTSTP), 0);
		assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
		assert_true(WIFSTOPPED(status));
		assert_cooked();
		assert_int_equal(kill(pid, SIGCONT), 0);
		wait_raw();
	}
	assert_int_equal(kill(pid, SIGTERM), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_cooked();
}

static bool in_foreground(void *arg)
{
	return tcgetpgrp(slave) == *(pid_t *)arg;
}

/*
 * A session whose leader, as a shell, has a job with the console in the background, and then
 * brings it to the foreground. Return: exit code, 0 if all was right.
 */
static int session(void)
{
	int status = 0;
	pid_t job;

	if (setsid() < 0 || ioctl(slave, TIOCSCTTY, 0) != 0) {
		return 10;
	}
	signal(SIGTTOU, SIG_IGN);
	job = fork();
	if (job == 0) {
		pid_t self = getpid();

		signal(SIGTTOU, SIG_DFL);
		setpgid(0, 0);
		(void)create_on_terminal();
		if (is_raw(NULL)) {
			_exit(20); /* the shell's terminal was touched */
		}
		/* Something is typed, for the shell: reading it would stop us. */
		(void)test_run(&loop, in_foreground, &self, 5000);
		_exit(test_run(&loop, is_raw, NULL, 5000) ? 0 : 21);
	}
	setpgid(job, job);
	usleep(100000);
	if (write(master, "ls\n", 3) != 3) {
		return 11;
	}
	usleep(100000);
	if (waitpid(job, &status, WNOHANG | WUNTRACED) != 0) {
		return WIFEXITED(status) ? WEXITSTATUS(status) : 12;
	}
	tcsetpgrp(slave, job);
	kill(job, SIGCONT);
	if (waitpid(job, &status, 0) != job || !WIFEXITED(status)) {
		return 13;
	}
	return WEXITSTATUS(status);
}

static void a_background_job_leaves_the_terminal_alone(void **unused)
{
	pid_t pid = fork();
	int status;

	(void)unused;
	if (pid == 0) {
		_exit(session());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

#define test(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(raw_while_it_lasts),     test(commands_even_while_the_guest_takes_no_input),
		test(the_escape_key_itself),  test(the_window_changes),
		test(the_terminal_goes_away), test(one_terminal_a_process),
		test(ended_by_signals),	      test(ended_by_itself),
		test(stopped_and_continued),  test(a_background_job_leaves_the_terminal_alone),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
