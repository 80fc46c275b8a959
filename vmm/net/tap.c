#include "vmm/net/tap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/lock.h"
#include "vmm/log.h"
#include "vmm/net/features.h"

/* Since Linux 6.2; Debian 12's headers are older than kernels that have it. */
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

struct tap;

struct tap_queue {
	struct tap *tap;
	unsigned pair;
	struct loop_source source;
	bool attached; /* it takes part; the owner's lock guards it */
	/* guarded by the tap's lock: */
	bool on_loop;
	uint32_t events; /* what is watched for */
};

struct tap {
	struct net_backend backend;
	struct loop *loop; /* constant after open, as the name */
	char name[IFNAMSIZ];
	bool gone; /* the loop's thread only */
	struct tap_queue queue[NET_PAIRS_MAX];
	struct lock lock; /* see struct tap_queue */
};

static struct tap *to_tap(struct net_backend *b)
{
	return container_of(b, struct tap, backend);
}

/* The interface was deleted under us. */
static void tap_gone(struct tap *t)
{
	if (!t->gone) {
		t->gone = true;
		log_warn("the network interface %s has gone; the guest's link is down", t->name);
	}
}

static int tap_send(struct net_backend *b, unsigned pair, struct iovec *iov, unsigned n, size_t len)
{
	struct tap *t = to_tap(b);

	(void)len;
	if (t->gone) {
		return -EPIPE;
	}
	for (;;) {
		if (writev(t->queue[pair].source.fd, iov, (int)n) >= 0) {
			return 0;
		}
		switch (errno) {
		case EINTR:
			continue;
		case EAGAIN:
			return -EAGAIN;
		case EBADFD:
			tap_gone(t);
			return -EPIPE;
		default:
			/* An interface that is down, or a header the kernel refuses: lost. */
			return 0;
		}
	}
}

static ssize_t tap_recv(struct net_backend *b, unsigned pair, const struct iovec *iov, unsigned n)
{
	struct tap *t = to_tap(b);

	if (t->gone) {
		return -EPIPE;
	}
	for (;;) {
		ssize_t len = readv(t->queue[pair].source.fd, iov, (int)n);

		if (len >= 0) {
			return len;
		}
		if (errno == EBADFD) {
			tap_gone(t);
			return -EPIPE;
		}
		if (errno != EINTR) {
			return -EAGAIN;
		}
	}
}

/* Takes every queue off the loop; what an epoll reports of a dead one cannot be masked. */
static void leave_loop(struct tap *t)
{
	for (unsigned i = 0; i < t->backend.pairs; i++) {
		struct tap_queue *q = &t->queue[i];
		bool was_on;

		lock_take(&t->lock);
		was_on = q->on_loop;
		q->on_loop = false;
		lock_give(&t->lock);
		if (was_on) {
			loop_del(t->loop, &q->source);
		}
	}
}

static void tap_ready(void *arg, uint32_t events)
{
	struct tap_queue *q = arg;
	struct tap *t = q->tap;
	bool dead = (events & (EPOLLERR | EPOLLHUP)) != 0;

	if (dead) {
		leave_loop(t);
		tap_gone(t);
	}
	t->backend.ready(t->backend.arg, q->pair, dead);
}

static void tap_watch(struct net_backend *b, unsigned pair, bool rx, bool tx)
{
	struct tap *t = to_tap(b);
	struct tap_queue *q = &t->queue[pair];
	uint32_t events = (rx ? EPOLLIN : 0u) | (tx ? EPOLLOUT : 0u);

	lock_take(&t->lock);
	if (q->on_loop && q->events != events) {
		q->events = events;
		loop_mod(t->loop, &q->source, events);
	}
	lock_give(&t->lock);
}

static unsigned tun_flags(uint64_t features)
{
	static const struct {
		unsigned bit;
		unsigned flag;
	} map[] = {
		{VIRTIO_NET_F_GUEST_CSUM, TUN_F_CSUM}, {VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4},
		{VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6}, {VIRTIO_NET_F_GUEST_ECN, TUN_F_TSO_ECN},
		{VIRTIO_NET_F_GUEST_USO4, TUN_F_USO4}, {VIRTIO_NET_F_GUEST_USO6, TUN_F_USO6},
	};
	unsigned flags = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(map); i++) {
		if ((features & BIT(map[i].bit)) != 0) {
			flags |= map[i].flag;
		}
	}
	/* The kernel refuses sets in which one needs another that is not there. */
	if ((flags & TUN_F_CSUM) == 0) {
		return 0;
	}
	if ((flags & (TUN_F_TSO4 | TUN_F_TSO6)) == 0) {
		flags &= ~(unsigned)TUN_F_TSO_ECN;
	}
	if ((flags & (TUN_F_USO4 | TUN_F_USO6)) != (TUN_F_USO4 | TUN_F_USO6)) {
		flags &= ~(unsigned)(TUN_F_USO4 | TUN_F_USO6);
	}
	return flags;
}

