/*
 * The socket device: stream connections between programs of the guest and of the host, which meet
 * at Unix sockets.
 *
 *	host to guest: connect to SOCKET, write "CONNECT port\n", read "OK hostport\n"; or the
 *	               connection is closed, if nobody in the guest listens
 *	guest to host: a connection to CID 2, port P, goes to the Unix socket SOCKET_P; or it is
 *	               refused, if nobody listens there
 *
 * Connections are not part of the saved state. A guest that is loaded is told that its transport
 * was reset, by which its connections end and it learns its CID anew.
 *
 * Spec: VIRTIO 1.2, 5.10 "Socket Device"
 */
#pragma once

#include "vmm/virtio/virtio.h"

/**
 * vsock_create() - a socket device that listens on the new Unix socket @socket.
 * @cid: the guest's address, 3 to 2^32 - 2.
 * A socket file there that nobody listens on is replaced; it is unlinked when the device goes.
 * Return: 0, or -errno and logged what the user can do.
 */
must_use int vsock_create(struct virtio_device **out, uint64_t cid, const char *socket,
			  struct loop *loop);
