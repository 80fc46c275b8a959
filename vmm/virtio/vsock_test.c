#include "vmm/virtio/vsock.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_vsock.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "tests/capture.h"
#include "tests/device_rig.h"
#include "tests/unit.h"
#include "vmm/virtio/vsock_device.h"

#define CID	  42
#define BUF_BYTES 4096 /* of the guest: each receive buffer */
#define HDR_LEN	  sizeof(struct virtio_vsock_hdr)
#define TX_AT	  (256 * KIB) /* where the guest's packets lie */

/* A device, and a guest that answers nothing by itself. */
struct rig {
	struct device_rig r;
	char dir[32];
	char path[64];
	unsigned next_buf; /* the receive buffer that is used next */
	struct virtio_vsock_hdr hdr;
	const uint8_t *data; /* the payload of the last packet */
};

static void give_buffer(struct rig *g, unsigned i)
{
	struct driver_buf buf[2] = {
		{RIG_DATA + i * BUF_BYTES, HDR_LEN, true},
		{RIG_DATA + i * BUF_BYTES + HDR_LEN, BUF_BYTES - HDR_LEN, true},
	};

	driver_add(&g->r.q[VSOCK_RXQ], buf, 2, false);
}

static void give_event_buffer(struct rig *g)
{
	struct driver_buf buf = {RIG_DATA + TX_AT + 200 * KIB, 8, true};

	driver_add(&g->r.q[VSOCK_EVENTQ], &buf, 1, false);
}

static struct rig *rig_idle(void)
{
	struct rig *g = test_calloc(1, sizeof(*g));
	struct virtio_device *dev;

	snprintf(g->dir, sizeof(g->dir), "/tmp/yado-vsock-XXXXXX");
	assert_non_null(mkdtemp(g->dir));
	snprintf(g->path, sizeof(g->path), "%s/v", g->dir);
	rig_init(&g->r);
	assert_int_equal(vsock_create(&dev, CID, g->path, &g->r.loop), 0);
	rig_attach(&g->r, dev);
	return g;
}

#define BUFS 16

static struct rig *rig_create(bool packed)
{
	struct rig *g = rig_idle();

	rig_activate(&g->r, ~UINT64_C(0), packed, 64);
	for (unsigned i = 0; i < BUFS; i++) {
		give_buffer(g, i);
	}
	rig_turns(&g->r, 2);
	return g;
}

static void rig_done(struct rig *g)
{
	struct stat st;

	rig_fini(&g->r);
	assert_int_equal(stat(g->path, &st), -1); /* it takes its socket away */
	rmdir(g->dir);
	test_free(g);
}

static bool needs_reset(struct rig *g)
{
	return (g->r.dev->status & VIRTIO_CONFIG_S_NEEDS_RESET) != 0;
}

static struct vsock *inside(struct rig *g)
{
	return container_of(g->r.dev, struct vsock, dev);
}

/* The guest sends a packet, of which @len bytes of data are there. */
static void guest_sends(struct rig *g, const struct virtio_vsock_hdr *hdr, const void *data,
			uint32_t len)
{
	struct driver_buf buf[2] = {{RIG_DATA + TX_AT, HDR_LEN, false},
				    {RIG_DATA + TX_AT + HDR_LEN, len, false}};
	uint16_t id;
	uint32_t written;

	memcpy(rig_data(&g->r, TX_AT), hdr, HDR_LEN);
	if (len > 0) {
		memcpy(rig_data(&g->r, TX_AT + HDR_LEN), data, len);
	}
	driver_add(&g->r.q[VSOCK_TXQ], buf, len > 0 ? 2 : 1, false);
	rig_ring(&g->r, VSOCK_TXQ);
	while (driver_take(&g->r.q[VSOCK_TXQ], &id, &written)) {
		assert_int_equal(written, 0);
	}
}

