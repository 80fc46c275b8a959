/*
 * /init on core: looks from ring 3 at what the kernel offers, and says `pass NAME` or `FAIL NAME`
 * for each. A plain static program of libc, so it runs on Linux, too.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define THREADS 4
#define ROUNDS	200

static void say(const char *name, bool ok)
{
	printf("%s %s\n", ok ? "pass" : "FAIL", name);
	fflush(stdout);
}

/* Threads that pass a turn around: mutexes and conditions, that is, futexes. */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turned = PTHREAD_COND_INITIALIZER;
static int turn;

static void *take_turns(void *arg)
{
	for (int i = 0; i < ROUNDS; i++) {
		pthread_mutex_lock(&lock);
		while (turn % THREADS != (int)(intptr_t)arg) {
			pthread_cond_wait(&turned, &lock);
		}
		turn++;
		pthread_cond_broadcast(&turned);
		pthread_mutex_unlock(&lock);
	}
	return arg;
}

static bool threads(void)
{
	pthread_t t[THREADS];
	bool ok = true;

	for (intptr_t i = 0; i < THREADS; i++) {
		ok &= pthread_create(&t[i], NULL, take_turns, (void *)i) == 0;
	}
	for (intptr_t i = 0; i < THREADS; i++) {
		void *result;

		ok &= pthread_join(t[i], &result) == 0 && result == (void *)i;
	}
	return ok && turn == THREADS * ROUNDS;
}

/* Signals: in a handler, with extended state kept; a fault; an interrupted call. */

static volatile sig_atomic_t last_signal;
static void *volatile last_address;

static void on_signal(int number, siginfo_t *info, void *context)
{
	volatile double spoil = number * 3.5;

	(void)context;
	(void)spoil;
	last_signal = number;
	last_address = info->si_addr;
}

static bool handle(int number, int flags)
{
	struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | flags};

	return sigaction(number, &action, NULL) == 0;
}

static bool signals(void)
{
	volatile double kept = 1.25;
	double before = kept * 3;

	return handle(SIGUSR1, 0) && raise(SIGUSR1) == 0 && last_signal == SIGUSR1 &&
	       before == 3.75;
}

static volatile uint8_t *page;

static void mend(int number, siginfo_t *info, void *context)
{
	(void)context;
	last_signal = number;
	last_address = info->si_addr;
	mprotect((void *)page, 4096, PROT_READ | PROT_WRITE);
}

static bool faults(void)
{
	struct sigaction action = {.sa_sigaction = mend, .sa_flags = SA_SIGINFO};

	page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	sigaction(SIGSEGV, &action, NULL);
	page[5] = 7;
	return last_signal == SIGSEGV && last_address == page + 5 && page[5] == 7;
}

static void *kick(void *arg)
{
	const struct timespec ms = {.tv_nsec = 20000000};

	nanosleep(&ms, NULL);
	pthread_kill(*(pthread_t *)arg, SIGUSR1);
	return NULL;
}

static bool interrupted(void)
{
	pthread_t self = pthread_self(), other;
	char c;
	int fds[2];
	bool ok;

	ok = pipe(fds) == 0 && handle(SIGUSR1, 0) && pthread_create(&other, NULL, kick, &self) == 0;
	ok = ok && read(fds[0], &c, 1) < 0 && errno == EINTR;
	pthread_join(other, NULL);
	close(fds[0]);
	close(fds[1]);
	return ok;
}

static bool children(const char *self)
{
	char *const argv[] = {"child", NULL}, *const no_env[] = {NULL};
	int status = 0;
	pid_t pid;

	return posix_spawn(&pid, self, NULL, NULL, argv, no_env) == 0 &&
	       waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 42 &&
	       waitpid(-1, &status, 0) < 0 && errno == ECHILD;
}

/* Longer than a kernel stack, and the longest path there is, behind a link. */
static bool long_strings(const char *self)
{
	static char text[100001], path[4096] = "/tmp/link";
	char *const argv[] = {"child", text, NULL}, *const no_env[] = {NULL};
	int status = 0, fd;
	pid_t pid;

	memset(text, 'x', sizeof(text) - 1);
	for (size_t len = strlen(path); len < 4080; len += 2) {
		memcpy(path + len, "/.", 3);
	}
	if (symlink("/tmp", "/tmp/link") != 0) {
		return false;
	}
	fd = open(path, O_RDONLY | O_DIRECTORY);
	close(fd);
	return unlink("/tmp/link") == 0 && fd >= 0 &&
	       posix_spawn(&pid, self, NULL, NULL, argv, no_env) == 0 &&
	       waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 42;
}

