/*
 * In a guest: joins standard input and output to a vsock stream.
 *
 *   vsock connect CID PORT     2 is the host's CID
 *   vsock listen PORT          one connection
 *
 * Ends when the other side closes; the end of its own input closes its sending half only.
 */
#include <linux/vm_sockets.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int fail(const char *what)
{
	perror(what);
	return 1;
}

static int connect_to(unsigned cid, unsigned port)
{
	struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port};
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static int accept_one(unsigned port)
{
	struct sockaddr_vm address = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port};
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
	    listen(fd, 1) != 0) {
		return -1;
	}
	fprintf(stderr, "vsock: listening on port %u\n", port);
	return accept(fd, NULL, NULL);
}

static bool write_all(int fd, const char *data, ssize_t length)
{
	while (length > 0) {
		ssize_t n = write(fd, data, (size_t)length);
		if (n < 0) {
			return false;
		}
		data += n;
		length -= n;
	}
	return true;
}

static int relay(int fd)
{
	static char buffer[64 * 1024];
	struct pollfd set[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
				{.fd = fd, .events = POLLIN}};

	for (;;) {
		if (poll(set, 2, -1) < 0) {
			return fail("vsock: poll");
		}
		if (set[0].revents != 0) {
			ssize_t n = read(STDIN_FILENO, buffer, sizeof(buffer));
			if (n <= 0) {
				shutdown(fd, SHUT_WR);
				set[0].fd = -1;
			} else if (!write_all(fd, buffer, n)) {
				return fail("vsock: send");
			}
		}
		if (set[1].revents != 0) {
			ssize_t n = read(fd, buffer, sizeof(buffer));
			if (n < 0) {
				return fail("vsock: receive");
			}
			if (n == 0) {
				return 0;
			}
			if (!write_all(STDOUT_FILENO, buffer, n)) {
				return fail("vsock: output");
			}
		}
	}
}

int main(int argc, char **argv)
{
	int fd;

	if (argc == 4 && strcmp(argv[1], "connect") == 0) {
		fd = connect_to((unsigned)strtoul(argv[2], NULL, 0),
				(unsigned)strtoul(argv[3], NULL, 0));
	} else if (argc == 3 && strcmp(argv[1], "listen") == 0) {
		fd = accept_one((unsigned)strtoul(argv[2], NULL, 0));
	} else {
		fprintf(stderr, "usage: vsock connect CID PORT | vsock listen PORT\n");
		return 2;
	}
	return fd < 0 ? fail("vsock") : relay(fd);
}
