#include "vmm/net/tap.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/capture.h"
#include "tests/unit.h"
#include "vmm/clock.h"
#include "vmm/net/features.h"

/*
 * With a TAP interface of its own, which needs a host where the test may make one. Whatever cannot
 * be made is skipped.
 */
static char name[IFNAMSIZ];

static int shell(const char *format)
{
	char command[256];

	snprintf(command, sizeof(command), format, name, name);
	return system(command);
}

static bool make_tap(const char *kind)
{
	char format[128];

	snprintf(name, sizeof(name), "yt%d", (int)getpid() % 100000);
	snprintf(format, sizeof(format),
		 "ip tuntap add dev %%s mode tap %s 2>/dev/null && "
		 "ip link set dev %%s up 2>/dev/null",
		 kind);
	return shell(format) == 0;
}

static void remove_tap(void)
{
	assert_int_equal(shell("ip link del dev %s"), 0);
}

struct owner {
	struct loop loop;
	struct loop_timer timer;
	struct net_backend *backend;
	unsigned pair, nready;
	bool gone;
};

static void on_ready(void *arg, unsigned pair, bool gone)
{
	struct owner *o = arg;

	o->pair = pair;
	o->nready++;
	o->gone = o->gone || gone;
	loop_stop(&o->loop);
}

static void on_time(void *arg)
{
	struct owner *o = arg;

	loop_stop(&o->loop);
}

static int owner_init(struct owner *o, unsigned pairs)
{
	int ret;

	*o = (struct owner){0};
	assert_int_equal(loop_init(&o->loop), 0);
	assert_int_equal(loop_timer_init(&o->timer, &o->loop, on_time, o), 0);
	ret = tap_open(&o->backend, name, pairs, &o->loop);
	if (ret == 0) {
		o->backend->ready = on_ready;
		o->backend->arg = o;
	}
	return ret;
}

static void owner_fini(struct owner *o)
{
	if (o->backend != NULL) {
		o->backend->ops->close(o->backend);
	}
	loop_timer_fini(&o->timer, &o->loop);
	loop_fini(&o->loop);
}

static void wait_ready(struct owner *o)
{
	loop_timer_set(&o->timer, clock_now_ns() + UINT64_C(5000000000));
	assert_int_equal(loop_run(&o->loop), 0);
	loop_timer_clear(&o->timer);
}

/* The host's side of the interface. */
static int open_host(void)
{
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(0x88b5));
	struct sockaddr_ll addr = {.sll_family = AF_PACKET,
				   .sll_protocol = htons(0x88b5), /* for experiments */
				   .sll_ifindex = (int)if_nametoindex(name)};

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static void carries_packets(void **unused)
{
	uint8_t frame[100] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5, 1, 2, 3};
	uint8_t hdr[NET_HDR_LEN] = {0};
	uint8_t got[NET_HDR_LEN + 200];
	struct iovec out[2] = {{hdr, sizeof(hdr)}, {frame, sizeof(frame)}};
	struct iovec in = {got, sizeof(got)};
	struct owner o;
	ssize_t len;
	int host;

	(void)unused;
	if (!make_tap("")) {
		skip();
	}
	assert_int_equal(owner_init(&o, 1), 0);
	assert_true((o.backend->features & (NET_F_HOST_TSO | NET_F_GUEST_TSO)) ==
		    (NET_F_HOST_TSO | NET_F_GUEST_TSO));
	host = open_host();
	assert_int_equal(o.backend->ops->send(o.backend, 0, out, 2, 112), 0);
	assert_int_equal(recv(host, got, sizeof(got), 0), 100);
	assert_memory_equal(got, frame, 100);

	o.backend->ops->watch(o.backend, 0, true, false);
	frame[16] = 9;
	assert_int_equal(send(host, frame, 100, 0), 100);
	do {
		wait_ready(&o); /* the host may say things of its own first */
		len = o.backend->ops->recv(o.backend, 0, &in, 1);
	} while (len > 0 && (got[24] != 0x88 || got[25] != 0xb5));
	assert_int_equal(len, 112);
	assert_memory_equal(got + NET_HDR_LEN, frame, 100);

	/* A header that the kernel does not take, and an interface that is down: lost. */
	hdr[1] = 0x77;
	assert_int_equal(o.backend->ops->send(o.backend, 0, out, 2, 112), 0);
	hdr[1] = 0;
	assert_int_equal(shell("ip link set dev %s down"), 0);
	assert_int_equal(o.backend->ops->send(o.backend, 0, out, 2, 112), 0);
	/* Any set of offloads can be asked for, sensible or not. */
	for (unsigned bits = 0; bits < 64; bits++) {
		uint64_t features = (bits & 7) << VIRTIO_NET_F_GUEST_TSO4 |
				    (bits & 8 ? BIT(VIRTIO_NET_F_GUEST_CSUM) : 0) |
				    (uint64_t)(bits >> 4) << VIRTIO_NET_F_GUEST_USO4;
		struct capture cap;

		features &= o.backend->features;
		capture_begin(&cap);
		o.backend->ops->set_offload(o.backend, features);
		assert_silent(&cap);
	}
	close(host);
	owner_fini(&o);
	remove_tap();
}

