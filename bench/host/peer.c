/*
 * The other end of the network that guest/work.c measures: makes the TAP interface, and serves one
 * connection at a time, and datagrams.
 *
 *	peer TAP	runs until it is ended; prints "ready" when guests may come
 */
#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/work.h"

static char block[256 * 1024];

static void make_tap(const char *name)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int tun = open("/dev/net/tun", O_RDWR);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	strncpy(ifr.ifr_name, name, IFNAMSIZ - 1);
	if (tun < 0 || ioctl(tun, TUNSETIFF, &ifr) != 0 || ioctl(tun, TUNSETPERSIST, 1) != 0) {
		err(1, "TAP %s", name);
	}
	close(tun);
	inet_pton(AF_INET, WORK_PEER_ADDRESS, &in.sin_addr);
	memcpy(&ifr.ifr_addr, &in, sizeof(in));
	if (ioctl(fd, SIOCSIFADDR, &ifr) != 0) {
		err(1, "address of %s", name);
	}
	inet_pton(AF_INET, "255.255.255.0", &in.sin_addr);
	memcpy(&ifr.ifr_netmask, &in, sizeof(in));
	ioctl(fd, SIOCSIFNETMASK, &ifr);
	ifr.ifr_flags = IFF_UP | IFF_RUNNING;
	if (ioctl(fd, SIOCSIFFLAGS, &ifr) != 0) {
		err(1, "%s up", name);
	}
	close(fd);
}

static int listening(int type)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(WORK_PORT)};
	int fd = socket(AF_INET, type, 0);

	if (bind(fd, (struct sockaddr *)&in, sizeof(in)) != 0 ||
	    (type == SOCK_STREAM && listen(fd, 4) != 0)) {
		err(1, "port %d", WORK_PORT);
	}
	return fd;
}

static void serve(int fd)
{
	struct work_order order;
	ssize_t n = recv(fd, &order, sizeof(order), MSG_WAITALL);

	while (n > 0 && order.mode == WORK_ECHO) {
		n = read(fd, block, sizeof(block));
		if (n > 0) {
			n = write(fd, block, (size_t)n);
		}
	}
	while (n > 0 && order.mode == WORK_SINK && order.count > 0) {
		n = read(fd, block, sizeof(block));
		order.count -= n > 0 ? (uint64_t)n : 0;
		if (order.count == 0 && write(fd, "", 1) != 1) {
			warn("write");
		}
	}
	while (n > 0 && order.mode == WORK_SOURCE && order.count > 0) {
		n = write(fd, block, sizeof(block));
		order.count -= n > 0 ? (uint64_t)n : 0;
	}
	close(fd);
}

static void serve_datagram(int fd)
{
	struct sockaddr_in from;
	socklen_t len = sizeof(from);
	ssize_t n;

	n = recvfrom(fd, block, sizeof(block), 0, (struct sockaddr *)&from, &len);
	if (n >= 0 && sendto(fd, block, (size_t)n, 0, (struct sockaddr *)&from, len) != n) {
		warn("sendto");
	}
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fputs("usage: peer TAP\n", stderr);
		return 2;
	}
	make_tap(argv[1]);
	struct pollfd fds[] = {{listening(SOCK_STREAM), POLLIN, 0},
			       {listening(SOCK_DGRAM), POLLIN, 0}};

	puts("ready");
	fflush(stdout);
	while (poll(fds, 2, -1) > 0) {
		if (fds[0].revents != 0) {
			serve(accept(fds[0].fd, NULL, NULL));
		}
		if (fds[1].revents != 0) {
			serve_datagram(fds[1].fd);
		}
	}
	return 1;
}
