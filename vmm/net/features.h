/*
 * Feature bits of virtio-net that Debian 12's <linux/virtio_net.h> does not have yet, and the
 * groups of them that go together.
 * Spec: VIRTIO 1.2, 5.1.3 "Feature bits"
 */
#pragma once

#include <linux/virtio_net.h>

#include "lib/base/types.h"

#ifndef VIRTIO_NET_F_HOST_USO
#define VIRTIO_NET_F_GUEST_USO4 54
#define VIRTIO_NET_F_GUEST_USO6 55
#define VIRTIO_NET_F_HOST_USO	56
#endif
#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif

#define NET_F_HOST_TSO \
	(BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6) | BIT(VIRTIO_NET_F_HOST_ECN))

#define NET_F_GUEST_TSO \
	(BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6) | BIT(VIRTIO_NET_F_GUEST_ECN))

#define NET_F_GUEST_USO (BIT(VIRTIO_NET_F_GUEST_USO4) | BIT(VIRTIO_NET_F_GUEST_USO6))

/* What a guest may turn on and off while it runs. */
#define NET_F_GUEST_OFFLOADS (BIT(VIRTIO_NET_F_GUEST_CSUM) | NET_F_GUEST_TSO | NET_F_GUEST_USO)
