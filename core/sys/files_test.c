/*
 * Descriptors and what they stand for, through the system calls that ring 3 makes.
 */
#include <errno.h>
#include <linux/eventpoll.h>
#include <string.h>

#include "core/hw/clock.h"
#include "core/sys/eventfd.h"
#include "core/sys/fd.h"
#include "core/sys/file.h"
#include "core/sys/syscall.h"
#include "core/sys/tree.h"
#include "core/task/fake_task.h"
#include "core/task/futex.h"
#include "core/task/signal.h"
#include "tests/unit.h"

#define CALL(name, ...) sys_##name((const uint64_t[6]){__VA_ARGS__})
#define PTR(p)		(uint64_t)(p)
#define NONBLOCK	04000

static int start(void **state)
{
	(void)state;
	fake_task_start();
	return 0;
}

static int stop(void **state)
{
	(void)state;
	fake_task_stop();
	return 0;
}

static void test_pipe(void **state)
{
	char buf[8] = {0};
	int fds[2];

	(void)state;
	assert_int_equal(CALL(pipe2, PTR(fds), NONBLOCK), 0);
	assert_int_equal(CALL(read, fds[0], PTR(buf), 8), -EAGAIN);
	assert_int_equal(CALL(write, fds[1], PTR("abc"), 3), 3);
	assert_int_equal(CALL(write, fds[0], PTR("abc"), 3), -EBADF);
	assert_int_equal(CALL(read, fds[0], 8, 3), -EFAULT);
	assert_int_equal(CALL(read, fds[0], PTR(buf), 2), 2);
	assert_int_equal(CALL(read, fds[0], PTR(buf + 2), 8), 1);
	assert_string_equal(buf, "abc");
	assert_int_equal(CALL(lseek, fds[0], 0, 0), -ESPIPE);
	assert_int_equal(CALL(close, fds[1]), 0);
	assert_int_equal(CALL(read, fds[0], PTR(buf), 8), 0);
	assert_int_equal(CALL(pipe2, 8, 0), -EFAULT);
}

static void test_a_full_pipe_and_a_gone_reader(void **state)
{
	static char block[4096];
	int fds[2];
	int64_t total = 0, done;

	(void)state;
	assert_int_equal(CALL(pipe2, PTR(fds), NONBLOCK), 0);
	while ((done = CALL(write, fds[1], PTR(block), sizeof(block))) > 0) {
		total += done;
	}
	assert_int_equal(done, -EAGAIN);
	assert_int_equal(total, 65536);
	assert_int_equal(CALL(close, fds[0]), 0);
	assert_int_equal(CALL(write, fds[1], PTR(block), 1), -EPIPE);
	assert_int_equal(fake_effects.signal, 13);
}

static void read_one(void *arg)
{
	char c;

	*(int64_t *)arg = CALL(read, 0, PTR(&c), 1);
}

static void test_a_reader_sleeps_until_there_is_something(void **state)
{
	int64_t result = -1;
	int fds[2];

	(void)state;
	assert_int_equal(CALL(pipe2, PTR(fds), 0), 0);
	assert_int_equal(fds[0], 0);
	fake_thread_run(read_one, &result);
	fake_thread_await_sleep();
	assert_int_equal(CALL(write, fds[1], PTR("x"), 1), 1);
	fake_thread_join();
	assert_int_equal(result, 1);
	fake_signal_set(true);
	read_one(&result);
	assert_int_equal(result, -ERESTARTSYS);
}

static void test_descriptors(void **state)
{
	int fds[2];

	(void)state;
	assert_int_equal(CALL(pipe2, PTR(fds), 02000000), 0);
	assert_int_equal(CALL(fcntl, fds[0], 1), 1);
	assert_int_equal(CALL(dup, fds[0]), 2);
	assert_int_equal(CALL(fcntl, 2, 1), 0);
	assert_int_equal(CALL(dup2, fds[1], 100), 100);
	assert_int_equal(CALL(dup3, fds[1], fds[1], 0), -EINVAL);
	assert_int_equal(CALL(dup2, fds[1], FD_MAX), -EBADF);
	assert_int_equal(CALL(fcntl, fds[0], 0, 50), 50);
	assert_int_equal(CALL(fcntl, fds[0], 0, (uint64_t)-1), -EINVAL);
	assert_int_equal(CALL(close, 77), -EBADF);
	assert_int_equal(CALL(close, (uint64_t)-1), -EBADF);
	assert_int_equal(CALL(close_range, 2, ~0u, 0), 0);
	assert_int_equal(CALL(close, 100), -EBADF);
	assert_int_equal(CALL(dup, fds[0]), 2);
	process_current()->limits.files = 3;
	assert_int_equal(CALL(dup, fds[0]), -EMFILE);
}

