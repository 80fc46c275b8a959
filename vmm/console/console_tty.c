/*
 * The console on standard input and output: a terminal, or whatever else they are.
 *
 * A terminal is usually shared with the shell, and O_NONBLOCK would stay set on it after us; so it
 * is opened anew through /proc, which gives a description of our own. Where that fails, and for
 * pipes and files, nothing is done that could block: reads only after epoll said so, writes only
 * after poll() did, and then no more than fits.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/console/escape.h"
#include "vmm/console/kinds.h"
#include "vmm/console/terminal.h"
#include "vmm/log.h"

#define PIPE_CHUNK 4096 /* poll() says a pipe is writable when this much fits: PIPE_BUF */
#define TTY_CHUNK  64	/* and a terminal when some of its buffer is free */

struct console_tty {
	struct console con;
	const struct console_commands *commands;
	void *ctx;
	struct watch in, out, signals;
	bool in_is_tty;
	bool in_unpollable; /* a file: always readable */
	bool in_ended;
	bool out_nonblocking;
	bool out_failed;
	size_t out_chunk;
	struct escape escape;
	struct inbox inbox;
};

/* Output */

static bool may_write(const struct console_tty *t)
{
	struct pollfd p = {.fd = t->out.source.fd, .events = POLLOUT};

	return t->out_nonblocking || (poll(&p, 1, 0) == 1 && p.revents != 0);
}

/* Return: bytes written, 0 if it would block. After an error output is thrown away. */
static size_t write_some(struct console_tty *t, const uint8_t *buf, size_t n)
{
	ssize_t done;

	if (t->out_failed) {
		return n;
	}
	if (!may_write(t)) {
		return 0;
	}
	done = write(t->out.source.fd, buf, MIN(n, t->out_chunk));
	if (done >= 0) {
		return (size_t)done;
	}
	if (errno == EAGAIN || errno == EINTR) {
		return 0;
	}
	log_warn(CONSOLE_SAYS ": output is lost from here on: %s", strerror(errno));
	t->out_failed = true;
	return n;
}

static size_t tty_write(struct char_backend *be, const uint8_t *buf, size_t n)
{
	struct console_tty *t = container_of(be, struct console_tty, con.be);
	size_t done = 0;

	while (done < n) {
		size_t some = write_some(t, buf + done, n - done);

		if (some == 0) {
			break;
		}
		done += some;
	}
	if (done < n && watch_set(&t->out, EPOLLOUT) != 0) {
		return n; /* cannot be waited for, so it is lost */
	}
	return done;
}

static void out_writable(void *arg, uint32_t events)
{
	struct console_tty *t = arg;

	(void)events;
	(void)watch_set(&t->out, 0);
	if (t->con.be.writable != NULL) {
		t->con.be.writable(t->con.be.user);
	}
}

/* A word from yado between the guest's; what does not fit now is not worth waiting for. */
static void say(struct console_tty *t, const char *text)
{
	size_t len = strlen(text);
	size_t done = 0;

	while (done < len) {
		size_t some = write_some(t, (const uint8_t *)text + done, len - done);

		if (some == 0) {
			return;
		}
		done += some;
	}
}

/* Commands */

static void help(struct console_tty *t)
{
	say(t, "\r\nyado: Ctrl-] and then\r\n"
	       "  q       end the VM at once\r\n"
	       "  b       press its power button\r\n"
	       "  p       pause it, or let it continue\r\n"
	       "  m       ask it to give back memory, in MiB\r\n"
	       "  Ctrl-]  send Ctrl-] to it\r\n"
	       "  ?       this list\r\n");
}

static void run(struct console_tty *t, void (*command)(void *ctx))
{
	if (command != NULL) {
		command(t->ctx);
	}
}

