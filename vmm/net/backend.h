/*
 * What carries a network device's packets on the host: one seam, two back ends (tap.h, passt.h).
 *
 * A packet on the seam is always a 12-byte struct virtio_net_hdr_v1 followed by an Ethernet frame,
 * in both directions. A back end whose host side knows no such header (passt) does itself what
 * the header asks for, and offers only what it can do.
 *
 *	virtio/net.c --send(iov)--> back end --> host
 *	virtio/net.c <--recv(iov)-- back end <-- host
 *	             <--ready()---- its descriptors on the loop
 */
#pragma once

#include <sys/uio.h>

#include "lib/base/types.h"
#include "vmm/loop.h"

#define NET_HDR_LEN   12			 /* struct virtio_net_hdr_v1 */
#define NET_ETH_LEN   14			 /* the header of an Ethernet frame */
#define NET_FRAME_MAX (0xffff + NET_ETH_LEN + 4) /* an IP packet, with a VLAN tag */
#define NET_PAIRS_MAX 8
#define NET_SEND_IOVS 1000 /* the most iovecs that one send() takes */

struct net_backend;

struct net_backend_ops {
	/*
	 * Sends one packet. @iov holds the header and the frame, @len bytes together, at least
	 * NET_HDR_LEN + NET_ETH_LEN and at most NET_HDR_LEN + NET_FRAME_MAX; it may be changed.
	 * Return: 0 if it is on its way, or was dropped as a network may; -EAGAIN if there is no
	 * room now (watch for writing); -EPIPE if the other side is gone.
	 */
	int (*send)(struct net_backend *b, unsigned pair, struct iovec *iov, unsigned n,
		    size_t len);
	/*
	 * Receives one packet into @iov, which has room for the largest one.
	 * Return: its length with the header (num_buffers in it is not set); -EAGAIN if there is
	 * none now; -EPIPE as for send.
	 */
	ssize_t (*recv)(struct net_backend *b, unsigned pair, const struct iovec *iov, unsigned n);
	/* Which events of a pair lead to ready(). Context: any thread. */
	void (*watch)(struct net_backend *b, unsigned pair, bool rx, bool tx);
	/* What the guest takes: VIRTIO_NET_F_GUEST_* bits of features. Context: any thread. */
	void (*set_offload)(struct net_backend *b, uint64_t features);
	/* The first @pairs pairs carry packets, the others none. Context: any thread. */
	void (*set_pairs)(struct net_backend *b, unsigned pairs);
	/* Releases all. Context: no loop runs, or the loop's thread. */
	void (*close)(struct net_backend *b);
};

/*
 * Calls are on the loop's thread unless said otherwise, and under the lock of the owner.
 */
struct net_backend {
	/* constant after open */
	const struct net_backend_ops *ops;
	uint64_t features; /* the VIRTIO_NET_F_* offloads it can serve */
	unsigned pairs;	   /* queue pairs it has */
	/*
	 * Set by the owner before the first watch. Called from the loop, without a lock held, when
	 * a watched pair may have become ready, or with @gone when the other side has ended (said
	 * to the user already; it is called once with it, and send() and recv() give -EPIPE).
	 */
	void (*ready)(void *arg, unsigned pair, bool gone);
	void *arg;
};
