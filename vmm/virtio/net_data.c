#include "vmm/virtio/net_data.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/bytes.h"

#define BUDGET 64 /* packets a turn */

#define NUM_BUFFERS_AT offsetof(struct virtio_net_hdr_v1, num_buffers)

_Static_assert(sizeof(struct virtio_net_hdr_v1) == NET_HDR_LEN, "VIRTIO 1.2, 5.1.6");

void net_watch(struct net *n, unsigned pair)
{
	struct net_pair *p = &n->pair[pair];

	n->backend->ops->watch(n->backend, pair, p->rx_on, p->tx_blocked);
}

void net_again(struct net *n, uint64_t queues)
{
	const uint64_t one = 1;

	if ((n->again_queues & queues) != queues || n->config_changed) {
		n->again_queues |= queues;
		if (write(n->again.fd, &one, sizeof(one)) < 0) {
			return; /* the counter is full: the loop is being woken already */
		}
	}
}

void net_link_down(struct net *n)
{
	if ((n->config.status & VIRTIO_NET_S_LINK_UP) != 0) {
		n->config.status &= (uint16_t)~VIRTIO_NET_S_LINK_UP;
		virtio_notify_config(&n->dev);
	}
}

/* Return: 0 if the request is done with; -EAGAIN if it has to wait; -EBADMSG as vq_pop(). */
static int send_chain(struct net *n, unsigned pair, struct vq_chain *c)
{
	int ret;

	if (c->out_len < NET_HDR_LEN) {
		return -EBADMSG;
	}
	if (c->out_len < NET_HDR_LEN + NET_ETH_LEN || c->out_len > NET_PACKET_MAX) {
		return 0;
	}
	ret = n->backend->ops->send(n->backend, pair, c->iov, c->nout, (size_t)c->out_len);
	if (ret == -EPIPE) {
		net_link_down(n); /* and the packet is lost, as on a wire that was cut */
		return 0;
	}
	return ret;
}

void net_tx(struct net *n, unsigned pair)
{
	struct virtqueue *vq = &n->queue[NET_TXQ(pair)];
	struct net_pair *p = &n->pair[pair];
	unsigned turn;

	if (p->tx_blocked) {
		return;
	}
	vq_doorbell(vq, false);
	for (turn = 0; turn < BUDGET; turn++) {
		struct vq_chain c = {.iov = n->iov, .max = NET_QUEUE_SIZE};
		int ret = vq_pop(vq, &c);

		if (ret == 0) {
			if (!vq_doorbell(vq, true)) {
				break;
			}
			vq_doorbell(vq, false);
			continue;
		}
		ret = ret < 0 ? -EBADMSG : send_chain(n, pair, &c);
		if (ret == -EBADMSG) {
			virtio_broken(&n->dev, "a transmit request breaks the rules");
			return;
		}
		if (ret == -EAGAIN) {
			vq_unpop(vq, &c);
			p->tx_blocked = true;
			net_watch(n, pair);
			break;
		}
		vq_push(vq, &c, 0);
	}
	if (turn == BUDGET) {
		net_again(n, BIT(NET_TXQ(pair)));
	}
	virtio_notify(&n->dev, NET_TXQ(pair));
}

enum rx_result {
	RX_DONE,    /* a packet was dealt with */
	RX_IDLE,    /* the back end has none */
	RX_STARVED, /* the driver has too few buffers */
	RX_BROKEN,
};

static bool wanted(const struct net *n, const uint8_t dst[6])
{
	return net_filter_accepts(&n->filter, n->config.mac, dst);
}

/* Puts back the first @count of n->chain, the latest first. */
static void unpop_all(struct net *n, struct virtqueue *vq, unsigned count)
{
	while (count > 0) {
		vq_unpop(vq, &n->chain[--count]);
	}
}

/*
 * Gives the held packet to the driver, over as many buffers as it takes where the driver merges
 * buffers. A packet that can never fit is dropped.
 */
static enum rx_result deliver_held(struct net *n, unsigned pair)
{
	struct virtqueue *vq = &n->queue[NET_RXQ(pair)];
	struct net_pair *p = &n->pair[pair];
	unsigned most = virtio_has(&n->dev, VIRTIO_NET_F_MRG_RXBUF) ? NET_MERGE_MAX : 1;
	unsigned count = 0;
	size_t done = 0;

