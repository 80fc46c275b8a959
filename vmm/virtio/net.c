#include "vmm/virtio/net.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "lib/base/bytes.h"
#include "vmm/log.h"
#include "vmm/net/passt.h"
#include "vmm/net/tap.h"
#include "vmm/virtio/net_data.h"

#define CTRL_BUDGET 16 /* control commands a turn */
#define CTRL_DATA   2  /* where a command's data begins, after class and command */

/* What the guest sees of the configuration: up to mtu, which says nothing without F_MTU. */
#define CONFIG_LEN (offsetof(struct virtio_net_config, mtu) + sizeof(uint16_t))

/* The driver counts queues by what it has negotiated. Spec: VIRTIO 1.2, 5.1.2 */
static unsigned ctrl_queue(const struct net *n)
{
	return virtio_has(&n->dev, VIRTIO_NET_F_MQ) ? 2 * n->backend->pairs : 2;
}

/* Tells the back end what the driver chose. */
static void apply(struct net *n)
{
	n->backend->ops->set_offload(n->backend, n->offloads);
	n->backend->ops->set_pairs(n->backend, n->pairs);
}

static uint64_t guest_offloads(const struct net *n)
{
	return n->dev.driver_features & NET_F_GUEST_OFFLOADS;
}

static void set_pairs(struct net *n, unsigned pairs)
{
	n->pairs = (uint16_t)pairs;
	apply(n);
	for (unsigned i = 0; i < n->backend->pairs; i++) {
		if (i >= pairs) {
			n->pair[i].rx_on = false;
			n->pair[i].tx_blocked = false;
			n->pair[i].held_len = 0;
			net_watch(n, i);
		} else {
			net_again(n, BIT(NET_RXQ(i)) | BIT(NET_TXQ(i)));
		}
	}
}

/* Commands of class CTRL_MAC. */
static bool mac_command(struct net *n, uint8_t command, const struct vq_chain *c)
{
	uint8_t mac[6];

	if (!virtio_has(&n->dev, VIRTIO_NET_F_CTRL_MAC_ADDR) &&
	    command == VIRTIO_NET_CTRL_MAC_ADDR_SET) {
		return false;
	}
	switch (command) {
	case VIRTIO_NET_CTRL_MAC_TABLE_SET:
		return net_filter_tables(&n->filter, c->iov, c->nout, CTRL_DATA);
	case VIRTIO_NET_CTRL_MAC_ADDR_SET:
		if (iov_to_buf(c->iov, c->nout, CTRL_DATA, mac, sizeof(mac)) != sizeof(mac)) {
			return false;
		}
		memcpy(n->config.mac, mac, sizeof(mac));
		return true;
	default:
		return false;
	}
}

/* One command. Return: did it succeed? Spec: VIRTIO 1.2, 5.1.6.5 "Control Virtqueue" */
static bool ctrl_command(struct net *n, const struct vq_chain *c)
{
	uint8_t head[CTRL_DATA];
	uint8_t data[8] = {0};
	size_t len;

	if (iov_to_buf(c->iov, c->nout, 0, head, sizeof(head)) != sizeof(head)) {
		return false;
	}
	len = iov_to_buf(c->iov, c->nout, CTRL_DATA, data, sizeof(data));
	switch (head[0]) {
	case VIRTIO_NET_CTRL_RX:
		if (!virtio_has(&n->dev, VIRTIO_NET_F_CTRL_RX) || len < 1 ||
		    (head[1] > VIRTIO_NET_CTRL_RX_ALLMULTI &&
		     !virtio_has(&n->dev, VIRTIO_NET_F_CTRL_RX_EXTRA))) {
			return false;
		}
		return net_filter_mode(&n->filter, head[1], data[0]);
	case VIRTIO_NET_CTRL_MAC:
		return mac_command(n, head[1], c);
	case VIRTIO_NET_CTRL_MQ:
		if (head[1] != VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET ||
		    !virtio_has(&n->dev, VIRTIO_NET_F_MQ) || len < 2 || load_le16(data) < 1 ||
		    load_le16(data) > n->backend->pairs) {
			return false;
		}
		set_pairs(n, load_le16(data));
		return true;
	case VIRTIO_NET_CTRL_GUEST_OFFLOADS:
		if (head[1] != VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET ||
		    !virtio_has(&n->dev, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) || len < 8 ||
		    (load_le64(data) & ~guest_offloads(n)) != 0) {
			return false;
		}
		n->offloads = load_le64(data);
		apply(n);
		return true;
	default:
		return false;
	}
}