static bool waiting(void)
{
	struct itimerspec soon = {.it_value = {.tv_nsec = 10000000}};
	struct epoll_event e = {.events = EPOLLIN}, got[2];
	int ep = epoll_create1(0), ev = eventfd(0, 0), tf = timerfd_create(CLOCK_MONOTONIC, 0);
	uint64_t one = 1;
	bool ok;

	e.data.fd = ev;
	ok = epoll_ctl(ep, EPOLL_CTL_ADD, ev, &e) == 0;
	e.data.fd = tf;
	ok = ok && epoll_ctl(ep, EPOLL_CTL_ADD, tf, &e) == 0 && epoll_wait(ep, got, 2, 0) == 0;
	ok = ok && timerfd_settime(tf, 0, &soon, NULL) == 0;
	ok = ok && epoll_wait(ep, got, 2, 2000) == 1 && got[0].data.fd == tf;
	ok = ok && write(ev, &one, sizeof(one)) == sizeof(one) && epoll_wait(ep, got, 2, 0) == 2;
	close(ep);
	close(ev);
	close(tf);
	return ok;
}

static bool memory(void)
{
	const size_t size = 8 << 20;
	int fd = memfd_create("test", MFD_ALLOW_SEALING);
	char *a, *b;
	bool ok = fd >= 0 && ftruncate(fd, (off_t)size) == 0;

	a = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	b = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	ok = ok && a != MAP_FAILED && b != MAP_FAILED;
	a[size - 1] = 'x';
	ok = ok && b[size - 1] == 'x' && a[0] == 0;
	ok = ok && fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)size) == 0 &&
	     b[size - 1] == 0;
	ok = ok && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) == 0 && ftruncate(fd, 0) < 0 &&
	     errno == EPERM;
	munmap(a, size);
	munmap(b, size);
	close(fd);
	return ok;
}

/* fork(): the child has the parent's memory as it was, and what is shared is shared. */
static bool forks(void)
{
	volatile int *own =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	volatile int *both =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	volatile int local = 5;
	int status = 0, fds[2];
	char byte = 0;
	bool ok = own != MAP_FAILED && both != MAP_FAILED && pipe(fds) == 0;
	pid_t pid;

	*own = 1;
	*both = 1;
	pid = fork();
	if (pid == 0) {
		char *more = malloc(300000);

		ok = *own == 1 && local == 5 && getppid() == 1 && more != NULL;
		memset(more, 7, 300000);
		*own = 2;
		local = 6;
		*both = 2;
		ok = ok && write(fds[1], "z", 1) == 1;
		_exit(ok ? 43 : 1);
	}
	close(fds[1]);
	ok = ok && pid > 0 && read(fds[0], &byte, 1) == 1 && byte == 'z' &&
	     read(fds[0], &byte, 1) == 0;
	close(fds[0]);
	return ok && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
	       WEXITSTATUS(status) == 43 && *own == 1 && *both == 2 && local == 5;
}

/* A signal to all reaches all, also those who are just being made: none is left behind. */
static bool broadcasts(void)
{
	for (int round = 0; round < 20; round++) {
		pid_t pid = fork();

		while (pid == 0) {
			if (fork() == 0) {
				pause();
			}
		}
		usleep(2000 + (useconds_t)round * 137);
		kill(-1, SIGKILL);
		for (int ms = 0; (pid = waitpid(-1, NULL, WNOHANG)) >= 0;) {
			if (pid == 0) {
				usleep(1000);
				ms++;
			}
			if (ms > 5000) {
				return false;
			}
		}
	}
	return true;
}

#define NUMBERS 4200 /* more than there are */

/* In a child: it may join a group of its session, and no other. Return: its exit status. */
static int joins(pid_t group, pid_t no_group)
{
	bool ok = setpgid(0, no_group) < 0 && errno == EPERM && setpgid(0, -1) < 0 &&
		  errno == EINVAL && setpgid(0, group) == 0 && getpgrp() == group;

	ok = ok && setpgid(0, 0) == 0 && getpgrp() == getpid();
	ok = ok && setsid() < 0 && errno == EPERM; /* its number is a group's */
	return ok ? 43 : 1;
}

