/*
 * The first and only program of the guest whose disk or network is measured:
 *
 *	init disk BYTES REQUESTS	/dev/vda, past the page cache
 *	init net BYTES REQUESTS		eth0, with host/peer.c at the other end
 *
 * Before and after each piece of work it says so on the console, and sleeps, so that the one who
 * measures (host/measure.c) looks at his counters while nothing else goes on. Then it powers the
 * guest off.
 */
#include "bench/work.h"

#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <net/if.h>
#include <net/route.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DEPTH_MAX 32
#define MIB	  (1U << 20)
#define KIB	  1024U
#define PAGE	  (4 * KIB)

static void pause_ms(long ms)
{
	nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

/* What is between these two is one row: instructions for each of @count of @unit. */
static void begin(const char *row, uint64_t count, const char *unit)
{
	printf(WORK_BEGIN "%s|%llu|%s\n", row, (unsigned long long)count, unit);
	fflush(stdout);
	pause_ms(20);
}

static void end(void)
{
	printf(WORK_END "\n");
	fflush(stdout);
	pause_ms(20);
}

/*
 * What a row costs in which nothing is done. What the machine does by itself some time after its
 * start, such as reporting free pages, is over then.
 */
static void nothing(void)
{
	sleep(4);
	for (int i = 0; i < 9; i++) {
		begin("", 1, "");
		end();
	}
}

static void load_modules(void)
{
	char path[256];
	FILE *list = fopen("/modules", "r");

	while (list != NULL && fscanf(list, "%255s", path) == 1) {
		int fd = open(path, O_RDONLY);

		if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) != 0) {
			err(1, "%s", path);
		}
		close(fd);
	}
}

/* ---- the disk ---- */

/* How a request's bytes lie in the guest's memory: which a driver's descriptors show. */
enum layout {
	ONE_PIECE,
	PAGES /* no two that follow each other are neighbours */
};

enum order {
	IN_ORDER,
	ANYWHERE
};

struct disk {
	int fd;
	uint64_t size;
	aio_context_t aio;
	char *buffer; /* MIB for each of DEPTH_MAX requests */
	uint64_t seed;
};

/* Where the next request goes. A generator of Lehmer's, the same numbers in each run. */
static uint64_t place(struct disk *d, enum order order, uint64_t n, uint32_t len)
{
	uint64_t places = d->size / len;

	d->seed = d->seed * 48271 % 0x7fffffff;
	return (order == IN_ORDER ? n % places : d->seed % places) * len;
}

/*
 * Huge pages: where the guest's kernel found memory would else decide how many descriptors a
 * request has, and that is another number with each VMM.
 */
