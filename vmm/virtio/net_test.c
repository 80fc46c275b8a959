#include "vmm/virtio/net.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/bytes.h"
#include "tests/capture.h"
#include "tests/device_rig.h"
#include "tests/unit.h"
#include "vmm/net/backend.h"
#include "vmm/net/features.h"

#define ALL	     (~UINT64_C(0))
#define WITHOUT(bit) (ALL & ~BIT(bit))
#define PACKETS	     256
#define PAIRS	     4
#define CTRL	     (2 * PAIRS) /* the control queue, with multi-queue */

static const uint8_t mac[6] = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};

struct packet {
	size_t len;
	uint8_t *data;
};

/* The host, as the device sees it: what it sent, and what there is to receive. */
struct fake {
	struct net_backend backend;
	struct packet sent[PACKETS], waiting[PACKETS];
	unsigned nsent, nwaiting, nreceived;
	unsigned sent_pair; /* the pair of the last one */
	unsigned room;	    /* packets it takes before it is full */
	bool gone, closed;
	bool rx[PAIRS], tx[PAIRS]; /* watched */
	uint64_t offload;
	unsigned pairs;
};

static struct fake *to_fake(struct net_backend *b)
{
	return container_of(b, struct fake, backend);
}

static int fake_send(struct net_backend *b, unsigned pair, struct iovec *iov, unsigned n,
		     size_t len)
{
	struct fake *f = to_fake(b);
	struct packet *p = &f->sent[f->nsent];

	if (f->gone) {
		return -EPIPE;
	}
	if (f->room == 0) {
		return -EAGAIN;
	}
	assert_true(f->nsent < PACKETS);
	p->data = test_malloc(len);
	p->len = len;
	assert_int_equal(iov_to_buf(iov, n, 0, p->data, len + 1), len);
	f->nsent++;
	f->sent_pair = pair;
	f->room--;
	return 0;
}

static ssize_t fake_recv(struct net_backend *b, unsigned pair, const struct iovec *iov, unsigned n)
{
	struct fake *f = to_fake(b);
	struct packet *p = &f->waiting[f->nreceived];

	(void)pair;
	if (f->gone) {
		return -EPIPE;
	}
	if (f->nreceived == f->nwaiting) {
		return -EAGAIN;
	}
	f->nreceived++;
	assert_int_equal(iov_from_buf(iov, n, 0, p->data, p->len), p->len);
	return (ssize_t)p->len;
}

static void fake_watch(struct net_backend *b, unsigned pair, bool rx, bool tx)
{
	to_fake(b)->rx[pair] = rx;
	to_fake(b)->tx[pair] = tx;
}

static void fake_set_offload(struct net_backend *b, uint64_t features)
{
	to_fake(b)->offload = features;
}

static void fake_set_pairs(struct net_backend *b, unsigned pairs)
{
	to_fake(b)->pairs = pairs;
}

static void fake_close(struct net_backend *b)
{
	to_fake(b)->closed = true;
}

static const struct net_backend_ops fake_ops = {
	.send = fake_send,
	.recv = fake_recv,
	.watch = fake_watch,
	.set_offload = fake_set_offload,
	.set_pairs = fake_set_pairs,
	.close = fake_close,
};

struct rig {
	struct device_rig r;
	struct fake fake;
};

static struct rig *rig_create(unsigned pairs, uint64_t features, bool packed)
{
	struct rig *g = test_calloc(1, sizeof(*g));
	struct virtio_device *dev;

	g->fake.backend = (struct net_backend){
		.ops = &fake_ops,
		.features = BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM) | NET_F_HOST_TSO |
			    NET_F_GUEST_TSO,
		.pairs = pairs,
	};
	g->fake.room = PACKETS;
	rig_init(&g->r);
	assert_int_equal(net_create_on(&dev, &g->fake.backend, mac, &g->r.loop), 0);
	rig_attach(&g->r, dev);
	if (features != 0) {
		rig_activate(&g->r, features, packed, 64);
		rig_turns(&g->r, 2);
	}
	return g;
}

static void rig_done(struct rig *g)
{
	rig_fini(&g->r);
	assert_true(g->fake.closed);
	for (unsigned i = 0; i < g->fake.nsent; i++) {
		test_free(g->fake.sent[i].data);
	}
	for (unsigned i = 0; i < g->fake.nwaiting; i++) {
		test_free(g->fake.waiting[i].data);
	}
	test_free(g);
}

