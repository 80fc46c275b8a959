/*
 * /init on core: what happens at once, or in an order that is rare. Each case runs in a child, so
 * that one which waits for ever fails, too. Says `pass NAME` or `FAIL NAME` for each. A plain
 * static program of libc: all of it passes on Linux, `orphans` there as process 1 only.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LIMIT_S	     60
#define WRITES	     2000
#define LEVEL_ROUNDS 100
#define BYTES	     600 /* of a write: more than the kernel copies at once */

/* Does the child end within the time, and well? */
static bool ends_well(pid_t pid)
{
	time_t end = time(NULL) + LIMIT_S;
	int status = 1;
	pid_t found = 0;

	while (found == 0 && time(NULL) <= end) {
		found = waitpid(pid, &status, WNOHANG);
		if (found == 0) {
			usleep(1000);
		}
	}
	if (found == 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	return found == pid && status == 0;
}

static void say(const char *name, bool ok)
{
	printf("%s %s\n", ok ? "pass" : "FAIL", name);
	fflush(stdout);
}

static void run(const char *name, bool (*fn)(void))
{
	pid_t pid = fork();

	if (pid == 0) {
		_exit(fn() ? 0 : 1);
	}
	say(name, ends_well(pid));
}

static bool is_readable(int fd, int ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, ms) == 1;
}

/* Who has waited for a child has its SIGCHLD, too. */
static bool told(void)
{
	const struct timespec now = {0};
	time_t end = time(NULL) + 5;
	bool ok = true;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	while (ok && time(NULL) < end) {
		pid_t pid = fork(), found;

		if (pid == 0) {
			_exit(0);
		}
		do {
			found = waitpid(pid, NULL, WNOHANG);
		} while (found == 0);
		ok = found == pid && sigtimedwait(&set, NULL, &now) == SIGCHLD;
	}
	return ok;
}

/* Who ignores SIGCHLD waits for no child, but for the end of all. */
static bool ignored(void)
{
	signal(SIGCHLD, SIG_IGN);
	for (int i = 0; i < 50; i++) {
		if (fork() == 0) {
			usleep(1000);
			_exit(0);
		}
	}
	return wait(NULL) == -1 && errno == ECHILD;
}

/* Process 1 is told of those that have ended before they became its children; if it does not want
 * to know, they are gone. */
static bool orphans(void)
{
	volatile pid_t *orphan =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	bool gone = false;
	pid_t pid;

	signal(SIGCHLD, SIG_IGN);
	pid = fork();
	if (pid == 0) {
		siginfo_t info;

		signal(SIGCHLD, SIG_DFL);
		pid = fork();
		if (pid == 0) {
			_exit(0);
		}
		*orphan = pid;
		_exit(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT));
	}
	for (int ms = 0; ms < 2000 && !gone; ms++) {
		gone = kill(pid, 0) != 0 && kill(*orphan, 0) != 0;
		usleep(1000);
	}
	signal(SIGCHLD, SIG_DFL);
	return gone;
}

/* A number that cannot be written down does not undo what others see already. */
static bool unwritten(void)
{
	long pid = syscall(SYS_clone, CLONE_PARENT_SETTID | SIGCHLD, 0, 8, 0, 0);
	int status = 1;

	if (pid == 0) {
		_exit(0);
	}
	return pid > 0 && waitpid((pid_t)pid, &status, 0) == pid && status == 0;
}

/* shutdown() ends the waits of others for the same socket. */

static int pair[2];

static void *receive(void *arg)
{
	char byte;

	(void)arg;
	return (void *)(intptr_t)recv(pair[0], &byte, 1, 0);
}

static void *send_on(void *arg)
{
	static const char bytes[65536];

	(void)arg;
	while (send(pair[0], bytes, sizeof(bytes), MSG_NOSIGNAL) > 0) {
	}
	return (void *)(intptr_t)errno;
}

