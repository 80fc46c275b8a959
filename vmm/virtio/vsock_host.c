#include "vmm/virtio/vsock_host.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/log.h"

#define BACKLOG 64

_Static_assert(VSOCK_PATH_MAX + sizeof("_4294967295") <=
		       sizeof(((struct sockaddr_un *)NULL)->sun_path),
	       "a path with a port must fit");

static int new_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd >= 0 ? fd : -errno;
}

static int connect_to(const struct sockaddr_un *addr)
{
	int fd = new_socket();
	int ret;

	if (fd < 0) {
		return fd;
	}
	if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) != 0) {
		ret = -errno;
		close(fd);
		return ret;
	}
	return fd;
}

/*
 * There is a file in the way. One that was left behind by a program that has ended is removed.
 * Return: 0 to try again, or -errno and logged.
 */
static int clear_stale(const struct sockaddr_un *addr)
{
	struct stat st;
	int fd;

	if (lstat(addr->sun_path, &st) != 0) {
		return errno == ENOENT ? 0 : -errno;
	}
	if (!S_ISSOCK(st.st_mode)) {
		log_error("the vsock socket %s exists and is no socket: choose another path",
			  addr->sun_path);
		return -EEXIST;
	}
	fd = connect_to(addr);
	if (fd != -ECONNREFUSED) {
		if (fd >= 0) {
			close(fd);
		}
		log_error("the vsock socket %s is in use by another program, perhaps another VM: "
			  "choose another path",
			  addr->sun_path);
		return -EADDRINUSE;
	}
	if (unlink(addr->sun_path) != 0 && errno != ENOENT) {
		int ret = -errno;

		log_error("cannot remove the old vsock socket %s: %s", addr->sun_path,
			  strerror(-ret));
		return ret;
	}
	return 0;
}

static int bind_and_listen(struct vsock_listener *l, const struct sockaddr_un *addr)
{
	struct stat st = {0};
	int ret = 0;

	if (bind(l->fd, (const struct sockaddr *)addr, sizeof(*addr)) != 0) {
		ret = -errno;
		if (ret == -EADDRINUSE) {
			ret = clear_stale(addr);
			if (ret != 0) {
				return ret;
			}
			if (bind(l->fd, (const struct sockaddr *)addr, sizeof(*addr)) != 0) {
				ret = -errno;
			}
		}
	}
	if (ret == 0 && (listen(l->fd, BACKLOG) != 0 || lstat(addr->sun_path, &st) != 0)) {
		ret = -errno;
		unlink(addr->sun_path);
	}
	if (ret != 0) {
		log_error("cannot make the vsock socket %s: %s", addr->sun_path, strerror(-ret));
		return ret;
	}
	l->dev = st.st_dev;
	l->ino = st.st_ino;
	return 0;
}

int vsock_listen(struct vsock_listener *l, const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	size_t len = strlen(path);
	int ret;

	*l = (struct vsock_listener){.fd = -1};
	if (len == 0 || len > VSOCK_PATH_MAX) {
		log_error("the path of the vsock socket must have 1 to %d bytes, and '%s' has %zu",
			  VSOCK_PATH_MAX, path, len);
		return len == 0 ? -EINVAL : -ENAMETOOLONG;
	}
	memcpy(l->path, path, len);
	memcpy(addr.sun_path, path, len);
	l->fd = new_socket();
	if (l->fd < 0) {
		log_error("cannot make the vsock socket %s: %s", path, strerror(-l->fd));
		return l->fd;
	}
	ret = bind_and_listen(l, &addr);
	if (ret != 0) {
		close(l->fd);
		l->fd = -1;
	}
	return ret;
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

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s_%u", l->path, port);
	return connect_to(&addr);
}