/* A group keeps its number when its leader has gone: no process gets it, and so its signals. */
static bool groups(void)
{
	pid_t leader = fork(), member, child;
	int status = 0;
	bool ok;

	if (leader == 0) {
		setpgid(0, 0);
		member = fork();
		if (member == 0) {
			pause();
		}
		_exit(0);
	}
	ok = waitpid(leader, NULL, 0) == leader && kill(-leader, 0) == 0;
	for (int i = 0; i < NUMBERS && ok; i++) {
		child = vfork();
		if (child == 0) {
			_exit(0);
		}
		ok = child > 0 && child != leader && waitpid(child, NULL, 0) == child;
	}
	child = fork();
	if (child == 0) {
		_exit(joins(leader, getpid() - 1));
	}
	ok = ok && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
	     WEXITSTATUS(status) == 43;
	kill(-leader, SIGKILL);
	ok = ok && waitpid(-leader, &status, 0) > 0 && WIFSIGNALED(status);
	return ok && kill(-leader, 0) < 0 && errno == ESRCH;
}

static volatile sig_atomic_t news;

static void on_news(int number)
{
	(void)number;
	news++;
}

static bool comes_to(int count)
{
	for (int ms = 0; ms < 2000 && news < count; ms++) {
		usleep(1000);
	}
	return news == count;
}

/* Who has said SA_NOCLDSTOP hears of children's ends only; without it of each change. */
static bool told_of_stops(void)
{
	bool ok = true;

	for (int each = 0; each < 2 && ok; each++) {
		struct sigaction act = {.sa_handler = on_news,
					.sa_flags = SA_RESTART | (each != 0 ? 0 : SA_NOCLDSTOP)};
		int status = 0;

		news = 0;
		sigaction(SIGCHLD, &act, NULL);
		pid_t pid = fork();
		while (pid == 0) {
			pause();
		}
		kill(pid, SIGSTOP);
		ok = waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status) &&
		     comes_to(each);
		kill(pid, SIGCONT);
		ok = ok && waitpid(pid, &status, WCONTINUED) == pid && WIFCONTINUED(status) &&
		     comes_to(2 * each);
		kill(pid, SIGKILL);
		ok = ok && waitpid(pid, &status, 0) == pid && comes_to(2 * each + 1);
	}
	signal(SIGCHLD, SIG_DFL);
	return ok;
}

static void delay(unsigned turns)
{
	for (volatile unsigned i = 0; i < turns; i++) {
	}
}

/* Does the child end within ten seconds? */
static bool ends(pid_t pid)
{
	pid_t found = 0;

	for (int ms = 0; ms < 10000 && found == 0; ms++) {
		found = waitpid(pid, NULL, WNOHANG);
		if (found == 0) {
			usleep(1000);
		}
	}
	return found == pid;
}

/* The signal that comes behind one that stops counts, wherever the other one is just then. */
static bool stops(void)
{
	volatile unsigned *beats =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned seed = 1;
	bool ok = beats != MAP_FAILED;
	pid_t pid = 0;

	for (int round = 0; ok && round < 2000; round++) {
		unsigned before = *beats;
		time_t end = time(NULL) + 10;

		if (pid == 0) {
			pid = fork();
		}
		while (pid == 0) {
			++*beats;
		}
		while (*beats == before && time(NULL) < end) {
		}
		kill(pid, SIGSTOP);
		delay((unsigned)rand_r(&seed) % 2000);
		if (round % 4 == 0) {
			kill(pid, SIGKILL);
			ok = ends(pid);
			pid = 0;
			continue;
		}
		kill(pid, SIGCONT);
		for (before = *beats; *beats == before && ok;) {
			ok = time(NULL) < end;
		}
	}
	if (pid != 0) {
		kill(pid, SIGKILL);
		ok = ends(pid) && ok;
	}
	return ok;
}

static bool remapping(void)
{
	unsigned char resident[4] = {9, 9, 9, 9};
	char *a = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *b = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool ok = a != MAP_FAILED && b != MAP_FAILED;

	a[4096] = 'a';
	b[0] = 'b';
	ok = ok && mincore(a, 16384, resident) == 0 && resident[0] == 0 && resident[1] == 1 &&
	     resident[2] == 0 && resident[3] == 0;
	ok = ok &&
	     mremap(a + 4096, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, b + 8192) == b + 8192;
	ok = ok && b[8192] == 'a' && b[0] == 'b' && mincore(a + 4096, 4096, resident) < 0 &&
	     errno == ENOMEM;
	return ok && mincore(b, 16384, (void *)8) < 0 && errno == EFAULT;
}