static bool shut(void)
{
	void *result;
	pthread_t t;
	bool ok = socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 &&
		  pthread_create(&t, NULL, receive, NULL) == 0;

	usleep(50000);
	ok = ok && shutdown(pair[0], SHUT_RD) == 0 && pthread_join(t, &result) == 0 &&
	     result == NULL;
	ok = ok && pthread_create(&t, NULL, send_on, NULL) == 0;
	usleep(50000);
	return ok && shutdown(pair[0], SHUT_WR) == 0 && pthread_join(t, &result) == 0 &&
	       (intptr_t)result == EPIPE;
}

/* Where nobody can receive a file any more, it is closed, though its sender is still there. */
static bool dropped(void)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {.header = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
	struct iovec byte = {"x", 1};
	struct msghdr m = {.msg_iov = &byte,
			   .msg_iovlen = 1,
			   .msg_control = &control,
			   .msg_controllen = sizeof(control)};
	int ends[2];
	bool ok = socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && pipe(ends) == 0;

	memcpy(CMSG_DATA(&control.header), &ends[1], sizeof(int));
	return ok && sendmsg(pair[0], &m, 0) == 1 && close(ends[1]) == 0 && close(pair[1]) == 0 &&
	       is_readable(ends[0], 2000) && read(ends[0], &ok, 1) == 0;
}

/* Two processes write to one file: @files: each has opened it, or 1: both have the same position.
 * Return: is there all that they wrote, each write in one piece? */
static bool written(int files, int flags)
{
	atomic_int *both =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char *bytes;
	int fd = open("/tmp/written", O_CREAT | O_TRUNC | O_RDWR | flags, 0600), status = 1;
	pid_t pid = fork();
	bool ok = fd >= 0;

	if (pid == 0 && files == 2) {
		fd = open("/tmp/written", O_RDWR | flags);
	}
	bytes = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	memset(bytes, pid == 0 ? 'a' : 'b', 8192);
	for (atomic_fetch_add(both, 1); atomic_load(both) < 2;) {
	}
	for (int i = 0; i < WRITES && ok; i++) {
		/* A fault on the way. */
		ok = madvise(bytes + 4096, 4096, MADV_DONTNEED) == 0 &&
		     write(fd, bytes + 4096 - 550, BYTES) == BYTES;
	}
	if (pid == 0) {
		_exit(ok ? 0 : 1);
	}
	ok = waitpid(pid, &status, 0) == pid && status == 0 && ok &&
	     lseek(fd, 0, SEEK_END) == 2 * WRITES * BYTES;
	for (int i = 0; i < 2 * WRITES && ok; i++) {
		ok = pread(fd, bytes, BYTES, i * BYTES) == BYTES &&
		     memcmp(bytes, bytes + 1, BYTES - 1) == 0;
	}
	close(fd);
	unlink("/tmp/written");
	return ok;
}

static bool appended(void)
{
	return written(2, O_APPEND);
}

static bool position(void)
{
	return written(1, 0);
}

/* A write that makes a file longer takes nothing away from one further behind. */

static int longer;
static atomic_int begun;

static void *write_every_second(void *arg)
{
	int first = (int)(intptr_t)arg;
	bool ok = true;

	for (int i = 0; i < WRITES && ok; i++) {
		/* Both at a time. */
		for (atomic_fetch_add(&begun, 1); atomic_load(&begun) < 2 * i + 2;) {
		}
		ok = pwrite(longer, "x", 1, (2 * i + first) * 4096) == 1;
	}
	return (void *)(intptr_t)ok;
}

static bool grown(void)
{
	void *result = NULL;
	pthread_t t;
	bool ok;

	longer = memfd_create("longer", 0);
	ok = pthread_create(&t, NULL, write_every_second, (void *)1) == 0;
	ok = ok && write_every_second(NULL) != NULL;
	ok = ok && pthread_join(t, &result) == 0 && result != NULL &&
	     lseek(longer, 0, SEEK_END) == (2 * WRITES - 1) * 4096 + 1;
	for (int i = 0; i < 2 * WRITES && ok; i++) {
		char byte = 0;

		ok = pread(longer, &byte, 1, i * 4096) == 1 && byte == 'x';
	}
	return ok;
}