static struct virtio_net_config *config_of(struct rig *g)
{
	return (struct virtio_net_config *)g->r.dev->config;
}

static bool needs_reset(struct rig *g)
{
	return (g->r.dev->status & VIRTIO_CONFIG_S_NEEDS_RESET) != 0;
}

static uint8_t pattern(unsigned seed, size_t i)
{
	return (uint8_t)(seed * 7 + i * 13 + i / 256);
}

/* A packet for the guest, of @len bytes with its header, waits on the host. */
static uint8_t *host_has(struct rig *g, size_t len)
{
	struct packet *p = &g->fake.waiting[g->fake.nwaiting];

	assert_true(g->fake.nwaiting < PACKETS);
	p->len = len;
	p->data = test_calloc(1, len);
	for (size_t i = NET_HDR_LEN; i < len; i++) {
		p->data[i] = pattern(g->fake.nwaiting, i);
	}
	memcpy(p->data + NET_HDR_LEN, mac, len >= NET_HDR_LEN + sizeof(mac) ? sizeof(mac) : 0);
	g->fake.nwaiting++;
	return p->data;
}

static void host_ready(struct rig *g, unsigned pair, bool gone)
{
	g->fake.gone = g->fake.gone || gone;
	g->fake.backend.ready(g->fake.backend.arg, pair, gone);
}

/* The driver sends @len bytes, header included, that lie at @at. */
static void guest_sends(struct rig *g, unsigned queue, uint64_t at, uint32_t len)
{
	struct driver_buf buf[3] = {
		{RIG_DATA + at, MIN(len, 12u), false},
		{RIG_DATA + at + 12, len > 20 ? 8 : 0, false},
		{RIG_DATA + at + 20, len > 20 ? len - 20 : 0, false},
	};

	driver_add(&g->r.q[queue], buf, len > 20 ? 3 : 1, false);
}

static void guest_gives_buffer(struct rig *g, unsigned queue, uint64_t at, uint32_t len)
{
	struct driver_buf buf[2] = {{RIG_DATA + at, 12, true},
				    {RIG_DATA + at + 12, len - 12, true}};

	driver_add(&g->r.q[queue], buf, 2, false);
}

static void assert_used(struct rig *g, unsigned queue, uint32_t want)
{
	uint16_t id;
	uint32_t written;

	assert_true(driver_take(&g->r.q[queue], &id, &written));
	assert_int_equal(written, want);
}

static void assert_none_used(struct rig *g, unsigned queue)
{
	uint16_t id;
	uint32_t written;

	assert_false(driver_take(&g->r.q[queue], &id, &written));
}

static void offers(void **unused)
{
	struct rig *g = rig_create(1, 0, false);
	struct rig *many = rig_create(PAIRS, 0, false);
	uint64_t want = BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_STATUS) |
			BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_NET_F_CTRL_VQ) |
			BIT(VIRTIO_NET_F_CTRL_RX) | BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) |
			BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) | g->fake.backend.features;

	(void)unused;
	assert_true((g->r.dev->features & want) == want);
	assert_false((g->r.dev->features & BIT(VIRTIO_NET_F_MQ)) != 0);
	assert_int_equal(g->r.dev->nqueues, 3);
	assert_memory_equal(config_of(g)->mac, mac, sizeof(mac));
	assert_int_equal(config_of(g)->status, VIRTIO_NET_S_LINK_UP);
	assert_true((many->r.dev->features & BIT(VIRTIO_NET_F_MQ)) != 0);
	assert_int_equal(many->r.dev->nqueues, 2 * PAIRS + 1);
	assert_int_equal(config_of(many)->max_virtqueue_pairs, PAIRS);
	rig_done(many);
	rig_done(g);
}

static void sends(void **unused)
{
	static const uint32_t lens[] = {26, 60, 1526, 65562};

	(void)unused;
	for (unsigned packed = 0; packed < 2; packed++) {
		struct rig *g = rig_create(1, ALL, packed != 0);

		for (unsigned i = 0; i < ARRAY_SIZE(lens); i++) {
			for (size_t k = 0; k < lens[i]; k++) {
				*rig_data(&g->r, i * 66000 + k) = pattern(i, k);
			}
			guest_sends(g, 1, i * 66000, lens[i]);
		}
		assert_true(rig_ring(&g->r, 1));
		assert_int_equal(g->fake.nsent, ARRAY_SIZE(lens));
		assert_int_equal(g->r.interrupts[1], 1); /* one for all of them */
		for (unsigned i = 0; i < ARRAY_SIZE(lens); i++) {
			assert_used(g, 1, 0);
			assert_int_equal(g->fake.sent[i].len, lens[i]);
			for (size_t k = 0; k < lens[i]; k++) {
				assert_int_equal(g->fake.sent[i].data[k], pattern(i, k));
			}
		}
		assert_none_used(g, 1);
		rig_done(g);
	}
}