static char *huge_pages(size_t len)
{
	FILE *number = fopen("/proc/sys/vm/nr_hugepages", "w");

	if (number == NULL || fprintf(number, "%zu\n", len / (2 * MIB)) < 0 ||
	    fclose(number) != 0) {
		err(1, "nr_hugepages");
	}
	char *start = mmap(NULL, len, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	if (start == MAP_FAILED) {
		err(1, "huge pages");
	}
	return start;
}

static void submit(struct disk *d, unsigned slot, bool write, enum layout layout, uint64_t at,
		   uint32_t len)
{
	char *buffer = d->buffer + (size_t)slot * MIB;
	struct iovec page[MIB / PAGE];
	struct iocb cb = {
		.aio_data = slot,
		.aio_lio_opcode = write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
		.aio_fildes = (uint32_t)d->fd,
		.aio_buf = (uintptr_t)buffer,
		.aio_nbytes = len,
		.aio_offset = (int64_t)at,
	};
	struct iocb *list = &cb;

	if (layout == PAGES) {
		for (unsigned i = 0; i < len / PAGE; i++) {
			page[i] = (struct iovec){buffer + len - (size_t)(i + 1) * PAGE, PAGE};
		}
		cb.aio_lio_opcode = write ? IOCB_CMD_PWRITEV : IOCB_CMD_PREADV;
		cb.aio_buf = (uintptr_t)page;
		cb.aio_nbytes = len / PAGE;
	}
	if (syscall(SYS_io_submit, d->aio, 1, &list) != 1) {
		err(1, "io_submit");
	}
}

struct work {
	bool write;
	enum layout layout;
	enum order order;
	uint32_t len;	/* bytes a request */
	unsigned depth; /* requests under way */
	uint64_t count;
};

static void requests(struct disk *d, const struct work *w)
{
	struct io_event event[DEPTH_MAX];
	uint64_t started = 0;
	uint64_t done = 0;

	for (; started < w->depth && started < w->count; started++) {
		submit(d, (unsigned)started, w->write, w->layout,
		       place(d, w->order, started, w->len), w->len);
	}
	while (done < w->count) {
		long n = syscall(SYS_io_getevents, d->aio, 1, DEPTH_MAX, event, NULL);

		if (n < 1) {
			err(1, "io_getevents");
		}
		for (long i = 0; i < n; i++) {
			if (event[i].res != w->len) {
				errx(1, "a request ended with %lld", (long long)event[i].res);
			}
			if (started < w->count) {
				submit(d, (unsigned)event[i].data, w->write, w->layout,
				       place(d, w->order, started++, w->len), w->len);
			}
		}
		done += (uint64_t)n;
	}
}

static void in_order(struct disk *d, bool write, uint32_t len, enum layout layout, uint64_t bytes)
{
	char row[64];

	snprintf(row, sizeof(row), "%s %u KiB %s, 4 at a time", write ? "write" : "read", len / KIB,
		 layout == PAGES ? "in pages" : "in order");
	begin(row, bytes / MIB, "MiB");
	requests(d, &(struct work){write, layout, IN_ORDER, len, 4, bytes / len});
	end();
}

static void anywhere(struct disk *d, bool write, unsigned depth, uint64_t count)
{
	char row[64];

	snprintf(row, sizeof(row), "%s 4 KiB anywhere, %u at a time", write ? "write" : "read",
		 depth);
	begin(row, count, "request");
	requests(d, &(struct work){write, ONE_PIECE, ANYWHERE, PAGE, depth, count});
	end();
}

static void work_disk(uint64_t bytes, uint64_t count)
{
	struct disk d = {.fd = open("/dev/vda", O_RDWR | O_DIRECT), .seed = 1};

	if (d.fd < 0 || syscall(SYS_io_setup, DEPTH_MAX, &d.aio) != 0) {
		err(1, "/dev/vda");
	}
	d.size = (uint64_t)lseek(d.fd, 0, SEEK_END);
	d.buffer = huge_pages((size_t)DEPTH_MAX * MIB);
	memset(d.buffer, 0x5a, (size_t)DEPTH_MAX * MIB);
	/* Once before it counts: what is made at first use is there then. */
	requests(&d, &(struct work){false, PAGES, IN_ORDER, MIB, 4, 8});
	requests(&d, &(struct work){true, ONE_PIECE, ANYWHERE, PAGE, DEPTH_MAX, 256});
	nothing();
	for (unsigned write = 0; write < 2; write++) {
		in_order(&d, write, 64 * KIB, ONE_PIECE, bytes);
		in_order(&d, write, 64 * KIB, PAGES, bytes);
		in_order(&d, write, MIB, ONE_PIECE, bytes);
		in_order(&d, write, MIB, PAGES, bytes);
		anywhere(&d, write, 1, count);
		anywhere(&d, write, DEPTH_MAX, count);
	}
}

/* ---- the network ---- */

static struct sockaddr_in address(const char *text, uint16_t port)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};

	inet_pton(AF_INET, text, &in.sin_addr);
	return in;
}

