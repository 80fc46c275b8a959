/*
 * The network device: queues, control commands and state; packets go through a back end of
 * vmm/net. Offloads are those that the back end can serve.
 * Spec: VIRTIO 1.2, 5.1 "Network Device"
 */
#pragma once

#include "vmm/config.h"
#include "vmm/virtio/virtio.h"

/**
 * net_create() - a network device with its back end, which it opens or starts.
 * Without a MAC in @config it makes up a locally administered one, 52:54:00:...
 * Return: 0, or -errno and logged what the user can do.
 */
must_use int net_create(struct virtio_device **out, const struct net_config *config,
			struct loop *loop);

struct net_backend;

/**
 * net_create_on() - the same on an open back end, which now belongs to the device, also on errors.
 */
must_use int net_create_on(struct virtio_device **out, struct net_backend *backend,
			   const uint8_t mac[6], struct loop *loop);
