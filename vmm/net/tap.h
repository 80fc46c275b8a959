/*
 * Packets to and from a TAP interface of the host.
 */
#pragma once

#include "vmm/net/backend.h"

/**
 * tap_open() - attaches to the TAP interface @ifname, which must be there.
 * @pairs: 1 to NET_PAIRS_MAX; more than 1 needs an interface made with multi_queue.
 * Return: 0, or -errno and logged what the user can do.
 */
must_use int tap_open(struct net_backend **out, const char *ifname, unsigned pairs,
		      struct loop *loop);
