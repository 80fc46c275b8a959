#include "cli/host/screen.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/clock.h"
#include "vmm/console/terminal.h"
#include "vmm/log.h"

#define PIPE_CHUNK 4096 /* poll() says a pipe is writable when this much fits: PIPE_BUF */
#define TTY_CHUNK  64	/* and a terminal when some of its buffer is free */
#define LAST_NS	   UINT64_C(1000000000)

/* Output */

/* Return: bytes shown, 0 if it would block. After an error output is thrown away. */
static size_t write_some(struct screen *s, const uint8_t *buf, size_t n)
{
	struct pollfd p = {.fd = s->out.source.fd, .events = POLLOUT};
	ssize_t done;

	if (s->out_failed) {
		return n;
	}
	if (!s->out_nonblocking && (poll(&p, 1, 0) != 1 || p.revents == 0)) {
		return 0;
	}
	done = write(s->out.source.fd, buf, MIN(n, s->chunk));
	if (done < 0 && errno != EAGAIN && errno != EINTR) {
		s->out_failed = true;
		return n;
	}
	return done < 0 ? 0 : (size_t)done;
}

/* Return: is everything shown? */
static bool flush(struct screen *s)
{
	while (s->len > 0) {
		size_t part = MIN(s->len, SCREEN_QUEUE - s->start);
		size_t done = write_some(s, s->queue + s->start, part);

		if (done == 0) {
			break;
		}
		s->start = (s->start + done) % SCREEN_QUEUE;
		s->len -= done;
	}
	if (watch_set(&s->out, s->len > 0 ? EPOLLOUT : 0) != 0) {
		s->len = 0; /* it cannot be waited for, so it is lost */
	}
	return s->len == 0;
}

static void out_writable(void *arg, uint32_t events)
{
	struct screen *s = arg;

	(void)events;
	if (flush(s)) {
		s->ops->drained(s->ctx);
	}
}

void screen_put(struct screen *s, const void *buf, size_t n)
{
	const uint8_t *from = buf;
	bool was_empty = s->len == 0;

	n = MIN(n, SCREEN_QUEUE - s->len);
	for (size_t i = 0; i < n; i++) {
		s->queue[(s->start + s->len++) % SCREEN_QUEUE] = from[i];
	}
	if (was_empty) {
		(void)flush(s);
	}
}

void screen_text(struct screen *s, const char *text)
{
	while (*text != '\0') {
		size_t len = strcspn(text, "\n");

		screen_put(s, text, len);
		text += len;
		if (*text == '\n') {
			screen_put(s, "\r\n", 2);
			text++;
		}
	}
}

size_t screen_waiting(const struct screen *s)
{
	return s->len;
}

/* Input */

static void in_readable(void *arg, uint32_t events)
{
	struct screen *s = arg;
	uint8_t buf[256];
	ssize_t n;

	if (s->in_is_tty && (events & EPOLLHUP) == 0 && !terminal_is_ours(s->in.source.fd)) {
		(void)watch_set(&s->in, 0); /* what is typed is somebody else's; see resumed() */
		return;
	}
	n = read(s->in.source.fd, buf, sizeof(buf));
	if (n > 0) {
		s->ops->input(s->ctx, buf, (size_t)n);
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		(void)watch_set(&s->in, 0);
	}
}

/* A signal handler woke us: the window has another size, or the process was continued. */
static void resumed(void *arg, uint32_t events)
{
	struct screen *s = arg;
	uint64_t count;

	(void)events;
	if (read(s->signals.source.fd, &count, sizeof(count)) > 0) {
		terminal_resume();
		(void)watch_set(&s->in, EPOLLIN);
	}
}

/* Set-up */

/*
 * A descriptor of our own that does not block. A terminal's is opened anew through /proc, as the
 * flags of the one we have are the shell's too; what cannot be had so is asked before each use.
 */
static int open_again(int fd, int access_mode, bool own, bool *nonblocking)
{
	char path[32];
	int again = -1;

	*nonblocking = false;
	if (own) {
		*nonblocking = fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) == 0;
	} else if (isatty(fd) == 1) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		again = open(path, access_mode | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
		*nonblocking = again >= 0;
	}
	if (again < 0) {
		again = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	}
	return again < 0 ? -errno : again;
}

static int start(struct screen *s)
{
	int error = watch_set(&s->signals, EPOLLIN);

	if (error == 0 && s->in_is_tty) {
		error = terminal_init(s->in.source.fd, s->signals.source.fd);
	}
	if (error == 0) {
		error = watch_set(&s->in, EPOLLIN);
	}
	return error == -EPERM ? 0 : error; /* a file or /dev/null: nobody types there */
}

int screen_init(struct screen *s, struct loop *loop, const struct screen_ops *ops, void *ctx,
		bool own)
{
	bool in_nonblocking, out_nonblocking;
	int in = open_again(STDIN_FILENO, O_RDONLY, own, &in_nonblocking);
	int out = open_again(STDOUT_FILENO, O_WRONLY, own, &out_nonblocking);
	int signals = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int error = in < 0 ? in : out < 0 ? out : signals < 0 ? -errno : 0;

	*s = (struct screen){.loop = loop,
			     .ops = ops,
			     .ctx = ctx,
			     .out_nonblocking = out_nonblocking,
			     .queue = malloc(SCREEN_QUEUE)};
	watch_init(&s->in, loop, in, in_readable, s);
	watch_init(&s->out, loop, out, out_writable, s);
	watch_init(&s->signals, loop, signals, resumed, s);
	if (error == 0 && s->queue == NULL) {
		error = -ENOMEM;
	}
	if (error == 0) {
		s->in_is_tty = isatty(in) == 1;
		s->chunk = isatty(out) == 1 && !out_nonblocking ? TTY_CHUNK : PIPE_CHUNK;
		error = start(s);
	}
	if (error != 0) {
		log_error("console: cannot use standard input and output: %s", strerror(-error));
		screen_fini(s);
	}
	return error;
}

void screen_fini(struct screen *s)
{
	uint64_t end_ns = clock_now_ns() + LAST_NS;

	while (s->len > 0 && !flush(s) && clock_now_ns() < end_ns) {
		struct pollfd p = {.fd = s->out.source.fd, .events = POLLOUT};

		(void)poll(&p, 1, 100);
	}
	if (s->in_is_tty) {
		terminal_fini();
	}
	watch_fini(&s->in);
	watch_fini(&s->out);
	watch_fini(&s->signals);
	free(s->queue);
	s->queue = NULL;
}
