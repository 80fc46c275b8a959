#include "vmm/net/passt.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_net.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/bytes.h"
#include "tests/capture.h"
#include "tests/unit.h"
#include "vmm/clock.h"
#include "vmm/net/checksum.h"

struct rig {
	struct loop loop;
	struct loop_timer timer;
	struct net_backend *backend;
	int host; /* the socket's other end */
	unsigned nready;
	bool gone;
	uint8_t packet[NET_HDR_LEN + NET_FRAME_MAX];
};

static void on_ready(void *arg, unsigned pair, bool gone)
{
	struct rig *g = arg;

	assert_int_equal(pair, 0);
	g->nready++;
	g->gone = g->gone || gone;
	loop_stop(&g->loop);
}

static void on_time(void *arg)
{
	struct rig *g = arg;

	loop_stop(&g->loop);
}

/* Waits for ready(), at most @ms. */
static void wait_ready(struct rig *g, unsigned ms)
{
	loop_timer_set(&g->timer, clock_now_ns() + ms * UINT64_C(1000000));
	assert_int_equal(loop_run(&g->loop), 0);
	loop_timer_clear(&g->timer);
}

static struct rig *rig_create(void)
{
	struct rig *g = test_calloc(1, sizeof(*g));

	assert_int_equal(loop_init(&g->loop), 0);
	assert_int_equal(loop_timer_init(&g->timer, &g->loop, on_time, g), 0);
	g->host = -1;
	return g;
}

static void rig_own(struct rig *g)
{
	g->backend->ready = on_ready;
	g->backend->arg = g;
}

static struct rig *rig_attached(void)
{
	struct rig *g = rig_create();
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
	g->host = fds[0];
	assert_int_equal(passt_attach(&g->backend, fds[1], &g->loop), 0);
	rig_own(g);
	return g;
}

static void rig_destroy(struct rig *g)
{
	if (g->backend != NULL) {
		g->backend->ops->close(g->backend);
	}
	if (g->host >= 0) {
		close(g->host);
	}
	loop_timer_fini(&g->timer, &g->loop);
	loop_fini(&g->loop);
	test_free(g);
}

static ssize_t receive(struct rig *g)
{
	/* An odd cut, and room that is larger than needed. */
	struct iovec iov[3] = {{g->packet, 5}, {g->packet + 5, 20}, {g->packet + 25, 65000}};

	iov[2].iov_len = sizeof(g->packet) - 25;
	return g->backend->ops->recv(g->backend, 0, iov, 3);
}

static int transmit(struct rig *g, const void *packet, size_t len)
{
	uint8_t *p = (uint8_t *)(uintptr_t)packet;
	struct iovec iov[3] = {{p, 12}, {p + 12, 9}, {p + 21, len - 21}};

	return g->backend->ops->send(g->backend, 0, iov, 3, len);
}

static void host_writes(struct rig *g, const void *data, size_t len)
{
	assert_int_equal(write(g->host, data, len), len);
}

/* A frame of @len bytes with its length in front; @seed tells it from others. */
static size_t framed(uint8_t *out, size_t len, unsigned seed)
{
	store_le32(out, __builtin_bswap32((uint32_t)len));
	for (size_t i = 0; i < len; i++) {
		out[4 + i] = (uint8_t)(seed + i * 3);
	}
	return 4 + len;
}

static void receives_frames(void **unused)
{
	static uint8_t data[200000];
	static const uint8_t no_offload[NET_HDR_LEN];
	struct rig *g = rig_attached();
	size_t len = 0;

	(void)unused;
	assert_int_equal(receive(g), -EAGAIN);
	/* Several at once, of which some are no frames. */
	len += framed(data, 60, 1);
	len += framed(data + len, 0, 2);
	len += framed(data + len, 13, 3);
	len += framed(data + len, 1514, 4);
	host_writes(g, data, len);
	memset(g->packet, 0xee, sizeof(g->packet));
	assert_int_equal(receive(g), 72);
	assert_memory_equal(g->packet, no_offload, NET_HDR_LEN);
	assert_memory_equal(g->packet + NET_HDR_LEN, data + 4, 60);
	assert_int_equal(receive(g), 12 + 1514);
	assert_memory_equal(g->packet + NET_HDR_LEN, data + len - 1514, 1514);
	assert_int_equal(receive(g), -EAGAIN);

	/* One byte at a time. */
	len = framed(data, 20, 5);
	for (size_t i = 0; i < len; i++) {
		assert_int_equal(receive(g), -EAGAIN);
		host_writes(g, data + i, 1);
	}
	assert_int_equal(receive(g), 32);
	assert_memory_equal(g->packet + NET_HDR_LEN, data + 4, 20);

	/* Large ones, which pass the end of the buffer. */
	for (unsigned i = 0; i < 8; i++) {
		len = framed(data, 65535, i);
		host_writes(g, data, len);
		assert_int_equal(receive(g), 12 + 65535);
		assert_memory_equal(g->packet + NET_HDR_LEN, data + 4, 65535);
		host_writes(g, data, framed(data, 1000 + i, i));
		assert_int_equal(receive(g), 12 + 1000 + i);
	}
	rig_destroy(g);
}

