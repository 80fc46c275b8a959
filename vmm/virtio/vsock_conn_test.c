#include "vmm/virtio/vsock_conn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit.h"

#define GUEST_PORT 1024
#define HOST_PORT  5000

/* A connection, and the host program at the other end of its socket. */
struct pair {
	struct vsock_conn c;
	int host;
	struct virtio_vsock_hdr hdr; /* the last packet for the guest */
	uint8_t data[70000];	     /* and its payload */
};

static struct pair *pair_create(enum vsock_conn_state state, uint32_t guest_buf)
{
	struct pair *p = test_calloc(1, sizeof(*p));
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	p->host = fds[0];
	assert_int_equal(vsock_conn_init(&p->c, fds[1], state), 0);
	p->c.guest_port = GUEST_PORT;
	p->c.host_port = HOST_PORT;
	p->c.peer_buf_alloc = guest_buf;
	return p;
}

static void pair_destroy(struct pair *p)
{
	vsock_conn_fini(&p->c);
	if (p->host >= 0) {
		close(p->host);
	}
	test_free(p);
}

static void host_closes(struct pair *p)
{
	close(p->host);
	p->host = -1;
}

/* A packet of the guest. It always says that its buffer is as at first, and empty. */
static void guest(struct pair *p, uint16_t op, uint32_t flags, const void *data, uint32_t len)
{
	struct iovec iov[2] = {{(void *)(uintptr_t)data, len / 3},
			       {(uint8_t *)(uintptr_t)data + len / 3, len - len / 3}};
	struct virtio_vsock_hdr hdr = {
		.op = op,
		.flags = flags,
		.len = len,
		.buf_alloc = p->c.peer_buf_alloc,
		.fwd_cnt = p->c.tx_cnt,
	};

	vsock_conn_packet(&p->c, &hdr, iov, 2);
}

/* The next packet for the guest: its op, or 0 if there is none. */
static int next(struct pair *p, size_t room)
{
	struct iovec iov[2] = {{p->data, 1}, {p->data + 1, room - 1}};

	if (!vsock_conn_next(&p->c, &p->hdr, iov, 2)) {
		return 0;
	}
	assert_int_equal(p->hdr.src_port, HOST_PORT);
	assert_int_equal(p->hdr.dst_port, p->c.guest_port);
	assert_int_equal(p->hdr.type, VIRTIO_VSOCK_TYPE_STREAM);
	assert_int_equal(p->hdr.buf_alloc, VSOCK_BUF_BYTES);
	assert_int_equal(p->hdr.fwd_cnt, p->c.fwd_cnt);
	return p->hdr.op;
}

/* The next one that is not about credit. */
static int next_but_credit(struct pair *p)
{
	int op = next(p, 100);

	return op == VIRTIO_VSOCK_OP_CREDIT_UPDATE ? next(p, 100) : op;
}

static void host_writes(struct pair *p, const char *text)
{
	assert_int_equal(write(p->host, text, strlen(text)), strlen(text));
	p->c.readable = true; /* as the loop would find out */
}

static void assert_host_reads(struct pair *p, const char *text)
{
	char buf[64] = {0};

	assert_int_equal(read(p->host, buf, sizeof(buf) - 1), strlen(text));
	assert_string_equal(buf, text);
}

static int hello(const char *text)
{
	struct pair *p = pair_create(VSOCK_HELLO, 0);
	int ret;

	assert_int_equal(vsock_conn_events(&p->c), EPOLLIN);
	host_writes(p, text);
	ret = vsock_conn_hello(&p->c);
	ret = ret == 1 ? (int)p->c.guest_port : ret;
	pair_destroy(p);
	return ret;
}

static void hello_lines(void **unused)
{
	(void)unused;
	assert_int_equal(hello("CONNECT 1\n"), 1);
	assert_int_equal(hello("CONNECT 1024\nrest"), 1024);
	assert_int_equal((uint32_t)hello("CONNECT 4294967294\n"), 4294967294);
	assert_int_equal(hello("CONNECT 12"), 0);
	assert_int_equal(hello("CONNECT 4294967295\n"), -EBADMSG); /* any port */
	assert_int_equal(hello("CONNECT 4294967297\n"), -EBADMSG);
	assert_int_equal(hello("CONNECT 99999999999999999999999\n"), -EBADMSG);
	assert_int_equal(hello("CONNECT \n"), -EBADMSG);
	assert_int_equal(hello("CONNECT -1\n"), -EBADMSG);
	assert_int_equal(hello("CONNECT 1 \n"), -EBADMSG);
	assert_int_equal(hello("connect 1\n"), -EBADMSG);
	assert_int_equal(hello("\n"), -EBADMSG);
	assert_int_equal(hello("a line without an end, and it is long"), -EBADMSG);
}