static struct virtio_vsock_hdr packet(uint32_t guest_port, uint32_t host_port, uint16_t op)
{
	return (struct virtio_vsock_hdr){
		.src_cid = CID,
		.dst_cid = 2,
		.src_port = guest_port,
		.dst_port = host_port,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = op,
		.buf_alloc = 65536,
	};
}

static void guest_op(struct rig *g, uint32_t guest_port, uint32_t host_port, uint16_t op)
{
	struct virtio_vsock_hdr hdr = packet(guest_port, host_port, op);

	hdr.flags = op == VIRTIO_VSOCK_OP_SHUTDOWN ? 3 : 0;
	guest_sends(g, &hdr, NULL, 0);
}

static void guest_data(struct rig *g, uint32_t guest_port, uint32_t host_port, const char *text)
{
	struct virtio_vsock_hdr hdr = packet(guest_port, host_port, VIRTIO_VSOCK_OP_RW);

	hdr.len = (uint32_t)strlen(text);
	guest_sends(g, &hdr, text, hdr.len);
}

/* The next packet that the guest got: its op, or 0. Its buffer goes back at once. */
static int got(struct rig *g)
{
	uint8_t *at = rig_data(&g->r, (uint64_t)(g->next_buf % BUFS) * BUF_BYTES);
	uint16_t id;
	uint32_t written;

	rig_turns(&g->r, 3);
	if (!driver_take(&g->r.q[VSOCK_RXQ], &id, &written)) {
		return 0;
	}
	memcpy(&g->hdr, at, HDR_LEN);
	g->data = at + HDR_LEN;
	assert_int_equal(written, HDR_LEN + g->hdr.len);
	assert_int_equal(g->hdr.dst_cid, CID);
	give_buffer(g, g->next_buf++ % BUFS);
	rig_ring(&g->r, VSOCK_RXQ);
	return g->hdr.op;
}

static struct sockaddr_un address(const char *path, const char *suffix)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s%s", path, suffix);
	return addr;
}

static int host_connects(struct rig *g, const char *text)
{
	struct sockaddr_un addr = address(g->path, "");
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	return fd;
}

static int host_listens(struct rig *g, const char *suffix)
{
	struct sockaddr_un addr = address(g->path, suffix);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 300), 0);
	return fd;
}

static void host_unlistens(struct rig *g, int fd, const char *suffix)
{
	struct sockaddr_un addr = address(g->path, suffix);

	close(fd);
	assert_int_equal(unlink(addr.sun_path), 0);
}

static void assert_reads(int fd, const char *text)
{
	char buf[64] = {0};

	assert_int_equal(recv(fd, buf, sizeof(buf) - 1, MSG_DONTWAIT), strlen(text));
	assert_string_equal(buf, text);
}

static bool closed(int fd)
{
	char c;

	return recv(fd, &c, 1, MSG_DONTWAIT) == 0;
}

static void host_to_guest(void **unused)
{
	(void)unused;
	for (unsigned packed = 0; packed < 2; packed++) {
		struct rig *g = rig_create(packed != 0);
		int fd = host_connects(g, "CONNECT 1234\nearly");
		char ok[32];
		uint32_t port;

		assert_int_equal(got(g), VIRTIO_VSOCK_OP_REQUEST);
		assert_int_equal(g->hdr.src_cid, 2);
		assert_int_equal(g->hdr.dst_port, 1234);
		assert_int_equal(g->hdr.buf_alloc, VSOCK_BUF_BYTES);
		assert_int_equal(got(g), 0);
		port = g->hdr.src_port;
		guest_op(g, 1234, port, VIRTIO_VSOCK_OP_RESPONSE);
		snprintf(ok, sizeof(ok), "OK %u\n", port);
		assert_reads(fd, ok);
		assert_int_equal(got(g), VIRTIO_VSOCK_OP_RW);
		assert_int_equal(g->hdr.len, 5);
		assert_memory_equal(g->data, "early", 5);

		guest_data(g, 1234, port, "hello");
		assert_reads(fd, "hello");
		assert_int_equal(write(fd, "there", 5), 5);
		assert_int_equal(got(g), VIRTIO_VSOCK_OP_RW);
		assert_memory_equal(g->data, "there", 5);
		assert_int_equal(g->hdr.fwd_cnt, 5);

		guest_op(g, 1234, port, VIRTIO_VSOCK_OP_SHUTDOWN);
		assert_int_equal(got(g), VIRTIO_VSOCK_OP_RST);
		assert_true(closed(fd));
		assert_int_equal(inside(g)->nlinks, 0);
		close(fd);
		rig_done(g);
	}
}