static void breaks_protocol(void **unused)
{
	static const uint8_t long_frame[4] = {0, 2, 0, 0};
	struct rig *g = rig_attached();
	struct capture cap;

	(void)unused;
	host_writes(g, long_frame, 4);
	capture_begin(&cap);
	assert_int_equal(receive(g), -EPIPE);
	assert_said(&cap, "passt does not keep to its protocol");
	assert_int_equal(receive(g), -EPIPE);
	assert_int_equal(transmit(g, g->packet, 60), -EPIPE);
	g->backend->ops->watch(g->backend, 0, true, true); /* harmless now */
	rig_destroy(g);
}

static void sends_frames(void **unused)
{
	uint8_t want[2000], got[2000];
	struct rig *g = rig_attached();

	(void)unused;
	for (unsigned len = 14; len < 1515; len += 125) {
		size_t n = framed(want, len, len);

		memcpy(g->packet + NET_HDR_LEN, want + 4, len);
		assert_int_equal(transmit(g, g->packet, NET_HDR_LEN + len), 0);
		assert_int_equal(read(g->host, got, sizeof(got)), n);
		assert_memory_equal(got, want, n);
	}
	/* Longer than passt takes: dropped, and the stream stays whole. */
	assert_int_equal(transmit(g, g->packet, NET_HDR_LEN + 65536), 0);
	assert_int_equal(read(g->host, got, sizeof(got)), -1);
	rig_destroy(g);
}

/* The guest leaves the checksum to us: each place of it, and each cut of the buffers. */
static void finishes_checksums(void **unused)
{
	uint8_t got[200];
	struct rig *g = rig_attached();

	(void)unused;
	for (unsigned start = 14; start < 60; start++) {
		struct virtio_net_hdr_v1 hdr = {
			.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
			.csum_start = (uint16_t)start,
			.csum_offset = 16,
		};
		struct iovec iov;

		memset(g->packet, 0, 120);
		memcpy(g->packet, &hdr, sizeof(hdr));
		for (unsigned i = 0; i < 101; i++) {
			g->packet[NET_HDR_LEN + i] = (uint8_t)(i * start);
		}
		assert_int_equal(transmit(g, g->packet, NET_HDR_LEN + 101), 0);
		assert_int_equal(read(g->host, got, sizeof(got)), 4 + 101);

		/* What the guest had put there, the pseudo header's sum, is part of the sum. */
		iov = (struct iovec){g->packet + NET_HDR_LEN + start, 101 - start};
		uint16_t want = checksum_iov(&iov, 1, 0, 101 - start);

		assert_int_equal(load_le16(got + 4 + start + 16), want);
		/* And nothing else has changed, the guest's memory least of all. */
		assert_int_equal(g->packet[NET_HDR_LEN + start + 16],
				 (uint8_t)((start + 16) * start));
		memcpy(got + 4 + start + 16, g->packet + NET_HDR_LEN + start + 16, 2);
		assert_memory_equal(got + 4, g->packet + NET_HDR_LEN, 101);
	}
	rig_destroy(g);
}

/* A checksum outside of the frame, or inside of its Ethernet header: dropped. */
static void refuses_checksums(void **unused)
{
	static const uint16_t wrong[][2] = {{14, 45},	 {58, 1}, {60, 0}, {65535, 65535},
					    {14, 65535}, {0, 0},  {13, 10}};
	uint8_t got[100];
	struct rig *g = rig_attached();

	(void)unused;
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct virtio_net_hdr_v1 hdr = {
			.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
			.csum_start = wrong[i][0],
			.csum_offset = wrong[i][1],
		};

		memcpy(g->packet, &hdr, sizeof(hdr));
		assert_int_equal(transmit(g, g->packet, NET_HDR_LEN + 60), 0);
		assert_int_equal(read(g->host, got, sizeof(got)), -1);
	}
	/* The last place that is inside. */
	struct virtio_net_hdr_v1 hdr = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 58, .csum_offset = 0};

	memcpy(g->packet, &hdr, sizeof(hdr));
	assert_int_equal(transmit(g, g->packet, NET_HDR_LEN + 60), 0);
	assert_int_equal(read(g->host, got, sizeof(got)), 64);
	rig_destroy(g);
}