static bool rebooting(void)
{
	int status = 0;
	pid_t pid;
	bool ok = syscall(SYS_reboot, 1, 2, RB_POWER_OFF, 0) < 0 && errno == EINVAL;

	/* Who was started by init's children is nobody to turn the machine off. */
	pid = fork();
	if (pid == 0) {
		pid = fork();
		if (pid == 0) {
			_exit(reboot(RB_POWER_OFF) < 0 && errno == EPERM ? 44 : 1);
		}
		ok = waitpid(pid, &status, 0) == pid;
		_exit(ok ? WEXITSTATUS(status) : 1);
	}
	return ok && waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 44;
}

static bool sockets(void)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX, .sun_path = "/tmp/socket"};
	int l = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0), s;
	char byte = 0;
	bool ok = bind(l, (struct sockaddr *)&at, sizeof(at)) == 0 && listen(l, 1) == 0 &&
		  connect(c, (struct sockaddr *)&at, sizeof(at)) == 0;

	s = accept(l, NULL, NULL);
	ok = ok && send(s, "y", 1, 0) == 1 && recv(c, &byte, 1, 0) == 1 && byte == 'y';
	ok = ok && close(s) == 0 && recv(c, &byte, 1, 0) == 0 && unlink(at.sun_path) == 0;
	close(l);
	close(c);
	return ok;
}

/* Sends the files of @fds with a byte. */
static bool send_files(int to, const int *fds, size_t count)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(2 * sizeof(int))];
	} control = {{0}};
	struct iovec byte = {"x", 1};
	struct msghdr m = {.msg_iov = &byte, .msg_iovlen = 1, .msg_control = &control};

	m.msg_controllen = CMSG_SPACE(count * sizeof(int));
	control.header = (struct cmsghdr){.cmsg_len = CMSG_LEN(count * sizeof(int)),
					  .cmsg_level = SOL_SOCKET,
					  .cmsg_type = SCM_RIGHTS};
	memcpy(CMSG_DATA(&control.header), fds, count * sizeof(int));
	return sendmsg(to, &m, 0) == 1;
}

/* Receives a byte, and two files at most, into room for @room of them. Return: how many came. */
static size_t receive_files(int from, int *fds, size_t room)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(2 * sizeof(int))];
	} control = {{0}};
	char byte = 0;
	struct iovec to = {&byte, 1};
	struct msghdr m = {.msg_iov = &to, .msg_iovlen = 1, .msg_control = &control};
	size_t count = 0;

	m.msg_controllen = room > 0 ? CMSG_SPACE(room * sizeof(int)) : 0;
	if (recvmsg(from, &m, MSG_CMSG_CLOEXEC) != 1 || byte != 'x') {
		return 99;
	}
	if (m.msg_controllen >= sizeof(control.header)) {
		count = (control.header.cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fds, CMSG_DATA(&control.header), count * sizeof(int));
	}
	return count;
}

/* Another process reads what the files are; they stay open when who sent them has closed his. */
static bool passed_files(void)
{
	int pair[2], ends[2], got[2] = {-1, -1}, status = 0;
	int file = memfd_create("passed", 0);
	char buf[8] = {0};
	pid_t pid;
	bool ok = socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && pipe(ends) == 0 &&
		  pwrite(file, "kept", 4, 0) == 4;

	pid = fork();
	if (pid == 0) {
		int both[2] = {file, ends[1]}, closed = -1;

		ok = send_files(pair[1], both, 2) && !send_files(pair[1], &closed, 1) &&
		     errno == EBADF;
		_exit(ok ? 45 : 1);
	}
	close(file);
	close(ends[1]);
	ok = ok && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
	     WEXITSTATUS(status) == 45;
	ok = ok && receive_files(pair[0], got, 2) == 2 && pread(got[0], buf, 8, 0) == 4 &&
	     memcmp(buf, "kept", 4) == 0 && (fcntl(got[0], F_GETFD) & FD_CLOEXEC) != 0;
	ok = ok && write(got[1], "y", 1) == 1 && read(ends[0], buf, 8) == 1 && buf[0] == 'y';
	/* Where there is no room for it the file is closed: the pipe's other end sees its end. */
	ok = ok && send_files(pair[1], &got[1], 1) && close(got[1]) == 0 &&
	     receive_files(pair[0], got, 0) == 0 && read(ends[0], buf, 8) == 0;
	/* So it is where nobody receives it at all. */
	ok = ok && pipe(ends) == 0 && send_files(pair[1], &ends[1], 1) && close(ends[1]) == 0 &&
	     close(pair[0]) == 0 && close(pair[1]) == 0 && read(ends[0], buf, 8) == 0;
	return ok;
}