static void network_up(void)
{
	struct sockaddr_in ours = address(WORK_GUEST_ADDRESS, 0);
	struct sockaddr_in mask = address("255.255.255.0", 0);
	struct ifreq ifr = {.ifr_name = "eth0"};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	memcpy(&ifr.ifr_addr, &ours, sizeof(ours));
	if (ioctl(fd, SIOCSIFADDR, &ifr) != 0) {
		err(1, "eth0");
	}
	memcpy(&ifr.ifr_netmask, &mask, sizeof(mask));
	ioctl(fd, SIOCSIFNETMASK, &ifr);
	ifr.ifr_flags = IFF_UP | IFF_RUNNING;
	if (ioctl(fd, SIOCSIFFLAGS, &ifr) != 0) {
		err(1, "eth0");
	}
	close(fd);
	pause_ms(100);
}

static int connected(int type, char mode, uint64_t count)
{
	struct sockaddr_in peer = address(WORK_PEER_ADDRESS, WORK_PORT);
	struct work_order order = {.count = count, .mode = mode};
	int fd = socket(AF_INET, type, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&peer, sizeof(peer)) != 0) {
		err(1, "connect");
	}
	if (type == SOCK_STREAM && write(fd, &order, sizeof(order)) != sizeof(order)) {
		err(1, "write");
	}
	return fd;
}

static char block[256 * KIB];

/* The peer says at the end that it has all. */
static void stream_out(uint64_t bytes)
{
	int fd = connected(SOCK_STREAM, WORK_SINK, bytes);

	for (uint64_t done = 0; done < bytes;) {
		ssize_t n = write(fd, block, sizeof(block));

		if (n < 0) {
			err(1, "write");
		}
		done += (uint64_t)n;
	}
	if (read(fd, block, 1) != 1) {
		err(1, "read");
	}
	close(fd);
}

static void stream_in(uint64_t bytes)
{
	int fd = connected(SOCK_STREAM, WORK_SOURCE, bytes);

	for (uint64_t done = 0; done < bytes;) {
		ssize_t n = read(fd, block, sizeof(block));

		if (n <= 0) {
			err(1, "read");
		}
		done += (uint64_t)n;
	}
	close(fd);
}

/* @depth packets there, then as many back, and again, until @count came back. */
static void echoes(int type, unsigned depth, uint64_t count)
{
	int fd = connected(type, WORK_ECHO, 0);

	for (uint64_t done = 0; done < count; done += depth) {
		for (unsigned i = 0; i < depth; i++) {
			if (write(fd, block, 1) != 1) {
				err(1, "write");
			}
		}
		for (unsigned i = 0; i < depth; i++) {
			if (read(fd, block, 1) != 1) {
				err(1, "read");
			}
		}
	}
	close(fd);
}

static void work_net(uint64_t bytes, uint64_t count)
{
	network_up();
	stream_out(8 * MIB);
	stream_in(8 * MIB);
	echoes(SOCK_DGRAM, DEPTH_MAX, 256);
	nothing();
	begin("send, TCP", bytes / MIB, "MiB");
	stream_out(bytes);
	end();
	begin("receive, TCP", bytes / MIB, "MiB");
	stream_in(bytes);
	end();
	begin("request and answer, TCP", count, "request");
	echoes(SOCK_STREAM, 1, count);
	end();
	begin("request and answer, UDP", count, "request");
	echoes(SOCK_DGRAM, 1, count);
	end();
	begin("32 requests and answers, UDP", count, "request");
	echoes(SOCK_DGRAM, DEPTH_MAX, count);
	end();
}

int main(int argc, char **argv)
{
	mkdir("/dev", 0755);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	mkdir("/proc", 0755);
	mount("proc", "/proc", "proc", 0, NULL);
	load_modules();
	printf("bench: init\n");
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		for (int i = 1; i + 2 < argc; i++) {
			uint64_t bytes = strtoull(argv[i + 1], NULL, 0);
			uint64_t count = strtoull(argv[i + 2], NULL, 0);

			if (strcmp(argv[i], "disk") == 0) {
				work_disk(bytes, count);
			} else if (strcmp(argv[i], "net") == 0) {
				work_net(bytes, count);
			}
		}
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	return reboot(RB_POWER_OFF);
}
