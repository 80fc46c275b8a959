/*
 * A hostile driver of the network device, and a host that sends anything, for libFuzzer: the input
 * is a program of small steps that write to guest RAM, add requests, ring, let the host send, read
 * or close, reset, and load states that were tampered with. One half of the inputs has a made-up
 * back end with several queue pairs, the other the one of passt over a socket. Nothing but the
 * sanitizers and check() judges.
 */
#include <errno.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "tests/device_rig.h"
#include "tests/fuzz/input.h"
#include "vmm/net/features.h"
#include "vmm/net/passt.h"
#include "vmm/virtio/net.h"

#define PAIRS 3

/* The made-up host: packets of any length, room for any number. */
struct fake {
	struct net_backend backend;
	unsigned room, waiting;
	size_t len; /* of the packets that wait */
	bool gone;
};

static int fake_send(struct net_backend *b, unsigned pair, struct iovec *iov, unsigned n,
		     size_t len)
{
	struct fake *f = container_of(b, struct fake, backend);
	static uint8_t sink[NET_HDR_LEN + NET_FRAME_MAX];

	check(pair < PAIRS && n <= NET_SEND_IOVS);
	check(len >= NET_HDR_LEN + NET_ETH_LEN && len <= sizeof(sink));
	check(iov_to_buf(iov, n, 0, sink, sizeof(sink)) == len);
	if (f->gone) {
		return -EPIPE;
	}
	if (f->room == 0) {
		return -EAGAIN;
	}
	f->room--;
	return 0;
}

static ssize_t fake_recv(struct net_backend *b, unsigned pair, const struct iovec *iov, unsigned n)
{
	struct fake *f = container_of(b, struct fake, backend);
	static uint8_t source[NET_HDR_LEN + NET_FRAME_MAX];

	check(pair < PAIRS);
	if (f->gone) {
		return -EPIPE;
	}
	if (f->waiting == 0) {
		return -EAGAIN;
	}
	f->waiting--;
	memset(source, (int)f->len, sizeof(source));
	check(iov_from_buf(iov, n, 0, source, sizeof(source)) == sizeof(source));
	return (ssize_t)f->len;
}

static void fake_watch(struct net_backend *b, unsigned pair, bool rx, bool tx)
{
	check(pair < b->pairs);
	(void)rx;
	(void)tx;
}

static void fake_set_offload(struct net_backend *b, uint64_t features)
{
	(void)b;
	check((features & ~NET_F_GUEST_OFFLOADS) == 0);
}

static void fake_set_pairs(struct net_backend *b, unsigned pairs)
{
	check(pairs >= 1 && pairs <= b->pairs);
}

static void fake_close(struct net_backend *b)
{
	(void)b;
}

static const struct net_backend_ops fake_ops = {
	.send = fake_send,
	.recv = fake_recv,
	.watch = fake_watch,
	.set_offload = fake_set_offload,
	.set_pairs = fake_set_pairs,
	.close = fake_close,
};

struct machine {
	struct device_rig r;
	struct fake fake;
	int host; /* passt's end of the socket, or -1 */
};