static void tap_set_offload(struct net_backend *b, uint64_t features)
{
	struct tap *t = to_tap(b);

	/* It can fail only for an interface that has gone, which the next packet tells. */
	if (ioctl(t->queue[0].source.fd, TUNSETOFFLOAD, (unsigned long)tun_flags(features)) != 0 &&
	    errno != EBADFD) {
		log_warn("the network interface %s refuses the guest's offloads: %s", t->name,
			 strerror(errno));
	}
}

static void tap_set_pairs(struct net_backend *b, unsigned pairs)
{
	struct tap *t = to_tap(b);

	for (unsigned i = 1; i < b->pairs; i++) {
		struct tap_queue *q = &t->queue[i];
		struct ifreq ifr = {0};
		bool attach = i < pairs;

		if (q->attached == attach) {
			continue;
		}
		ifr.ifr_flags = attach ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE;
		if (ioctl(q->source.fd, TUNSETQUEUE, &ifr) == 0) {
			q->attached = attach;
		}
	}
}

static void tap_close(struct net_backend *b)
{
	struct tap *t = to_tap(b);

	leave_loop(t);
	for (unsigned i = 0; i < b->pairs; i++) {
		if (t->queue[i].source.fd >= 0) {
			close(t->queue[i].source.fd);
		}
	}
	lock_fini(&t->lock);
	free(t);
}

static const struct net_backend_ops tap_ops = {
	.send = tap_send,
	.recv = tap_recv,
	.watch = tap_watch,
	.set_offload = tap_set_offload,
	.set_pairs = tap_set_pairs,
	.close = tap_close,
};

/* Does the host have a network interface of this name? */
static bool interface_exists(const char *ifname)
{
	struct ifreq ifr = {0};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool found;

	if (fd < 0) {
		return true; /* let the attachment say what is wrong */
	}
	memcpy(ifr.ifr_name, ifname, strlen(ifname));
	found = ioctl(fd, SIOCGIFFLAGS, &ifr) == 0;
	close(fd);
	return found;
}

static void say_no_device(int error)
{
	switch (error) {
	case ENOENT:
	case ENODEV:
	case ENXIO:
		log_error("there is no /dev/net/tun on this host, which TAP networking needs: load "
			  "the module with 'modprobe tun', or use --net passt");
		break;
	case EACCES:
	case EPERM:
		log_error("no permission to open /dev/net/tun: run as a user who may, or use "
			  "--net passt");
		break;
	default:
		log_error("cannot open /dev/net/tun: %s", strerror(error));
	}
}

static void say_no_attach(const char *ifname, int error, unsigned pairs)
{
	switch (error) {
	case EBUSY:
		log_error("the network interface %s is in use by another program", ifname);
		break;
	case EPERM:
	case EACCES:
		log_error("no permission to use the network interface %s: create it with 'ip "
			  "tuntap add dev %s mode tap user NAME', or run as root",
			  ifname, ifname);
		break;
	case EINVAL:
		if (pairs > 1) {
			log_error("the network interface %s is no TAP interface with several "
				  "queues: create it with 'ip tuntap add dev %s mode tap "
				  "multi_queue'",
				  ifname, ifname);
		} else {
			log_error("the network interface %s is no TAP interface: create one with "
				  "'ip tuntap add dev NAME mode tap'",
				  ifname);
		}
		break;
	case E2BIG:
		log_error("the network interface %s has too many queues open already", ifname);
		break;
	default:
		log_error("cannot use the network interface %s: %s", ifname, strerror(error));
	}
}