	for (; done < p->held_len && count < most; count++) {
		struct vq_chain *c = &n->chain[count];
		int ret;

		/* The first one's buffers are needed once more, for num_buffers. */
		*c = (struct vq_chain){.iov = count == 0 ? n->iov : n->more_iov,
				       .max = NET_QUEUE_SIZE};
		ret = vq_pop(vq, c);
		if (ret < 0 || (ret > 0 && count == 0 && c->in_len < NET_HDR_LEN)) {
			return RX_BROKEN;
		}
		if (ret == 0) {
			unpop_all(n, vq, count);
			return RX_STARVED;
		}
		n->written[count] = (uint32_t)iov_from_buf(vq_in(c), c->nin, 0, p->packet + done,
							   p->held_len - done);
		vq_wrote(vq, c, n->written[count]);
		done += n->written[count];
	}
	if (done < p->held_len) {
		unpop_all(n, vq, count);
	} else {
		uint8_t num_buffers[2];

		store_le16(num_buffers, (uint16_t)count);
		iov_from_buf(vq_in(&n->chain[0]), n->chain[0].nin, NUM_BUFFERS_AT, num_buffers,
			     sizeof(num_buffers));
		vq_wrote(vq, &n->chain[0], NET_HDR_LEN);
		vq_push_merged(vq, n->chain, n->written, count);
	}
	p->held_len = 0;
	return RX_DONE;
}

/*
 * One packet, straight into the next buffer of the driver, with what is too much for it going to
 * p->packet, at the place that it has in the packet.
 */
static enum rx_result rx_one(struct net *n, unsigned pair)
{
	static const uint8_t one_buffer[2] = {1, 0};
	struct virtqueue *vq = &n->queue[NET_RXQ(pair)];
	struct net_pair *p = &n->pair[pair];
	struct vq_chain c = {.iov = n->iov, .max = NET_QUEUE_SIZE};
	struct iovec *in;
	unsigned nin;
	uint8_t dst[6];
	int ret;

	if (p->held_len != 0) {
		return deliver_held(n, pair);
	}
	ret = vq_pop(vq, &c);
	if (ret <= 0) {
		return ret == 0 ? RX_STARVED : RX_BROKEN;
	}
	in = vq_in(&c);
	nin = c.nin;
	if (c.in_len < NET_HDR_LEN) {
		return RX_BROKEN;
	}
	if (c.in_len < NET_PACKET_MAX) {
		in[nin++] = (struct iovec){p->packet + c.in_len, NET_PACKET_MAX - c.in_len};
	}

	ssize_t len = n->backend->ops->recv(n->backend, pair, in, nin);

	if (len < NET_HDR_LEN + NET_ETH_LEN) {
		vq_unpop(vq, &c);
		if (len == -EPIPE) {
			net_link_down(n);
		}
		return len < 0 ? RX_IDLE : RX_DONE;
	}
	/* All six bytes are there, be it in the buffer or in p->packet. */
	iov_to_buf(in, nin, NET_HDR_LEN, dst, sizeof(dst));
	if (!wanted(n, dst)) {
		vq_unpop(vq, &c);
		return RX_DONE;
	}
	if ((size_t)len > c.in_len) {
		iov_to_buf(in, c.nin, 0, p->packet, (size_t)c.in_len);
		vq_unpop(vq, &c);
		p->held_len = (size_t)len;
		return deliver_held(n, pair);
	}
	iov_from_buf(in, c.nin, NUM_BUFFERS_AT, one_buffer, sizeof(one_buffer));
	vq_push(vq, &c, (uint32_t)len);
	return RX_DONE;
}

void net_rx(struct net *n, unsigned pair)
{
	struct virtqueue *vq = &n->queue[NET_RXQ(pair)];
	struct net_pair *p = &n->pair[pair];
	enum rx_result result = RX_DONE;
	unsigned turn;

	if (!p->rx_waiting) {
		vq_doorbell(vq, false);
	}
	for (turn = 0; turn < BUDGET && result == RX_DONE; turn++) {
		result = rx_one(n, pair);
		if (result == RX_STARVED && !p->rx_waiting) {
			/* Ask to be rung, and look once more for what came before that. */
			p->rx_waiting = true;
			vq_doorbell(vq, true);
			result = RX_DONE;
		} else if ((result == RX_DONE || result == RX_IDLE) && p->rx_waiting) {
			p->rx_waiting = false;
			vq_doorbell(vq, false);
		}
	}
	if (result == RX_BROKEN) {
		virtio_broken(&n->dev, "a receive buffer breaks the rules");
	}
	if (result == RX_DONE) {
		net_again(n, BIT(NET_RXQ(pair)));
	}
	/* Without buffers, or with more work in the next turn, packets wait on the host's side. */
	p->rx_on = result == RX_IDLE;
	net_watch(n, pair);
	virtio_notify(&n->dev, NET_RXQ(pair));
}
