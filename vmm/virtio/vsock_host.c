#include "vmm/virtio/vsock_host.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/log.h"
#include "vmm/unix_socket.h"

_Static_assert(VSOCK_PATH_MAX + sizeof("_4294967295") <=
		       sizeof(((struct sockaddr_un *)NULL)->sun_path),
	       "a path with a port must fit");

int vsock_listen(struct vsock_listener *l, const char *path)
{
	struct stat st;
	size_t len = strlen(path);
	int ret;

	*l = (struct vsock_listener){.fd = -1};
	if (len == 0 || len > VSOCK_PATH_MAX) {
		log_error("--vsock: the path of the socket must have 1 to %d bytes; \"%s\" has %zu",
			  VSOCK_PATH_MAX, path, len);
		return len == 0 ? -EINVAL : -ENAMETOOLONG;
	}
	memcpy(l->path, path, len);
	ret = unix_socket_listen("--vsock", path, &l->fd);
	if (ret != 0) {
		return ret;
	}
	if (lstat(path, &st) != 0) {
		ret = -errno;
		log_error("--vsock: the socket \"%s\" has gone: %s", path, strerror(-ret));
		close(l->fd);
		l->fd = -1;
		return ret;
	}
	l->dev = st.st_dev;
	l->ino = st.st_ino;
	return 0;
}

void vsock_unlisten(struct vsock_listener *l)
{
	struct stat st;

	if (l->fd < 0) {
		return;
	}
	close(l->fd);
	l->fd = -1;
	if (lstat(l->path, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino &&
	    unlink(l->path) != 0) {
		log_warn("cannot remove the vsock socket %s: %s", l->path, strerror(errno));
	}
}

int vsock_connect(const struct vsock_listener *l, uint32_t port)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0) {
		return -errno;
	}
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s_%u", l->path, port);
	if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) != 0) {
		int ret = -errno;

		close(fd);
		return ret;
	}
	return fd;
}
