#include "vmm/virtio/vsock_conn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/virtio/queue.h"

#define SHUTDOWN_BOTH ((uint32_t)(VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND))

/* The guest hears of free space in steps of this, not of each byte. */
#define CREDIT_STEP (VSOCK_BUF_BYTES / 4)

int vsock_conn_init(struct vsock_conn *c, int fd, enum vsock_conn_state state)
{
	*c = (struct vsock_conn){.fd = fd, .state = state};
	c->buf = malloc(VSOCK_BUF_BYTES);
	if (c->buf == NULL) {
		close(fd);
		return -ENOMEM;
	}
	return 0;
}

void vsock_conn_fini(struct vsock_conn *c)
{
	close(c->fd);
	free(c->buf);
}

/* "CONNECT" and a port, in decimal and without signs. */
static bool parse_hello(const char *line, uint32_t *port)
{
	static const char word[] = "CONNECT ";
	uint64_t value = 0;

	if (strncmp(line, word, sizeof(word) - 1) != 0) {
		return false;
	}
	line += sizeof(word) - 1;
	if (*line == '\0') {
		return false;
	}
	for (; *line != '\0'; line++) {
		if (*line < '0' || *line > '9') {
			return false;
		}
		value = value * 10 + (uint64_t)(*line - '0');
		if (value >= UINT32_MAX) {
			return false; /* too large, or VMADDR_PORT_ANY */
		}
	}
	*port = (uint32_t)value;
	return true;
}

int vsock_conn_hello(struct vsock_conn *c)
{
	/* One byte less than the line has room for: it ends in a zero. */
	size_t room = sizeof(c->line) - 1 - c->line_len;
	char *at = c->line + c->line_len;
	ssize_t len = recv(c->fd, at, room, MSG_PEEK);
	char *end;

	if (len < 0) {
		return errno == EAGAIN || errno == EINTR ? 0 : -EPIPE;
	}
	if (len == 0) {
		return -EPIPE;
	}
	/* What comes after the line is for the guest: only the line is taken out. */
	end = memchr(at, '\n', (size_t)len);
	if (end != NULL) {
		len = end + 1 - at;
	}
	if (recv(c->fd, at, (size_t)len, 0) != len) {
		return -EPIPE;
	}
	c->line_len += (unsigned)len;
	if (end == NULL) {
		return c->line_len < sizeof(c->line) - 1 ? 0 : -EBADMSG;
	}
	*end = '\0';
	return parse_hello(c->line, &c->guest_port) ? 1 : -EBADMSG;
}

/* Bytes that the guest can still take. */
static uint32_t credit(const struct vsock_conn *c)
{
	uint32_t on_the_way = c->tx_cnt - c->peer_fwd_cnt;

	return on_the_way < c->peer_buf_alloc ? c->peer_buf_alloc - on_the_way : 0;
}

/* Is there a reason to read from the socket, if the guest has room? */
static bool reads(const struct vsock_conn *c)
{
	return c->state == VSOCK_OPEN && !c->due_rst && !c->host_eof &&
	       (c->guest_closed & VIRTIO_VSOCK_SHUTDOWN_RCV) == 0;
}

/* What the guest should know of the host's side by now. */
static uint32_t closed_by_host(const struct vsock_conn *c)
{
	return (c->host_eof ? (uint32_t)VIRTIO_VSOCK_SHUTDOWN_SEND : 0) |
	       (c->host_gone ? (uint32_t)VIRTIO_VSOCK_SHUTDOWN_RCV : 0);
}

static bool due_shutdown(const struct vsock_conn *c)
{
	return c->state == VSOCK_OPEN && (closed_by_host(c) & ~c->told_closed) != 0;
}

/* The host reads no more: what was kept for it is lost, and counts as taken. */
static void host_gone(struct vsock_conn *c)
{
	c->host_gone = true;
	c->fwd_cnt += c->buf_len;
	c->buf_len = 0;
}

static void forwarded(struct vsock_conn *c, uint32_t len)
{
	c->fwd_cnt += len;
	if (c->fwd_cnt - c->fwd_told >= CREDIT_STEP) {
		c->due_credit = true;
	}
}

/* When all that the guest sent has gone to the host, its closing can follow. */
static void follow_close(struct vsock_conn *c)
{
	if (c->buf_len != 0 || c->state == VSOCK_REQUESTED) {
		return;
	}
	if ((c->guest_closed & VIRTIO_VSOCK_SHUTDOWN_SEND) != 0 && !c->write_closed) {
		c->write_closed = true;
		shutdown(c->fd, SHUT_WR);
	}
	/* Spec: VIRTIO 1.2, 5.10.6.6: the answer to a shutdown of both directions is RST */
	if (c->state == VSOCK_OPEN && c->guest_closed == SHUTDOWN_BOTH) {
		c->due_rst = true;
	}
}