static void guest_to_host(void **unused)
{
	struct rig *g = rig_create(false);
	int listener = host_listens(g, "_77");
	int fd;

	(void)unused;
	guest_op(g, 900, 77, VIRTIO_VSOCK_OP_REQUEST);
	assert_int_equal(got(g), VIRTIO_VSOCK_OP_RESPONSE);
	assert_int_equal(g->hdr.src_port, 77);
	assert_int_equal(g->hdr.dst_port, 900);
	fd = accept(listener, NULL, NULL);
	assert_true(fd >= 0);
	guest_data(g, 900, 77, "question");
	assert_reads(fd, "question");
	assert_int_equal(write(fd, "answer", 6), 6);
	close(fd);
	assert_int_equal(got(g), VIRTIO_VSOCK_OP_RW);
	assert_memory_equal(g->data, "answer", 6);
	assert_int_equal(got(g), VIRTIO_VSOCK_OP_SHUTDOWN);
	assert_int_equal(g->hdr.flags, 3);
	assert_int_equal(got(g), 0);
	guest_op(g, 900, 77, VIRTIO_VSOCK_OP_RST);
	assert_int_equal(got(g), 0);
	assert_int_equal(inside(g)->nlinks, 0);

	/* Nobody listens there. */
	guest_op(g, 900, 78, VIRTIO_VSOCK_OP_REQUEST);
	assert_int_equal(got(g), VIRTIO_VSOCK_OP_RST);
	assert_int_equal(g->hdr.src_port, 78);
	assert_int_equal(g->hdr.dst_port, 900);
	host_unlistens(g, listener, "_77");
	rig_done(g);
}

/* Megabytes in both directions, with a guest that gives credit slowly. */
static void bulk(void **unused)
{
	struct rig *g = rig_create(true);
	int listener = host_listens(g, "_1");
	uint8_t chunk[3000], back[8192];
	uint32_t guest_got = 0, host_got = 0, guest_sent = 0, host_sent = 0, fwd = 0;
	const uint32_t total = 2000000;
	int fd;

	(void)unused;
	guest_op(g, 5, 1, VIRTIO_VSOCK_OP_REQUEST);
	assert_int_equal(got(g), VIRTIO_VSOCK_OP_RESPONSE);
	fd = accept(listener, NULL, NULL);
	while (guest_got < total || host_got < total) {
		struct virtio_vsock_hdr hdr = packet(5, 1, VIRTIO_VSOCK_OP_RW);
		ssize_t n;

		/* The guest sends what our credit allows. */
		hdr.len = MIN(total - guest_sent, (uint32_t)sizeof(chunk));
		hdr.len = MIN(hdr.len, VSOCK_BUF_BYTES - (guest_sent - fwd));
		hdr.buf_alloc = 10000;
		hdr.fwd_cnt = guest_got;
		for (uint32_t i = 0; i < hdr.len; i++) {
			chunk[i] = (uint8_t)((guest_sent + i) % 241);
		}
		hdr.op = hdr.len > 0 ? VIRTIO_VSOCK_OP_RW : VIRTIO_VSOCK_OP_CREDIT_UPDATE;
		guest_sends(g, &hdr, chunk, hdr.len);
		guest_sent += hdr.len;

		for (uint32_t i = 0; i < sizeof(back); i++) {
			back[i] = (uint8_t)((host_sent + i) % 239);
		}
		n = send(fd, back, MIN(sizeof(back), total - host_sent), MSG_DONTWAIT);
		host_sent += n > 0 ? (uint32_t)n : 0;

		for (int op = got(g); op != 0; op = got(g)) {
			assert_int_not_equal(op, VIRTIO_VSOCK_OP_RST);
			fwd = g->hdr.fwd_cnt;
			for (uint32_t i = 0; i < g->hdr.len; i++) {
				assert_int_equal(g->data[i], (guest_got + i) % 239);
			}
			guest_got += g->hdr.len;
			assert_true(guest_got - hdr.fwd_cnt <= hdr.buf_alloc);
		}
		/* The host reads less than the guest sends, at first. */
		n = recv(fd, back, host_got < total / 2 ? 2000 : sizeof(back), MSG_DONTWAIT);
		for (ssize_t i = 0; i < n; i++) {
			assert_int_equal(back[i], (host_got + (uint32_t)i) % 241);
		}
		host_got += n > 0 ? (uint32_t)n : 0;
	}
	assert_int_equal(guest_got, total);
	assert_int_equal(host_got, total);
	close(fd);
	host_unlistens(g, listener, "_1");
	rig_done(g);
}