static void test_eventfd(void **state)
{
	uint64_t value = 5;
	int64_t fd;

	(void)state;
	fd = CALL(eventfd2, 2, NONBLOCK);
	assert_true(fd >= 0);
	assert_int_equal(CALL(write, fd, PTR(&value), 8), 8);
	assert_int_equal(CALL(read, fd, PTR(&value), 4), -EINVAL);
	assert_int_equal(CALL(read, fd, PTR(&value), 8), 8);
	assert_int_equal(value, 7);
	assert_int_equal(CALL(read, fd, PTR(&value), 8), -EAGAIN);
	value = UINT64_MAX;
	assert_int_equal(CALL(write, fd, PTR(&value), 8), -EINVAL);
	value = UINT64_MAX - 1;
	assert_int_equal(CALL(write, fd, PTR(&value), 8), 8);
	value = 1;
	assert_int_equal(CALL(write, fd, PTR(&value), 8), -EAGAIN);
	fd = CALL(eventfd2, 2, NONBLOCK | 1);
	assert_int_equal(CALL(read, fd, PTR(&value), 8), 8);
	assert_int_equal(value, 1);
	assert_int_equal(CALL(eventfd2, 0, 0x100), -EINVAL);
}

static void test_timerfd_counts_what_nobody_read(void **state)
{
	uint64_t setting[4] = {0, 1000, 0, 5000}, count; /* each 1 us, first after 5 */
	int64_t fd;

	(void)state;
	fd = CALL(timerfd_create, 1, NONBLOCK);
	assert_int_equal(CALL(timerfd_settime, fd, 0, PTR(setting), 0), 0);
	assert_int_equal(CALL(read, fd, PTR(&count), 8), -EAGAIN);
	fake_clock_advance(5000);
	assert_int_equal(CALL(read, fd, PTR(&count), 8), 8);
	assert_int_equal(count, 1);
	fake_clock_advance(3500);
	assert_int_equal(CALL(read, fd, PTR(&count), 8), 8);
	assert_int_equal(count, 3);
	assert_int_equal(CALL(timerfd_gettime, fd, PTR(setting)), 0);
	assert_int_equal(setting[3], 500);
	setting[1] = 1000000000;
	assert_int_equal(CALL(timerfd_settime, fd, 0, PTR(setting), 0), -EINVAL);
	assert_int_equal(CALL(timerfd_settime, 99, 0, PTR(setting), 0), -EBADF);
}