static void has_pairs(void **unused)
{
	uint8_t hdr[NET_HDR_LEN] = {0};
	uint8_t frame[60] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5};
	struct iovec out[2] = {{hdr, sizeof(hdr)}, {frame, sizeof(frame)}};
	uint8_t got[100];
	struct owner o;
	int host;

	(void)unused;
	if (!make_tap("multi_queue")) {
		skip();
	}
	assert_int_equal(owner_init(&o, 4), 0);
	host = open_host();
	for (unsigned pairs = 1; pairs <= 4; pairs++) {
		o.backend->ops->set_pairs(o.backend, 4);
		o.backend->ops->set_pairs(o.backend, pairs);
		for (unsigned i = 0; i < 4; i++) {
			o.backend->ops->watch(o.backend, i, i < pairs, false);
		}
		for (unsigned i = 0; i < pairs; i++) {
			frame[20] = (uint8_t)(pairs * 16 + i);
			assert_int_equal(o.backend->ops->send(o.backend, i, out, 2, 72), 0);
			assert_int_equal(recv(host, got, sizeof(got), 0), 60);
			assert_int_equal(got[20], frame[20]);
		}
	}
	/* Queues that take no part do not make the loop busy, and are no dead ones. */
	o.backend->ops->set_pairs(o.backend, 1);
	for (unsigned i = 0; i < 4; i++) {
		o.backend->ops->watch(o.backend, i, false, false);
	}
	loop_timer_set(&o.timer, clock_now_ns() + 50000000);
	assert_int_equal(loop_run(&o.loop), 0);
	assert_false(o.gone);
	owner_fini(&o);

	/* One queue of an interface that could have more. */
	assert_int_equal(owner_init(&o, 1), 0);
	frame[20] = 77;
	assert_int_equal(o.backend->ops->send(o.backend, 0, out, 2, 72), 0);
	assert_int_equal(recv(host, got, sizeof(got), 0), 60);
	assert_int_equal(got[20], 77);
	close(host);
	owner_fini(&o);
	remove_tap();
}

static void interface_goes(void **unused)
{
	uint8_t packet[100] = {0};
	struct iovec iov = {packet, sizeof(packet)};
	struct capture cap;
	struct owner o;

	(void)unused;
	if (!make_tap("")) {
		skip();
	}
	assert_int_equal(owner_init(&o, 1), 0);
	o.backend->ops->watch(o.backend, 0, true, false);
	capture_begin(&cap);
	remove_tap();
	wait_ready(&o);
	assert_said(&cap, "has gone; the guest's link is down");
	assert_true(o.gone);
	assert_int_equal(o.backend->ops->send(o.backend, 0, &iov, 1, 100), -EPIPE);
	assert_int_equal(o.backend->ops->recv(o.backend, 0, &iov, 1), -EPIPE);
	/* Said once, and the dead descriptor does not keep the loop busy. */
	o.backend->ops->watch(o.backend, 0, true, true);
	loop_timer_set(&o.timer, clock_now_ns() + 50000000);
	assert_int_equal(loop_run(&o.loop), 0);
	assert_int_equal(o.nready, 1);
	owner_fini(&o);
}

static void assert_refused(unsigned pairs, int want, const char *said)
{
	struct capture cap;
	struct owner o;
	int ret;

	capture_begin(&cap);
	ret = owner_init(&o, pairs);
	assert_said(&cap, said);
	assert_int_equal(ret, want);
	owner_fini(&o);
}

static void refusals(void **unused)
{
	struct owner o;

	(void)unused;
	strcpy(name, "");
	assert_refused(1, -EINVAL, "cannot be the name of a network interface");
	strcpy(name, "no-such-if");
	assert_refused(1, -ENODEV, "there is no network interface no-such-if");
	if (!make_tap("")) {
		skip();
	}
	assert_refused(2, -EINVAL, "is no TAP interface with several queues");
	assert_int_equal(owner_init(&o, 1), 0);
	assert_refused(1, -EBUSY, "is in use by another program");
	owner_fini(&o);
	remove_tap();
	/* Of an interface made for several queues, Linux gives each program its own. */
	assert_true(make_tap("multi_queue"));
	assert_int_equal(owner_init(&o, 1), 0);
	assert_refused(1, -EBUSY, "is in use by another program");
	assert_refused(2, -EBUSY, "is in use by another program");
	owner_fini(&o);
	assert_int_equal(owner_init(&o, 2), 0);
	owner_fini(&o);
	remove_tap();
	strcpy(name, "lo");
	assert_refused(1, -EINVAL, "the network interface lo is no TAP interface");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(carries_packets),
		cmocka_unit_test(has_pairs),
		cmocka_unit_test(interface_goes),
		cmocka_unit_test(refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