static bool files(void)
{
	char buf[64] = {0};
	struct stat st;
	int fd = open("/tmp/file", O_RDWR | O_CREAT | O_EXCL, 0600);
	bool ok = fd >= 0 && pwrite(fd, "abc", 3, 2) == 3 && fstat(fd, &st) == 0 && st.st_size == 5;

	ok = ok && pread(fd, buf, sizeof(buf), 0) == 5 && memcmp(buf, "\0\0abc", 5) == 0;
	close(fd);
	/* O_PATH ignores the other flags. */
	fd = open("/tmp/file", O_PATH | O_TRUNC);
	ok = ok && fd >= 0 && stat("/tmp/file", &st) == 0 && st.st_size == 5;
	close(fd);
	ok = ok && unlink("/tmp/file") == 0 && stat("/tmp/file", &st) < 0 && errno == ENOENT;
	ok = ok && open("/new", O_WRONLY | O_CREAT, 0600) < 0 && errno == EROFS;
	return ok && readlink("/proc/self/exe", buf, sizeof(buf)) > 0;
}

static bool refusals(void)
{
	void *volatile nowhere = (void *)8;
	bool ok = write(1, nowhere, 1) < 0 && errno == EFAULT;

	ok = ok && write(1, (void *)0xffff800000000000, 1) < 0 && errno == EFAULT;
	ok = ok && getrandom((void *)0x7ffffffff000, 8, 0) < 0 && errno == EFAULT;
	ok = ok && mmap(NULL, 4096, PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
			   MAP_FAILED;
	return ok && close(1000) < 0 && errno == EBADF;
}

static bool scheduling(void)
{
	struct sched_param p = {.sched_priority = 10};
	cpu_set_t one;
	bool ok;

	CPU_ZERO(&one);
	CPU_SET((size_t)sysconf(_SC_NPROCESSORS_ONLN) - 1, &one);
	ok = sched_setaffinity(0, sizeof(one), &one) == 0 &&
	     sched_getcpu() == sysconf(_SC_NPROCESSORS_ONLN) - 1;
	ok = ok && sched_setscheduler(0, SCHED_FIFO, &p) == 0 &&
	     sched_getscheduler(0) == SCHED_FIFO;
	p.sched_priority = 0;
	return ok && sched_setscheduler(0, SCHED_OTHER, &p) == 0;
}

/* Who gets CPU time on CPUs 0 and 1. A thread's CPU time is the kernel's account, so none of this
 * depends on how fast the machine is; but where CPUs stand still for long, once is not enough. */

#define MS	 1000000ull
#define SPINNERS 4
#define ATTEMPTS 4
#define BOTH	 3ul

struct spinner {
	pthread_t thread;
	int priority;	     /* 0: fair */
	unsigned long start; /* CPUs where it begins, as bits */
	unsigned long cpus;  /* where it may run from then on */
	uint64_t occupy_ns;  /* 0: until all stop; else they do after that, and the gains count */
	_Atomic uint64_t ran_ns;
	uint64_t gain_ns; /* while another occupied a CPU */
};

static struct spinner spinners[SPINNERS];
static atomic_bool stop;

static bool allow(unsigned long cpus)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	for (size_t i = 0; i < 2; i++) {
		if ((cpus & 1ul << i) != 0) {
			CPU_SET(i, &set);
		}
	}
	return sched_setaffinity(0, sizeof(set), &set) == 0;
}

static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000 * MS + (uint64_t)ts.tv_nsec;
}

/* The first time for what they have had, the second for what they have gained. */
static void take_stock(void)
{
	for (int i = 0; i < SPINNERS; i++) {
		spinners[i].gain_ns = spinners[i].ran_ns - spinners[i].gain_ns;
	}
}

static void *spin(void *arg)
{
	struct spinner *s = arg;
	struct sched_param p = {.sched_priority = s->priority};
	uint64_t end_ns;

	if ((s->priority != 0 && sched_setscheduler(0, SCHED_FIFO, &p) != 0) || !allow(s->start) ||
	    !allow(s->cpus)) {
		abort();
	}
	if (s->occupy_ns == 0) {
		while (!stop) {
			s->ran_ns = cpu_ns();
		}
		return NULL;
	}
	take_stock();
	end_ns = cpu_ns() + s->occupy_ns;
	while (cpu_ns() < end_ns) {
	}
	take_stock();
	stop = true;
	return NULL;
}

