#include "vmm/virtio/net_filter.h"

#include <errno.h>
#include <linux/virtio_net.h>
#include <string.h>

#include "lib/base/bytes.h"
#include "vmm/virtio/queue.h"

#define MAC_LEN 6

void net_filter_init(struct net_filter *f)
{
	*f = (struct net_filter){.promisc = true};
}

static bool holds(const struct net_filter_table *t, const uint8_t mac[6])
{
	if (t->overflow) {
		return true;
	}
	for (uint32_t i = 0; i < t->n; i++) {
		if (memcmp(t->mac[i], mac, MAC_LEN) == 0) {
			return true;
		}
	}
	return false;
}

bool net_filter_accepts(const struct net_filter *f, const uint8_t own[6], const uint8_t dst[6])
{
	static const uint8_t broadcast[MAC_LEN] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

	if (f->promisc) {
		return true;
	}
	if (memcmp(dst, broadcast, MAC_LEN) == 0) {
		return !f->nobcast;
	}
	if ((dst[0] & 1) != 0) {
		return !f->nomulti && (f->allmulti || holds(&f->multicast, dst));
	}
	return !f->nouni &&
	       (f->alluni || memcmp(dst, own, MAC_LEN) == 0 || holds(&f->unicast, dst));
}

bool net_filter_mode(struct net_filter *f, uint8_t command, uint8_t on)
{
	bool *const mode[] = {
		[VIRTIO_NET_CTRL_RX_PROMISC] = &f->promisc,
		[VIRTIO_NET_CTRL_RX_ALLMULTI] = &f->allmulti,
		[VIRTIO_NET_CTRL_RX_ALLUNI] = &f->alluni,
		[VIRTIO_NET_CTRL_RX_NOMULTI] = &f->nomulti,
		[VIRTIO_NET_CTRL_RX_NOUNI] = &f->nouni,
		[VIRTIO_NET_CTRL_RX_NOBCAST] = &f->nobcast,
	};

	if (command >= ARRAY_SIZE(mode)) {
		return false;
	}
	*mode[command] = on != 0;
	return true;
}

/* Reads one table at @offset. Return: where it ends, or 0 if it is not complete. */
static size_t read_table(struct net_filter_table *t, const struct iovec *iov, unsigned n,
			 size_t offset)
{
	uint8_t count[4];
	uint32_t entries;
	uint8_t last;

	*t = (struct net_filter_table){0};
	if (iov_to_buf(iov, n, offset, count, sizeof(count)) != sizeof(count)) {
		return 0;
	}
	offset += sizeof(count);
	entries = load_le32(count);
	if (entries == 0) {
		return offset;
	}

	size_t end = offset + (size_t)entries * MAC_LEN;

	if (iov_to_buf(iov, n, end - 1, &last, 1) != 1) {
		return 0;
	}
	t->overflow = entries > NET_FILTER_MACS;
	t->n = t->overflow ? 0 : entries;
	iov_to_buf(iov, n, offset, t->mac, (size_t)t->n * MAC_LEN);
	return end;
}

bool net_filter_tables(struct net_filter *f, const struct iovec *iov, unsigned n, size_t offset)
{
	struct net_filter_table unicast, multicast;

	offset = read_table(&unicast, iov, n, offset);
	if (offset == 0 || read_table(&multicast, iov, n, offset) == 0) {
		return false;
	}
	f->unicast = unicast;
	f->multicast = multicast;
	return true;
}

static void table_state(struct net_filter_table *t, struct state *s)
{
	state_u32(s, &t->n);
	state_bool(s, &t->overflow);
	if (t->n > NET_FILTER_MACS || (t->overflow && t->n != 0)) {
		state_fail(s, -EINVAL);
		t->n = 0;
	}
	state_bytes(s, t->mac, (size_t)t->n * MAC_LEN);
}

void net_filter_state(struct net_filter *f, struct state *s)
{
	state_bool(s, &f->promisc);
	state_bool(s, &f->allmulti);
	state_bool(s, &f->alluni);
	state_bool(s, &f->nomulti);
	state_bool(s, &f->nouni);
	state_bool(s, &f->nobcast);
	table_state(&f->unicast, s);
	table_state(&f->multicast, s);
}
