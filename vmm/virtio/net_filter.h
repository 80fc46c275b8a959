/*
 * Which received frames the driver wants: its MAC addresses and receive modes.
 * Spec: VIRTIO 1.2, 5.1.6.5.1 "Packet Receive Filtering", 5.1.6.5.2 "Setting MAC Address Filtering"
 */
#pragma once

#include <sys/uio.h>

#include "lib/base/state.h"
#include "lib/base/types.h"

#define NET_FILTER_MACS 64

struct net_filter_table {
	uint32_t n;
	bool overflow; /* there were more than fit: all pass */
	uint8_t mac[NET_FILTER_MACS][6];
};

struct net_filter {
	bool promisc, allmulti, alluni, nomulti, nouni, nobcast;
	struct net_filter_table unicast, multicast;
};

/** net_filter_init() - everything passes, as a driver expects that never says what it wants. */
void net_filter_init(struct net_filter *f);

/** net_filter_accepts() - does a frame to @dst pass? @own is the device's own address. */
bool net_filter_accepts(const struct net_filter *f, const uint8_t own[6], const uint8_t dst[6]);

/** net_filter_mode() - a command of class CTRL_RX. Return: false for one that there is not. */
must_use bool net_filter_mode(struct net_filter *f, uint8_t command, uint8_t on);

/**
 * net_filter_tables() - the two tables of MAC_TABLE_SET, which lie at @offset of the buffers.
 * Return: false, and nothing changed, if they are not complete.
 */
must_use bool net_filter_tables(struct net_filter *f, const struct iovec *iov, unsigned n,
				size_t offset);

/** net_filter_state() - saves or loads it; a table that is too long is refused. */
void net_filter_state(struct net_filter *f, struct state *s);
