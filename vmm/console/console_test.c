/*
 * Consoles on sockets, files and pipes; the terminal has a test of its own.
 */
#include "vmm/console/console.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/console/test_front.h"

static char directory[] = "/tmp/yado-console-XXXXXX";
static char path[64];
static struct loop loop;
static struct test_front front;
static const struct console_commands no_commands;

static int set_up(void **unused)
{
	(void)unused;
	snprintf(path, sizeof(path), "%s/it", directory);
	return loop_init(&loop);
}

static int tear_down(void **unused)
{
	(void)unused;
	loop_fini(&loop);
	unlink(path);
	return 0;
}

static struct console *create(enum console_kind kind)
{
	struct console_config config = {kind, path};
	struct console *con;

	assert_int_equal(console_create(&con, &config, &loop, &no_commands, NULL), 0);
	test_front_attach(&front, con);
	return con;
}

static size_t put(const char *text)
{
	return front.be->ops->write(front.be, (const uint8_t *)text, strlen(text));
}

static int connect_to(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	strcpy(addr.sun_path, path);
	assert_int_equal(connect(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

/* All that can be read from @fd now; the loop runs meanwhile. */
struct reader {
	int fd;
	size_t len, wanted;
	bool ended;
	char buf[65536];
};

static bool read_all(void *arg)
{
	struct reader *r = arg;
	ssize_t n = recv(r->fd, r->buf + r->len, sizeof(r->buf) - 1 - r->len, MSG_DONTWAIT);

	if (n > 0) {
		r->len += (size_t)n;
	}
	r->ended |= n == 0;
	r->buf[r->len] = '\0';
	return r->len >= r->wanted || r->ended;
}

static void reads(int fd, const char *text)
{
	struct reader *r = calloc(1, sizeof(*r));

	assert_non_null(r);
	r->fd = fd;
	r->wanted = strlen(text);
	assert_true(test_run(&loop, read_all, r, 2000));
	assert_string_equal(r->buf, text);
	free(r);
}

static void nothing_takes_everything(void **unused)
{
	struct console *con = create(CONSOLE_NONE);
	uint16_t columns = 1, rows = 1;

	(void)unused;
	assert_int_equal(put("hello"), 5);
	front.be->ops->input_ready(front.be);
	console_size(con, &columns, &rows);
	assert_int_equal(columns, 0);
	assert_int_equal(rows, 0);
	console_destroy(con);
	console_destroy(NULL);
}

static void a_file_is_appended_to(void **unused)
{
	struct console *con = create(CONSOLE_FILE);
	struct stat st;
	char text[32] = "";
	FILE *file;

	(void)unused;
	assert_int_equal(put("one "), 4);
	console_destroy(con);
	con = create(CONSOLE_FILE);
	assert_int_equal(put("two"), 3);
	console_destroy(con);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	file = fopen(path, "r");
	assert_non_null(file);
	assert_int_equal(fread(text, 1, sizeof(text), file), 7);
	fclose(file);
	assert_string_equal(text, "one two");
}

static void a_full_disk_loses_output_only(void **unused)
{
	struct console_config config = {CONSOLE_FILE, "/dev/full"};
	struct console *con;

	(void)unused;
	assert_int_equal(console_create(&con, &config, &loop, &no_commands, NULL), 0);
	test_front_attach(&front, con);
	assert_int_equal(put("lost"), 4);
	assert_int_equal(put("lost too"), 8);
	console_destroy(con);
}

static void a_file_that_cannot_be(void **unused)
{
	struct console_config config = {CONSOLE_FILE, "/nonexistent/log"};
	struct console *con;

	(void)unused;
	assert_int_equal(console_create(&con, &config, &loop, &no_commands, NULL), -ENOENT);
	assert_null(con);
	config.path = directory;
	assert_int_equal(console_create(&con, &config, &loop, &no_commands, NULL), -EISDIR);
}

/* A pipe that is full makes the front end wait, and wakes it. */
static bool was_woken(void *unused)
{
	(void)unused;
	return front.writable > 0;
}

static void a_full_pipe_makes_the_guest_wait(void **unused)
{
	static uint8_t big[256 * 1024];
	struct console *con;
	size_t taken;
	int reader;

	(void)unused;
	assert_int_equal(mkfifo(path, 0600), 0);
	reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	con = create(CONSOLE_FILE);
	taken = front.be->ops->write(front.be, big, sizeof(big));
	assert_in_range(taken, 4096, sizeof(big) - 1);
	assert_false(test_run(&loop, was_woken, NULL, 20));
	assert_true(read(reader, big, 65536) > 0);
	assert_true(test_run(&loop, was_woken, NULL, 2000));
	assert_true(front.be->ops->write(front.be, big, sizeof(big)) > 0);
	console_destroy(con);
	close(reader);
}

static void a_socket_carries_both_ways(void **unused)
{
	struct console *con = create(CONSOLE_SOCKET);
	struct stat st;
	int fd = connect_to();

	(void)unused;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(send(fd, "in\x1dq", 4, 0), 4); /* no commands here */
	test_front_gets(&front, &loop, "in\x1dq");
	assert_int_equal(put("out"), 3);
	reads(fd, "out");
	close(fd);
	console_destroy(con);
	assert_int_equal(stat(path, &st), -1);
	assert_int_equal(errno, ENOENT);
}

static void early_output_is_shown_to_the_first_client(void **unused)
{
	struct console *con = create(CONSOLE_SOCKET);
	int fd;

	(void)unused;
	assert_int_equal(put("boot "), 5);
	assert_int_equal(put("messages "), 9);
	fd = connect_to();
	reads(fd, "boot messages ");
	assert_int_equal(put("and more"), 8);
	reads(fd, "and more");
	close(fd);
	assert_false(test_run(&loop, NULL, NULL, 20));
	assert_int_equal(put("between"), 7);
	fd = connect_to();
	reads(fd, "between"); /* and nothing twice */
	close(fd);
	console_destroy(con);
}

static void the_last_16_kib_are_kept(void **unused)
{
	struct console *con = create(CONSOLE_SOCKET);
	struct reader *r = calloc(1, sizeof(*r));
	char line[32];

	(void)unused;
	assert_non_null(r);
	for (int i = 0; i < 3000; i++) {
		snprintf(line, sizeof(line), "%09d\n", i);
		assert_int_equal(put(line), 10);
	}
	r->fd = connect_to();
	r->wanted = 16 * KIB;
	assert_true(test_run(&loop, read_all, r, 2000));
	assert_int_equal(r->len, 16 * KIB);
	assert_string_equal(r->buf + r->len - 10, "000002999\n");
	close(r->fd);
	free(r);
	console_destroy(con);
}

static void a_second_client_is_told_so(void **unused)
{
	struct console *con = create(CONSOLE_SOCKET);
	struct reader *r = calloc(1, sizeof(*r));
	int first = connect_to();

	(void)unused;
	assert_non_null(r);
	assert_false(test_run(&loop, NULL, NULL, 10));
	r->fd = connect_to();
	r->wanted = SIZE_MAX;
	assert_true(test_run(&loop, read_all, r, 2000));
	assert_true(r->ended);
	assert_non_null(strstr(r->buf, "has a client already"));
	close(r->fd);
	assert_int_equal(put("x"), 1);
	reads(first, "x"); /* the first one still has it */
	close(first);
	assert_false(test_run(&loop, NULL, NULL, 10));
	first = connect_to();
	assert_int_equal(put("y"), 1);
	reads(first, "y");
	close(first);
	free(r);
	console_destroy(con);
}

static void a_client_that_does_not_read(void **unused)
{
	static uint8_t big[MIB];
	struct console *con = create(CONSOLE_SOCKET);
	int fd = connect_to();
	size_t taken;

	(void)unused;
	assert_false(test_run(&loop, NULL, NULL, 10));
	taken = front.be->ops->write(front.be, big, sizeof(big));
	assert_in_range(taken, 1, sizeof(big) - 1);
	assert_false(test_run(&loop, was_woken, NULL, 20));
	assert_true(recv(fd, big, sizeof(big), 0) > 0);
	assert_true(test_run(&loop, was_woken, NULL, 2000));
	assert_in_range(front.be->ops->write(front.be, big, sizeof(big)), 1, sizeof(big) - 1);
	/* When it goes away, the guest goes on. */
	front.writable = 0;
	close(fd);
	assert_true(test_run(&loop, was_woken, NULL, 2000));
	assert_int_equal(put("on"), 2);
	console_destroy(con);
}

static void input_waits_for_the_guest(void **unused)
{
	struct console *con = create(CONSOLE_SOCKET);
	int fd = connect_to();

	(void)unused;
	front.room = 3;
	assert_int_equal(send(fd, "abcdef", 6, 0), 6);
	close(fd); /* and what was sent is not lost by it */
	assert_false(test_run(&loop, NULL, NULL, 20));
	assert_int_equal(front.len, 3);
	front.room = 100;
	front.be->ops->input_ready(front.be);
	test_front_gets(&front, &loop, "abcdef");
	console_destroy(con);
}

static void the_next_client_comes_at_once(void **unused)
{
	struct console *con = create(CONSOLE_SOCKET);
	int first = connect_to(), next;

	(void)unused;
	assert_int_equal(send(first, "one", 3, 0), 3);
	assert_false(test_run(&loop, NULL, NULL, 10));
	assert_int_equal(send(first, "two", 3, 0), 3);
	close(first);
	next = connect_to(); /* before the loop has seen that the first one is gone */
	assert_false(test_run(&loop, NULL, NULL, 10));
	test_front_gets(&front, &loop, "onetwo");
	assert_int_equal(put("hello"), 5);
	reads(next, "hello");
	/* And though the guest takes no input. */
	front.room = 0;
	assert_int_equal(send(next, "unheard", 7, 0), 7);
	assert_false(test_run(&loop, NULL, NULL, 10));
	close(next);
	assert_false(test_run(&loop, NULL, NULL, 10));
	next = connect_to();
	assert_false(test_run(&loop, NULL, NULL, 10));
	assert_int_equal(put("hello"), 5);
	reads(next, "hello");
	close(next);
	console_destroy(con);
}

static void sockets_live_and_stale(void **unused)
{
	struct console_config config = {CONSOLE_SOCKET, path};
	struct console *con = create(CONSOLE_SOCKET), *other;
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd;

	(void)unused;
	assert_int_equal(console_create(&other, &config, &loop, &no_commands, NULL), -EADDRINUSE);
	console_destroy(con);

	/* Left over by a process that was killed. */
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	strcpy(addr.sun_path, path);
	assert_int_equal(bind(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
	close(fd);
	con = create(CONSOLE_SOCKET);
	close(connect_to());
	console_destroy(con);

	/* A file of the user's is not touched. */
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	assert_int_equal(console_create(&other, &config, &loop, &no_commands, NULL), -EEXIST);
	assert_int_equal(access(path, F_OK), 0);
}

/* Standard input and output of the kinds a script gives them. */

static int saved_in, saved_out;

static void take_over(int in, int out)
{
	fflush(stdout);
	saved_in = dup(STDIN_FILENO);
	saved_out = dup(STDOUT_FILENO);
	dup2(in, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
}

static void give_back(void)
{
	dup2(saved_in, STDIN_FILENO);
	dup2(saved_out, STDOUT_FILENO);
	close(saved_in);
	close(saved_out);
}

static void pipes_as_standard_streams(void **unused)
{
	static uint8_t big[256 * 1024];
	int in[2], out[2];
	char text[16] = "";
	struct console *con;

	(void)unused;
	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe(out), 0);
	take_over(in[0], out[1]);
	con = create(CONSOLE_TTY);
	assert_int_equal(fcntl(in[0], F_GETFL) & O_NONBLOCK, 0);
	assert_int_equal(fcntl(out[1], F_GETFL) & O_NONBLOCK, 0);
	give_back();
	assert_int_equal(write(in[1], "\x1dq", 2), 2); /* no terminal: no commands */
	test_front_gets(&front, &loop, "\x1dq");
	assert_int_equal(put("out"), 3);
	assert_int_equal(read(out[0], text, sizeof(text)), 3);
	assert_string_equal(text, "out");

	size_t taken = front.be->ops->write(front.be, big, sizeof(big));

	assert_in_range(taken, 4096, sizeof(big) - 1);
	assert_true(read(out[0], big, sizeof(big)) > 0);
	assert_true(test_run(&loop, was_woken, NULL, 2000));

	/* The end of input is not the end; nor is a reader that went away. */
	close(in[1]);
	assert_false(test_run(&loop, NULL, NULL, 20));
	close(out[0]);
	assert_int_equal(put("lost"), 4);
	console_destroy(con);
	close(in[0]);
	close(out[1]);
}

static void a_file_as_standard_input(void **unused)
{
	int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	char text[10000];
	struct console *con;

	(void)unused;
	memset(text, 'a', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(write(fd, text, sizeof(text) - 1), sizeof(text) - 1);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	take_over(fd, null);
	con = create(CONSOLE_TTY);
	give_back();
	front.room = 5000;
	assert_false(test_run(&loop, NULL, NULL, 20));
	assert_int_equal(front.len, 5000);
	front.room = sizeof(text);
	front.be->ops->input_ready(front.be);
	test_front_gets(&front, &loop, text);
	assert_false(test_run(&loop, NULL, NULL, 10));
	assert_int_equal(put("x"), 1);
	console_destroy(con);

	take_over(null, null);
	con = create(CONSOLE_TTY);
	give_back();
	assert_false(test_run(&loop, NULL, NULL, 10));
	assert_int_equal(front.len, 0);
	console_destroy(con);
	close(fd);
	close(null);
}

static int make_directory(void **unused)
{
	(void)unused;
	signal(SIGPIPE, SIG_IGN); /* as the program does */
	return mkdtemp(directory) == NULL;
}

static int remove_directory(void **unused)
{
	(void)unused;
	return rmdir(directory);
}

#define test(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(nothing_takes_everything),
		test(a_file_is_appended_to),
		test(a_full_disk_loses_output_only),
		test(a_file_that_cannot_be),
		test(a_full_pipe_makes_the_guest_wait),
		test(a_socket_carries_both_ways),
		test(early_output_is_shown_to_the_first_client),
		test(the_last_16_kib_are_kept),
		test(a_second_client_is_told_so),
		test(a_client_that_does_not_read),
		test(input_waits_for_the_guest),
		test(the_next_client_comes_at_once),
		test(sockets_live_and_stale),
		test(pipes_as_standard_streams),
		test(a_file_as_standard_input),
	};
	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