/* Frames that no wire carries are dropped; without a header it is no request at all. */
static void sends_odd_sizes(void **unused)
{
	struct rig *g = rig_create(1, ALL, false);

	(void)unused;
	guest_sends(g, 1, 0, 12);
	guest_sends(g, 1, 0, 25);
	guest_sends(g, 1, 0, NET_HDR_LEN + NET_FRAME_MAX + 1);
	guest_sends(g, 1, 0, 400000);
	assert_true(rig_ring(&g->r, 1));
	assert_int_equal(g->fake.nsent, 0);
	for (unsigned i = 0; i < 4; i++) {
		assert_used(g, 1, 0);
	}
	guest_sends(g, 1, 0, 11);
	rig_ring(&g->r, 1);
	assert_none_used(g, 1);
	assert_true(needs_reset(g));
	/* It does nothing more, and works again after a reset. */
	host_has(g, 100);
	host_ready(g, 0, false);
	rig_reset(&g->r);
	assert_false(g->fake.rx[0]);
	rig_activate(&g->r, ALL, false, 16);
	guest_sends(g, 1, 0, 100);
	assert_true(rig_ring(&g->r, 1));
	assert_int_equal(g->fake.nsent, 1);
	rig_done(g);
}

/* More than one turn of the loop does: it goes on by itself. */
static void sends_in_turns(void **unused)
{
	struct rig *g = rig_create(1, ALL, false);

	(void)unused;
	for (unsigned i = 0; i < 64; i++) {
		struct driver_buf buf = {RIG_DATA, 100, false};

		driver_add(&g->r.q[1], &buf, 1, false);
	}
	assert_true(rig_ring(&g->r, 1));
	assert_int_equal(g->fake.nsent, 64);
	guest_sends(g, 1, 0, 100);
	assert_false(driver_must_ring(&g->r.q[1])); /* it is not asked for, and seen anyway */
	rig_turns(&g->r, 2);
	assert_int_equal(g->fake.nsent, 65);
	guest_sends(g, 1, 0, 100);
	assert_true(rig_ring(&g->r, 1));
	assert_int_equal(g->fake.nsent, 66);
	rig_done(g);
}

static void host_full(void **unused)
{
	struct rig *g = rig_create(1, ALL, false);

	(void)unused;
	g->fake.room = 3;
	for (unsigned i = 0; i < 8; i++) {
		guest_sends(g, 1, i * 200, 100 + i);
	}
	assert_true(rig_ring(&g->r, 1));
	assert_int_equal(g->fake.nsent, 3);
	assert_true(g->fake.tx[0]);
	for (unsigned i = 0; i < 3; i++) {
		assert_used(g, 1, 0);
	}
	assert_none_used(g, 1);
	/* Further doorbells do not make it try. */
	g->fake.room = 5;
	virtio_lock(g->r.dev);
	g->r.dev->ops->notify(g->r.dev, 1);
	virtio_unlock(g->r.dev);
	assert_int_equal(g->fake.nsent, 3);
	host_ready(g, 0, false);
	assert_int_equal(g->fake.nsent, 8);
	assert_false(g->fake.tx[0]);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(g->fake.sent[i].len, 100 + i);
	}
	rig_done(g);
}

static void receives(void **unused)
{
	(void)unused;
	for (unsigned packed = 0; packed < 2; packed++) {
		struct rig *g = rig_create(1, ALL, packed != 0);
		uint8_t *a = host_has(g, 112);
		uint8_t *b;

		a[0] = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		/* Nobody looks for packets while there are no buffers. */
		assert_false(g->fake.rx[0]);
		for (unsigned i = 0; i < 4; i++) {
			guest_gives_buffer(g, 0, i * 2000, 1526);
		}
		assert_true(rig_ring(&g->r, 0));
		assert_used(g, 0, 112);
		store_le16(a + 10, 1); /* num_buffers */
		assert_memory_equal(rig_data(&g->r, 0), a, 112);
		assert_int_equal(g->r.interrupts[0], 1);
		assert_true(g->fake.rx[0]);

		b = host_has(g, 1526);
		host_has(g, 26);
		host_ready(g, 0, false);
		assert_used(g, 0, 1526);
		assert_used(g, 0, 26);
		assert_none_used(g, 0);
		store_le16(b + 10, 1);
		assert_memory_equal(rig_data(&g->r, 2000), b, 1526);
		assert_int_equal(g->r.interrupts[0], 2);
		rig_done(g);
	}
}

