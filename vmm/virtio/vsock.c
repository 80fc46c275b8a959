#include "vmm/virtio/vsock.h"

#include <errno.h>
#include <linux/vm_sockets.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/clock.h"
#include "vmm/log.h"
#include "vmm/virtio/vsock_link.h"
#include "vmm/virtio/vsock_packet.h"

#define ACCEPT_BUDGET 16 /* connections a turn */
#define RETRY_NS      UINT64_C(1000000000)

/* Newer than Debian 12's <linux/virtio_vsock.h>. Spec: VIRTIO 1.2, 5.10.3 */
#ifndef VIRTIO_VSOCK_F_STREAM
#define VIRTIO_VSOCK_F_STREAM 0
#endif

static struct vsock *to_vsock(struct virtio_device *dev)
{
	return container_of(dev, struct vsock, dev);
}

/* Tells the driver that the transport was reset, once it has a buffer for that. */
static void send_event(struct vsock *v)
{
	static const struct virtio_vsock_event event = {VIRTIO_VSOCK_EVENT_TRANSPORT_RESET};
	struct virtqueue *vq = &v->queue[VSOCK_EVENTQ];
	struct vq_chain c = {.iov = v->iov, .max = VSOCK_QUEUE_SIZE};
	int ret;

	if (!v->reset_event_due) {
		return;
	}
	ret = vq_pop(vq, &c);
	if (ret == 0) {
		return;
	}
	if (ret < 0 || c.in_len < sizeof(event)) {
		virtio_broken(&v->dev, "an event buffer breaks the rules");
		return;
	}
	iov_from_buf(vq_in(&c), c.nin, 0, &event, sizeof(event));
	vq_push(vq, &c, sizeof(event));
	v->reset_event_due = false;
	virtio_notify(&v->dev, VSOCK_EVENTQ);
}

static void vsock_notify(struct virtio_device *dev, unsigned queue)
{
	struct vsock *v = to_vsock(dev);

	vsock_link_free_dead(v);
	switch (queue) {
	case VSOCK_RXQ:
		vsock_rx(v);
		vsock_link_free_dead(v);
		break;
	case VSOCK_TXQ:
		vsock_tx(v);
		break;
	default:
		send_event(v);
	}
}

/* The eventfd of vsock_again(). */
static void vsock_turn(void *arg, uint32_t events)
{
	struct vsock *v = arg;
	uint64_t count;
	uint32_t queues;

	(void)events;
	virtio_lock(&v->dev);
	if (read(v->again.fd, &count, sizeof(count)) < 0) {
		count = 0; /* woken for nothing; the bits say what there is to do */
	}
	queues = v->again_queues;
	v->again_queues = 0;
	vsock_link_free_dead(v);
	for (unsigned i = 0; i < VSOCK_QUEUES && v->dev.active; i++) {
		if ((queues & BIT(i)) != 0) {
			vsock_notify(&v->dev, i);
		}
	}
	virtio_unlock(&v->dev);
}

static void accept_retry(void *arg)
{
	struct vsock *v = arg;

	virtio_lock(&v->dev);
	vsock_accept_on(v, true);
	virtio_unlock(&v->dev);
}

/* Out of descriptors or memory: a connection waits, and would be reported without end. */
static void cannot_accept(struct vsock *v, int error)
{
	if (!v->complained) {
		v->complained = true;
		log_warn("cannot accept a vsock connection, and tries again: %s", strerror(error));
	}
	vsock_accept_on(v, false);
	loop_timer_set(&v->retry, clock_now_ns() + RETRY_NS);
}

/* A program of the host connects. */
static void vsock_accept(void *arg, uint32_t events)
{
	struct vsock *v = arg;

	(void)events;
	virtio_lock(&v->dev);
	for (unsigned turn = 0; turn < ACCEPT_BUDGET; turn++) {
		int fd = accept4(v->listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED)) {
			continue;
		}
		if (fd < 0) {
			if (errno != EAGAIN) {
				cannot_accept(v, errno);
			}
			break;
		}
		v->complained = false;
		if (!v->dev.active) {
			close(fd); /* no driver: the host program sees that at once */
		} else if (vsock_link_new(v, fd, VSOCK_HELLO) == NULL) {
			log_guest("vsock: no room for a connection of the host, with %u there",
				  v->nlinks);
		}
	}
	virtio_unlock(&v->dev);
}

