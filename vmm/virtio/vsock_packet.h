/*
 * The packets of a socket device, from and to its queues. All is bounded: what does not fit into
 * one turn of the event loop goes on in the next.
 * Context of all: loop thread unless said otherwise, device lock held.
 */
#pragma once

#include "vmm/virtio/vsock_device.h"

/** vsock_tx() - takes packets of the guest, and answers. */
void vsock_tx(struct vsock *v);

/** vsock_rx() - gives the guest the packets that are due, as far as it has buffers. */
void vsock_rx(struct vsock *v);

/** vsock_send_rst() - an RST with @hdr's addresses becomes due. Return: false if too many are. */
bool vsock_send_rst(struct vsock *v, uint64_t src_cid, uint32_t src_port, uint64_t dst_cid,
		    uint32_t dst_port);

/** vsock_again() - serves @queues (bits) in the loop's next turn. Context: any thread. */
void vsock_again(struct vsock *v, uint32_t queues);