/* Packets wait on the host while the guest has no buffers, and nobody spins over them. */
static void starves(void **unused)
{
	struct rig *g = rig_create(1, ALL, false);

	(void)unused;
	guest_gives_buffer(g, 0, 0, 1526);
	rig_ring(&g->r, 0);
	for (unsigned i = 0; i < 5; i++) {
		host_has(g, 100 + i);
	}
	host_ready(g, 0, false);
	assert_used(g, 0, 100);
	assert_false(g->fake.rx[0]);
	assert_int_equal(g->fake.nreceived, 1);
	for (unsigned i = 1; i < 5; i++) {
		guest_gives_buffer(g, 0, 0, 1526);
		assert_true(rig_ring(&g->r, 0));
		assert_used(g, 0, 100 + i);
	}
	guest_gives_buffer(g, 0, 0, 1526);
	assert_true(rig_ring(&g->r, 0));
	assert_true(g->fake.rx[0]);
	rig_done(g);
}

/* Gathers a packet that was spread over buffers of 1500 bytes, 1536 apart. */
static void gather(struct rig *g, uint8_t *out, size_t len, unsigned first)
{
	for (size_t done = 0; done < len; done += 1500, first++) {
		memcpy(out + done, rig_data(&g->r, (uint64_t)(first % 64) * 1536),
		       MIN(len - done, 1500u));
	}
}

static void merges(void **unused)
{
	static uint8_t got[66000];

	(void)unused;
	for (unsigned packed = 0; packed < 2; packed++) {
		struct rig *g = rig_create(1, ALL, packed != 0);
		unsigned first = 0;

		for (unsigned lap = 0; lap < 4; lap++) {
			size_t len = 20000u + 2771u * lap;
			unsigned n = (unsigned)((len + 1499) / 1500);
			uint8_t *want = host_has(g, len);

			/* Too few buffers at first: nothing of it is to be seen. */
			for (unsigned i = 0; i < n - 1; i++) {
				guest_gives_buffer(g, 0, (first + i) % 64 * 1536, 1500);
			}
			rig_ring(&g->r, 0);
			host_ready(g, 0, false);
			assert_none_used(g, 0);
			guest_gives_buffer(g, 0, (first + n - 1) % 64 * 1536, 1500);
			assert_true(rig_ring(&g->r, 0));
			for (unsigned i = 0; i < n; i++) {
				assert_used(g, 0,
					    i + 1 < n ? 1500 : (uint32_t)(len - 1500u * (n - 1)));
			}
			assert_none_used(g, 0);
			store_le16(want + 10, (uint16_t)n);
			gather(g, got, len, first);
			assert_memory_equal(got, want, len);
			first += n;
		}
		rig_done(g);
	}
}

/* The largest packet, over buffers of one descriptor each. */
static void merges_most(void **unused)
{
	static uint8_t got[66000];
	struct rig *g = rig_create(1, ALL, false);
	size_t len = NET_HDR_LEN + NET_FRAME_MAX;
	uint8_t *want = host_has(g, len);

	(void)unused;
	for (unsigned i = 0; i < 64; i++) {
		struct driver_buf buf = {RIG_DATA + i * 1536, 1500, true};

		driver_add(&g->r.q[0], &buf, 1, false);
	}
	rig_ring(&g->r, 0);
	store_le16(want + 10, 44);
	gather(g, got, len, 0);
	assert_memory_equal(got, want, len);
	rig_done(g);
}

