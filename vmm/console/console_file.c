/*
 * A console that is written to a file. A full disk loses output, not the guest.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/console/kinds.h"
#include "vmm/log.h"

struct console_file {
	struct console con;
	bool warned; /* output is being lost */
	struct watch out;
};

static void file_writable(void *arg, uint32_t events)
{
	struct console_file *f = arg;

	(void)events;
	(void)watch_set(&f->out, 0);
	if (f->con.be.writable != NULL) {
		f->con.be.writable(f->con.be.user);
	}
}

static size_t file_write(struct char_backend *be, const uint8_t *buf, size_t n)
{
	struct console_file *f = container_of(be, struct console_file, con.be);
	size_t done = 0;

	while (done < n) {
		ssize_t len = write(f->out.source.fd, buf + done, n - done);

		if (len >= 0) {
			done += (size_t)len;
			f->warned = false;
		} else if (errno == EAGAIN && watch_set(&f->out, EPOLLOUT) == 0) {
			return done;
		} else if (errno != EINTR) {
			if (!f->warned) {
				log_warn(CONSOLE_SAYS ": output is lost: %s", strerror(errno));
			}
			f->warned = true;
			return n;
		}
	}
	return n;
}

static void file_input_ready(struct char_backend *be)
{
	(void)be; /* there is no input */
}

static void file_destroy(struct console *con)
{
	struct console_file *f = container_of(con, struct console_file, con);

	watch_fini(&f->out);
	free(f);
}

int console_file_create(struct console **out, const char *path, struct loop *loop)
{
	static const struct char_backend_ops ops = {file_write, file_input_ready};
	struct console_file *f = calloc(1, sizeof(*f));
	/* Non-blocking for the sake of pipes and devices; it makes no difference to files. */
	int fd =
		open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
	int error = 0;

	if (fd < 0) {
		error = -errno;
		log_error(CONSOLE_SAYS ": cannot write to \"%s\": %s", path, strerror(-error));
	} else if (f == NULL) {
		error = -ENOMEM;
		log_error(CONSOLE_SAYS ": out of memory");
	}
	if (error != 0) {
		free(f);
		if (fd >= 0) {
			close(fd);
		}
		return error;
	}
	f->con = (struct console){.be = {.ops = &ops}, .loop = loop, .destroy = file_destroy};
	watch_init(&f->out, loop, fd, file_writable, f);
	*out = &f->con;
	return 0;
}