/* A reader that is slow, and cuts everywhere: what was taken arrives whole and in order. */
static void full_socket(void **unused)
{
	static uint8_t stream[3000000], want[66000];
	struct rig *g = rig_attached();
	size_t sent = 0, got = 0, at = 0;
	unsigned frames = 0, refused = 0, turns = 0;

	(void)unused;
	g->backend->ops->watch(g->backend, 0, false, true);
	while (frames < 30) {
		size_t len = 30000 + frames * 1000;
		int ret;

		framed(want, len, frames);
		memcpy(g->packet + NET_HDR_LEN, want + 4, len);
		ret = transmit(g, g->packet, NET_HDR_LEN + len);
		if (ret == 0) {
			sent += 4 + len;
			frames++;
			continue;
		}
		assert_int_equal(ret, -EAGAIN);
		refused++;
		ssize_t n = read(g->host, stream + got, 40001);

		assert_true(n > 0);
		got += (size_t)n;
		rig_own(g);
		loop_timer_set(&g->timer, clock_now_ns());
		assert_int_equal(loop_run(&g->loop), 0);
	}
	assert_true(refused > 0);
	while (got < sent) {
		ssize_t n = read(g->host, stream + got, sizeof(stream) - got);

		if (n < 0) {
			assert_true(turns++ < 1000);
			wait_ready(g, 1000); /* the rest of a frame goes by itself */
			continue;
		}
		got += (size_t)n;
	}
	assert_int_equal(got, sent);
	for (unsigned i = 0; i < frames; i++) {
		size_t n = framed(want, 30000 + i * 1000, i);

		assert_memory_equal(stream + at, want, n);
		at += n;
	}
	rig_destroy(g);
}

/* All that there is to read now. */
static size_t drain(struct rig *g)
{
	static uint8_t buf[400000];
	size_t got = 0;
	ssize_t n;

	while ((n = read(g->host, buf, sizeof(buf))) > 0) {
		got += (size_t)n;
	}
	return got;
}

/* A frame that went out in part is finished although nobody sends or waits any more. */
static void finishes_frames(void **unused)
{
	struct rig *g = rig_attached();
	unsigned parts = 0;

	(void)unused;
	for (size_t len = 40000; len < 65000; len += 997) {
		size_t sent = 0, got;

		while (transmit(g, g->packet, NET_HDR_LEN + len) == 0) {
			sent += 4 + len;
		}
		got = drain(g);
		if (got < sent) {
			parts++;
			wait_ready(g, 1000);
			got += drain(g);
		}
		assert_int_equal(got, sent);
	}
	assert_true(parts > 0);
	rig_destroy(g);
}

static void other_side_closes(void **unused)
{
	struct rig *g = rig_attached();
	struct capture cap;

	(void)unused;
	/* Seen although nothing is waited for. */
	capture_begin(&cap);
	close(g->host);
	g->host = -1;
	wait_ready(g, 1000);
	assert_said(&cap, "passt has ended; the guest's network link is down");
	assert_true(g->gone);
	assert_int_equal(transmit(g, g->packet, 60), -EPIPE);
	rig_destroy(g);
}

/* ---- with a passt, or something in its place ---- */

/* A program named passt that is this shell script, and nothing else, on the PATH. */
static void fake_passt(char dir[32], const char *script)
{
	char path[64];
	FILE *f;

	snprintf(dir, 32, "/tmp/yado-passt-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/passt", dir);
	if (script != NULL) {
		f = fopen(path, "we");
		assert_non_null(f);
		fprintf(f, "#!/bin/sh\n%s\n", script);
		fclose(f);
		assert_int_equal(chmod(path, 0755), 0);
	}
	assert_int_equal(setenv("PATH", dir, 1), 0);
}

static void remove_fake(const char *dir, const char *old_path)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/passt", dir);
	unlink(path);
	rmdir(dir);
	assert_int_equal(setenv("PATH", old_path, 1), 0);
}

static void assert_refusal(const char *script, const char *args, int want, const char *said)
{
	struct rig *g = rig_create();
	char *path = strdup(getenv("PATH"));
	struct capture cap;
	char dir[32];
	int ret;

	fake_passt(dir, script);
	capture_begin(&cap);
	ret = passt_open(&g->backend, args, &g->loop);
	assert_said(&cap, said);
	assert_int_equal(ret, want);
	remove_fake(dir, path);
	free(path);
	rig_destroy(g);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no process is left */
}

