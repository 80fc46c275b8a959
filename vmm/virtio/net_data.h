/*
 * The network device's packets, from and to the queues. All is bounded: what does not fit into one
 * turn of the event loop goes on in the next.
 */
#pragma once

#include "vmm/virtio/net_device.h"

/** net_tx() - sends what the driver gave to pair @pair. Context: loop thread, device lock held. */
void net_tx(struct net *n, unsigned pair);

/** net_rx() - receives into the buffers of pair @pair. Context: the same. */
void net_rx(struct net *n, unsigned pair);

/** net_watch() - tells the back end what the pair waits for. Context: device lock held. */
void net_watch(struct net *n, unsigned pair);

/** net_again() - serves @queues (bits) in the loop's next turn. Context: device lock held. */
void net_again(struct net *n, uint64_t queues);

/** net_link_down() - the back end is gone. Context: device lock held. */
void net_link_down(struct net *n);
