/*
 * The inside of the socket device, shared by its files and its tests.
 */
#pragma once

#include "vmm/virtio/virtio.h"
#include "vmm/virtio/vsock_conn.h"
#include "vmm/virtio/vsock_host.h"

#define VSOCK_QUEUE_SIZE 256
#define VSOCK_LINKS_MAX	 256
#define VSOCK_RSTS_MAX	 64

enum {
	VSOCK_RXQ,
	VSOCK_TXQ,
	VSOCK_EVENTQ,
	VSOCK_QUEUES,
};

struct vsock;

/* A connection with its place in the device and on the loop. */
struct vsock_link {
	struct vsock_conn conn;
	struct vsock *vsock;
	struct loop_source source;
	uint32_t events; /* what @source waits for now */
	bool on_loop;
	bool dead;		 /* out of the table; the loop's thread frees it */
	struct vsock_link *next; /* of the dead ones */
};

struct vsock {
	struct virtio_device dev; /* its lock guards all but the constant fields */
	struct virtqueue queue[VSOCK_QUEUES];
	struct virtio_vsock_config config;

	/* constant after creation */
	struct vsock_listener listener;
	struct loop_source accept;
	struct loop_source again; /* an eventfd: there is more work than one turn of the loop */
	struct loop_timer retry;  /* when accept() failed */

	bool complained;       /* of accept(), since it last worked */
	bool accepting;	       /* @accept waits for connections */
	uint32_t again_queues; /* which queues the work is in, by bit */
	bool rx_waiting;       /* the driver was asked to ring for receive buffers */
	bool reset_event_due;  /* the driver is to hear that the transport was reset */
	uint32_t next_port;    /* of the host, for its connections to the guest */
	unsigned nlinks;
	unsigned turn; /* whose packet is next */
	struct vsock_link *link[VSOCK_LINKS_MAX];
	struct vsock_link *dead;
	/* RST for packets that belong to no connection, complete headers */
	struct virtio_vsock_hdr rst[VSOCK_RSTS_MAX];
	unsigned rst_first, nrsts;

	/* within one call only */
	struct iovec iov[VSOCK_QUEUE_SIZE];
	struct iovec part[VSOCK_QUEUE_SIZE];
};