static void refusals(void **unused)
{
	char many[400] = "";

	(void)unused;
	assert_refusal(NULL, NULL, -ENOENT, "install the package passt");
	assert_refusal("echo 'Failed to send 9 bytes to syslog' >&2; echo 'No way out' >&2; exit 1",
		       NULL, -ECHILD, "passt does not start: No way out");
	assert_refusal("exit 3", NULL, -ECHILD, "passt does not start: exit status 3");
	assert_refusal("kill -9 $$", NULL, -ECHILD, "passt does not start: killed by signal 9");
	assert_refusal("echo \"passt: unrecognized option '--x'\"; echo 'Usage: passt'; exit 1",
		       "--x", -ECHILD, "passt does not start: passt: unrecognized option '--x'");
	for (unsigned i = 0; i < 80; i++) {
		strcat(many, "-4  ");
	}
	assert_refusal("exit 0", many, -E2BIG, "too many arguments");
}

/* yado holds signals back for its event loop, which does not run while this waits. */
static void a_signal_ends_the_wait(void **unused)
{
	sigset_t held, before;

	(void)unused;
	sigemptyset(&held);
	sigaddset(&held, SIGTERM);
	assert_int_equal(sigprocmask(SIG_BLOCK, &held, &before), 0);
	assert_int_equal(raise(SIGTERM), 0);
	assert_refusal("read -r line <&3", NULL, -EINTR,
		       "passt was not ready yet when a signal came");
	assert_int_equal(sigtimedwait(&held, NULL, &(struct timespec){0}), SIGTERM);
	assert_int_equal(sigprocmask(SIG_SETMASK, &before, NULL), 0);
}

