#include "vmm/virtio/vsock_packet.h"

#include <linux/vm_sockets.h>
#include <string.h>
#include <unistd.h>

#include "vmm/virtio/iov.h"
#include "vmm/virtio/vsock_link.h"

#define BUDGET 64 /* packets a turn */

#define HDR_LEN sizeof(struct virtio_vsock_hdr)

_Static_assert(HDR_LEN == 44, "VIRTIO 1.2, 5.10.6");

void vsock_again(struct vsock *v, uint32_t queues)
{
	const uint64_t one = 1;

	v->again_queues |= queues;
	if (write(v->again.fd, &one, sizeof(one)) < 0) {
		return; /* the counter is full: the loop is being woken already */
	}
}

bool vsock_send_rst(struct vsock *v, uint64_t src_cid, uint32_t src_port, uint64_t dst_cid,
		    uint32_t dst_port)
{
	if (v->nrsts == VSOCK_RSTS_MAX) {
		return false;
	}
	v->rst[(v->rst_first + v->nrsts++) % VSOCK_RSTS_MAX] = (struct virtio_vsock_hdr){
		.src_cid = src_cid,
		.dst_cid = dst_cid,
		.src_port = src_port,
		.dst_port = dst_port,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = VIRTIO_VSOCK_OP_RST,
	};
	return true;
}

/* Answers @hdr with an RST; there is room for one. An RST is never answered. */
static void refuse(struct vsock *v, const struct virtio_vsock_hdr *hdr)
{
	if (hdr->op != VIRTIO_VSOCK_OP_RST) {
		(void)!vsock_send_rst(v, hdr->dst_cid, hdr->dst_port, hdr->src_cid, hdr->src_port);
	}
}

/* The guest wants to connect to a program of the host. */
static void guest_request(struct vsock *v, const struct virtio_vsock_hdr *hdr)
{
	int fd = vsock_connect(&v->listener, hdr->dst_port);
	struct vsock_link *l = fd >= 0 ? vsock_link_new(v, fd, VSOCK_OPEN) : NULL;

	if (l == NULL) {
		refuse(v, hdr);
		return;
	}
	l->conn.guest_port = hdr->src_port;
	l->conn.host_port = hdr->dst_port;
	l->conn.peer_buf_alloc = hdr->buf_alloc;
	l->conn.peer_fwd_cnt = hdr->fwd_cnt;
	l->conn.due_response = true;
	vsock_link_update(l);
}

/* One packet of the guest. Nothing in it can be trusted; @c holds at least a header. */
static void guest_packet(struct vsock *v, const struct vq_chain *c)
{
	struct virtio_vsock_hdr hdr;
	struct vsock_link *l;
	unsigned n = 0;

	iov_to_buf(c->iov, c->nout, 0, &hdr, sizeof(hdr));
	if (hdr.src_cid != v->config.guest_cid) {
		return; /* there is nobody to answer to */
	}
	if (hdr.dst_cid != VMADDR_CID_HOST || hdr.type != VIRTIO_VSOCK_TYPE_STREAM) {
		refuse(v, &hdr);
		return;
	}
	l = vsock_link_find(v, hdr.src_port, hdr.dst_port);
	if (l == NULL) {
		if (hdr.op == VIRTIO_VSOCK_OP_REQUEST) {
			guest_request(v, &hdr);
		} else {
			refuse(v, &hdr);
		}
		return;
	}
	if (hdr.op == VIRTIO_VSOCK_OP_RW) {
		if (hdr.len > c->out_len - HDR_LEN) {
			hdr.op = VIRTIO_VSOCK_OP_INVALID; /* more than there is: ends it */
		} else {
			n = iov_slice(v->part, c->iov, c->nout, HDR_LEN, hdr.len);
		}
	}
	vsock_conn_packet(&l->conn, &hdr, v->part, n);
	vsock_link_update(l);
}