static void test_epoll(void **state)
{
	struct epoll_event e = {.events = EPOLLIN, .data = 42}, got[4];
	uint64_t one = 1;
	int64_t ep, ev;

	(void)state;
	ep = CALL(epoll_create1, 0);
	ev = CALL(eventfd2, 0, NONBLOCK);
	assert_int_equal(CALL(epoll_ctl, ep, EPOLL_CTL_ADD, ev, PTR(&e)), 0);
	assert_int_equal(CALL(epoll_ctl, ep, EPOLL_CTL_ADD, ev, PTR(&e)), -EEXIST);
	assert_int_equal(CALL(epoll_ctl, ep, EPOLL_CTL_ADD, ep, PTR(&e)), -EINVAL);
	assert_int_equal(CALL(epoll_wait, ep, PTR(got), 4, 0), 0);
	CALL(write, ev, PTR(&one), 8);
	assert_int_equal(CALL(epoll_wait, ep, PTR(got), 4, 0), 1);
	assert_int_equal(got[0].data, 42);
	assert_int_equal(CALL(epoll_wait, ep, PTR(got), 4, 0), 1); /* level: still there */
	e.events = EPOLLIN | EPOLLET;
	assert_int_equal(CALL(epoll_ctl, ep, EPOLL_CTL_MOD, ev, PTR(&e)), 0);
	assert_int_equal(CALL(epoll_wait, ep, PTR(got), 4, 0), 1);
	assert_int_equal(CALL(epoll_wait, ep, PTR(got), 4, 0), 0); /* edge: told once */
	CALL(write, ev, PTR(&one), 8);
	assert_int_equal(CALL(epoll_wait, ep, PTR(got), 4, 0), 1);
	e.events = EPOLLIN | EPOLLONESHOT;
	assert_int_equal(CALL(epoll_ctl, ep, EPOLL_CTL_MOD, ev, PTR(&e)), 0);
	assert_int_equal(CALL(epoll_wait, ep, PTR(got), 4, 0), 1);
	CALL(write, ev, PTR(&one), 8);
	assert_int_equal(CALL(epoll_wait, ep, PTR(got), 4, 0), 0);
	assert_int_equal(CALL(epoll_wait, ep, PTR(got), 0, 0), -EINVAL);
	assert_int_equal(CALL(close, ev), 0);
	assert_int_equal(CALL(epoll_ctl, ep, EPOLL_CTL_DEL, ev, PTR(&e)), -EBADF);
}

static void test_poll(void **state)
{
	struct {
		int32_t fd;
		int16_t events, revents;
	} p[3] = {{.fd = 0, .events = 1}, {.fd = 1, .events = 4}, {.fd = 77, .events = 1}};
	int fds[2];

	(void)state;
	assert_int_equal(CALL(pipe2, PTR(fds), 0), 0);
	assert_int_equal(CALL(poll, PTR(p), 3, 0), 2);
	assert_int_equal(p[0].revents, 0);
	assert_int_equal(p[1].revents, 4);
	assert_int_equal(p[2].revents, 0x20);
	CALL(close, fds[1]);
	p[1].fd = -1;
	assert_int_equal(CALL(poll, PTR(p), 2, (uint64_t)-1), 1);
	assert_int_equal(p[0].revents, 0x10);
	assert_int_equal(CALL(poll, PTR(p), 1 << 20, 0), -EINVAL);
}

struct rights {
	uint64_t len;
	int32_t level, type;
	int32_t fd[2];
};

struct msg {
	uint64_t name, name_len, iov, iov_count, control, control_len, flags;
};

static void test_descriptors_travel_with_their_bytes(void **state)
{
	char text[8] = "abcdefg", in[16] = {0};
	uint64_t iov[2] = {PTR(text), 2}, iov_in[2] = {PTR(in), 16};
	struct rights r = {.len = 20, .level = 1, .type = 1}, got = {0};
	struct msg m = {.iov = PTR(iov), .iov_count = 1}, n;
	int fds[2];
	uint64_t value;

	(void)state;
	assert_int_equal(CALL(socketpair, 1, 1, 0, PTR(fds)), 0);
	r.fd[0] = (int32_t)CALL(eventfd2, 9, NONBLOCK);
	assert_int_equal(CALL(write, fds[0], PTR("12"), 2), 2);
	m.control = PTR(&r);
	m.control_len = sizeof(r);
	assert_int_equal(CALL(sendmsg, fds[0], PTR(&m), 0), 2);
	CALL(close, r.fd[0]);
	n = (struct msg){
		.iov = PTR(iov_in), .iov_count = 1, .control = PTR(&got), .control_len = 24};
	assert_int_equal(CALL(recvmsg, fds[1], PTR(&n), 0), 2); /* not over the passenger */
	assert_int_equal(n.control_len, 0);
	n.control_len = 24;
	assert_int_equal(CALL(recvmsg, fds[1], PTR(&n), 0), 2);
	assert_int_equal(got.len, 20);
	assert_int_equal(CALL(read, got.fd[0], PTR(&value), 8), 8);
	assert_int_equal(value, 9);
	r.fd[0] = fds[0];
	assert_int_equal(CALL(sendmsg, fds[0], PTR(&m), 0), -EINVAL); /* a socket */
	r.fd[0] = 99;
	assert_int_equal(CALL(sendmsg, fds[0], PTR(&m), 0), -EBADF);
	r.fd[0] = got.fd[0];
	r.len = 4096;
	assert_int_equal(CALL(sendmsg, fds[0], PTR(&m), 0), -EINVAL);
	r.len = 20;
	assert_int_equal(CALL(sendmsg, fds[0], PTR(&m), 0), 2); /* stays unread: freed at the end */
}