static void host_step(struct machine *m, struct input *in)
{
	unsigned what = (unsigned)input_take(in, 1);
	static uint8_t buf[70000];

	if (m->host < 0) {
		m->fake.len = NET_HDR_LEN + input_take(in, 2);
		m->fake.len = MIN(m->fake.len, (size_t)(NET_HDR_LEN + NET_FRAME_MAX));
		m->fake.waiting = what & 15;
		m->fake.room = what >> 4;
		m->fake.gone = m->fake.gone || (what == 0xff && input_take(in, 1) == 0xff);
		m->fake.backend.ready(m->fake.backend.arg, what % PAIRS, m->fake.gone);
		return;
	}
	switch (what % 4) {
	case 0: { /* a frame, or what may look like one */
		uint32_t len = (uint32_t)input_take(in, 2);

		memset(buf, (int)len, sizeof(buf));
		buf[0] = buf[1] = 0;
		buf[2] = (uint8_t)(len >> 8);
		buf[3] = (uint8_t)len;
		(void)!send(m->host, buf, 4 + len, MSG_DONTWAIT | MSG_NOSIGNAL);
		break;
	}
	case 1: { /* any bytes */
		size_t len = (size_t)input_take(in, 1);

		len = MIN(len, in->size);
		(void)!send(m->host, in->data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		in->data += len;
		in->size -= len;
		break;
	}
	case 2:
		(void)!recv(m->host, buf, sizeof(buf), MSG_DONTWAIT);
		break;
	default:
		if (input_take(in, 1) == 0xff) {
			shutdown(m->host, SHUT_RDWR);
		}
	}
}

static void activate(struct machine *m, struct input *in)
{
	uint64_t features = ~input_take(in, 4);
	unsigned how = (unsigned)input_take(in, 1);

	rig_reset(&m->r);
	rig_activate(&m->r, features | BIT(32), (how & 1) != 0, how & 2 ? 64 : 8);
}

static void add_request(struct machine *m, struct input *in)
{
	struct driver_buf buf[4];
	unsigned queue = (unsigned)input_take(in, 1) % m->r.dev->nqueues;
	unsigned n = 1 + (unsigned)input_take(in, 1) % 4;

	for (unsigned i = 0; i < n; i++) {
		uint64_t v = input_take(in, 3);

		buf[i].addr = RIG_DATA + (v & 0xff) * 16;
		buf[i].len = 1 + (uint32_t)(v >> 8 & 0x7fff) % (v & 0x800000 ? 64 : 32768);
		buf[i].writable = queue % 2 == 0 && (queue + 1 < m->r.dev->nqueues || i + 1 == n);
	}
	driver_add(&m->r.q[queue], buf, n, false);
}

/* A control command that is well-formed, with up to 16 bytes of data. */
static void send_command(struct machine *m, struct input *in)
{
	uint8_t *at = rig_data(&m->r, 0x3000);
	unsigned v = (unsigned)input_take(in, 1);
	uint32_t len = 2 + (uint32_t)input_take(in, 1) % 16;
	struct driver_buf buf[2] = {{RIG_DATA + 0x3000, len, false}, {RIG_DATA + 0x3100, 1, true}};
	unsigned queue = v & 0x80 ? 2 : m->r.dev->nqueues - 1;

	at[0] = v & 7;
	at[1] = v >> 3 & 7;
	for (uint32_t i = 2; i < len; i++) {
		at[i] = (uint8_t)input_take(in, 1);
	}
	driver_add(&m->r.q[queue], buf, 2, false);
	rig_notify(&m->r, queue);
}

static void write_ram(struct machine *m, struct input *in)
{
	unsigned where = (unsigned)input_take(in, 1);
	unsigned at = (unsigned)input_take(in, 2);
	uint8_t *to = where & 0x80 ? m->r.mem.region[0].host + DRIVER_DESC + at % 0x6000
				   : rig_data(&m->r, at % 0x2000);

	input_copy(in, to, (where & 15) + 1);
}

static void tamper(struct machine *m, struct input *in)
{
	uint8_t buf[2048];
	size_t len = rig_save(&m->r, buf, sizeof(buf));
	unsigned n = (unsigned)input_take(in, 1) % 4;

	for (unsigned i = 0; i < n; i++) {
		size_t at = input_take(in, 1) % len;

		buf[at] = (uint8_t)input_take(in, 1);
	}
	(void)!rig_load(&m->r, buf, len);
}

static void step(struct machine *m, struct input *in)
{
	switch (input_take(in, 1) % 9) {
	case 0:
	case 1:
		add_request(m, in);
		break;
	case 2:
		rig_notify(&m->r, (unsigned)input_take(in, 1) % m->r.dev->nqueues);
		break;
	case 3:
		write_ram(m, in);
		break;
	case 4:
		host_step(m, in);
		break;
	case 5:
		rig_turns(&m->r, 1);
		break;
	case 6:
		tamper(m, in);
		break;
	case 7:
		send_command(m, in);
		break;
	default:
		activate(m, in);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t mac[6] = {0x52, 0x54, 0, 1, 2, 3};
	static struct machine m;
	struct input in = {data, size};
	struct net_backend *backend = &m.fake.backend;
	struct virtio_device *dev;
	int fds[2];

	rig_init(&m.r);
	m.host = -1;
	m.fake = (struct fake){.backend = {.ops = &fake_ops,
					   .features = BIT(VIRTIO_NET_F_CSUM) |
						       BIT(VIRTIO_NET_F_GUEST_CSUM) |
						       NET_F_HOST_TSO | NET_F_GUEST_TSO,
					   .pairs = PAIRS}};
	if (input_take(&in, 1) % 2 == 1) {
		check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
		m.host = fds[0];
		check(passt_attach(&backend, fds[1], &m.r.loop) == 0);
	}
	check(net_create_on(&dev, backend, mac, &m.r.loop) == 0);
	rig_attach(&m.r, dev);
	activate(&m, &in);
	for (unsigned i = 0; i < 200 && in.size > 0; i++) {
		step(&m, &in);
	}
	rig_fini(&m.r);
	if (m.host >= 0) {
		close(m.host);
	}
	return 0;
}