/* Without merging a packet that is larger than the buffer is lost, and the next one is not. */
static void too_large(void **unused)
{
	struct rig *g = rig_create(1, WITHOUT(VIRTIO_NET_F_MRG_RXBUF), false);

	(void)unused;
	guest_gives_buffer(g, 0, 0, 1526);
	guest_gives_buffer(g, 0, 2000, 1526);
	host_has(g, 1527);
	host_has(g, 100);
	rig_ring(&g->r, 0);
	assert_used(g, 0, 100);
	assert_none_used(g, 0);
	assert_int_equal(load_le16(rig_data(&g->r, 10)), 1);
	rig_done(g);

	g = rig_create(1, ALL, false);
	struct driver_buf tiny = {RIG_DATA, 11, true};

	driver_add(&g->r.q[0], &tiny, 1, false);
	host_has(g, 100);
	rig_ring(&g->r, 0);
	assert_none_used(g, 0);
	assert_true(needs_reset(g));
	rig_done(g);
}

/* A control command; @data follows the class and the command. Return: the ack, or -1. */
static int command(struct rig *g, unsigned queue, uint8_t class, uint8_t cmd, const void *data,
		   uint32_t len)
{
	uint64_t at = 400000;
	struct driver_buf buf[3] = {{RIG_DATA + at, 2, false},
				    {RIG_DATA + at + 2, len, false},
				    {RIG_DATA + at + 8000, 1, true}};
	uint16_t id;
	uint32_t written;

	*rig_data(&g->r, at) = class;
	*rig_data(&g->r, at + 1) = cmd;
	*rig_data(&g->r, at + 8000) = 0xee;
	memcpy(rig_data(&g->r, at + 2), data, len);
	if (len == 0) {
		buf[1] = buf[2];
	}
	driver_add(&g->r.q[queue], buf, len == 0 ? 2 : 3, false);
	rig_ring(&g->r, queue);
	if (!driver_take(&g->r.q[queue], &id, &written)) {
		return -1;
	}
	assert_int_equal(written, 1);
	return *rig_data(&g->r, at + 8000);
}

static int mode(struct rig *g, uint8_t cmd, uint8_t on)
{
	return command(g, 2, VIRTIO_NET_CTRL_RX, cmd, &on, 1);
}

/* Does a frame to @dst reach the guest? */
static bool arrives(struct rig *g, const uint8_t dst[6])
{
	uint16_t id;
	uint32_t written;

	memcpy(host_has(g, 100) + NET_HDR_LEN, dst, 6);
	host_ready(g, 0, false);
	if (!driver_take(&g->r.q[0], &id, &written)) {
		return false;
	}
	guest_gives_buffer(g, 0, 0, 1526);
	return true;
}

static void filters(void **unused)
{
	static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	static const uint8_t other[6] = {0x52, 0, 0, 0, 0, 2};
	static const uint8_t group[6] = {0x33, 0x33, 0, 0, 0, 1};
	uint8_t tables[20] = {0};
	uint8_t many[4 + 65 * 6 + 4] = {65};
	struct rig *g = rig_create(1, WITHOUT(VIRTIO_NET_F_MQ), false);

	(void)unused;
	guest_gives_buffer(g, 0, 0, 1526);
	guest_gives_buffer(g, 0, 0, 1526);
	rig_ring(&g->r, 0);
	assert_true(arrives(g, other)); /* from the start all do */
	assert_int_equal(mode(g, VIRTIO_NET_CTRL_RX_PROMISC, 0), VIRTIO_NET_OK);
	assert_true(arrives(g, mac));
	assert_true(arrives(g, broadcast));
	assert_false(arrives(g, other));
	assert_false(arrives(g, group));

	tables[0] = 1;
	memcpy(tables + 4, other, 6);
	tables[10] = 1;
	memcpy(tables + 14, group, 6);
	assert_int_equal(command(g, 2, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, tables,
				 sizeof(tables)),
			 VIRTIO_NET_OK);
	assert_true(arrives(g, other));
	assert_true(arrives(g, group));
	assert_int_equal(mode(g, VIRTIO_NET_CTRL_RX_NOMULTI, 1), VIRTIO_NET_OK);
	assert_false(arrives(g, group));
	assert_int_equal(mode(g, VIRTIO_NET_CTRL_RX_NOUNI, 1), VIRTIO_NET_OK);
	assert_false(arrives(g, other));
	assert_int_equal(mode(g, VIRTIO_NET_CTRL_RX_NOBCAST, 1), VIRTIO_NET_OK);
	assert_false(arrives(g, broadcast));
	assert_int_equal(mode(g, VIRTIO_NET_CTRL_RX_NOUNI, 0), VIRTIO_NET_OK);

	/* A table that is cut off, or lies about its length, changes nothing. */
	for (uint32_t len = 0; len < sizeof(tables); len++) {
		assert_int_equal(command(g, 2, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET,
					 tables, len),
				 VIRTIO_NET_ERR);
	}
	store_le32(tables, 0xffffffff);
	assert_int_equal(command(g, 2, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, tables,
				 sizeof(tables)),
			 VIRTIO_NET_ERR);
	assert_true(arrives(g, other));
	/* More than the table holds: all pass. */
	assert_int_equal(command(g, 2, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, many,
				 sizeof(many)),
			 VIRTIO_NET_OK);
	assert_true(arrives(g, (const uint8_t[]){0x52, 9, 9, 9, 9, 9}));
	assert_int_equal(mode(g, VIRTIO_NET_CTRL_RX_NOBCAST + 1, 1), VIRTIO_NET_ERR);
	rig_done(g);
}

