#include "vmm/net/passt.h"

#include <errno.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/bytes.h"
#include "vmm/lock.h"
#include "vmm/log.h"
#include "vmm/net/checksum.h"
#include "vmm/net/features.h"
#include "vmm/net/passt_process.h"
#include "vmm/virtio/iov.h"
#include "vmm/virtio/queue.h"

#define PREFIX_LEN 4		    /* the length in front of a frame */
#define TX_MAX	   UINT64_C(0xffff) /* the longest frame that passt reads */
#define RX_SIZE	   (128 * 1024)

_Static_assert(RX_SIZE > PREFIX_LEN + NET_FRAME_MAX, "a frame must fit");

struct passt {
	struct net_backend backend;
	struct loop *loop;
	struct passt_process process; /* pid 0 without one */
	/* the loop's thread only: */
	bool gone;
	bool err_watched;
	struct loop_source source;
	struct loop_source err_source;
	uint8_t rx[RX_SIZE];
	size_t rx_start, rx_end;
	uint8_t tx_rest[PREFIX_LEN + TX_MAX]; /* of a frame that went out in part */
	size_t tx_rest_start, tx_rest_end;
	struct iovec tx_iov[NET_SEND_IOVS + 4];

	struct lock lock; /* guards the rest */
	bool watch_rx, watch_tx;
	bool flush; /* there is a tx_rest */
	bool on_loop;
};

static struct passt *to_passt(struct net_backend *b)
{
	return container_of(b, struct passt, backend);
}

/* Context: @p->lock held. */
static void update_events(struct passt *p)
{
	if (p->on_loop) {
		loop_mod(p->loop, &p->source,
			 (p->watch_rx ? EPOLLIN : 0u) | (p->watch_tx || p->flush ? EPOLLOUT : 0u));
	}
}

static void passt_watch(struct net_backend *b, unsigned pair, bool rx, bool tx)
{
	struct passt *p = to_passt(b);

	(void)pair;
	lock_take(&p->lock);
	if (p->watch_rx != rx || p->watch_tx != tx) {
		p->watch_rx = rx;
		p->watch_tx = tx;
		update_events(p);
	}
	lock_give(&p->lock);
}

static void set_flush(struct passt *p, bool flush)
{
	lock_take(&p->lock);
	p->flush = flush;
	update_events(p);
	lock_give(&p->lock);
}

/* The connection is of no more use: @why, or NULL if passt closed it. */
static void passt_gone(struct passt *p, const char *why)
{
	char text[PASST_WORDS_MAX + 32] = "";

	if (p->gone) {
		return;
	}
	p->gone = true;
	lock_take(&p->lock);
	p->on_loop = false;
	lock_give(&p->lock);
	loop_del(p->loop, &p->source);
	if (p->process.err_fd >= 0) {
		passt_process_end(&p->process, text, sizeof(text));
	}
	log_warn("passt %s%s; the guest's network link is down from now on",
		 why != NULL ? why : "has ended", text);
}