/* Sends once. Return: bytes taken, 0 if there is no room; on failure the host is gone. */
static uint32_t send_once(struct vsock_conn *c, const struct iovec *iov, unsigned n)
{
	struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = n};
	ssize_t len;

	do {
		len = sendmsg(c->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (len < 0 && errno == EINTR);
	if (len >= 0) {
		return (uint32_t)len;
	}
	if (errno != EAGAIN && errno != ENOBUFS) {
		host_gone(c);
	}
	return 0;
}

void vsock_conn_writable(struct vsock_conn *c)
{
	while (c->buf_len > 0) {
		uint32_t part = MIN(c->buf_len, VSOCK_BUF_BYTES - c->buf_start);
		struct iovec iov = {c->buf + c->buf_start, part};
		uint32_t len = send_once(c, &iov, 1);

		if (len == 0) {
			break;
		}
		c->buf_start = (c->buf_start + len) % VSOCK_BUF_BYTES;
		c->buf_len -= len;
		forwarded(c, len);
	}
	follow_close(c);
}

/* Keeps the payload from byte @offset on. */
static void keep(struct vsock_conn *c, const struct iovec *iov, unsigned n, uint32_t offset,
		 uint32_t len)
{
	uint32_t end = (c->buf_start + c->buf_len) % VSOCK_BUF_BYTES;
	uint32_t part = MIN(len, VSOCK_BUF_BYTES - end);

	iov_to_buf(iov, n, offset, c->buf + end, part);
	iov_to_buf(iov, n, offset + part, c->buf, len - part);
	c->buf_len += len;
}

/* Data of the guest: at once into the socket, and the rest is kept. */
static void guest_data(struct vsock_conn *c, const struct iovec *payload, unsigned n, uint32_t len)
{
	uint32_t sent = 0;

	if (c->state != VSOCK_OPEN || (c->guest_closed & VIRTIO_VSOCK_SHUTDOWN_SEND) != 0 ||
	    len > VSOCK_BUF_BYTES - c->buf_len) {
		c->due_rst = true; /* not open, closed by itself, or beyond the credit it has */
		return;
	}
	if (len == 0) {
		return;
	}
	if (!c->host_gone && c->buf_len == 0) {
		sent = send_once(c, payload, n);
		forwarded(c, sent);
	}
	if (c->host_gone) {
		forwarded(c, len - sent);
	} else if (sent < len) {
		keep(c, payload, n, sent, len - sent);
	}
}

/* The guest has accepted what the host asked for. */
static void guest_response(struct vsock_conn *c)
{
	char line[24];
	int len;

	if (c->state != VSOCK_REQUESTED || c->due_request) {
		c->due_rst = true;
		return;
	}
	c->state = VSOCK_OPEN;
	c->readable = true;
	len = snprintf(line, sizeof(line), "OK %u\n", c->host_port);
	if (send(c->fd, line, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT) != len) {
		host_gone(c);
	}
}

void vsock_conn_packet(struct vsock_conn *c, const struct virtio_vsock_hdr *hdr,
		       const struct iovec *payload, unsigned n)
{
	c->peer_buf_alloc = hdr->buf_alloc;
	c->peer_fwd_cnt = hdr->fwd_cnt;
	if (credit(c) > 0) {
		c->credit_asked = false;
		c->due_credit_request = false;
	}

	switch (hdr->op) {
	case VIRTIO_VSOCK_OP_RESPONSE:
		guest_response(c);
		break;
	case VIRTIO_VSOCK_OP_RST:
		c->due_rst = false;
		c->state = VSOCK_ENDED;
		c->guest_closed = SHUTDOWN_BOTH;
		follow_close(c);
		break;
	case VIRTIO_VSOCK_OP_SHUTDOWN:
		if (c->state != VSOCK_OPEN) {
			c->due_rst = true;
			break;
		}
		c->guest_closed |= hdr->flags & SHUTDOWN_BOTH;
		if ((c->guest_closed & VIRTIO_VSOCK_SHUTDOWN_RCV) != 0) {
			shutdown(c->fd, SHUT_RD);
		}
		follow_close(c);
		break;
	case VIRTIO_VSOCK_OP_RW:
		guest_data(c, payload, n, hdr->len);
		break;
	case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
		break;
	case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
		c->due_credit = true;
		break;
	default:
		c->due_rst = true;
	}
}

void vsock_conn_hang_up(struct vsock_conn *c)
{
	c->hung_up = true;
	c->readable = true;
	host_gone(c);
	if (c->state == VSOCK_REQUESTED) {
		c->due_rst = !c->due_request; /* the guest may not know of it yet */
		c->state = c->due_request ? VSOCK_ENDED : c->state;
	} else if (c->state == VSOCK_HELLO) {
		c->state = VSOCK_ENDED;
	} else if (c->guest_closed != 0) {
		c->host_eof = c->host_eof || !reads(c);
		follow_close(c);
	}
}

bool vsock_conn_due(const struct vsock_conn *c)
{
	if (c->state == VSOCK_ENDED || c->state == VSOCK_HELLO) {
		return false;
	}
	return c->due_rst || c->due_request || c->due_response || c->due_credit ||
	       c->due_credit_request || due_shutdown(c) ||
	       (c->readable && reads(c) && (credit(c) > 0 || !c->credit_asked));
}

/* Reads what the guest has room for. Return: bytes, 0 if there are none now or any more. */
static uint32_t read_data(struct vsock_conn *c, const struct iovec *room, unsigned n)
{
	struct iovec iov[16];
	uint32_t left = credit(c);
	unsigned count = 0;
	ssize_t len;

	for (; count < n && count < ARRAY_SIZE(iov) && left > 0; count++) {
		iov[count] = room[count];
		iov[count].iov_len = MIN(iov[count].iov_len, left);
		left -= (uint32_t)iov[count].iov_len;
	}
	if (count == 0) {
		return 0;
	}
	len = readv(c->fd, iov, (int)count);
	if (len > 0) {
		return (uint32_t)len;
	}
	if (len == 0 || (errno != EAGAIN && errno != EINTR)) {
		c->host_eof = true;
		c->host_gone = c->host_gone || len < 0;
	} else {
		c->readable = false;
	}
	return 0;
}

/* Which packet is due; those that begin or end a connection come first and last. */
static bool choose(struct vsock_conn *c, struct virtio_vsock_hdr *hdr, const struct iovec *room,
		   unsigned n)
{
	if (c->due_rst) {
		hdr->op = VIRTIO_VSOCK_OP_RST;
		c->due_rst = false;
		c->state = VSOCK_ENDED;
		c->guest_closed = SHUTDOWN_BOTH;
		follow_close(c);
		return true;
	}
	if (c->due_request || c->due_response) {
		hdr->op = c->due_request ? VIRTIO_VSOCK_OP_REQUEST : VIRTIO_VSOCK_OP_RESPONSE;
		c->due_request = c->due_response = false;
		return true;
	}
	if (c->readable && reads(c)) {
		hdr->len = read_data(c, room, n);
		if (hdr->len > 0) {
			hdr->op = VIRTIO_VSOCK_OP_RW;
			c->tx_cnt += hdr->len;
			return true;
		}
		if (credit(c) == 0 && !c->credit_asked) {
			c->due_credit_request = true;
			c->credit_asked = true;
		}
	}
	if (due_shutdown(c)) {
		hdr->op = VIRTIO_VSOCK_OP_SHUTDOWN;
		hdr->flags = c->told_closed = closed_by_host(c);
		return true;
	}
	if (c->due_credit_request) {
		hdr->op = VIRTIO_VSOCK_OP_CREDIT_REQUEST;
		c->due_credit_request = false;
		return true;
	}
	if (c->due_credit) {
		hdr->op = VIRTIO_VSOCK_OP_CREDIT_UPDATE;
		return true;
	}
	return false;
}

bool vsock_conn_next(struct vsock_conn *c, struct virtio_vsock_hdr *hdr, const struct iovec *room,
		     unsigned n)
{
	*hdr = (struct virtio_vsock_hdr){
		.src_port = c->host_port,
		.dst_port = c->guest_port,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
	};
	if (!vsock_conn_due(c) || !choose(c, hdr, room, n)) {
		return false;
	}
	/* Every packet tells of our buffer. */
	hdr->buf_alloc = VSOCK_BUF_BYTES;
	hdr->fwd_cnt = c->fwd_cnt;
	c->fwd_told = c->fwd_cnt;
	c->due_credit = false;
	return true;
}

uint32_t vsock_conn_events(const struct vsock_conn *c)
{
	uint32_t events = c->buf_len > 0 ? EPOLLOUT : 0u;

	if (c->state == VSOCK_HELLO || (reads(c) && !c->readable)) {
		events |= EPOLLIN;
	}
	return events;
}

bool vsock_conn_done(const struct vsock_conn *c)
{
	return c->state == VSOCK_ENDED && (c->buf_len == 0 || c->host_gone);
}