/* A robust lock of a program that ends by execve(). */
static bool robust(void)
{
	pthread_mutex_t *lock =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pthread_mutexattr_t attr;
	int status = 1;
	pid_t pid;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(lock, &attr);
	pid = fork();
	if (pid == 0) {
		pthread_mutex_lock(lock);
		execl("/proc/self/exe", "child", NULL);
		_exit(1);
	}
	return waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 42 &&
	       pthread_mutex_lock(lock) == EOWNERDEAD;
}

/* Level-triggered: what stays ready wakes all. */

static int epoll, event;
static atomic_int arrived, left;

static void *wait_for_all(void *arg)
{
	void *out = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool ok = true;

	for (int i = 0; i < LEVEL_ROUNDS && ok; i++) {
		/* To report it takes a fault: time for the other one to look. */
		ok = madvise(out, 4096, MADV_DONTNEED) == 0 && epoll_wait(epoll, out, 1, -1) == 1;
		for (atomic_fetch_add(&arrived, 1); atomic_load(&arrived) < 3 * i + 3;) {
			sched_yield();
		}
		if (arg != NULL) {
			uint64_t value;

			ok = read(event, &value, sizeof(value)) == sizeof(value);
		}
		for (atomic_fetch_add(&left, 1); atomic_load(&left) < 3 * i + 3;) {
			sched_yield();
		}
	}
	return (void *)(intptr_t)ok;
}

static bool level(void)
{
	struct epoll_event in = {.events = EPOLLIN};
	void *result[2] = {0};
	pthread_t t[2];
	bool ok;

	epoll = epoll_create1(0);
	event = eventfd(0, 0);
	ok = epoll_ctl(epoll, EPOLL_CTL_ADD, event, &in) == 0;
	pthread_create(&t[0], NULL, wait_for_all, NULL);
	pthread_create(&t[1], NULL, wait_for_all, (void *)1);
	for (int i = 0; i < LEVEL_ROUNDS && ok; i++) {
		for (volatile int j = 0; j < i % 100 * 100; j++) {
		}
		ok = write(event, &(uint64_t){1}, 8) == 8;
		atomic_fetch_add(&arrived, 1);
		for (atomic_fetch_add(&left, 1); atomic_load(&left) < 3 * i + 3;) {
			sched_yield();
		}
	}
	pthread_join(t[0], &result[0]);
	pthread_join(t[1], &result[1]);
	return ok && result[0] != NULL && result[1] != NULL;
}

/* A socket that is watched before it is connected. */
static bool connected(void)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX, .sun_path = "/tmp/connected"};
	struct epoll_event event = {.events = EPOLLIN};
	int l = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0), s;
	int ep = epoll_create1(0);
	bool ok = epoll_ctl(ep, EPOLL_CTL_ADD, c, &event) == 0 &&
		  bind(l, (struct sockaddr *)&at, sizeof(at)) == 0 && listen(l, 1) == 0 &&
		  connect(c, (struct sockaddr *)&at, sizeof(at)) == 0;

	s = accept(l, NULL, NULL);
	unlink(at.sun_path);
	ok = ok && epoll_wait(ep, &event, 1, 10) == 0;
	return ok && send(s, "y", 1, 0) == 1 && epoll_wait(ep, &event, 1, 2000) == 1 &&
	       event.events == EPOLLIN;
}

int main(int argc, char **argv)
{
	(void)argc;
	if (strcmp(argv[0], "child") == 0) {
		return 42;
	}
	run("told", told);
	run("ignored", ignored);
	if (getpid() == 1) {
		say("orphans", orphans());
	}
	run("unwritten", unwritten);
	run("shut", shut);
	run("dropped", dropped);
	run("appended", appended);
	run("position", position);
	run("grown", grown);
	run("robust", robust);
	run("level", level);
	run("connected", connected);
	return 7;
}