static void refuses_packets(void **unused)
{
	static const uint16_t ops[] = {0, 2, 4, 5, 6, 7, 8, 999};
	struct rig *g = rig_create(false);
	struct virtio_vsock_hdr hdr;

	(void)unused;
	/* For no connection. */
	for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
		guest_op(g, 10, 20, ops[i]);
		assert_int_equal(got(g), VIRTIO_VSOCK_OP_RST);
		assert_int_equal(g->hdr.src_port, 20);
		assert_int_equal(g->hdr.dst_port, 10);
	}
	guest_op(g, 10, 20, VIRTIO_VSOCK_OP_RST);
	assert_int_equal(got(g), 0); /* never an answer to that */

	/* Another type, another destination. */
	hdr = packet(10, 20, VIRTIO_VSOCK_OP_REQUEST);
	hdr.type = VIRTIO_VSOCK_TYPE_SEQPACKET;
	guest_sends(g, &hdr, NULL, 0);
	assert_int_equal(got(g), VIRTIO_VSOCK_OP_RST);
	hdr = packet(10, 20, VIRTIO_VSOCK_OP_REQUEST);
	hdr.dst_cid = 7;
	guest_sends(g, &hdr, NULL, 0);
	assert_int_equal(got(g), VIRTIO_VSOCK_OP_RST);
	assert_int_equal(g->hdr.src_cid, 7);
	/* In another's name: nobody to tell. */
	hdr = packet(10, 20, VIRTIO_VSOCK_OP_REQUEST);
	hdr.src_cid = CID + 1;
	guest_sends(g, &hdr, NULL, 0);
	hdr.src_cid |= UINT64_C(1) << 32 | CID;
	guest_sends(g, &hdr, NULL, 0);
	assert_int_equal(got(g), 0);
	assert_false(needs_reset(g));

	/* A length that is not there. */
	int listener = host_listens(g, "_20");

	guest_op(g, 10, 20, VIRTIO_VSOCK_OP_REQUEST);
	assert_int_equal(got(g), VIRTIO_VSOCK_OP_RESPONSE);
	hdr = packet(10, 20, VIRTIO_VSOCK_OP_RW);
	hdr.len = 101;
	guest_sends(g, &hdr, rig_data(&g->r, 0), 100);
	assert_int_equal(got(g), VIRTIO_VSOCK_OP_RST);
	assert_int_equal(inside(g)->nlinks, 0);
	/* A second request for the same ports ends the first. */
	guest_op(g, 10, 20, VIRTIO_VSOCK_OP_REQUEST);
	assert_int_equal(got(g), VIRTIO_VSOCK_OP_RESPONSE);
	guest_op(g, 10, 20, VIRTIO_VSOCK_OP_REQUEST);
	assert_int_equal(got(g), VIRTIO_VSOCK_OP_RST);
	assert_int_equal(inside(g)->nlinks, 0);
	host_unlistens(g, listener, "_20");
	rig_done(g);
}