/* The line may come in pieces, and what follows it is the guest's. */
static void hello_in_pieces(void **unused)
{
	struct pair *p = pair_create(VSOCK_HELLO, 0);

	(void)unused;
	assert_int_equal(vsock_conn_hello(&p->c), 0);
	host_writes(p, "CON");
	assert_int_equal(vsock_conn_hello(&p->c), 0);
	host_writes(p, "NECT 7");
	assert_int_equal(vsock_conn_hello(&p->c), 0);
	host_writes(p, "7\nhello");
	assert_int_equal(vsock_conn_hello(&p->c), 1);
	assert_int_equal(p->c.guest_port, 77);
	assert_int_equal(read(p->c.fd, p->data, 100), 5);
	assert_memory_equal(p->data, "hello", 5);
	host_closes(p);
	assert_int_equal(vsock_conn_hello(&p->c), -EPIPE);
	pair_destroy(p);
}

static void host_connects(void **unused)
{
	struct pair *p = pair_create(VSOCK_REQUESTED, 0);

	(void)unused;
	p->c.due_request = true;
	host_writes(p, "early");
	assert_int_equal(next(p, 100), VIRTIO_VSOCK_OP_REQUEST);
	assert_int_equal(next(p, 100), 0);
	p->c.peer_buf_alloc = 1000;
	guest(p, VIRTIO_VSOCK_OP_RESPONSE, 0, NULL, 0);
	assert_host_reads(p, "OK 5000\n");
	assert_int_equal(next(p, 100), VIRTIO_VSOCK_OP_RW);
	assert_int_equal(p->hdr.len, 5);
	assert_memory_equal(p->data, "early", 5);
	assert_int_equal(next(p, 100), 0);
	assert_int_equal(vsock_conn_events(&p->c), EPOLLIN);
	guest(p, VIRTIO_VSOCK_OP_RW, 0, "answer", 6);
	assert_host_reads(p, "answer");
	pair_destroy(p);
}

static void guest_refuses(void **unused)
{
	struct pair *p = pair_create(VSOCK_REQUESTED, 0);

	(void)unused;
	p->c.due_request = true;
	assert_int_equal(next(p, 100), VIRTIO_VSOCK_OP_REQUEST);
	guest(p, VIRTIO_VSOCK_OP_RST, 0, NULL, 0);
	assert_true(vsock_conn_done(&p->c));
	assert_int_equal(next(p, 100), 0);
	pair_destroy(p);
}

/* A host that does not wait for the guest's answer. */
static void host_gives_up(void **unused)
{
	struct pair *p = pair_create(VSOCK_REQUESTED, 0);

	(void)unused;
	p->c.due_request = true;
	host_closes(p);
	vsock_conn_hang_up(&p->c);
	assert_true(vsock_conn_done(&p->c)); /* the guest never heard of it */
	pair_destroy(p);

	p = pair_create(VSOCK_REQUESTED, 0);
	p->c.due_request = true;
	assert_int_equal(next(p, 100), VIRTIO_VSOCK_OP_REQUEST);
	host_closes(p);
	vsock_conn_hang_up(&p->c);
	assert_false(vsock_conn_done(&p->c));
	assert_int_equal(next(p, 100), VIRTIO_VSOCK_OP_RST);
	assert_true(vsock_conn_done(&p->c));
	pair_destroy(p);
}

/* Never more than the guest has room for. */
static void credit_of_the_guest(void **unused)
{
	struct pair *p = pair_create(VSOCK_OPEN, 10);

	(void)unused;
	host_writes(p, "0123456789abcdef");
	assert_int_equal(next(p, 4), VIRTIO_VSOCK_OP_RW);
	assert_int_equal(p->hdr.len, 4);
	assert_int_equal(next(p, 100), VIRTIO_VSOCK_OP_RW);
	assert_int_equal(p->hdr.len, 6);
	assert_memory_equal(p->data, "456789", 6);
	/* It is asked for more once, and not again while it has none. */
	assert_int_equal(next(p, 100), VIRTIO_VSOCK_OP_CREDIT_REQUEST);
	assert_false(vsock_conn_due(&p->c));
	assert_int_equal(vsock_conn_events(&p->c), 0);

	struct virtio_vsock_hdr hdr = {
		.op = VIRTIO_VSOCK_OP_CREDIT_UPDATE, .buf_alloc = 10, .fwd_cnt = 0};
	vsock_conn_packet(&p->c, &hdr, NULL, 0);
	assert_false(vsock_conn_due(&p->c));
	/* A guest that has taken more than there was gets nothing for it. */
	hdr.fwd_cnt = 11;
	vsock_conn_packet(&p->c, &hdr, NULL, 0);
	assert_int_equal(next(p, 100), 0);
	hdr.fwd_cnt = 3;
	vsock_conn_packet(&p->c, &hdr, NULL, 0);
	assert_int_equal(next(p, 100), VIRTIO_VSOCK_OP_RW);
	assert_int_equal(p->hdr.len, 3);
	assert_memory_equal(p->data, "abc", 3);
	hdr.fwd_cnt = 13;
	vsock_conn_packet(&p->c, &hdr, NULL, 0);
	assert_int_equal(next(p, 100), VIRTIO_VSOCK_OP_RW);
	assert_int_equal(p->hdr.len, 3);
	pair_destroy(p);
}