void vsock_tx(struct vsock *v)
{
	struct virtqueue *vq = &v->queue[VSOCK_TXQ];
	unsigned turn;

	vq_doorbell(vq, false);
	/* Without room for an answer no packet is taken; the driver has to take answers first. */
	for (turn = 0; turn < BUDGET && v->nrsts < VSOCK_RSTS_MAX - 1; turn++) {
		struct vq_chain c = {.iov = v->iov, .max = VSOCK_QUEUE_SIZE};
		int ret = vq_pop(vq, &c);

		if (ret == 0) {
			if (!vq_doorbell(vq, true)) {
				break;
			}
			vq_doorbell(vq, false);
			continue;
		}
		if (ret < 0 || c.out_len < HDR_LEN) {
			virtio_broken(&v->dev, "a packet breaks the rules");
			return;
		}
		guest_packet(v, &c);
		vq_push(vq, &c, 0);
	}
	if (turn == BUDGET) {
		vsock_again(v, BIT(VSOCK_TXQ));
	}
	virtio_notify(&v->dev, VSOCK_TXQ);
	vsock_rx(v);
	vsock_link_free_dead(v);
}

/* The next connection, round robin, that may have a packet for the guest; or NULL. */
static struct vsock_link *next_due(struct vsock *v)
{
	for (unsigned i = 0; i < v->nlinks; i++) {
		struct vsock_link *l = v->link[(v->turn + i) % v->nlinks];

		if (vsock_conn_due(&l->conn)) {
			v->turn = (v->turn + i + 1) % v->nlinks;
			return l;
		}
	}
	return NULL;
}

enum rx_result {
	RX_DONE,
	RX_IDLE,    /* there is nothing for the guest */
	RX_STARVED, /* the guest has no buffers for what there is */
	RX_BROKEN,
};

static enum rx_result rx_one(struct vsock *v)
{
	struct virtqueue *vq = &v->queue[VSOCK_RXQ];
	struct vq_chain c = {.iov = v->iov, .max = VSOCK_QUEUE_SIZE};
	struct vsock_link *l = v->nrsts == 0 ? next_due(v) : NULL;
	struct virtio_vsock_hdr hdr;
	int ret;

	if (l == NULL && v->nrsts == 0) {
		return RX_IDLE;
	}
	ret = vq_pop(vq, &c);
	if (ret == 0) {
		return RX_STARVED;
	}
	/* A buffer that cannot carry data would never let data pass. */
	if (ret < 0 || c.in_len <= HDR_LEN) {
		return RX_BROKEN;
	}
	if (l == NULL) {
		hdr = v->rst[v->rst_first];
		v->rst_first = (v->rst_first + 1) % VSOCK_RSTS_MAX;
		v->nrsts--;
	} else {
		unsigned n = iov_slice(v->part, vq_in(&c), c.nin, HDR_LEN, (size_t)c.in_len);
		bool any = vsock_conn_next(&l->conn, &hdr, v->part, n);

		vsock_link_update(l);
		if (!any) {
			vq_unpop(vq, &c);
			return RX_DONE;
		}
		hdr.src_cid = VMADDR_CID_HOST;
		hdr.dst_cid = v->config.guest_cid;
	}
	iov_from_buf(vq_in(&c), c.nin, 0, &hdr, sizeof(hdr));
	vq_push(vq, &c, (uint32_t)(HDR_LEN + hdr.len));
	return RX_DONE;
}

void vsock_rx(struct vsock *v)
{
	struct virtqueue *vq = &v->queue[VSOCK_RXQ];
	bool tx_stopped = v->nrsts >= VSOCK_RSTS_MAX - 1;
	enum rx_result result = RX_DONE;

	if (!v->dev.active) {
		return;
	}
	if (!v->rx_waiting) {
		vq_doorbell(vq, false);
	}
	for (unsigned turn = 0; turn < BUDGET && result == RX_DONE; turn++) {
		result = rx_one(v);
		if (result == RX_STARVED && !v->rx_waiting) {
			/* Ask to be rung, and look once more for what came before that. */
			v->rx_waiting = true;
			vq_doorbell(vq, true);
			result = RX_DONE;
		} else if (result != RX_STARVED && v->rx_waiting) {
			v->rx_waiting = false;
			vq_doorbell(vq, false);
		}
	}
	if (result == RX_BROKEN) {
		virtio_broken(&v->dev, "a receive buffer breaks the rules");
	} else if (result == RX_DONE) {
		vsock_again(v, BIT(VSOCK_RXQ));
	}
	if (tx_stopped && v->nrsts < VSOCK_RSTS_MAX - 1) {
		vsock_again(v, BIT(VSOCK_TXQ));
	}
	virtio_notify(&v->dev, VSOCK_RXQ);
}