static void sets_mac(void **unused)
{
	static const uint8_t new_mac[6] = {2, 3, 4, 5, 6, 7};
	struct rig *g = rig_create(1, ALL, false);

	(void)unused;
	assert_int_equal(
		command(g, 2, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, new_mac, 5),
		VIRTIO_NET_ERR);
	assert_memory_equal(config_of(g)->mac, mac, 6);
	assert_int_equal(
		command(g, 2, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, new_mac, 6),
		VIRTIO_NET_OK);
	assert_memory_equal(config_of(g)->mac, new_mac, 6);
	rig_reset(&g->r);
	assert_memory_equal(config_of(g)->mac, mac, 6);
	rig_done(g);
}

static int pairs_set(struct rig *g, uint16_t pairs)
{
	return command(g, CTRL, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &pairs, 2);
}

static void uses_pairs(void **unused)
{
	struct rig *g = rig_create(PAIRS, ALL, false);

	(void)unused;
	assert_int_equal(g->fake.pairs, 1);
	guest_sends(g, 7, 0, 100); /* pair 3, not in use yet */
	rig_ring(&g->r, 7);
	assert_int_equal(g->fake.nsent, 0);
	assert_int_equal(pairs_set(g, 0), VIRTIO_NET_ERR);
	assert_int_equal(pairs_set(g, PAIRS + 1), VIRTIO_NET_ERR);
	assert_int_equal(g->fake.pairs, 1);
	assert_int_equal(pairs_set(g, PAIRS), VIRTIO_NET_OK);
	assert_int_equal(g->fake.pairs, PAIRS);
	rig_turns(&g->r, 2);
	assert_int_equal(g->fake.nsent, 1);
	assert_int_equal(g->fake.sent_pair, 3);
	guest_gives_buffer(g, 6, 0, 1526);
	rig_ring(&g->r, 6);
	assert_true(g->fake.rx[3]);
	host_has(g, 100);
	host_ready(g, 3, false);
	assert_used(g, 6, 100);
	guest_gives_buffer(g, 6, 0, 1526);
	rig_ring(&g->r, 6);
	assert_int_equal(pairs_set(g, 2), VIRTIO_NET_OK);
	assert_false(g->fake.rx[3]);
	host_has(g, 100);
	host_ready(g, 3, false); /* reported before, and late */
	assert_none_used(g, 6);
	rig_reset(&g->r);
	rig_done(g);

	/* A driver without multi-queue finds the control queue at index 2. */
	g = rig_create(PAIRS, WITHOUT(VIRTIO_NET_F_MQ), false);
	assert_int_equal(mode(g, VIRTIO_NET_CTRL_RX_PROMISC, 1), VIRTIO_NET_OK);
	assert_int_equal(command(g, 2, VIRTIO_NET_CTRL_MQ, 0, "\2", 2), VIRTIO_NET_ERR);
	assert_int_equal(pairs_set(g, 2), -1);
	rig_done(g);
}

static int offloads_set(struct rig *g, uint64_t offloads)
{
	return command(g, 2, VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET,
		       &offloads, 8);
}