/* Return: is the byte the guest's? */
static bool typed(struct console_tty *t, uint8_t byte)
{
	enum escape_action action = escape_feed(&t->escape, byte);
	char echo[2] = {(char)byte, '\0'};

	switch (action) {
	case ESCAPE_BYTE:
		return true;
	case ESCAPE_NOTHING:
		break;
	case ESCAPE_QUIT:
		run(t, t->commands->quit);
		break;
	case ESCAPE_HELP:
		help(t);
		break;
	case ESCAPE_PAUSE:
		run(t, t->commands->pause);
		break;
	case ESCAPE_POWER:
		run(t, t->commands->power_button);
		break;
	case ESCAPE_BALLOON_ASK:
		say(t, "\r\nyado: balloon, MiB: ");
		break;
	case ESCAPE_BALLOON_ECHO:
		say(t, echo);
		break;
	case ESCAPE_BALLOON_ERASE:
		say(t, "\b \b");
		break;
	case ESCAPE_BALLOON_SET:
		say(t, "\r\n");
		if (t->commands->balloon != NULL) {
			t->commands->balloon(t->ctx, t->escape.number * MIB);
		}
		break;
	case ESCAPE_CANCELLED:
		say(t, " cancelled\r\n");
		break;
	case ESCAPE_UNKNOWN:
		say(t, "\r\nyado: no such command; Ctrl-] ? lists them\r\n");
		break;
	}
	return false;
}

/* Input */

static void end_input(struct console_tty *t)
{
	t->in_ended = true;
	(void)watch_set(&t->in, 0);
}

/*
 * A terminal is always read, as Ctrl-] must work even if the guest takes no input; other input
 * waits until the guest has taken what there is.
 */
static void want_input(struct console_tty *t)
{
	bool want = !t->in_ended && (t->inbox.len == 0 || t->in_is_tty);

	if (!t->in_unpollable) {
		(void)watch_set(&t->in, want ? EPOLLIN : 0);
	}
}

static void take(struct console_tty *t, const uint8_t *buf, size_t n)
{
	struct inbox *in = &t->inbox;

	for (size_t i = 0; i < n; i++) {
		if ((!t->in_is_tty || typed(t, buf[i])) && in->len < sizeof(in->buf)) {
			in->buf[in->len++] = buf[i];
		}
	}
}

static void read_input(struct console_tty *t)
{
	uint8_t buf[1024];
	ssize_t n = read(t->in.source.fd, buf, sizeof(buf));

	if (n > 0) {
		take(t, buf, (size_t)n);
	} else if (n == 0) {
		end_input(t);
	} else if (errno != EAGAIN && errno != EINTR) {
		/* EIO: the terminal is gone, or we are in its background and the signal for that
		 * is ignored. SIGCONT brings a background process back. */
		if (t->in_is_tty && !terminal_is_ours(t->in.source.fd)) {
			(void)watch_set(&t->in, 0);
		} else {
			end_input(t);
		}
	}
}

static void in_readable(void *arg, uint32_t events)
{
	struct console_tty *t = arg;

	if (t->in_is_tty && (events & EPOLLHUP) == 0 && !terminal_is_ours(t->in.source.fd)) {
		(void)watch_set(&t->in, 0); /* what is typed is somebody else's; see resumed() */
		return;
	}
	read_input(t);
	inbox_deliver(&t->inbox);
}

/* The front end has all there was. */
static void tty_emptied(void *arg)
{
	struct console_tty *t = arg;

	if (t->in_unpollable && !t->in_ended) {
		read_input(t);
		inbox_kick(&t->inbox);
	} else if (t->in.events == 0) {
		want_input(t);
	}
}

static void tty_input_ready(struct char_backend *be)
{
	struct console_tty *t = container_of(be, struct console_tty, con.be);

	inbox_kick(&t->inbox);
}

/* A signal handler woke us: the window has another size, or the process was continued. */
static void resumed(void *arg, uint32_t events)
{
	struct console_tty *t = arg;
	uint64_t count;

	(void)events;
	if (read(t->signals.source.fd, &count, sizeof(count)) < 0) {
		return;
	}
	terminal_resume();
	want_input(t);
	run(t, t->commands->resized);
}

