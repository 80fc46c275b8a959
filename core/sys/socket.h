/*
 * Local stream sockets.
 */
#pragma once

#include "core/sys/file.h"
#include "core/sys/pipe.h"
#include "lib/base/types.h"

#define SOCKET_PATH_MAX 108
#define SOCKET_BACKLOG	128

enum socket_state {
	SOCKET_NEW,
	SOCKET_BOUND,
	SOCKET_LISTENING,
	SOCKET_CONNECTED,
};

struct socket {
	uint64_t inode; /* constant */

	/* Guarded by socket.c's lock. */
	enum socket_state state; /* may be read without; CONNECTED is for ever */
	struct node *node;	 /* where it is bound, held */
	struct list pending;	 /* LISTENING: who waits to be accepted */
	struct list in_pending;
	unsigned pending_count, backlog;
	char path[SOCKET_PATH_MAX], peer_path[SOCKET_PATH_MAX];
	int peer_pid;
	/* Constant once CONNECTED; their own locks. */
	struct pipe *rx, *tx;
	_Atomic bool rx_shut, tx_shut;

	struct wait_queue changed; /* state, pending */
};

void socket_init(void);

/** socket_is() / socket_of() - of a file. */
bool socket_is(const struct file *f);

/** socket_open() - a descriptor for a new socket. */
must_use int socket_open(uint32_t flags, bool close_on_exec);

/** socket_pair() - two, connected. Return: 0 or -errno. */
must_use int socket_pair(uint32_t flags, bool close_on_exec, int fds[2]);

/** socket_bind() - at a path of the tree. Return: 0; -EINVAL, -EADDRINUSE, -errno of the tree. */
must_use int socket_bind(struct socket *s, const char *path);
must_use int socket_listen(struct socket *s, int backlog);
/** socket_connect() - does not wait: -EAGAIN if too many wait already. */
must_use int socket_connect(struct socket *s, const char *path);
/** socket_accept() - Return: a descriptor, -EAGAIN, -EINVAL, -ERESTARTSYS, ... */
must_use int socket_accept(struct socket *s, bool nonblocking, uint32_t flags, bool close_on_exec,
			   char peer_path[SOCKET_PATH_MAX]);
/** socket_shutdown() - @how: bit 0: no more reading, bit 1: no more writing. */
must_use int socket_shutdown(struct socket *s, unsigned how);
