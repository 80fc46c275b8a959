/*
 * One stream connection of the socket device: a Unix socket on the host's side, packets on the
 * guest's. It knows neither queues nor the event loop; the device (vsock.c) calls it and looks
 * afterwards what it waits for.
 *
 *	HELLO --"CONNECT port"--> REQUESTED --RESPONSE--> OPEN --> ENDED
 *	                              |  guest's REQUEST --^        ^
 *	                              +---------- RST --------------+
 *
 *	host                                              guest
 *	write() --> the socket's own buffer -- recv, within the guest's credit --> RX buffers
 *	read()  <-- the socket <-- 64 KiB here, our credit <-- TX packets
 *
 * Spec: VIRTIO 1.2, 5.10.6 "Device Operation"
 */
#pragma once

#include <linux/virtio_vsock.h>
#include <sys/uio.h>

#include "lib/base/types.h"

#define VSOCK_BUF_BYTES 65536u /* what the guest may have on the way to the host */

enum vsock_conn_state {
	VSOCK_HELLO,	 /* a host program has connected, and is to say to which port */
	VSOCK_REQUESTED, /* the guest was asked, or will be */
	VSOCK_OPEN,
	VSOCK_ENDED, /* the guest knows of it no more; what it sent still goes to the host */
};

struct vsock_conn {
	int fd; /* a non-blocking stream socket */
	enum vsock_conn_state state;
	uint32_t guest_port, host_port;

	/* host to guest */
	uint32_t tx_cnt;	 /* bytes sent to the guest, ever */
	uint32_t peer_buf_alloc; /* the guest's buffer and */
	uint32_t peer_fwd_cnt;	 /* what it has taken out of it, as it last said */
	bool readable;		 /* the socket may have something to read */
	bool host_eof;		 /* the host sends no more */
	bool hung_up;		 /* the host closed the socket; it may have sent something before */

	/* guest to host */
	uint8_t *buf; /* a ring of VSOCK_BUF_BYTES */
	uint32_t buf_start, buf_len;
	uint32_t fwd_cnt;      /* bytes that the socket took, ever */
	uint32_t fwd_told;     /* the fwd_cnt that the guest knows */
	bool host_gone;	       /* the host reads no more */
	bool write_closed;     /* the host knows that the guest sends no more */
	uint32_t guest_closed; /* VIRTIO_VSOCK_SHUTDOWN_* of the guest */
	uint32_t told_closed;  /* the same of the host, as far as the guest knows */

	/* packets that are due to the guest */
	bool due_request, due_response, due_rst, due_credit, due_credit_request;
	bool credit_asked; /* since the guest last gave credit */

	char line[24]; /* of HELLO */
	unsigned line_len;
};

/**
 * vsock_conn_init() - a connection over @fd, which is its own from now on, also on errors.
 * Return: 0 or -ENOMEM.
 */
must_use int vsock_conn_init(struct vsock_conn *c, int fd, enum vsock_conn_state state);
void vsock_conn_fini(struct vsock_conn *c);

/**
 * vsock_conn_hello() - reads the host's line. What follows it stays in the socket.
 * Return: 1 and @c->guest_port set; 0 if it is not complete; -EBADMSG if it is none; -EPIPE.
 */
must_use int vsock_conn_hello(struct vsock_conn *c);

/**
 * vsock_conn_packet() - a packet of the guest for this connection; not a REQUEST.
 * @payload: where @hdr->len bytes lie.
 */
void vsock_conn_packet(struct vsock_conn *c, const struct virtio_vsock_hdr *hdr,
		       const struct iovec *payload, unsigned n);

/** vsock_conn_writable() - the socket has room again. */
void vsock_conn_writable(struct vsock_conn *c);

/** vsock_conn_hang_up() - the host has closed the socket, seen as EPOLLHUP or EPOLLERR. */
void vsock_conn_hang_up(struct vsock_conn *c);

/** vsock_conn_due() - may there be a packet for the guest? */
bool vsock_conn_due(const struct vsock_conn *c);

/**
 * vsock_conn_next() - makes the next packet for the guest.
 * @hdr: filled in but for the CIDs.
 * @room: buffers for the payload, at least one byte.
 * Return: false if there is none after all.
 */
must_use bool vsock_conn_next(struct vsock_conn *c, struct virtio_vsock_hdr *hdr,
			      const struct iovec *room, unsigned n);

/** vsock_conn_events() - what to wait for on the socket: EPOLLIN, EPOLLOUT. */
uint32_t vsock_conn_events(const struct vsock_conn *c);

/** vsock_conn_done() - nothing is left to do: it can go. */
bool vsock_conn_done(const struct vsock_conn *c);