static void broken_requests(void **unused)
{
	struct driver_buf shorter = {RIG_DATA + TX_AT, HDR_LEN - 1, false};
	struct driver_buf no_data = {RIG_DATA, HDR_LEN, true};
	struct rig *g = rig_create(false);

	(void)unused;
	driver_add(&g->r.q[VSOCK_TXQ], &shorter, 1, false);
	rig_ring(&g->r, VSOCK_TXQ);
	assert_true(needs_reset(g));
	rig_done(g);

	g = rig_idle();
	rig_activate(&g->r, 0, false, 16);
	driver_add(&g->r.q[VSOCK_RXQ], &no_data, 1, false);
	guest_op(g, 1, 2, VIRTIO_VSOCK_OP_RW);
	assert_true(needs_reset(g));
	rig_done(g);
}

/* Answers that the guest does not take: it is not served on, and nothing is lost. */
static void flood(void **unused)
{
	struct rig *g = rig_idle();
	unsigned sent, answers = 0;

	(void)unused;
	rig_activate(&g->r, 0, false, 64);
	for (sent = 0; sent < 200; sent++) {
		uint16_t id;
		uint32_t written;
		struct virtio_vsock_hdr hdr = packet(sent, 1, VIRTIO_VSOCK_OP_RW);
		struct driver_buf buf = {RIG_DATA + TX_AT + sent * 64, HDR_LEN, false};

		memcpy(rig_data(&g->r, TX_AT + sent * 64), &hdr, HDR_LEN);
		driver_add(&g->r.q[VSOCK_TXQ], &buf, 1, false);
		rig_ring(&g->r, VSOCK_TXQ);
		rig_turns(&g->r, 2);
		if (!driver_take(&g->r.q[VSOCK_TXQ], &id, &written)) {
			break;
		}
	}
	assert_int_equal(sent, VSOCK_RSTS_MAX - 1);
	for (unsigned i = 0; i < BUFS; i++) {
		give_buffer(g, i);
	}
	assert_true(rig_ring(&g->r, VSOCK_RXQ));
	while (got(g) == VIRTIO_VSOCK_OP_RST) {
		assert_int_equal(g->hdr.dst_port, answers);
		answers++;
	}
	assert_int_equal(answers, sent + 1);
	rig_done(g);
}

/* What a host program may say instead of CONNECT. */
static void refuses_hellos(void **unused)
{
	struct rig *g = rig_create(false);
	int bad = host_connects(g, "HELLO 1\n");
	int slow = host_connects(g, "CONNECT");
	int mute = host_connects(g, "");

	(void)unused;
	assert_int_equal(got(g), 0);
	assert_true(closed(bad));
	assert_int_equal(inside(g)->nlinks, 2);
	assert_int_equal(write(slow, " 9\n", 3), 3);
	assert_int_equal(got(g), VIRTIO_VSOCK_OP_REQUEST);
	assert_int_equal(g->hdr.dst_port, 9);
	guest_op(g, 9, g->hdr.src_port, VIRTIO_VSOCK_OP_RST); /* nobody listens */
	assert_true(closed(slow));
	close(mute);
	assert_int_equal(got(g), 0);
	assert_int_equal(inside(g)->nlinks, 0);
	close(slow);
	close(bad);
	rig_done(g);
}

