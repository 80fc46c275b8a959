#include "vmm/console/console.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/console/kinds.h"
#include "vmm/console/terminal.h"
#include "vmm/log.h"

void inbox_kick(struct inbox *in)
{
	uint64_t one = 1;

	if (write(in->kick.source.fd, &one, sizeof(one)) < 0) {
		/* The counter is full: it is on its way. */
	}
}

void inbox_deliver(struct inbox *in)
{
	size_t taken;

	if (in->len > 0 && in->be->input != NULL) {
		taken = in->be->input(in->be->user, in->buf, in->len);
		in->len -= taken;
		memmove(in->buf, in->buf + taken, in->len);
	}
	if (in->len == 0) {
		in->emptied(in->arg);
	}
}

static void inbox_kicked(void *arg, uint32_t events)
{
	struct inbox *in = arg;
	uint64_t count;

	(void)events;
	if (read(in->kick.source.fd, &count, sizeof(count)) > 0) {
		inbox_deliver(in);
	}
}

int inbox_init(struct inbox *in, struct char_backend *be, struct loop *loop,
	       void (*emptied)(void *arg), void *arg)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int error;

	in->be = be;
	in->emptied = emptied;
	in->arg = arg;
	in->len = 0;
	if (fd < 0) {
		return -errno;
	}
	watch_init(&in->kick, loop, fd, inbox_kicked, in);
	error = watch_set(&in->kick, EPOLLIN);
	if (error != 0) {
		watch_fini(&in->kick);
	}
	return error;
}

void inbox_fini(struct inbox *in)
{
	watch_fini(&in->kick);
}

static size_t none_write(struct char_backend *be, const uint8_t *buf, size_t n)
{
	(void)be;
	(void)buf;
	return n;
}

static void none_input_ready(struct char_backend *be)
{
	(void)be;
}

static void none_destroy(struct console *con)
{
	free(con);
}

int console_none_create(struct console **out, struct loop *loop)
{
	static const struct char_backend_ops ops = {none_write, none_input_ready};
	struct console *con = calloc(1, sizeof(*con));

	if (con == NULL) {
		log_error("out of memory");
		return -ENOMEM;
	}
	con->be.ops = &ops;
	con->loop = loop;
	con->destroy = none_destroy;
	*out = con;
	return 0;
}

int console_create(struct console **out, const struct console_config *config, struct loop *loop,
		   const struct console_commands *commands, void *ctx)
{
	*out = NULL;
	switch (config->kind) {
	case CONSOLE_TTY:
		return console_tty_create(out, loop, commands, ctx);
	case CONSOLE_SOCKET:
		return console_socket_create(out, config->path, loop);
	case CONSOLE_FILE:
		return console_file_create(out, config->path, loop);
	case CONSOLE_NONE:
		break;
	}
	return console_none_create(out, loop);
}

void console_destroy(struct console *con)
{
	if (con != NULL) {
		con->destroy(con);
	}
}

struct char_backend *console_backend(struct console *con)
{
	return &con->be;
}

void console_size(const struct console *con, uint16_t *columns, uint16_t *rows)
{
	*columns = 0;
	*rows = 0;
	if (con->size != NULL) {
		con->size(con, columns, rows);
	}
}

void console_resume(struct console *con)
{
	if (con->resume != NULL) {
		con->resume(con);
	}
}

void console_restore_terminal(void)
{
	terminal_restore();
}