static void sets_offloads(void **unused)
{
	uint64_t csum = BIT(VIRTIO_NET_F_GUEST_CSUM);
	struct rig *g = rig_create(1,
				   csum | BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_CTRL_VQ) |
					   BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS),
				   false);

	(void)unused;
	assert_int_equal(g->fake.offload, csum | BIT(VIRTIO_NET_F_GUEST_TSO4));
	assert_int_equal(offloads_set(g, csum), VIRTIO_NET_OK);
	assert_int_equal(g->fake.offload, csum);
	assert_int_equal(offloads_set(g, csum | BIT(VIRTIO_NET_F_GUEST_TSO6)), VIRTIO_NET_ERR);
	assert_int_equal(offloads_set(g, 1), VIRTIO_NET_ERR);
	assert_int_equal(command(g, 2, VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0, "1234567", 7),
			 VIRTIO_NET_ERR);
	assert_int_equal(g->fake.offload, csum);
	assert_int_equal(offloads_set(g, 0), VIRTIO_NET_OK);
	assert_int_equal(g->fake.offload, 0);
	rig_done(g);
}

/* Commands that there are not, or that were not negotiated. */
static void refuses_commands(void **unused)
{
	struct rig *g = rig_create(1, BIT(VIRTIO_NET_F_CTRL_VQ), false);

	(void)unused;
	for (unsigned class = 0; class < 9; class ++) {
		for (unsigned cmd = 0; cmd < 9; cmd++) {
			int want =
				class == VIRTIO_NET_CTRL_MAC && cmd == VIRTIO_NET_CTRL_MAC_TABLE_SET
					? VIRTIO_NET_OK
					: VIRTIO_NET_ERR;

			assert_int_equal(
				command(g, 2, (uint8_t) class, (uint8_t)cmd, "\0\0\0\0\0\0\0", 8),
				want);
		}
	}
	assert_int_equal(command(g, 2, VIRTIO_NET_CTRL_RX, 0, "", 0), VIRTIO_NET_ERR);

	/* A request without room for the answer. */
	struct driver_buf buf = {RIG_DATA, 2, false};

	driver_add(&g->r.q[2], &buf, 1, false);
	rig_ring(&g->r, 2);
	assert_true(needs_reset(g));
	rig_done(g);
}

static void link_goes_down(void **unused)
{
	struct rig *g = rig_create(1, ALL, false);

	(void)unused;
	g->fake.room = 0;
	guest_sends(g, 1, 0, 100);
	rig_ring(&g->r, 1);
	assert_none_used(g, 1);
	host_ready(g, 0, true);
	assert_int_equal(config_of(g)->status, 0);
	assert_int_equal(g->r.config_interrupts, 1);
	rig_turns(&g->r, 2);
	assert_used(g, 1, 0); /* lost, and not kept for ever */
	guest_sends(g, 1, 0, 100);
	rig_ring(&g->r, 1);
	assert_used(g, 1, 0);
	guest_gives_buffer(g, 0, 0, 1526);
	rig_ring(&g->r, 0);
	assert_none_used(g, 0);
	assert_int_equal(g->r.config_interrupts, 1);
	assert_false(needs_reset(g));
	rig_done(g);

	/* Noticed while sending. */
	g = rig_create(1, ALL, false);
	g->fake.gone = true;
	guest_sends(g, 1, 0, 100);
	rig_ring(&g->r, 1);
	assert_used(g, 1, 0);
	assert_int_equal(config_of(g)->status, 0);
	assert_int_equal(g->r.config_interrupts, 1);
	rig_done(g);
}

static void saves_and_loads(void **unused)
{
	static const uint8_t other[6] = {0x52, 0, 0, 0, 0, 2};
	static const uint8_t new_mac[6] = {2, 3, 4, 5, 6, 7};
	uint8_t tables[14] = {1, 0, 0, 0};
	uint8_t buf[2048], again[2048];
	struct rig *g = rig_create(PAIRS, ALL, false);
	size_t len;

	(void)unused;
	memcpy(tables + 4, other, 6);
	assert_int_equal(pairs_set(g, 3), VIRTIO_NET_OK);
	assert_int_equal(command(g, CTRL, VIRTIO_NET_CTRL_RX, 0, "", 1), VIRTIO_NET_OK);
	assert_int_equal(command(g, CTRL, VIRTIO_NET_CTRL_MAC, 0, tables, 14), VIRTIO_NET_OK);
	assert_int_equal(command(g, CTRL, VIRTIO_NET_CTRL_MAC, 1, new_mac, 6), VIRTIO_NET_OK);
	assert_int_equal(command(g, CTRL, VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0, "\2\0\0\0\0\0\0", 8),
			 VIRTIO_NET_OK);
	len = rig_save(&g->r, buf, sizeof(buf));
	rig_done(g);

	g = rig_create(PAIRS, ALL, false);
	assert_int_equal(rig_load(&g->r, buf, len), 0);
	assert_int_equal(g->fake.pairs, 3);
	assert_int_equal(g->fake.offload, BIT(VIRTIO_NET_F_GUEST_CSUM));
	assert_memory_equal(config_of(g)->mac, new_mac, 6);
	assert_int_equal(rig_save(&g->r, again, sizeof(again)), len);
	assert_memory_equal(again, buf, len);
	guest_gives_buffer(g, 0, 0, 1526);
	rig_turns(&g->r, 2); /* looks at the queues by itself */
	assert_true(g->fake.rx[0]);
	assert_true(arrives(g, other));
	guest_gives_buffer(g, 0, 0, 1526);
	rig_ring(&g->r, 0);
	assert_false(arrives(g, mac));

	/* The link is the one of this host. */
	rig_turns(&g->r, 2);
	assert_int_equal(g->r.config_interrupts, 0);
	buf[24 + 12] = 0;
	assert_int_equal(rig_load(&g->r, buf, len), 0);
	rig_turns(&g->r, 2);
	assert_int_equal(g->r.config_interrupts, 1);
	assert_int_equal(config_of(g)->status, VIRTIO_NET_S_LINK_UP);
	for (size_t n = 0; n < len; n++) {
		assert_int_equal(rig_load(&g->r, buf, n), -EINVAL);
	}
	rig_done(g);
}