/* Sends what is left of a frame. Return: 0, -EAGAIN or -EPIPE. */
static int flush_rest(struct passt *p)
{
	while (p->tx_rest_start < p->tx_rest_end) {
		ssize_t len = send(p->source.fd, p->tx_rest + p->tx_rest_start,
				   p->tx_rest_end - p->tx_rest_start, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (len < 0 && errno == EINTR) {
			continue;
		}
		if (len < 0 && (errno == EAGAIN || errno == ENOBUFS)) {
			return -EAGAIN;
		}
		if (len < 0) {
			passt_gone(p, NULL);
			return -EPIPE;
		}
		p->tx_rest_start += (size_t)len;
	}
	if (p->tx_rest_end != 0) {
		p->tx_rest_start = p->tx_rest_end = 0;
		set_flush(p, false);
	}
	return 0;
}

/*
 * The packet as it goes over the wire, with the checksum that the guest left to us, in @p->tx_iov.
 * Guest memory is not written to: the two bytes come from @sum.
 * Return: the number of iovecs, or 0 if the header asks for what cannot be.
 */
static unsigned build_frame(struct passt *p, const struct iovec *iov, unsigned n, size_t len,
			    uint8_t prefix[PREFIX_LEN], uint8_t sum[2])
{
	struct virtio_net_hdr_v1 hdr;
	size_t frame_len = len - NET_HDR_LEN;
	struct iovec *out = p->tx_iov;

	if (frame_len > TX_MAX || iov_to_buf(iov, n, 0, &hdr, sizeof(hdr)) != sizeof(hdr)) {
		return 0;
	}
	store_le32(prefix, __builtin_bswap32((uint32_t)frame_len));
	*out++ = (struct iovec){prefix, PREFIX_LEN};
	if ((hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) == 0) {
		return 1 + iov_slice(out, iov, n, NET_HDR_LEN, frame_len);
	}

	size_t start = hdr.csum_start;
	size_t at = start + hdr.csum_offset;

	if (start < NET_ETH_LEN || at + 2 > frame_len) {
		return 0;
	}
	store_le16(sum, checksum_iov(iov, n, NET_HDR_LEN + start, frame_len - start));
	out += iov_slice(out, iov, n, NET_HDR_LEN, at);
	*out++ = (struct iovec){sum, 2};
	out += iov_slice(out, iov, n, NET_HDR_LEN + at + 2, frame_len - at - 2);
	return (unsigned)(out - p->tx_iov);
}

static int passt_send(struct net_backend *b, unsigned pair, struct iovec *iov, unsigned n,
		      size_t len)
{
	struct passt *p = to_passt(b);
	uint8_t prefix[PREFIX_LEN];
	uint8_t sum[2];
	size_t total = PREFIX_LEN + len - NET_HDR_LEN;
	struct msghdr msg = {.msg_iov = p->tx_iov};
	ssize_t sent;
	int ret;

	(void)pair;
	if (p->gone) {
		return -EPIPE;
	}
	ret = flush_rest(p);
	if (ret != 0) {
		return ret;
	}
	msg.msg_iovlen = build_frame(p, iov, n, len, prefix, sum);
	if (msg.msg_iovlen == 0) {
		return 0;
	}
	do {
		sent = sendmsg(p->source.fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (sent < 0 && errno == EINTR);
	if (sent < 0 && (errno == EAGAIN || errno == ENOBUFS)) {
		return -EAGAIN;
	}
	if (sent < 0) {
		passt_gone(p, NULL);
		return -EPIPE;
	}
	if ((size_t)sent < total) {
		/* A frame that was begun has to be finished. */
		p->tx_rest_start = 0;
		p->tx_rest_end = iov_to_buf(p->tx_iov, (unsigned)msg.msg_iovlen, (size_t)sent,
					    p->tx_rest, total - (size_t)sent);
		set_flush(p, true);
	}
	return 0;
}

/* More bytes from passt. Return: 0, -EAGAIN or -EPIPE. */
static int fill_rx(struct passt *p)
{
	ssize_t len;

	if (p->rx_start == p->rx_end) {
		p->rx_start = p->rx_end = 0;
	} else if (RX_SIZE - p->rx_start < PREFIX_LEN + NET_FRAME_MAX) {
		memmove(p->rx, p->rx + p->rx_start, p->rx_end - p->rx_start);
		p->rx_end -= p->rx_start;
		p->rx_start = 0;
	}
	do {
		len = recv(p->source.fd, p->rx + p->rx_end, RX_SIZE - p->rx_end, MSG_DONTWAIT);
	} while (len < 0 && errno == EINTR);
	if (len < 0 && errno == EAGAIN) {
		return -EAGAIN;
	}
	if (len <= 0) {
		passt_gone(p, NULL);
		return -EPIPE;
	}
	p->rx_end += (size_t)len;
	return 0;
}

static ssize_t passt_recv(struct net_backend *b, unsigned pair, const struct iovec *iov, unsigned n)
{
	static const struct virtio_net_hdr_v1 no_offload;
	struct passt *p = to_passt(b);
	int ret;

	(void)pair;
	if (p->gone) {
		return -EPIPE;
	}
	for (;;) {
		size_t have = p->rx_end - p->rx_start;
		uint8_t *at = p->rx + p->rx_start;
		size_t len = have >= PREFIX_LEN ? __builtin_bswap32(load_le32(at)) : 0;

		if (len > NET_FRAME_MAX) {
			passt_gone(p, "does not keep to its protocol");
			return -EPIPE;
		}
		if (have >= PREFIX_LEN && have >= PREFIX_LEN + len) {
			p->rx_start += PREFIX_LEN + len;
			if (len < NET_ETH_LEN) {
				continue;
			}
			iov_from_buf(iov, n, 0, &no_offload, sizeof(no_offload));
			iov_from_buf(iov, n, sizeof(no_offload), at + PREFIX_LEN, len);
			return (ssize_t)(sizeof(no_offload) + len);
		}
		ret = fill_rx(p);
		if (ret != 0) {
			return ret;
		}
	}
}

static void passt_ready(void *arg, uint32_t events)
{
	struct passt *p = arg;

	if ((events & (EPOLLERR | EPOLLHUP)) != 0) {
		passt_gone(p, NULL);
	} else if ((events & EPOLLOUT) != 0) {
		(void)!flush_rest(p);
	}
	p->backend.ready(p->backend.arg, 0, p->gone);
}

static void passt_said(void *arg, uint32_t events)
{
	struct passt *p = arg;

	passt_process_drain(&p->process);
	if ((events & EPOLLIN) == 0) {
		/* It closed its end; what it said is kept. */
		loop_del(p->loop, &p->err_source);
		p->err_watched = false;
	}
}

static void passt_set_offload(struct net_backend *b, uint64_t features)
{
	(void)b;
	(void)features; /* what it sends is complete always */
}

static void passt_set_pairs(struct net_backend *b, unsigned pairs)
{
	(void)b;
	(void)pairs;
}

static void passt_close(struct net_backend *b)
{
	struct passt *p = to_passt(b);

	if (p->on_loop) {
		loop_del(p->loop, &p->source);
	}
	if (p->err_watched) {
		loop_del(p->loop, &p->err_source);
	}
	close(p->source.fd);
	passt_process_stop(&p->process);
	lock_fini(&p->lock);
	free(p);
}

static const struct net_backend_ops passt_ops = {
	.send = passt_send,
	.recv = passt_recv,
	.watch = passt_watch,
	.set_offload = passt_set_offload,
	.set_pairs = passt_set_pairs,
	.close = passt_close,
};

int passt_attach(struct net_backend **out, int fd, struct loop *loop)
{
	struct passt *p = calloc(1, sizeof(*p));
	int ret;

	if (p == NULL) {
		log_error("no memory for the connection to passt");
		close(fd);
		return -ENOMEM;
	}
	p->backend.ops = &passt_ops;
	p->backend.pairs = 1;
	p->backend.features = BIT(VIRTIO_NET_F_CSUM) | NET_F_HOST_TSO;
	p->loop = loop;
	p->process.err_fd = -1;
	p->source = (struct loop_source){.fd = fd, .fn = passt_ready, .arg = p};
	lock_init(&p->lock, LOCK_LEAF);
	ret = loop_add(loop, &p->source, 0);
	if (ret != 0) {
		log_error("cannot watch the connection to passt: %s", strerror(-ret));
		passt_close(&p->backend);
		return ret;
	}
	p->on_loop = true;
	*out = &p->backend;
	return 0;
}

int passt_open(struct net_backend **out, const char *args, struct loop *loop)
{
	struct passt_process process;
	struct passt *p;
	int fds[2];
	int ret;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
		ret = -errno;
		log_error("cannot make a connection for passt: %s", strerror(-ret));
		return ret;
	}
	ret = passt_process_start(&process, fds[1], args);
	close(fds[1]);
	if (ret != 0) {
		close(fds[0]);
		return ret;
	}
	ret = passt_attach(out, fds[0], loop);
	if (ret != 0) {
		passt_process_stop(&process);
		return ret;
	}
	p = to_passt(*out);
	p->process = process;
	p->err_source = (struct loop_source){.fd = process.err_fd, .fn = passt_said, .arg = p};
	ret = loop_add(loop, &p->err_source, EPOLLIN);
	if (ret != 0) {
		log_error("cannot watch passt: %s", strerror(-ret));
		passt_close(*out);
		return ret;
	}
	p->err_watched = true;
	return 0;
}