/* Messages may carry as many descriptors of one file as there is memory for them. */
static void test_holders_may_be_more_than_2_to_the_32(void **state)
{
	struct node *n = tree_new_file(0600);
	int fd = (int)CALL(eventfd2, 0, NONBLOCK);
	struct file *f = fd_get(fd);

	(void)state;
	f->refs = UINT32_MAX;
	file_get(f);
	file_get(f);
	file_put(f);
	assert_int_equal(f->refs, UINT64_C(1) << 32);
	f->refs = 1;
	assert_int_equal(CALL(close, fd), 0);
	n->refs = UINT32_MAX;
	node_get(n);
	node_get(n);
	node_put(n);
	assert_int_equal(n->refs, UINT64_C(1) << 32);
	n->refs = 1;
	node_put(n);
}

static uint64_t inode_of(int fd)
{
	struct file *f = fd_get(fd);
	struct file_stat st;

	assert_int_equal(f->ops->stat(f, &st), 0);
	file_put(f);
	return st.inode;
}

static void test_numbers_of_files_are_no_addresses(void **state)
{
	int pipe[2], pair[2];

	(void)state;
	assert_int_equal(CALL(pipe2, PTR(pipe), 0), 0);
	assert_int_equal(CALL(socketpair, 1, 1, 0, PTR(pair)), 0);
	assert_true(inode_of(pipe[0]) == inode_of(pipe[1]));
	assert_true(inode_of(pair[0]) != inode_of(pair[1]));
	assert_true(inode_of(pipe[0]) != inode_of(pair[0]));
	for (unsigned i = 0; i < 2; i++) {
		assert_true(inode_of(pipe[i]) < 1000 && inode_of(pair[i]) < 1000);
	}
}

static void test_sockets_meet_at_a_path(void **state)
{
	struct {
		uint16_t family;
		char path[108];
	} at = {1, "/tmp/s"};
	char c = 0;
	int64_t l, a, b;

	(void)state;
	assert_int_equal(tree_make_dir("/tmp", true), 0);
	l = CALL(socket, 1, 1 | NONBLOCK, 0);
	a = CALL(socket, 1, 1, 0);
	assert_int_equal(CALL(connect, a, PTR(&at), sizeof(at)), -ENOENT);
	assert_int_equal(CALL(bind, l, PTR(&at), sizeof(at)), 0);
	assert_int_equal(CALL(bind, a, PTR(&at), sizeof(at)), -EADDRINUSE);
	assert_int_equal(CALL(connect, a, PTR(&at), sizeof(at)), -ECONNREFUSED);
	assert_int_equal(CALL(listen, l, 1), 0);
	assert_int_equal(CALL(accept4, l, 0, 0, 0), -EAGAIN);
	assert_int_equal(CALL(connect, a, PTR(&at), sizeof(at)), 0);
	assert_int_equal(CALL(write, a, PTR("x"), 1), 1);
	b = CALL(accept4, l, 0, 0, 0);
	assert_true(b >= 0);
	assert_int_equal(CALL(recvfrom, b, PTR(&c), 1, 0x2, 0, 0), 1); /* MSG_PEEK */
	assert_int_equal(CALL(read, b, PTR(&c), 1), 1);
	assert_int_equal(c, 'x');
	assert_int_equal(CALL(shutdown, a, 1), 0);
	assert_int_equal(CALL(read, b, PTR(&c), 1), 0);
	assert_int_equal(CALL(write, b, PTR("y"), 1), 1);
	assert_int_equal(CALL(read, a, PTR(&c), 1), 1);
	a = CALL(socket, 1, 1, 0);
	assert_int_equal(CALL(connect, a, PTR(&at), sizeof(at)), 0);
	CALL(close, l); /* one waits to be accepted */
	assert_int_equal(CALL(read, a, PTR(&c), 1), 0);
	assert_int_equal(CALL(socket, 2, 1, 0), -EAFNOSUPPORT);
	assert_int_equal(CALL(unlink, PTR("/tmp/s")), 0);
}

