/*
 * A console on a Unix socket. One client at a time has it; what the guest says while there is none
 * is kept, up to the last RING bytes, and shown to the next one.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/console/kinds.h"
#include "vmm/log.h"
#include "vmm/unix_socket.h"

#define RING (16 * KIB)

struct console_socket {
	struct console con;
	char *path;
	struct watch listener;
	struct watch client; /* its fd is -1 while there is none */
	struct inbox inbox;
	bool output_waits; /* the front end has bytes that were not taken */
	size_t ring_start, ring_len;
	uint8_t ring[RING];
};

static bool connected(const struct console_socket *s)
{
	return s->client.source.fd >= 0;
}

/* The last RING bytes stay. */
static void ring_put(struct console_socket *s, const uint8_t *buf, size_t n)
{
	if (n > RING) {
		buf += n - RING;
		n = RING;
	}
	for (size_t i = 0; i < n; i++) {
		s->ring[(s->ring_start + s->ring_len) % RING] = buf[i];
		if (s->ring_len < RING) {
			s->ring_len++;
		} else {
			s->ring_start = (s->ring_start + 1) % RING;
		}
	}
}

/* What the client shall wake us for. */
static void update(struct console_socket *s)
{
	uint32_t events = s->inbox.len == 0 ? EPOLLIN : 0;

	if (s->ring_len > 0 || s->output_waits) {
		events |= EPOLLOUT;
	}
	if (connected(s)) {
		(void)watch_set(&s->client, events);
	}
}

static void drop_client(struct console_socket *s)
{
	watch_fini(&s->client);
}

/* Return: bytes sent; a client that is gone is dropped. */
static size_t send_some(struct console_socket *s, const uint8_t *buf, size_t n)
{
	ssize_t sent;

	do {
		sent = send(s->client.source.fd, buf, n, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (sent < 0 && errno == EINTR);
	if (sent < 0 && errno != EAGAIN) {
		drop_client(s);
	}
	return sent > 0 ? (size_t)sent : 0;
}

static size_t socket_write(struct char_backend *be, const uint8_t *buf, size_t n)
{
	struct console_socket *s = container_of(be, struct console_socket, con.be);
	size_t done = 0;

	if (connected(s) && s->ring_len == 0) {
		done = send_some(s, buf, n);
	}
	if (!connected(s)) {
		ring_put(s, buf + done, n - done);
		return n;
	}
	s->output_waits = done < n;
	update(s);
	return done;
}

static void replay(struct console_socket *s)
{
	while (s->ring_len > 0 && connected(s)) {
		size_t n = MIN(s->ring_len, RING - s->ring_start);
		size_t sent = send_some(s, s->ring + s->ring_start, n);

		s->ring_start = (s->ring_start + sent) % RING;
		s->ring_len -= sent;
		if (sent < n) {
			return;
		}
	}
}

static void receive(struct console_socket *s)
{
	ssize_t n = recv(s->client.source.fd, s->inbox.buf, sizeof(s->inbox.buf), MSG_DONTWAIT);

	if (n > 0) {
		s->inbox.len = (size_t)n;
		inbox_deliver(&s->inbox);
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		drop_client(s);
	}
}

static void client_event(void *arg, uint32_t events)
{
	struct console_socket *s = arg;

	if ((events & EPOLLOUT) != 0) {
		replay(s);
	}
	if (connected(s) && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 && s->inbox.len == 0) {
		receive(s);
	}
	/* What the front end kept goes to the client after the replay, or else into the ring. */
	if (s->output_waits && (!connected(s) || ((events & EPOLLOUT) != 0 && s->ring_len == 0))) {
		s->output_waits = false;
		if (s->con.be.writable != NULL) {
			s->con.be.writable(s->con.be.user);
		}
	}
	update(s);
}

/* Its client may have gone, and we have not heard it yet, or not listened while the guest takes no
 * input: it makes room for the next one. What it typed and nobody had room for is lost then. */
static void drop_if_gone(struct console_socket *s)
{
	struct pollfd p = {.events = POLLRDHUP};

	while (connected(s)) {
		p.fd = s->client.source.fd;
		if (poll(&p, 1, 0) <= 0) {
			return;
		}
		if (s->inbox.len > 0) {
			drop_client(s);
		}
		client_event(s, EPOLLIN);
	}
}

static void listener_event(void *arg, uint32_t events)
{
	static const char busy[] = "yado: this console has a client already\r\n";
	struct console_socket *s = arg;
	int fd = accept4(s->listener.source.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd < 0) {
		return; /* it went away again */
	}
	drop_if_gone(s);
	if (connected(s)) {
		if (send(fd, busy, sizeof(busy) - 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
			/* It will see that the connection ends. */
		}
		close(fd);
		return;
	}
	watch_init(&s->client, s->con.loop, fd, client_event, s);
	replay(s);
	update(s);
}

static void socket_emptied(void *arg)
{
	update(arg);
}

static void socket_input_ready(struct char_backend *be)
{
	struct console_socket *s = container_of(be, struct console_socket, con.be);

	inbox_kick(&s->inbox);
}

static void socket_destroy(struct console *con)
{
	struct console_socket *s = container_of(con, struct console_socket, con);

	watch_fini(&s->client);
	if (s->listener.source.fd >= 0) {
		unlink(s->path);
	}
	watch_fini(&s->listener);
	inbox_fini(&s->inbox);
	free(s->path);
	free(s);
}

int console_socket_create(struct console **out, const char *path, struct loop *loop)
{
	static const struct char_backend_ops ops = {socket_write, socket_input_ready};
	struct console_socket *s = calloc(1, sizeof(*s));
	int error = -ENOMEM;
	int fd;

	if (s == NULL) {
		log_error(CONSOLE_SAYS ": out of memory");
		return error;
	}
	s->con = (struct console){.be = {.ops = &ops}, .loop = loop, .destroy = socket_destroy};
	s->client.source.fd = -1;
	s->listener.source.fd = -1;
	s->inbox.kick.source.fd = -1;
	s->path = strdup(path);
	if (s->path != NULL) {
		error = inbox_init(&s->inbox, &s->con.be, loop, socket_emptied, s);
	}
	if (error != 0) {
		log_error(CONSOLE_SAYS ": %s", strerror(-error));
		goto fail;
	}
	error = unix_socket_listen(CONSOLE_SAYS, path, &fd);
	if (error != 0) {
		goto fail;
	}
	watch_init(&s->listener, loop, fd, listener_event, s);
	error = watch_set(&s->listener, EPOLLIN);
	if (error != 0) {
		log_error(CONSOLE_SAYS ": cannot watch the socket: %s", strerror(-error));
		goto fail;
	}
	*out = &s->con;
	return 0;
fail:
	socket_destroy(&s->con);
	return error;
}