static void tty_resume(struct console *con)
{
	struct console_tty *t = container_of(con, struct console_tty, con);
	uint64_t one = 1;

	if (write(t->signals.source.fd, &one, sizeof(one)) < 0) {
		/* The counter is full: it is on its way. */
	}
}

static void tty_size(const struct console *con, uint16_t *columns, uint16_t *rows)
{
	const struct console_tty *t = container_of(con, struct console_tty, con);
	struct winsize size;

	if (ioctl(t->out.source.fd, TIOCGWINSZ, &size) == 0) {
		*columns = size.ws_col;
		*rows = size.ws_row;
	}
}

static void tty_destroy(struct console *con)
{
	struct console_tty *t = container_of(con, struct console_tty, con);

	if (t->in_is_tty) {
		terminal_fini();
	}
	watch_fini(&t->in);
	watch_fini(&t->out);
	watch_fini(&t->signals);
	inbox_fini(&t->inbox);
	free(t);
}

/* Set-up */

/* A terminal with a description of its own, non-blocking; or else the same description. */
static int open_again(int fd, int access_mode, bool *nonblocking)
{
	char path[32];
	int again = -1;

	*nonblocking = false;
	if (isatty(fd) == 1) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		again = open(path, access_mode | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
		*nonblocking = again >= 0;
	}
	if (again < 0) {
		again = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	}
	return again < 0 ? -errno : again;
}

static int open_streams(struct console_tty *t)
{
	bool unused;
	int in = open_again(STDIN_FILENO, O_RDONLY, &unused);
	int out = open_again(STDOUT_FILENO, O_WRONLY, &t->out_nonblocking);
	int signals = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int error = in < 0 ? in : out < 0 ? out : signals < 0 ? -errno : 0;

	watch_init(&t->in, t->con.loop, in, in_readable, t);
	watch_init(&t->out, t->con.loop, out, out_writable, t);
	watch_init(&t->signals, t->con.loop, signals, resumed, t);
	if (error != 0) {
		return error;
	}
	t->in_is_tty = isatty(in) == 1;
	t->out_chunk = isatty(out) == 1 && !t->out_nonblocking ? TTY_CHUNK : PIPE_CHUNK;
	return 0;
}

static int start_input(struct console_tty *t)
{
	int error = watch_set(&t->signals, EPOLLIN);

	if (error == 0 && t->in_is_tty) {
		error = terminal_init(t->in.source.fd, t->signals.source.fd);
		t->in_is_tty = error == 0;
	}
	if (error == 0) {
		error = watch_set(&t->in, EPOLLIN);
	}
	if (error == -EPERM) {
		/* A file, or /dev/null: read from the loop until it ends. */
		t->in_unpollable = true;
		inbox_kick(&t->inbox);
		error = 0;
	}
	return error;
}

int console_tty_create(struct console **out, struct loop *loop,
		       const struct console_commands *commands, void *ctx)
{
	static const struct char_backend_ops ops = {tty_write, tty_input_ready};
	struct console_tty *t = calloc(1, sizeof(*t));
	int error;

	if (t == NULL) {
		log_error(CONSOLE_SAYS ": out of memory");
		return -ENOMEM;
	}
	t->con = (struct console){.be = {.ops = &ops},
				  .loop = loop,
				  .destroy = tty_destroy,
				  .resume = tty_resume,
				  .size = tty_size};
	t->commands = commands;
	t->ctx = ctx;
	t->inbox.kick.source.fd = -1;
	error = open_streams(t);
	if (error == 0) {
		error = inbox_init(&t->inbox, &t->con.be, loop, tty_emptied, t);
	}
	if (error == 0) {
		error = start_input(t);
	}
	if (error != 0) {
		log_error(CONSOLE_SAYS ": cannot use standard input and output: %s",
			  strerror(-error));
		tty_destroy(&t->con);
		return error;
	}
	*out = &t->con;
	return 0;
}
