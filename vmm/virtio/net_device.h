/*
 * The inside of the network device, shared by its files.
 */
#pragma once

#include "vmm/net/backend.h"
#include "vmm/net/features.h"
#include "vmm/virtio/net_filter.h"
#include "vmm/virtio/virtio.h"

#define NET_QUEUE_SIZE 256
#define NET_PACKET_MAX (NET_HDR_LEN + NET_FRAME_MAX)
#define NET_MERGE_MAX  128 /* buffers that one received packet may be spread over */

#define NET_RXQ(pair) (2 * (pair))
#define NET_TXQ(pair) (2 * (pair) + 1)

/* One receive and one transmit queue. */
struct net_pair {
	bool rx_waiting; /* the driver was asked to ring for receive buffers */
	bool rx_on;	 /* the back end is watched for packets */
	bool tx_blocked; /* the back end is full, and watched for room */
	/* A packet that is larger than the next buffer of the driver, or what is too much of it. */
	size_t held_len; /* 0: none is waiting here */
	uint8_t packet[NET_PACKET_MAX];
};

struct net {
	struct virtio_device dev; /* its lock guards all but the constant fields */
	struct virtqueue queue[2 * NET_PAIRS_MAX + 1];
	struct virtio_net_config config;

	/* constant after creation */
	struct net_backend *backend;
	uint8_t mac[6];		  /* the one after a reset */
	struct loop_source again; /* an eventfd: there is more work than one turn of the loop */
	struct net_pair *pair;	  /* backend->pairs of them */

	uint64_t again_queues; /* which queues the work is in, by bit */
	bool config_changed;   /* the driver is to be told of it */
	uint16_t pairs;	       /* in use; from 1 */
	uint64_t offloads;     /* of NET_F_GUEST_OFFLOADS: what the driver takes now */
	struct net_filter filter;

	/* within one call only */
	struct iovec iov[NET_QUEUE_SIZE + 1];
	struct iovec more_iov[NET_QUEUE_SIZE];
	struct vq_chain chain[NET_MERGE_MAX];
	uint32_t written[NET_MERGE_MAX];
};

static inline struct net *to_net(struct virtio_device *dev)
{
	return container_of(dev, struct net, dev);
}