static void net_ctrl(struct net *n, unsigned queue)
{
	struct virtqueue *vq = &n->queue[queue];
	unsigned turn;

	for (turn = 0; turn < CTRL_BUDGET; turn++) {
		struct vq_chain c = {.iov = n->iov, .max = NET_QUEUE_SIZE};
		int ret = vq_pop(vq, &c);
		uint8_t ack;

		if (ret == 0) {
			break;
		}
		if (ret < 0 || c.in_len < sizeof(ack)) {
			virtio_broken(&n->dev, "a control request breaks the rules");
			return;
		}
		ack = ctrl_command(n, &c) ? VIRTIO_NET_OK : VIRTIO_NET_ERR;
		iov_from_buf(vq_in(&c), c.nin, 0, &ack, sizeof(ack));
		vq_push(vq, &c, sizeof(ack));
	}
	if (turn == CTRL_BUDGET) {
		net_again(n, BIT(queue));
	}
	virtio_notify(&n->dev, queue);
}

static void net_notify(struct virtio_device *dev, unsigned queue)
{
	struct net *n = to_net(dev);

	if (queue == ctrl_queue(n)) {
		if (virtio_has(dev, VIRTIO_NET_F_CTRL_VQ)) {
			net_ctrl(n, queue);
		}
	} else if (queue / 2 < n->pairs) {
		if ((queue & 1) == 0) {
			net_rx(n, queue / 2);
		} else {
			net_tx(n, queue / 2);
		}
	}
}

/* The eventfd of net_again(). */
static void net_turn(void *arg, uint32_t events)
{
	struct net *n = arg;
	uint64_t count, queues;

	(void)events;
	virtio_lock(&n->dev);
	if (read(n->again.fd, &count, sizeof(count)) < 0) {
		count = 0; /* woken for nothing; the bits say what there is to do */
	}
	queues = n->again_queues;
	n->again_queues = 0;
	if (n->config_changed) {
		n->config_changed = false;
		virtio_notify_config(&n->dev);
	}
	for (; queues != 0 && n->dev.active; queues &= queues - 1) {
		net_notify(&n->dev, (unsigned)__builtin_ctzll(queues));
	}
	virtio_unlock(&n->dev);
}

/* The back end has packets, or room for some. */
static void net_ready(void *arg, unsigned pair, bool gone)
{
	struct net *n = arg;

	virtio_lock(&n->dev);
	if (gone) {
		/* What waits for room is to be dropped now, on every pair. */
		net_link_down(n);
		for (unsigned i = 0; i < n->pairs; i++) {
			n->pair[i].tx_blocked = false;
			n->pair[i].rx_on = false;
			net_again(n, BIT(NET_TXQ(i)));
		}
	} else if (n->dev.active && pair < n->pairs) {
		struct net_pair *p = &n->pair[pair];

		if (p->tx_blocked) {
			p->tx_blocked = false;
			net_tx(n, pair);
			net_watch(n, pair);
		}
		if (p->rx_on) {
			net_rx(n, pair);
		}
	}
	virtio_unlock(&n->dev);
}

/* All that a driver may have changed. */
static void net_defaults(struct net *n)
{
	n->pairs = 1;
	n->offloads = guest_offloads(n);
	n->again_queues = 0;
	memcpy(n->config.mac, n->mac, sizeof(n->mac));
	net_filter_init(&n->filter);
	for (unsigned i = 0; i < n->backend->pairs; i++) {
		struct net_pair *p = &n->pair[i];

		p->rx_waiting = p->rx_on = p->tx_blocked = false;
		p->held_len = 0;
		net_watch(n, i);
	}
}

static int net_activate(struct virtio_device *dev)
{
	struct net *n = to_net(dev);

	net_defaults(n);
	apply(n);
	/* Requests may have been there before the device was; the loop's thread looks. */
	net_again(n, BIT(dev->nqueues) - 1);
	return 0;
}

static void net_reset(struct virtio_device *dev)
{
	net_defaults(to_net(dev));
}

static void net_state(struct virtio_device *dev, struct state *s)
{
	struct net *n = to_net(dev);
	uint16_t pairs_max = (uint16_t)n->backend->pairs;
	uint16_t status = n->config.status;

	state_begin(s, "net", 1);
	state_bytes(s, n->mac, sizeof(n->mac));
	state_bytes(s, n->config.mac, sizeof(n->config.mac));
	state_u16(s, &status);
	state_u16(s, &pairs_max);
	state_u16(s, &n->pairs);
	state_u64(s, &n->offloads);
	net_filter_state(&n->filter, s);
	state_end(s);
	if (!s->loading) {
		return;
	}
	if (pairs_max != n->backend->pairs || n->pairs < 1 || n->pairs > pairs_max ||
	    (status & ~VIRTIO_NET_S_LINK_UP) != 0 || (n->offloads & ~guest_offloads(n)) != 0) {
		state_fail(s, -EINVAL);
	}
	if (s->error != 0) {
		net_defaults(n);
		return;
	}
	/* The link is that of this host; the guest hears of it if its own was another. */
	n->config_changed = n->config_changed || status != n->config.status;
	apply(n);
	net_again(n, dev->active ? BIT(dev->nqueues) - 1 : 0);
}