/* What passt is started with, and that it is told where to go when its connection closes. */
static void starts(void **unused)
{
	struct rig *g = rig_create();
	char *path = strdup(getenv("PATH"));
	uint8_t *text = g->packet + NET_HDR_LEN;
	char dir[32];
	int ret;

	(void)unused;
	/* It says that it is ready, sends its arguments as a frame of 80 bytes, and waits. */
	fake_passt(dir, "case $5,$6 in --pid,/proc/self/fd/4) echo $$ >&4;; *) exit 9;; esac\n"
			"printf '\\000\\000\\000\\120%-80.80s' \"$*\" >&3\n"
			"read -r line <&3");
	ret = passt_open(&g->backend, " -t  2222:22 --runas 0", &g->loop);
	remove_fake(dir, path);
	assert_int_equal(ret, 0);
	rig_own(g);
	g->backend->ops->watch(g->backend, 0, true, false);
	wait_ready(g, 5000);
	assert_int_equal(receive(g), NET_HDR_LEN + 80);
	assert_memory_equal(text,
			    "--foreground --quiet --fd 3 --pid /proc/self/fd/4 -t 2222:22 "
			    "--runas 0          ",
			    80);
	rig_destroy(g);
	free(path);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

/* One that cannot open the pipe as its file gets a second chance. */
static void starts_without_pid_file(void **unused)
{
	struct rig *g = rig_create();
	char *path = strdup(getenv("PATH"));
	char dir[32];
	int ret;

	(void)unused;
	fake_passt(dir, "case $5 in --pid) echo 'PID file open: No such file' >&2; exit 1;; esac\n"
			"read -r line <&3");
	ret = passt_open(&g->backend, "-4", &g->loop);
	remove_fake(dir, path);
	assert_int_equal(ret, 0);
	rig_destroy(g);
	free(path);
}

static void ends_while_running(void **unused)
{
	struct rig *g = rig_create();
	char *path = strdup(getenv("PATH"));
	struct capture cap;
	char dir[32];
	int ret;

	(void)unused;
	fake_passt(dir, "echo $$ >&4; read -r line <&3; echo 'Out of luck' >&2; exit 1");
	ret = passt_open(&g->backend, NULL, &g->loop);
	remove_fake(dir, path);
	assert_int_equal(ret, 0);
	rig_own(g);
	capture_begin(&cap);
	g->packet[NET_HDR_LEN + 50] = '\n';
	assert_int_equal(transmit(g, g->packet, NET_HDR_LEN + 60), 0);
	while (!g->gone) {
		wait_ready(g, 5000);
	}
	assert_said(&cap, "passt has ended: Out of luck; the guest's network link is down");
	rig_destroy(g);
	free(path);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static bool have_passt(void)
{
	return system("command -v passt >/dev/null && ip route show default | grep -q .") == 0;
}

/* The next frame of this type; passt sends others of its own accord, and the length by itself. */
static ssize_t await_frame(struct rig *g, uint8_t type_high, uint8_t type_low)
{
	for (unsigned i = 0; i < 20; i++) {
		ssize_t len = receive(g);

		if (len == -EAGAIN) {
			wait_ready(g, 1000);
		} else if (len < 0 || (g->packet[NET_HDR_LEN + 12] == type_high &&
				       g->packet[NET_HDR_LEN + 13] == type_low)) {
			return len;
		}
	}
	return -ETIMEDOUT;
}

/* The message type among DHCP options. Spec: RFC 2132, 9.6 */
static int dhcp_type(const uint8_t *option)
{
	const uint8_t *end = option + 300;

	for (; option < end && *option != 255; option += 2 + option[1]) {
		if (*option == 53) {
			return option[2];
		}
	}
	return -1;
}

/* The real one: an ARP request, then DHCP, and then its end. */
static void real_passt(void **unused)
{
	static const uint8_t arp[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0, 0x12, 0x34,
				      0x56, 8,	  6,	0,    1,    8,	  0,	6,    4, 0,    1,
				      0x52, 0x54, 0,	0x12, 0x34, 0x56, 10,	0,    2, 15,   0,
				      0,    0,	  0,	0,    0,    10,	  0,	2,    2};
	uint8_t dhcp[14 + 20 + 8 + 244] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0, 0x12, 0x34, 0x56, 8, 0,
		/* IPv4: length 272, UDP, 0.0.0.0 to 255.255.255.255 */
		0x45, 0, 1, 16, 0, 0, 0, 0, 64, 17, 0x79, 0xde, 0, 0, 0, 0, 255, 255, 255, 255,
		/* UDP: 68 to 67 */
		0, 68, 0, 67, 0, 252, 0, 0,
		/* BOOTP */
		1, 1, 6, 0, 0x12, 0x34, 0x56, 0x78};
	struct rig *g = rig_create();
	struct capture cap;

	(void)unused;
	if (!have_passt()) {
		rig_destroy(g);
		skip();
	}
	assert_int_equal(passt_open(&g->backend, NULL, &g->loop), 0);
	rig_own(g);
	g->backend->ops->watch(g->backend, 0, true, false);
	memcpy(g->packet + NET_HDR_LEN, arp, sizeof(arp));
	assert_int_equal(transmit(g, g->packet, NET_HDR_LEN + sizeof(arp)), 0);
	assert_true(await_frame(g, 8, 6) >= NET_HDR_LEN + 42);
	assert_int_equal(g->packet[NET_HDR_LEN + 21], 2); /* a reply */
	assert_memory_equal(g->packet + NET_HDR_LEN, arp + 6, 6);
	assert_memory_equal(g->packet + NET_HDR_LEN + 28, arp + 38, 4);

	memcpy(dhcp + 42 + 28, arp + 6, 6);
	memcpy(dhcp + 42 + 236, (const uint8_t[]){0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255}, 8);
	memset(g->packet, 0, NET_HDR_LEN);
	memcpy(g->packet + NET_HDR_LEN, dhcp, sizeof(dhcp));
	assert_int_equal(transmit(g, g->packet, NET_HDR_LEN + sizeof(dhcp)), 0);
	assert_true(await_frame(g, 8, 0) > NET_HDR_LEN + 42 + 240);
	assert_int_equal(load_le32(g->packet + NET_HDR_LEN + 42 + 4), 0x78563412);
	assert_int_equal(dhcp_type(g->packet + NET_HDR_LEN + 42 + 240), 2); /* an offer */

	/* Killed: the link goes down, with one line. */
	FILE *f = fopen("/proc/thread-self/children", "re");
	int pid = 0;

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%d", &pid), 1);
	fclose(f);
	capture_begin(&cap);
	kill(pid, SIGKILL);
	while (!g->gone) {
		wait_ready(g, 5000);
	}
	assert_said(&cap, "passt has ended");
	rig_destroy(g);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(receives_frames),
		cmocka_unit_test(breaks_protocol),
		cmocka_unit_test(sends_frames),
		cmocka_unit_test(finishes_checksums),
		cmocka_unit_test(refuses_checksums),
		cmocka_unit_test(full_socket),
		cmocka_unit_test(finishes_frames),
		cmocka_unit_test(other_side_closes),
		cmocka_unit_test(refusals),
		cmocka_unit_test(a_signal_ends_the_wait),
		cmocka_unit_test(starts),
		cmocka_unit_test(starts_without_pid_file),
		cmocka_unit_test(ends_while_running),
		cmocka_unit_test(real_passt),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