static void start(int number, struct spinner s)
{
	spinners[number] = s;
	if (pthread_create(&spinners[number].thread, NULL, spin, &spinners[number]) != 0) {
		abort();
	}
	/* Each runs where it begins before the next one does; who occupies may end first. */
	while (s.occupy_ns == 0 && spinners[number].ran_ns == 0) {
		usleep(1000);
	}
}

static void finish(int count)
{
	for (int i = 0; i < count; i++) {
		pthread_join(spinners[i].thread, NULL);
	}
	memset(spinners, 0, sizeof(spinners));
	stop = false;
}

/* Who waits behind a real-time thread goes to the other CPU, although that is not idle. */
static bool fair_beside_real_time(void)
{
	bool ok = allow(BOTH);

	start(0, (struct spinner){.start = 1, .cpus = BOTH});
	start(1, (struct spinner){.start = 2, .cpus = BOTH});
	start(2, (struct spinner){.priority = 10, .start = 1, .cpus = 1, .occupy_ns = 1000 * MS});
	pthread_join(spinners[2].thread, NULL);
	ok = ok && spinners[0].gain_ns >= 200 * MS && spinners[1].gain_ns >= 200 * MS;
	finish(2);
	return ok;
}

/* A real-time thread that must give way goes to the other CPU, where something lower runs. */
static bool real_time_beside_higher(void)
{
	bool ok = allow(2);

	start(0, (struct spinner){.start = 2, .cpus = 2});
	start(1, (struct spinner){.priority = 10, .start = 1, .cpus = BOTH});
	start(2, (struct spinner){.priority = 20, .start = 1, .cpus = 1, .occupy_ns = 500 * MS});
	pthread_join(spinners[2].thread, NULL);
	ok = ok && spinners[1].gain_ns >= 250 * MS;
	finish(2);
	return ok;
}

/* All of them begin on one CPU, and none gets much more than another. */
static bool equal_shares_of(int count)
{
	uint64_t least = UINT64_MAX, most = 0;
	bool ok = allow(BOTH);

	for (int i = 0; i < count; i++) {
		start(i, (struct spinner){.start = 1, .cpus = BOTH});
	}
	usleep(200000);
	take_stock();
	sleep(2);
	take_stock();
	for (int i = 0; i < count; i++) {
		least = spinners[i].gain_ns < least ? spinners[i].gain_ns : least;
		most = spinners[i].gain_ns > most ? spinners[i].gain_ns : most;
	}
	stop = true;
	finish(count);
	return ok && most > 0 && least * 3 >= most * 2;
}

static bool equal_shares(void)
{
	return equal_shares_of(3) && equal_shares_of(4);
}

static bool attempts(bool (*fn)(void))
{
	for (int i = 0; i < ATTEMPTS; i++) {
		if (fn()) {
			return true;
		}
	}
	return false;
}

int main(int argc, char **argv)
{
	(void)argc;
	if (strcmp(argv[0], "child") == 0) {
		return 42;
	}
	if (getpid() != 1) {
		printf("only as /init of a machine of its own: it ends all other processes\n");
		return 2;
	}
#ifdef IS_PIE
	say("relocated", (uintptr_t)main >= 0x555555554000 && (uintptr_t)main < 0x7fffffffffff);
#endif
	say("threads", threads());
	say("signals", signals());
	say("faults", faults());
	say("interrupted", interrupted());
	say("children", children(argv[0]));
	say("long_strings", long_strings(argv[0]));
	say("forks", forks());
	say("broadcasts", broadcasts());
	say("groups", groups());
	say("told_of_stops", told_of_stops());
	say("remapping", remapping());
	say("rebooting", rebooting());
	say("waiting", waiting());
	say("memory", memory());
	say("sockets", sockets());
	say("passed_files", passed_files());
	say("files", files());
	say("refusals", refusals());
	say("scheduling", scheduling());
	if (sysconf(_SC_NPROCESSORS_ONLN) > 1) {
		say("stops", stops());
		say("fair_beside_real_time", attempts(fair_beside_real_time));
		say("real_time_beside_higher", attempts(real_time_beside_higher));
		say("equal_shares", attempts(equal_shares));
	}
	return 7;
}