static void refuses_states(void **unused)
{
	static const struct {
		unsigned at; /* in the section's fields */
		uint8_t value;
	} wrong[] = {
		{12, 2},  /* a link status bit that there is not */
		{14, 3},  /* another number of pairs */
		{16, 0},  /* no pair in use */
		{16, 5},  /* more than there are */
		{18, 1},  /* an offload that is none of the guest's */
		{26, 2},  /* a boolean that is none */
		{32, 65}, /* more addresses than the table holds */
		{36, 2},  /* another boolean */
	};
	uint8_t buf[2048], bad[2048];
	struct rig *g = rig_create(PAIRS, ALL, false);
	size_t len = rig_save(&g->r, buf, sizeof(buf));

	(void)unused;
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		memcpy(bad, buf, len);
		bad[24 + wrong[i].at] = wrong[i].value;
		assert_int_equal(rig_load(&g->r, bad, len), -EINVAL);
	}
	assert_int_equal(rig_load(&g->r, buf, len), 0);
	rig_done(g);
}

static void refuses_configs(void **unused)
{
	struct net_config config = {.tap = "a-name-that-is-too-long", .queue_pairs = 1};
	struct virtio_device *dev;
	struct capture cap;
	struct loop loop;

	(void)unused;
	assert_int_equal(loop_init(&loop), 0);
	capture_begin(&cap);
	assert_int_equal(net_create(&dev, &config, &loop), -EINVAL);
	assert_said(&cap, "cannot be the name of a network interface");

	config = (struct net_config){.mac_given = true, .mac = {1, 2, 3, 4, 5, 6}};
	capture_begin(&cap);
	assert_int_equal(net_create(&dev, &config, &loop), -EINVAL);
	assert_said(&cap, "01:02:03:04:05:06 cannot be the MAC");

	config = (struct net_config){.queue_pairs = 2};
	capture_begin(&cap);
	assert_int_equal(net_create(&dev, &config, &loop), -EINVAL);
	assert_said(&cap, "passt has one queue pair only");

	config = (struct net_config){.tap = "x", .queue_pairs = 9};
	capture_begin(&cap);
	assert_int_equal(net_create(&dev, &config, &loop), -EINVAL);
	assert_said(&cap, "at most 8 queue pairs");
	loop_fini(&loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(offers),	    cmocka_unit_test(sends),
		cmocka_unit_test(sends_odd_sizes),  cmocka_unit_test(sends_in_turns),
		cmocka_unit_test(host_full),	    cmocka_unit_test(receives),
		cmocka_unit_test(starves),	    cmocka_unit_test(merges),
		cmocka_unit_test(merges_most),	    cmocka_unit_test(too_large),
		cmocka_unit_test(filters),	    cmocka_unit_test(sets_mac),
		cmocka_unit_test(uses_pairs),	    cmocka_unit_test(sets_offloads),
		cmocka_unit_test(refuses_commands), cmocka_unit_test(link_goes_down),
		cmocka_unit_test(saves_and_loads),  cmocka_unit_test(refuses_states),
		cmocka_unit_test(refuses_configs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
