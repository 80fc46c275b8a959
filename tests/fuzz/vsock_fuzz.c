/*
 * A hostile driver of the socket device, and host programs that come and go, for libFuzzer: the
 * input is a program of small steps that write to guest RAM, send packets, give buffers, let host
 * programs connect, write, read and close, reset, and load states that were tampered with. Nothing
 * but the sanitizers and check() judges.
 */
#include <errno.h>
#include <linux/virtio_vsock.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "tests/device_rig.h"
#include "tests/fuzz/input.h"
#include "vmm/virtio/vsock.h"

#define CID   3
#define HOSTS 8

struct machine {
	struct device_rig r;
	char path[64];
	int listener;	 /* host programs that the guest connects to: port 1 */
	int host[HOSTS]; /* their ends of connections, or -1 */
};

static void put_host(struct machine *m, unsigned slot, int fd)
{
	if (m->host[slot] >= 0) {
		close(m->host[slot]);
	}
	m->host[slot] = fd;
}

static struct sockaddr_un address(struct machine *m, const char *suffix)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s%s", m->path, suffix);
	return addr;
}

static void host_step(struct machine *m, struct input *in)
{
	static uint8_t buf[70000];
	unsigned what = (unsigned)input_take(in, 1);
	unsigned slot = what % HOSTS;
	int fd = m->host[slot];

	switch (what / HOSTS % 8) {
	case 0: { /* a host program that connects to guest port 0 to 3 */
		struct sockaddr_un addr = address(m, "");
		char line[32];
		int len = snprintf(line, sizeof(line), "CONNECT %u\n", what >> 6);

		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0) {
			(void)!send(fd, line, (size_t)len, MSG_NOSIGNAL);
		}
		put_host(m, slot, fd);
		break;
	}
	case 1:
		put_host(m, slot, accept4(m->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
		break;
	case 2:
		(void)!send(fd, in->data, MIN(in->size, (size_t)16), MSG_DONTWAIT | MSG_NOSIGNAL);
		break;
	case 3:
		(void)!send(fd, buf, (size_t)input_take(in, 2), MSG_DONTWAIT | MSG_NOSIGNAL);
		break;
	case 4:
		(void)!recv(fd, buf, (size_t)input_take(in, 2), MSG_DONTWAIT);
		break;
	case 5:
		put_host(m, slot, -1);
		break;
	default:
		shutdown(fd, what & 0x80 ? SHUT_WR : SHUT_RD);
	}
}

static void activate(struct machine *m, struct input *in)
{
	unsigned how = (unsigned)input_take(in, 1);

	rig_reset(&m->r);
	rig_activate(&m->r, how & 4 ? ~UINT64_C(0) : 0, (how & 1) != 0, how & 2 ? 64 : 8);
}

/* A packet that is nearly right. */
static void send_packet(struct machine *m, struct input *in)
{
	static unsigned turn;
	uint64_t v = input_take(in, 4);
	uint64_t at = 0x20000 + turn++ % 8 * 64;
	uint32_t len = v & 0x80 ? (uint32_t)input_take(in, 2) : (uint32_t)(v & 0x3f);
	struct virtio_vsock_hdr hdr = {
		.src_cid = CID,
		.dst_cid = 2,
		.src_port = v >> 8 & 3,
		.dst_port = v & 0x8000 ? 1 : (UINT32_C(1) << 30) + (v >> 10 & 7),
		.len = len,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = (uint16_t)(v >> 16 & 7),
		.flags = v >> 19 & 3,
		.buf_alloc = v & 0x200000 ? 100 : 100000,
		.fwd_cnt = (uint32_t)(v >> 24) * 300,
	};
	struct driver_buf buf[2] = {{RIG_DATA + at, sizeof(hdr), false}, {RIG_DATA, len, false}};

	memcpy(rig_data(&m->r, at), &hdr, sizeof(hdr));
	driver_add(&m->r.q[1], buf, len > 0 ? 2 : 1, false);
}

static void give_buffers(struct machine *m, struct input *in)
{
	unsigned v = (unsigned)input_take(in, 1);

	for (unsigned i = 0; i <= (v & 7); i++) {
		struct driver_buf buf = {RIG_DATA + 0x30000 + i * 4096, v & 0x80 ? 45 : 4096, true};

		driver_add(&m->r.q[v & 0x40 ? 2 : 0], &buf, 1, false);
	}
}

static void write_ram(struct machine *m, struct input *in)
{
	unsigned where = (unsigned)input_take(in, 1);
	unsigned at = (unsigned)input_take(in, 2);
	uint8_t *to = where & 0x80 ? m->r.mem.region[0].host + DRIVER_DESC + at % 0x2000
				   : rig_data(&m->r, 0x20000 + at % 512);

	input_copy(in, to, (where & 15) + 1);
}

static void tamper(struct machine *m, struct input *in)
{
	uint8_t buf[64];
	size_t len = rig_save(&m->r, buf, sizeof(buf));

	if (input_take(in, 1) & 1) {
		size_t at = input_take(in, 1) % len;

		buf[at] = (uint8_t)input_take(in, 1);
	}
	(void)!rig_load(&m->r, buf, len);
}

static void step(struct machine *m, struct input *in)
{
	switch (input_take(in, 1) % 10) {
	case 0:
	case 1:
		send_packet(m, in);
		rig_notify(&m->r, 1);
		break;
	case 2:
		give_buffers(m, in);
		break;
	case 3:
		rig_notify(&m->r, (unsigned)input_take(in, 1) % 3);
		break;
	case 4:
		write_ram(m, in);
		break;
	case 5:
	case 6:
		host_step(m, in);
		break;
	case 7:
		rig_turns(&m->r, 1);
		break;
	case 8:
		tamper(m, in);
		break;
	default:
		activate(m, in);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct machine m;
	struct input in = {data, size};
	struct virtio_device *dev;
	struct sockaddr_un addr;

	rig_init(&m.r);
	snprintf(m.path, sizeof(m.path), "/tmp/yado-vsock-fuzz-%d", (int)getpid());
	check(vsock_create(&dev, CID, m.path, &m.r.loop) == 0);
	rig_attach(&m.r, dev);
	m.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	addr = address(&m, "_1");
	unlink(addr.sun_path);
	check(bind(m.listener, (struct sockaddr *)&addr, sizeof(addr)) == 0);
	check(listen(m.listener, 8) == 0);
	for (unsigned i = 0; i < HOSTS; i++) {
		m.host[i] = -1;
	}
	activate(&m, &in);
	for (unsigned i = 0; i < 200 && in.size > 0; i++) {
		step(&m, &in);
	}
	rig_fini(&m.r);
	for (unsigned i = 0; i < HOSTS; i++) {
		put_host(&m, i, -1);
	}
	close(m.listener);
	unlink(addr.sun_path);
	return 0;
}