/* Without a driver in the guest the host program learns it at once. */
static void no_driver(void **unused)
{
	struct rig *g = rig_idle();
	int fd = host_connects(g, "CONNECT 1\n");

	(void)unused;
	rig_turns(&g->r, 3);
	assert_int_equal(recv(fd, g->path, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, ECONNRESET); /* closed, with the line unread */
	close(fd);
	rig_done(g);
}

static void full_table(void **unused)
{
	struct rig *g = rig_create(false);
	int listener = host_listens(g, "_1");
	int fds[VSOCK_LINKS_MAX];
	struct capture cap;
	int late;

	(void)unused;
	for (unsigned i = 0; i < VSOCK_LINKS_MAX; i++) {
		guest_op(g, 1000 + i, 1, VIRTIO_VSOCK_OP_REQUEST);
		assert_int_equal(got(g), VIRTIO_VSOCK_OP_RESPONSE);
		fds[i] = accept(listener, NULL, NULL);
		assert_true(fds[i] >= 0);
	}
	guest_op(g, 999, 1, VIRTIO_VSOCK_OP_REQUEST);
	assert_int_equal(got(g), VIRTIO_VSOCK_OP_RST);
	close(accept(listener, NULL, NULL)); /* the one that was refused */
	capture_begin(&cap);
	late = host_connects(g, "CONNECT 1\n");
	assert_int_equal(got(g), 0);
	assert_said(&cap, "no room for a connection of the host");
	close(late);
	/* All are alive still, and one that the guest does not let go makes room. */
	for (unsigned i = 0; i < VSOCK_LINKS_MAX; i++) {
		guest_data(g, 1000 + i, 1, "x");
		assert_reads(fds[i], "x");
	}
	close(fds[17]);
	assert_int_equal(got(g), VIRTIO_VSOCK_OP_SHUTDOWN);
	guest_op(g, 999, 1, VIRTIO_VSOCK_OP_REQUEST);
	assert_int_equal(got(g), VIRTIO_VSOCK_OP_RST);
	assert_int_equal(g->hdr.dst_port, 1017);
	assert_int_equal(got(g), VIRTIO_VSOCK_OP_RESPONSE);
	fds[17] = accept(listener, NULL, NULL);
	/* A reset ends all of them. */
	rig_reset(&g->r);
	rig_turns(&g->r, 2);
	for (unsigned i = 0; i < VSOCK_LINKS_MAX; i++) {
		assert_true(closed(fds[i]));
		close(fds[i]);
	}
	host_unlistens(g, listener, "_1");
	rig_done(g);
}

/* Out of descriptors: said once, and tried again. */
static void no_descriptors(void **unused)
{
	struct rig *g = rig_create(false);
	int fd = host_connects(g, "CONNECT 5\n");
	struct rlimit old, none = {0};
	struct capture cap;

	(void)unused;
	capture_begin(&cap);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	none.rlim_max = old.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	rig_turns(&g->r, 20);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_said(&cap, "cannot accept a vsock connection, and tries again");
	for (unsigned i = 0; i < 30 && got(g) == 0; i++) {
		nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
	}
	assert_int_equal(g->hdr.op, VIRTIO_VSOCK_OP_REQUEST);
	close(fd);
	rig_done(g);
}

static void saves_and_loads(void **unused)
{
	struct rig *g = rig_create(false);
	uint8_t buf[64];
	size_t len = rig_save(&g->r, buf, sizeof(buf));
	uint16_t id;
	uint32_t written;

	(void)unused;
	rig_done(g);
	g = rig_create(true);
	assert_int_equal(rig_load(&g->r, buf, len), 0);
	rig_turns(&g->r, 2);
	assert_false(driver_take(&g->r.q[VSOCK_EVENTQ], &id, &written));
	/* The event waits until there is a buffer for it. */
	memset(rig_data(&g->r, TX_AT + 200 * KIB), 0xee, 8);
	give_event_buffer(g);
	assert_true(rig_ring(&g->r, VSOCK_EVENTQ));
	assert_true(driver_take(&g->r.q[VSOCK_EVENTQ], &id, &written));
	assert_int_equal(written, 4);
	assert_memory_equal(rig_data(&g->r, TX_AT + 200 * KIB), "\0\0\0\0\xee", 5);
	assert_int_equal(g->r.interrupts[VSOCK_EVENTQ], 1);
	/* Once. */
	give_event_buffer(g);
	rig_ring(&g->r, VSOCK_EVENTQ);
	assert_false(driver_take(&g->r.q[VSOCK_EVENTQ], &id, &written));

	for (size_t n = 0; n < len; n++) {
		assert_int_equal(rig_load(&g->r, buf, n), -EINVAL);
	}
	buf[24] = 2; /* a CID that is the host's */
	assert_int_equal(rig_load(&g->r, buf, len), -EINVAL);
	memset(buf + 24, 0xff, 4);
	assert_int_equal(rig_load(&g->r, buf, len), -EINVAL);
	rig_done(g);
}

static void assert_refused(uint64_t cid, const char *path, int want, const char *said)
{
	struct virtio_device *dev;
	struct capture cap;
	struct loop loop;
	int ret;

	assert_int_equal(loop_init(&loop), 0);
	capture_begin(&cap);
	ret = vsock_create(&dev, cid, path, &loop);
	assert_said(&cap, said);
	assert_int_equal(ret, want);
	loop_fini(&loop);
}

static void refusals(void **unused)
{
	struct rig *g = rig_idle();
	char path[64], deep[100];
	struct stat st;
	FILE *f;

	(void)unused;
	assert_refused(2, "/tmp/x", -EINVAL, "the vsock CID must be 3 to 4294967294, and 2 is not");
	assert_refused(UINT32_MAX, "/tmp/x", -EINVAL, "the vsock CID must be");
	assert_refused(UINT64_C(1) << 32 | 3, "/tmp/x", -EINVAL, "the vsock CID must be");
	assert_refused(3, "", -EINVAL, "must have 1 to 96 bytes");
	memset(deep, 'a', 97);
	deep[97] = '\0';
	assert_refused(3, deep, -ENAMETOOLONG, "must have 1 to 96 bytes");
	assert_refused(3, "/nowhere/x", -ENOENT, "no socket can be made at \"/nowhere/x");
	assert_refused(3, g->path, -EADDRINUSE, "another program listens on");
	assert_int_equal(stat(g->path, &st), 0);
	rig_turns(&g->r, 3);

	snprintf(path, sizeof(path), "%s/file", g->dir);
	f = fopen(path, "we");
	assert_non_null(f);
	fclose(f);
	assert_refused(3, path, -EEXIST, "exists and is no socket");
	assert_int_equal(unlink(path), 0);
	rig_done(g);
}

/* A socket that a dead program left behind is replaced; one of somebody else's stays. */
static void stale_socket(void **unused)
{
	struct rig *g = rig_idle();
	struct virtio_device *dev;
	char path[80];
	struct stat st;
	int fd;

	(void)unused;
	snprintf(path, sizeof(path), "%s_5", g->path);
	close(host_listens(g, "_5"));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(vsock_create(&dev, 3, path, &g->r.loop), 0);
	assert_int_equal(unlink(path), 0);
	fd = host_listens(g, "_5");
	dev->ops->destroy(dev);
	assert_int_equal(stat(path, &st), 0);
	host_unlistens(g, fd, "_5");
	rig_done(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(host_to_guest),
		cmocka_unit_test(guest_to_host),
		cmocka_unit_test(bulk),
		cmocka_unit_test(refuses_packets),
		cmocka_unit_test(broken_requests),
		cmocka_unit_test(flood),
		cmocka_unit_test(refuses_hellos),
		cmocka_unit_test(no_driver),
		cmocka_unit_test(full_table),
		cmocka_unit_test(no_descriptors),
		cmocka_unit_test(saves_and_loads),
		cmocka_unit_test(refusals),
		cmocka_unit_test(stale_socket),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