static void test_directory_is_read_while_it_shrinks(void **state)
{
	struct {
		uint64_t inode, next;
		uint16_t bytes;
		char type, name[5];
	} entry;
	char path[] = "/tmp/?";
	int64_t fd;

	(void)state;
	assert_int_equal(tree_make_dir("/tmp", true), 0);
	for (path[5] = 'a'; path[5] < 'e'; path[5]++) {
		CALL(close, CALL(open, PTR(path), 0102, 0600)); /* O_RDWR, O_CREAT */
	}
	fd = CALL(open, PTR("/tmp"), 0200000); /* O_DIRECTORY */
	assert_true(fd >= 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(CALL(getdents64, fd, PTR(&entry), sizeof(entry)), sizeof(entry));
		assert_int_equal(entry.name[0], '.');
	}
	for (path[5] = 'a'; path[5] < 'e'; path[5]++) {
		assert_int_equal(CALL(getdents64, fd, PTR(&entry), sizeof(entry)), sizeof(entry));
		assert_int_equal(entry.name[0], path[5]);
		assert_int_equal(CALL(unlink, PTR(path)), 0);
	}
	assert_int_equal(CALL(getdents64, fd, PTR(&entry), sizeof(entry)), 0);
	CALL(close, fd);
}

static void wait_on(void *arg)
{
	uint32_t *word = arg;

	word[1] = (uint32_t)futex_wait(PTR(word), false, 5, FUTEX_ANY, 1000000);
}

static void test_futex(void **state)
{
	uint32_t word[2] = {5, 77}, wrong = 6;

	(void)state;
	assert_int_equal(futex_wait(PTR(word), false, 6, FUTEX_ANY, CLOCK_NEVER), -EAGAIN);
	assert_int_equal(futex_wait(PTR(word) + 1, false, 5, FUTEX_ANY, CLOCK_NEVER), -EINVAL);
	assert_int_equal(futex_wait(PTR(word), false, 5, 0, CLOCK_NEVER), -EINVAL);
	assert_int_equal(futex_wait(PTR(word), false, 5, FUTEX_ANY, 10), -ETIMEDOUT);
	fake_thread_run(wait_on, word);
	fake_thread_await_sleep();
	assert_int_equal(futex_wake(PTR(word + 1), false, 1, FUTEX_ANY), 0);
	assert_int_equal(futex_requeue(PTR(word), false, 0, 1, PTR(word + 1), &wrong), -EAGAIN);
	assert_int_equal(futex_requeue(PTR(word), false, 0, 1, PTR(word + 1), NULL), 1);
	assert_int_equal(futex_wake(PTR(word), false, 1, FUTEX_ANY), 0);
	assert_int_equal(futex_wake(PTR(word + 1), false, 1, FUTEX_ANY), 1);
	fake_thread_join();
	assert_int_equal(word[1], 0);
	word[1] = 77;
	fake_thread_run(wait_on, word);
	fake_thread_await_sleep();
	fake_clock_advance(2000000);
	fake_thread_join();
	assert_int_equal((int)word[1], -ETIMEDOUT);
}

#define T(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_pipe),
		T(test_a_full_pipe_and_a_gone_reader),
		T(test_a_reader_sleeps_until_there_is_something),
		T(test_descriptors),
		T(test_eventfd),
		T(test_timerfd_counts_what_nobody_read),
		T(test_epoll),
		T(test_poll),
		T(test_descriptors_travel_with_their_bytes),
		T(test_holders_may_be_more_than_2_to_the_32),
		T(test_numbers_of_files_are_no_addresses),
		T(test_sockets_meet_at_a_path),
		T(test_directory_is_read_while_it_shrinks),
		T(test_futex),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