static void net_destroy(struct virtio_device *dev)
{
	struct net *n = to_net(dev);

	if (n->again.fd >= 0) {
		loop_del(dev->loop, &n->again);
		close(n->again.fd);
	}
	n->backend->ops->close(n->backend);
	virtio_fini(dev);
	free(n->pair);
	free(n);
}

static const struct virtio_ops net_ops = {
	.activate = net_activate,
	.reset = net_reset,
	.notify = net_notify,
	.state = net_state,
	.destroy = net_destroy,
};

static uint64_t net_features(const struct net_backend *backend)
{
	uint64_t features = backend->features | BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_STATUS) |
			    BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_NET_F_CTRL_VQ) |
			    BIT(VIRTIO_NET_F_CTRL_RX) | BIT(VIRTIO_NET_F_CTRL_RX_EXTRA) |
			    BIT(VIRTIO_NET_F_CTRL_MAC_ADDR);

	if (backend->pairs > 1) {
		features |= BIT(VIRTIO_NET_F_MQ);
	}
	if ((features & NET_F_GUEST_OFFLOADS) != 0) {
		features |= BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);
	}
	return features;
}

/* The eventfd that net_again() writes. */
static int open_again(struct net *n, struct loop *loop)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int ret;

	n->again.fd = -1;
	if (fd < 0) {
		return -errno;
	}
	n->again = (struct loop_source){.fd = fd, .fn = net_turn, .arg = n};
	ret = loop_add(loop, &n->again, EPOLLIN);
	if (ret != 0) {
		close(fd);
		n->again.fd = -1;
	}
	return ret;
}

int net_create_on(struct virtio_device **out, struct net_backend *backend, const uint8_t mac[6],
		  struct loop *loop)
{
	struct net *n = calloc(1, sizeof(*n));
	struct net_pair *pair = calloc(backend->pairs, sizeof(*pair));
	int ret;

	if (n == NULL || pair == NULL) {
		log_error("no memory for a network device");
		backend->ops->close(backend);
		free(n);
		free(pair);
		return -ENOMEM;
	}
	n->backend = backend;
	n->pair = pair;
	n->pairs = 1;
	memcpy(n->mac, mac, sizeof(n->mac));
	memcpy(n->config.mac, mac, sizeof(n->mac));
	n->config.status = VIRTIO_NET_S_LINK_UP;
	n->config.max_virtqueue_pairs = (uint16_t)backend->pairs;
	net_filter_init(&n->filter);
	virtio_init(&n->dev, "net", VIRTIO_TYPE_NET, &net_ops, net_features(backend), n->queue,
		    2 * backend->pairs + 1, NET_QUEUE_SIZE, &n->config, CONFIG_LEN);
	n->dev.loop = loop;
	backend->ready = net_ready;
	backend->arg = n;
	ret = open_again(n, loop);
	if (ret != 0) {
		log_error("cannot make a network device: %s", strerror(-ret));
		net_destroy(&n->dev);
		return ret;
	}
	*out = &n->dev;
	return 0;
}

/* The MAC of @config, or a new one. Return: 0 or -errno, logged. */
static int choose_mac(const struct net_config *config, uint8_t mac[6])
{
	static const uint8_t zero[6];

	if (config->mac_given) {
		memcpy(mac, config->mac, 6);
		if ((mac[0] & 1) != 0 || memcmp(mac, zero, 6) == 0) {
			log_error("%02x:%02x:%02x:%02x:%02x:%02x cannot be the MAC of a network "
				  "device: the first byte must be even, and not all can be zero",
				  mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
			return -EINVAL;
		}
		return 0;
	}
	memcpy(mac, (const uint8_t[]){0x52, 0x54, 0x00}, 3);
	if (getrandom(mac + 3, 3, 0) != 3) {
		int ret = -errno;

		log_error("cannot make up a MAC: %s", strerror(-ret));
		return ret;
	}
	return 0;
}

int net_create(struct virtio_device **out, const struct net_config *config, struct loop *loop)
{
	unsigned pairs = MAX(config->queue_pairs, 1u);
	struct net_backend *backend;
	uint8_t mac[6];
	int ret = choose_mac(config, mac);

	if (ret != 0) {
		return ret;
	}
	if (pairs > NET_PAIRS_MAX) {
		log_error("a network device has at most %d queue pairs", NET_PAIRS_MAX);
		return -EINVAL;
	}
	if (config->tap != NULL) {
		ret = tap_open(&backend, config->tap, pairs, loop);
	} else if (pairs > 1) {
		log_error("passt has one queue pair only: use --net tap=NAME for %u", pairs);
		ret = -EINVAL;
	} else {
		ret = passt_open(&backend, config->passt_args, loop);
	}
	return ret != 0 ? ret : net_create_on(out, backend, mac, loop);
}
