#include "vmm/unix_socket.h"

#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/log.h"

#define BACKLOG 64

/* Does a program listen at @addr? What refuses the connection is a leftover. */
static bool is_live(const struct sockaddr_un *addr)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool live;

	if (fd < 0) {
		return true; /* unknown: leave it alone */
	}
	live = connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 ||
	       errno != ECONNREFUSED;
	close(fd);
	return live;
}

static int check_directory(const char *what, const char *path)
{
	char copy[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	int error = 0;

	strcpy(copy, path); /* the caller checked the length */
	if (access(dirname(copy), W_OK | X_OK) != 0) {
		error = -errno;
		log_error("%s: no socket can be made at \"%s\": %s", what, path, strerror(-error));
	}
	return error;
}

/* *@stale: there is a socket that nobody listens on. */
static int look(const char *what, const char *path, struct sockaddr_un *addr, bool *stale)
{
	struct stat st;

	*stale = false;
	*addr = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(addr->sun_path)) {
		log_error("%s: the path of a Unix socket has at most %zu bytes; \"%s\" has %zu",
			  what, sizeof(addr->sun_path) - 1, path, strlen(path));
		return -ENAMETOOLONG;
	}
	strcpy(addr->sun_path, path);
	if (lstat(path, &st) != 0) {
		return check_directory(what, path);
	}
	if (!S_ISSOCK(st.st_mode)) {
		log_error("%s: \"%s\" exists and is no socket; remove it, or choose another path",
			  what, path);
		return -EEXIST;
	}
	if (is_live(addr)) {
		log_error("%s: another program listens on \"%s\"; choose another path", what, path);
		return -EADDRINUSE;
	}
	*stale = true;
	return 0;
}

int unix_socket_check(const char *what, const char *path)
{
	struct sockaddr_un addr;
	bool stale;

	return look(what, path, &addr, &stale);
}

int unix_socket_listen(const char *what, const char *path, int *fd)
{
	struct sockaddr_un addr;
	bool stale;
	int error = look(what, path, &addr, &stale);

	if (error != 0) {
		return error;
	}
	if (stale) {
		unlink(path);
	}
	*fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* On Linux the mode of an unbound socket is what its file gets, so there is no moment at
	 * which others could connect. */
	if (*fd < 0 || fchmod(*fd, 0600) != 0 ||
	    bind(*fd, (const struct sockaddr *)&addr, sizeof(addr)) != 0 ||
	    listen(*fd, BACKLOG) != 0) {
		error = -errno;
		log_error("%s: no socket can be made at \"%s\": %s", what, path, strerror(-error));
		if (*fd >= 0) {
			close(*fd);
		}
		*fd = -1;
	}
	return error;
}