/* The counters wrap at 2^32. */
static void credit_wraps(void **unused)
{
	struct pair *p = pair_create(VSOCK_OPEN, 10);

	(void)unused;
	p->c.tx_cnt = p->c.peer_fwd_cnt = UINT32_MAX - 3;
	host_writes(p, "0123456789abcdef");
	assert_int_equal(next(p, 100), VIRTIO_VSOCK_OP_RW);
	assert_int_equal(p->hdr.len, 10);
	assert_int_equal(p->c.tx_cnt, 6);
	guest(p, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0, NULL, 0);
	assert_int_equal(next(p, 100), VIRTIO_VSOCK_OP_RW);
	assert_int_equal(p->hdr.len, 6);
	pair_destroy(p);
}

/* What the host does not read is kept, up to what the guest was told; then it has to stop. */
static void slow_host(void **unused)
{
	struct pair *p = pair_create(VSOCK_OPEN, 1000);
	static uint8_t chunk[4096];
	size_t sent = 0, got = 0;
	uint8_t expect = 0;

	(void)unused;
	while (p->c.buf_len + sizeof(chunk) <= VSOCK_BUF_BYTES) {
		for (size_t i = 0; i < sizeof(chunk); i++) {
			chunk[i] = (uint8_t)((sent + i) % 251);
		}
		guest(p, VIRTIO_VSOCK_OP_RW, 0, chunk, sizeof(chunk));
		assert_false(p->c.due_rst);
		sent += sizeof(chunk);
		assert_true(sent < 4 * MIB);
	}
	assert_int_equal(vsock_conn_events(&p->c), EPOLLIN | EPOLLOUT);
	assert_int_equal(p->c.fwd_cnt, sent - p->c.buf_len);
	/* All comes out in its order, and the guest hears of the room. */
	while (got < sent) {
		ssize_t len = read(p->host, chunk, 1 + got % sizeof(chunk));

		if (len < 0) {
			vsock_conn_writable(&p->c);
			continue;
		}
		for (ssize_t i = 0; i < len; i++, expect = (uint8_t)((expect + 1) % 251)) {
			assert_int_equal(chunk[i], expect);
		}
		got += (size_t)len;
	}
	assert_int_equal(next(p, 100), VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	assert_int_equal(p->hdr.fwd_cnt, sent);
	assert_int_equal(next(p, 100), 0);
	assert_int_equal(vsock_conn_events(&p->c), EPOLLIN);
	pair_destroy(p);
}

static void beyond_our_credit(void **unused)
{
	struct pair *p = pair_create(VSOCK_OPEN, 1000);
	static uint8_t chunk[VSOCK_BUF_BYTES];

	(void)unused;
	while (p->c.buf_len == 0) {
		guest(p, VIRTIO_VSOCK_OP_RW, 0, chunk, sizeof(chunk));
	}
	guest(p, VIRTIO_VSOCK_OP_RW, 0, chunk, VSOCK_BUF_BYTES - p->c.buf_len);
	assert_int_equal(p->c.buf_len, VSOCK_BUF_BYTES);
	assert_false(p->c.due_rst);
	guest(p, VIRTIO_VSOCK_OP_RW, 0, chunk, 1);
	assert_int_equal(next(p, 100), VIRTIO_VSOCK_OP_RST);
	pair_destroy(p);
}

static void asks_for_credit(void **unused)
{
	struct pair *p = pair_create(VSOCK_OPEN, 1000);

	(void)unused;
	guest(p, VIRTIO_VSOCK_OP_RW, 0, "abc", 3);
	assert_int_equal(next(p, 100), 0); /* not worth a packet */
	guest(p, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 0, NULL, 0);
	assert_int_equal(next(p, 100), VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	assert_int_equal(p->hdr.fwd_cnt, 3);
	assert_int_equal(next(p, 100), 0);
	pair_destroy(p);
}

/* The guest sends no more, and still receives. */
static void guest_half_closes(void **unused)
{
	struct pair *p = pair_create(VSOCK_OPEN, 1000);

	(void)unused;
	guest(p, VIRTIO_VSOCK_OP_RW, 0, "last", 4);
	guest(p, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_SEND, NULL, 0);
	assert_host_reads(p, "last");
	assert_int_equal(read(p->host, p->data, 1), 0);
	host_writes(p, "reply");
	assert_int_equal(next(p, 100), VIRTIO_VSOCK_OP_RW);
	assert_int_equal(p->hdr.len, 5);
	/* Data after that is against the rules. */
	guest(p, VIRTIO_VSOCK_OP_RW, 0, "x", 1);
	assert_int_equal(next(p, 100), VIRTIO_VSOCK_OP_RST);
	pair_destroy(p);
}

/* The guest receives no more, and still sends. */
static void guest_stops_reading(void **unused)
{
	struct pair *p = pair_create(VSOCK_OPEN, 1000);

	(void)unused;
	host_writes(p, "lost");
	guest(p, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_RCV, NULL, 0);
	assert_int_equal(next(p, 100), 0);
	assert_int_equal(send(p->host, "x", 1, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPIPE);
	guest(p, VIRTIO_VSOCK_OP_RW, 0, "more", 4);
	assert_host_reads(p, "more");
	guest(p, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_SEND, NULL, 0);
	assert_int_equal(next(p, 100), VIRTIO_VSOCK_OP_RST);
	assert_true(vsock_conn_done(&p->c));
	pair_destroy(p);
}

/* A clean end: RST only when all has reached the host. */
static void guest_closes(void **unused)
{
	struct pair *p = pair_create(VSOCK_OPEN, 1000);
	static uint8_t chunk[VSOCK_BUF_BYTES];
	size_t kept;

	(void)unused;
	while (p->c.buf_len == 0) {
		guest(p, VIRTIO_VSOCK_OP_RW, 0, chunk, sizeof(chunk));
	}
	kept = p->c.buf_len;
	guest(p, VIRTIO_VSOCK_OP_SHUTDOWN, 3, NULL, 0);
	assert_int_equal(next_but_credit(p), 0);
	while (p->c.buf_len > 0) {
		assert_true(read(p->host, chunk, sizeof(chunk)) > 0);
		vsock_conn_writable(&p->c);
	}
	assert_true(kept > 0);
	assert_int_equal(next_but_credit(p), VIRTIO_VSOCK_OP_RST);
	assert_true(vsock_conn_done(&p->c));
	pair_destroy(p);
}

/* An RST while data is still on its way to the host: the data arrives, the guest is forgotten. */
static void guest_resets(void **unused)
{
	struct pair *p = pair_create(VSOCK_OPEN, 1000);
	static uint8_t chunk[VSOCK_BUF_BYTES];
	size_t sent = 0, got = 0;
	ssize_t len;

	(void)unused;
	while (p->c.buf_len == 0) {
		guest(p, VIRTIO_VSOCK_OP_RW, 0, chunk, sizeof(chunk));
		sent += sizeof(chunk);
	}
	guest(p, VIRTIO_VSOCK_OP_RST, 0, NULL, 0);
	assert_false(vsock_conn_due(&p->c));
	assert_false(vsock_conn_done(&p->c));
	assert_int_equal(vsock_conn_events(&p->c), EPOLLOUT);
	while ((len = read(p->host, chunk, sizeof(chunk))) > 0) {
		got += (size_t)len;
		vsock_conn_writable(&p->c);
	}
	assert_int_equal(len, 0);
	assert_int_equal(got, sent);
	assert_true(vsock_conn_done(&p->c));
	pair_destroy(p);
}

static void host_half_closes(void **unused)
{
	struct pair *p = pair_create(VSOCK_OPEN, 1000);

	(void)unused;
	host_writes(p, "bye");
	shutdown(p->host, SHUT_WR);
	assert_int_equal(next(p, 100), VIRTIO_VSOCK_OP_RW);
	assert_int_equal(next(p, 100), VIRTIO_VSOCK_OP_SHUTDOWN);
	assert_int_equal(p->hdr.flags, VIRTIO_VSOCK_SHUTDOWN_SEND);
	assert_int_equal(next(p, 100), 0);
	assert_int_equal(vsock_conn_events(&p->c), 0);
	guest(p, VIRTIO_VSOCK_OP_RW, 0, "answer", 6);
	assert_host_reads(p, "answer");
	guest(p, VIRTIO_VSOCK_OP_RST, 0, NULL, 0);
	assert_true(vsock_conn_done(&p->c));
	pair_destroy(p);
}

/* The host program ends; what it wrote before still arrives, within the guest's credit. */
static void host_ends(void **unused)
{
	struct pair *p = pair_create(VSOCK_OPEN, 4);

	(void)unused;
	host_writes(p, "longer");
	host_closes(p);
	vsock_conn_hang_up(&p->c);
	assert_int_equal(next(p, 100), VIRTIO_VSOCK_OP_RW);
	assert_int_equal(p->hdr.len, 4);
	assert_int_equal(next(p, 100), VIRTIO_VSOCK_OP_SHUTDOWN);
	assert_int_equal(p->hdr.flags, VIRTIO_VSOCK_SHUTDOWN_RCV);
	guest(p, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0, NULL, 0);
	assert_int_equal(next(p, 100), VIRTIO_VSOCK_OP_RW);
	assert_int_equal(p->hdr.len, 2);
	assert_int_equal(next(p, 100), VIRTIO_VSOCK_OP_SHUTDOWN);
	assert_int_equal(p->hdr.flags, 3);
	assert_int_equal(next(p, 100), 0);
	/* What the guest had under way is taken and forgotten. */
	guest(p, VIRTIO_VSOCK_OP_RW, 0, "late", 4);
	assert_int_equal(p->c.fwd_cnt, 4);
	assert_false(vsock_conn_done(&p->c));
	guest(p, VIRTIO_VSOCK_OP_RST, 0, NULL, 0);
	assert_true(vsock_conn_done(&p->c));
	pair_destroy(p);
}

/* The host ended with unread data, after the guest closed: nobody waits for ever. */
static void both_end(void **unused)
{
	struct pair *p = pair_create(VSOCK_OPEN, 1000);
	static uint8_t chunk[VSOCK_BUF_BYTES];

	(void)unused;
	while (p->c.buf_len == 0) {
		guest(p, VIRTIO_VSOCK_OP_RW, 0, chunk, sizeof(chunk));
	}
	guest(p, VIRTIO_VSOCK_OP_SHUTDOWN, 3, NULL, 0);
	assert_int_equal(next_but_credit(p), 0);
	host_closes(p);
	vsock_conn_hang_up(&p->c);
	assert_int_equal(next_but_credit(p), VIRTIO_VSOCK_OP_RST);
	assert_true(vsock_conn_done(&p->c));
	pair_destroy(p);
}

/* Packets that are out of place end the connection with an RST. */
static void wrong_packets(void **unused)
{
	static const uint16_t ops[] = {
		VIRTIO_VSOCK_OP_INVALID, VIRTIO_VSOCK_OP_REQUEST, VIRTIO_VSOCK_OP_RESPONSE, 8, 9999,
	};

	(void)unused;
	for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
		struct pair *p = pair_create(VSOCK_OPEN, 1000);

		guest(p, ops[i], 0, NULL, 0);
		assert_int_equal(next(p, 100), VIRTIO_VSOCK_OP_RST);
		assert_true(vsock_conn_done(&p->c));
		pair_destroy(p);
	}
	static const uint16_t early[] = {VIRTIO_VSOCK_OP_RW, VIRTIO_VSOCK_OP_SHUTDOWN};

	for (unsigned i = 0; i < ARRAY_SIZE(early); i++) {
		struct pair *p = pair_create(VSOCK_REQUESTED, 1000);

		guest(p, early[i], 3, "x", 1);
		assert_int_equal(next(p, 100), VIRTIO_VSOCK_OP_RST);
		pair_destroy(p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hello_lines),	     cmocka_unit_test(hello_in_pieces),
		cmocka_unit_test(host_connects),     cmocka_unit_test(guest_refuses),
		cmocka_unit_test(host_gives_up),     cmocka_unit_test(credit_of_the_guest),
		cmocka_unit_test(credit_wraps),	     cmocka_unit_test(slow_host),
		cmocka_unit_test(beyond_our_credit), cmocka_unit_test(asks_for_credit),
		cmocka_unit_test(guest_half_closes), cmocka_unit_test(guest_stops_reading),
		cmocka_unit_test(guest_closes),	     cmocka_unit_test(guest_resets),
		cmocka_unit_test(host_half_closes),  cmocka_unit_test(host_ends),
		cmocka_unit_test(both_end),	     cmocka_unit_test(wrong_packets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
