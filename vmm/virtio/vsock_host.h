/*
 * The Unix sockets on the host's side of the socket device.
 */
#pragma once

#include <sys/stat.h>

#include "lib/base/types.h"

#define VSOCK_PATH_MAX 96 /* so that "_4294967295" still fits behind it */

struct vsock_listener {
	int fd;
	char path[VSOCK_PATH_MAX + 1];
	dev_t dev; /* which file it is, so that no other is unlinked */
	ino_t ino;
};

/** vsock_listen() - binds @path and listens. Return: 0, or -errno and logged. */
must_use int vsock_listen(struct vsock_listener *l, const char *path);

/** vsock_unlisten() - closes it and takes its file away. */
void vsock_unlisten(struct vsock_listener *l);

/** vsock_connect() - connects to PATH_port, without waiting. Return: the socket, or -errno. */
must_use int vsock_connect(const struct vsock_listener *l, uint32_t port);