static int vsock_activate(struct virtio_device *dev)
{
	struct vsock *v = to_vsock(dev);

	v->rx_waiting = false;
	/* Requests may have been there before the device was; the loop's thread looks. */
	vsock_again(v, BIT(VSOCK_QUEUES) - 1);
	return 0;
}

static void vsock_reset(struct virtio_device *dev)
{
	struct vsock *v = to_vsock(dev);

	vsock_link_drop_all(v);
	v->nrsts = 0;
	v->rx_waiting = false;
	v->reset_event_due = false;
	vsock_again(v, 0);
}

/*
 * Connections are not carried over, and the CID is that of the VM that loads: the driver is told
 * to drop the ones and to read the other.
 */
static void vsock_state(struct virtio_device *dev, struct state *s)
{
	struct vsock *v = to_vsock(dev);
	uint64_t cid = v->config.guest_cid;

	state_begin(s, "vsock", 1);
	state_u64(s, &cid);
	state_end(s);
	if (!s->loading || s->error != 0) {
		return;
	}
	if (cid <= VMADDR_CID_HOST || cid >= UINT32_MAX) {
		state_fail(s, -EINVAL);
		return;
	}
	v->reset_event_due = dev->active;
	vsock_again(v, BIT(VSOCK_QUEUES) - 1);
}

static void vsock_destroy(struct virtio_device *dev)
{
	struct vsock *v = to_vsock(dev);

	vsock_link_drop_all(v);
	if (v->accept.fd >= 0) {
		vsock_link_free_dead(v);
		loop_del(dev->loop, &v->accept);
	}
	if (v->retry.source.fd >= 0) {
		loop_timer_fini(&v->retry, dev->loop);
	}
	if (v->again.fd >= 0) {
		loop_del(dev->loop, &v->again);
		close(v->again.fd);
	}
	vsock_unlisten(&v->listener);
	virtio_fini(dev);
	free(v);
}

static const struct virtio_ops vsock_ops = {
	.activate = vsock_activate,
	.reset = vsock_reset,
	.notify = vsock_notify,
	.state = vsock_state,
	.destroy = vsock_destroy,
};

/* Watches @fd, or leaves @src->fd at -1 and closes @fd. */
static int watch(struct vsock *v, struct loop_source *src, int fd,
		 void (*fn)(void *arg, uint32_t events))
{
	int ret;

	*src = (struct loop_source){.fd = fd, .fn = fn, .arg = v};
	ret = fd >= 0 ? loop_add(v->dev.loop, src, EPOLLIN) : -errno;
	if (ret != 0) {
		src->fd = -1;
		log_error("cannot make the vsock device: %s", strerror(-ret));
	}
	return ret;
}

int vsock_create(struct virtio_device **out, uint64_t cid, const char *socket, struct loop *loop)
{
	struct vsock *v;
	int ret, again;

	if (cid <= VMADDR_CID_HOST || cid >= UINT32_MAX) {
		log_error("the vsock CID must be 3 to 4294967294, and %llu is not",
			  (unsigned long long)cid);
		return -EINVAL;
	}
	v = calloc(1, sizeof(*v));
	if (v == NULL) {
		log_error("no memory for the vsock device");
		return -ENOMEM;
	}
	virtio_init(&v->dev, "vsock", VIRTIO_TYPE_VSOCK, &vsock_ops, BIT(VIRTIO_VSOCK_F_STREAM),
		    v->queue, VSOCK_QUEUES, VSOCK_QUEUE_SIZE, &v->config, sizeof(v->config));
	v->dev.loop = loop;
	v->config.guest_cid = cid;
	v->accept.fd = v->again.fd = v->retry.source.fd = -1;
	v->accepting = true;
	ret = vsock_listen(&v->listener, socket);
	if (ret == 0) {
		ret = watch(v, &v->accept, v->listener.fd, vsock_accept);
	}
	if (ret == 0) {
		ret = loop_timer_init(&v->retry, loop, accept_retry, v);
	}
	if (ret == 0) {
		again = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		ret = watch(v, &v->again, again, vsock_turn);
		if (ret != 0 && again >= 0) {
			close(again);
		}
	}
	if (ret != 0) {
		vsock_destroy(&v->dev);
		return ret;
	}
	*out = &v->dev;
	return 0;
}