/* Opens one queue of the interface. */
static int open_queue(struct tap *t, unsigned pair)
{
	const int hdr_len = NET_HDR_LEN;
	struct ifreq ifr = {0};
	int flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	int ret;

	if (fd < 0) {
		ret = -errno;
		say_no_device(-ret);
		return ret;
	}
	memcpy(ifr.ifr_name, t->name, sizeof(ifr.ifr_name));
	ifr.ifr_flags = (short)(t->backend.pairs > 1 ? flags | IFF_MULTI_QUEUE : flags);
	ret = ioctl(fd, TUNSETIFF, &ifr) == 0 ? 0 : -errno;
	if (ret == -EINVAL && t->backend.pairs == 1) {
		/* An interface made for several queues wants to be asked for one like this. */
		ifr.ifr_flags = (short)(flags | IFF_MULTI_QUEUE);
		ret = ioctl(fd, TUNSETIFF, &ifr) == 0 ? 0 : -errno;
	}
	if (ret == 0 && ioctl(fd, TUNSETVNETHDRSZ, &hdr_len) != 0) {
		ret = -errno;
	}
	if (ret != 0) {
		say_no_attach(t->name, -ret, t->backend.pairs);
		close(fd);
		return ret;
	}
	t->queue[pair].source.fd = fd;
	t->queue[pair].attached = true;
	return 0;
}

/*
 * Does another program have queues of the interface, too? Linux allows that of an interface made
 * for several queues, and each would see a part of the packets.
 */
static bool is_shared(const struct tap *t)
{
	char path[64];
	const struct dirent *entry;
	unsigned queues = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/class/net/%s/queues", t->name);
	dir = opendir(path);
	if (dir == NULL) {
		return false; /* no sysfs to ask */
	}
	while ((entry = readdir(dir)) != NULL) {
		queues += strncmp(entry->d_name, "tx-", 3) == 0;
	}
	closedir(dir);
	return queues > t->backend.pairs;
}

/* What the kernel can do for both sides; the guest's side is off until the guest says so. */
static uint64_t probe_features(struct tap *t)
{
	int fd = t->queue[0].source.fd;
	uint64_t features = 0;

	if (ioctl(fd, TUNSETOFFLOAD, (unsigned long)TUN_F_CSUM) == 0) {
		features |= BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM);
	}
	if (ioctl(fd, TUNSETOFFLOAD,
		  (unsigned long)(TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN)) == 0) {
		features |= NET_F_HOST_TSO | NET_F_GUEST_TSO;
	}
	if (ioctl(fd, TUNSETOFFLOAD, (unsigned long)(TUN_F_CSUM | TUN_F_USO4 | TUN_F_USO6)) == 0) {
		features |= BIT(VIRTIO_NET_F_HOST_USO) | NET_F_GUEST_USO;
	}
	tap_set_offload(&t->backend, 0);
	return features;
}

int tap_open(struct net_backend **out, const char *ifname, unsigned pairs, struct loop *loop)
{
	struct tap *t;
	int ret;

	if (ifname[0] == '\0' || strlen(ifname) >= IFNAMSIZ) {
		log_error("'%s' cannot be the name of a network interface: it has 1 to %d "
			  "characters",
			  ifname, IFNAMSIZ - 1);
		return -EINVAL;
	}
	if (!interface_exists(ifname)) {
		log_error("there is no network interface %s: create it with 'ip tuntap add dev %s "
			  "mode tap'",
			  ifname, ifname);
		return -ENODEV;
	}
	t = calloc(1, sizeof(*t));
	if (t == NULL) {
		log_error("no memory for the network interface %s", ifname);
		return -ENOMEM;
	}
	t->backend.ops = &tap_ops;
	t->backend.pairs = pairs;
	t->loop = loop;
	lock_init(&t->lock, LOCK_LEAF);
	memcpy(t->name, ifname, strlen(ifname));
	for (unsigned i = 0; i < NET_PAIRS_MAX; i++) {
		struct tap_queue *q = &t->queue[i];

		*q = (struct tap_queue){.tap = t, .pair = i};
		q->source = (struct loop_source){.fd = -1, .fn = tap_ready, .arg = q};
	}
	for (unsigned i = 0; i < pairs; i++) {
		ret = open_queue(t, i);
		if (ret != 0) {
			goto fail;
		}
		ret = loop_add(loop, &t->queue[i].source, 0);
		if (ret != 0) {
			log_error("cannot watch the network interface %s: %s", ifname,
				  strerror(-ret));
			goto fail;
		}
		t->queue[i].on_loop = true;
	}
	if (is_shared(t)) {
		ret = -EBUSY;
		say_no_attach(ifname, -ret, pairs);
		goto fail;
	}
	t->backend.features = probe_features(t);
	tap_set_pairs(&t->backend, 1);
	*out = &t->backend;
	return 0;
fail:
	tap_close(&t->backend);
	return ret;
}
