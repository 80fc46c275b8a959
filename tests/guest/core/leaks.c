/*
 * /init on core: does all that a process had come back to the kernel when it ends? Each case runs
 * in a child that makes things, says that it is ready, and then waits in a call or goes on and on.
 * It is killed there, or at any moment before. Afterwards the kernel's own counts, of /proc/vmstat
 * and /proc/slabinfo, are what they were before. Says `pass NAME` or `FAIL NAME` for each case.
 */
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WARM_UP	   2
#define ROUNDS	   12
#define COUNTS_MAX 64
#define SETTLE_MS  2000
#define BOOT_SLACK 4 /* pages: the records of two blocks of 2 MiB */
#define DEADLY_MS  4 /* within so many ms of its start a child is killed, ready or not */

static char *self;
static int ready_fd;

/* The kernel's counts. */

struct counts {
	unsigned n;
	struct {
		char name[128];
		long value;
	} of[COUNTS_MAX];
};

/* Pages in the heaps and kept free ones go up and down without a leak: what is in them is counted.
 */
static bool is_steady(const char *name)
{
	return strcmp(name, "nr_free_pages") != 0 && strcmp(name, "nr_heap_pages") != 0 &&
	       strcmp(name, "nr_stack_pages") != 0;
}

static void read_counts(const char *path, struct counts *c)
{
	char line[128];
	FILE *f = fopen(path, "re");

	while (f != NULL && fgets(line, sizeof(line), f) != NULL && c->n < COUNTS_MAX) {
		char *space = strrchr(line, ' ');

		if (line[0] == '#' || space == NULL) {
			continue;
		}
		if (strncmp(line, "nr_", 3) != 0) {
			*space = '\0'; /* behind the count: the size of one object */
			space = strrchr(line, ' ');
		}
		*space = '\0'; /* names of heaps have spaces */
		if (is_steady(line)) {
			snprintf(c->of[c->n].name, sizeof(c->of[c->n].name), "%s", line);
			c->of[c->n++].value = atol(space + 1);
		}
	}
	if (f != NULL) {
		fclose(f);
	}
}

static void count(struct counts *c)
{
	memset(c, 0, sizeof(*c));
	read_counts("/proc/vmstat", c);
	read_counts("/proc/slabinfo", c);
}

/*
 * How far a count may go up or down without a leak: where the heaps' pages lie decides how many
 * blocks are split, and have records.
 */
static long slack(const char *name)
{
	return strcmp(name, "nr_boot_pages") == 0 ? BOOT_SLACK : 0;
}

static bool same(const struct counts *a, const struct counts *b, bool tell)
{
	bool ok = a->n == b->n && a->n > 10;

	for (unsigned i = 0; i < a->n && i < b->n; i++) {
		if (labs(a->of[i].value - b->of[i].value) > slack(a->of[i].name)) {
			ok = false;
			if (tell) {
				printf("%s: %ld before, %ld after\n", a->of[i].name, a->of[i].value,
				       b->of[i].value);
			}
		}
	}
	return ok;
}

/* What ends asynchronously has a moment. */
static bool settles(const struct counts *before)
{
	const struct timespec ms = {.tv_nsec = 1000000};
	struct counts now;

	for (int i = 0; i < SETTLE_MS; i++) {
		count(&now);
		if (same(before, &now, false)) {
			return true;
		}
		nanosleep(&ms, NULL);
	}
	same(before, &now, true);
	return false;
}

/* The cases. Each ends by waiting where it can be killed. */

static void is_ready(void)
{
	if (write(ready_fd, "r", 1) != 1) {
		_exit(3);
	}
}

static void must(bool ok)
{
	if (!ok) {
		printf("a child cannot: errno %d\n", errno);
		_exit(3);
	}
}

static void pipe_read(void)
{
	int fds[2];
	char c;

	must(pipe(fds) == 0);
	is_ready();
	must(read(fds[0], &c, 1) != 0);
}

static void pipe_write(void)
{
	static char some[300000];
	int fds[2];

	must(pipe(fds) == 0);
	is_ready();
	must(write(fds[1], some, sizeof(some)) != 0);
}

static void descriptors(void)
{
	struct epoll_event e = {.events = EPOLLIN}, got;
	struct itimerspec later = {.it_value = {.tv_sec = 100}};
	sigset_t all;
	int ep = epoll_create1(0);

	sigfillset(&all);
	for (int i = 0; i < 50; i++) {
		int t = timerfd_create(CLOCK_MONOTONIC, 0);

		must(epoll_ctl(ep, EPOLL_CTL_ADD, eventfd(0, 0), &e) == 0);
		must(epoll_ctl(ep, EPOLL_CTL_ADD, t, &e) == 0 &&
		     timerfd_settime(t, 0, &later, NULL) == 0);
		must(epoll_ctl(ep, EPOLL_CTL_ADD, signalfd(-1, &all, 0), &e) == 0);
	}
	is_ready();
	epoll_wait(ep, &got, 1, -1);
}

static void event_read(void)
{
	uint64_t value;

	is_ready();
	must(read(eventfd(0, 0), &value, sizeof(value)) != 0);
}

static void timer_read(void)
{
	struct itimerspec later = {.it_value = {.tv_sec = 100}};
	int t = timerfd_create(CLOCK_MONOTONIC, 0);
	uint64_t value;

	must(timerfd_settime(t, 0, &later, NULL) == 0);
	is_ready();
	must(read(t, &value, sizeof(value)) != 0);
}

static void signal_read(void)
{
	struct signalfd_siginfo info;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	is_ready();
	must(read(signalfd(-1, &set, 0), &info, sizeof(info)) != 0);
}

static void polling(void)
{
	struct pollfd fds[100];

	for (int i = 0; i < 100; i++) {
		fds[i] = (struct pollfd){.fd = eventfd(0, 0), .events = POLLIN};
	}
	is_ready();
	poll(fds, 100, -1);
}

static void selecting(void)
{
	int fd = eventfd(0, 0);
	fd_set set;

	FD_ZERO(&set);
	FD_SET(fd, &set);
	is_ready();
	select(fd + 1, &set, NULL, NULL, NULL);
}

static struct sockaddr_un address(void)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};

	sprintf(at.sun_path, "/tmp/leaks");
	return at;
}

static int listening(void)
{
	struct sockaddr_un at = address();
	int l = socket(AF_UNIX, SOCK_STREAM, 0);

	must(bind(l, (struct sockaddr *)&at, sizeof(at)) == 0 && listen(l, 5) == 0);
	return l;
}

static void accepting(void)
{
	int l = listening();

	is_ready();
	accept(l, NULL, NULL);
}

static void connected(void)
{
	struct sockaddr_un at = address();
	int l = listening();
	char c;

	for (int i = 0; i < 3; i++) {
		int s = socket(AF_UNIX, SOCK_STREAM, 0);

		must(connect(s, (struct sockaddr *)&at, sizeof(at)) == 0 &&
		     write(s, "text", 4) == 4);
	}
	int s = accept(l, NULL, NULL);
	must(read(s, &c, 1) == 1);
	is_ready();
	recv(accept(l, NULL, NULL), &(char[9]){0}, 9, MSG_WAITALL);
	read(s, &(char[9]){0}, 9);
	pause();
}

/* Descriptors that are in a socket when it goes. */
static void passing(void)
{
	union {
		struct cmsghdr h;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {.h = {.cmsg_level = SOL_SOCKET,
			   .cmsg_type = SCM_RIGHTS,
			   .cmsg_len = CMSG_LEN(sizeof(int))}};
	struct iovec one = {.iov_base = &(char){'x'}, .iov_len = 1};
	struct msghdr m = {.msg_iov = &one,
			   .msg_iovlen = 1,
			   .msg_control = &control,
			   .msg_controllen = sizeof(control)};
	int pair[2];

	must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	for (int i = 0; i < 10; i++) {
		int fd = memfd_create("passed", 0);

		must(ftruncate(fd, 1 << 20) == 0 && write(fd, "some", 4) == 4);
		memcpy(CMSG_DATA(&control.h), &fd, sizeof(fd));
		must(sendmsg(pair[0], &m, 0) == 1);
		close(fd);
	}
	is_ready();
	for (;;) {
		static char some[65536];

		if (send(pair[0], some, sizeof(some), 0) < 0) {
			pause();
		}
	}
}

static void futexes(void)
{
	static _Atomic int word;

	is_ready();
	syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL, NULL, 0);
}

static void sleeping(void)
{
	is_ready();
	nanosleep(&(struct timespec){.tv_sec = 100}, NULL);
}

static void pausing(void)
{
	sigset_t none;

	sigemptyset(&none);
	alarm(100);
	is_ready();
	sigsuspend(&none);
}

static void awaiting_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &set, NULL);
	for (int i = 0; i < 20; i++) {
		sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = i});
	}
	for (int i = 0; i < 10; i++) {
		must(sigwaitinfo(&set, NULL) == SIGRTMIN);
	}
	sigdelset(&set, SIGRTMIN);
	sigaddset(&set, SIGUSR2);
	is_ready();
	sigwaitinfo(&set, NULL);
}

static void end_with_parent(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() == 1) {
		_exit(0); /* too late */
	}
}

static void awaiting_children(void)
{
	for (int i = 0; i < 3; i++) {
		if (fork() == 0) {
			end_with_parent();
			pause();
		}
	}
	if (fork() == 0) {
		_exit(0); /* stays a zombie */
	}
	is_ready();
	waitpid(-1, NULL, __WALL);
	pause();
}

static void vforking(void)
{
	is_ready();
	if (vfork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;) {
			nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
			if (getppid() == 1) {
				_exit(0);
			}
		}
	}
	pause();
}

static void stopped(void)
{
	is_ready();
	raise(SIGSTOP);
	pause();
}

static void *thread_main(void *arg)
{
	switch ((intptr_t)arg % 6) {
	case 0:
		pipe_read();
		break;
	case 1:
		timer_read();
		break;
	case 2:
		polling();
		break;
	case 3:
		futexes();
		break;
	case 4:
		for (;;) {
			getppid();
		}
	default:
		for (;;) {
		}
	}
	return NULL;
}

static void threads(void)
{
	for (intptr_t i = 0; i < 12; i++) {
		pthread_t t;

		must(pthread_create(&t, NULL, thread_main, (void *)i) == 0);
	}
	is_ready();
	pause();
}

static void *quick(void *arg)
{
	return arg;
}

/* Threads come and go, until all is over. */
static void short_threads(void)
{
	is_ready();
	for (;;) {
		pthread_t t;

		must(pthread_create(&t, NULL, quick, NULL) == 0 && pthread_join(t, NULL) == 0);
	}
}

static void memory(void)
{
	const size_t size = 24 << 20;
	int fd = memfd_create("memory", 0);
	char *shared, *own;

	must(ftruncate(fd, (off_t)size) == 0);
	shared = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	is_ready();
	for (;;) {
		own = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		must(own != MAP_FAILED && shared != MAP_FAILED);
		memset(own, 1, size / 2);
		memset(shared, 1, size / 2);
		mprotect(own + 8192, 4096, PROT_READ);
		own = mremap(own, 8192, 1 << 20, MREMAP_MAYMOVE);
		must(own != MAP_FAILED);
		madvise(shared, size, MADV_REMOVE);
		munmap(own, size / 3);
		fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 1 << 20);
		if (mmap(shared, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0) ==
			    MAP_FAILED ||
		    mmap(shared, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
			    MAP_FAILED) {
			must(errno == ENOMEM);
		}
	}
}

/* As large as memory allows, and then more. */
static void all_memory(void)
{
	is_ready();
	for (;;) {
		char *p = mmap(NULL, 32 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			       -1, 0);

		for (size_t i = 0; p != MAP_FAILED && i < 32 << 20; i += 4096) {
			p[i] = 1; /* SIGBUS, in the end */
		}
	}
}

static void forking(void)
{
	char *p = mmap(NULL, 8 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	must(p != MAP_FAILED);
	memset(p, 1, 8 << 20);
	is_ready();
	for (;;) {
		pid_t pid = fork();

		if (pid == 0) {
			_exit(0);
		}
		waitpid(pid, NULL, 0);
	}
}

static void executing(void)
{
	char *const argv[] = {"again", NULL};

	is_ready();
	execv(self, argv);
}

static void files(void)
{
	is_ready();
	for (;;) {
		int fd = open("/tmp/leaks-file", O_RDWR | O_CREAT, 0600);

		must(fd >= 0 && write(fd, self, 5) == 5);
		must(mkdir("/tmp/leaks-dir", 0700) == 0 || errno == EEXIST);
		must(symlink("a/b", "/tmp/leaks-dir/link") == 0 || errno == EEXIST);
		must(rename("/tmp/leaks-file", "/tmp/leaks-dir/file") == 0);
		must(unlink("/tmp/leaks-dir/file") == 0 && unlink("/tmp/leaks-dir/link") == 0);
		must(pwrite(fd, "x", 1, 3 << 20) == 1);
		char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		must(p != MAP_FAILED && (p[1] = 'y') != 0);
		must(munmap(p, 8192) == 0 && close(fd) == 0 && rmdir("/tmp/leaks-dir") == 0);
	}
}

static void filters(void)
{
	struct sock_filter code[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
	struct sock_fprog program = {.len = 1, .filter = code};

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	for (int i = 0; i < 5; i++) {
		must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0);
	}
	is_ready();
	pause();
}

static void proc_files(void)
{
	char text[8192];

	is_ready();
	for (;;) {
		static const char *const names[] = {"/proc/self/maps", "/proc/1/status",
						    "/proc/self/exe", "/proc/slabinfo"};

		for (unsigned i = 0; i < 4; i++) {
			int fd = open(names[i], O_RDONLY);

			must(fd >= 0 && read(fd, text, sizeof(text)) > 0 && close(fd) == 0);
		}
	}
}

static void console(void)
{
	char c;

	is_ready();
	must(read(0, &c, 1) != 0);
}

/* A VM with all that one has; its processor runs `code`. */
static void machine(const char *code, size_t len)
{
	int kvm = open("/dev/kvm", O_RDWR), vm, vcpu;
	struct kvm_pit_config pit = {0};
	struct kvm_userspace_memory_region slot = {.memory_size = 4 << 20};
	struct kvm_irqfd irqfd = {.gsi = 5};
	struct kvm_ioeventfd io = {.addr = 0x80, .len = 1, .flags = KVM_IOEVENTFD_FLAG_PIO};
	struct kvm_sregs sregs;
	struct kvm_regs regs = {.rip = 0x1000, .rflags = 2};

	must(kvm >= 0);
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	must(vm >= 0 && ioctl(vm, KVM_CREATE_IRQCHIP, 0) == 0 &&
	     ioctl(vm, KVM_CREATE_PIT2, &pit) == 0);
	char *memory = mmap(NULL, slot.memory_size, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	slot.userspace_addr = (uintptr_t)memory;
	must(memory != MAP_FAILED && ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot) == 0);
	memcpy(memory + 0x1000, code, len);
	irqfd.fd = (unsigned)eventfd(0, 0);
	io.fd = eventfd(0, 0);
	must(ioctl(vm, KVM_IRQFD, &irqfd) == 0 && ioctl(vm, KVM_IOEVENTFD, &io) == 0);
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	must(vcpu >= 0 && mmap(NULL, (size_t)ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0),
			       PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0) != MAP_FAILED);
	must(ioctl(vcpu, KVM_GET_SREGS, &sregs) == 0);
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	must(ioctl(vcpu, KVM_SET_SREGS, &sregs) == 0 && ioctl(vcpu, KVM_SET_REGS, &regs) == 0);
	is_ready();
	for (;;) {
		must(ioctl(vcpu, KVM_RUN, 0) == 0);
	}
}

static void guest_spins(void)
{
	static const char code[] = "\xeb\xfe"; /* jmp . */

	machine(code, sizeof(code));
}

static void guest_halts(void)
{
	static const char code[] = "\xf4"; /* hlt */

	machine(code, sizeof(code));
}

static void guest_exits(void)
{
	static const char code[] = "\xe6\x10\xe6\x80\xeb\xfa"; /* out 0x10; out 0x80; jmp */

	machine(code, sizeof(code));
}

static void machines(void)
{
	int kvm = open("/dev/kvm", O_RDWR);

	must(kvm >= 0);
	is_ready();
	for (;;) {
		int vm = ioctl(kvm, KVM_CREATE_VM, 0);

		must(vm >= 0);
		for (int i = 0; i < 3; i++) {
			must(ioctl(vm, KVM_CREATE_VCPU, i) >= 0);
		}
		for (int fd = kvm + 1; fd < kvm + 5; fd++) {
			close(fd);
		}
	}
}

#define CASE(name)          \
	{                   \
#name, name \
	}
static const struct {
	const char *name;
	void (*fn)(void);
} cases[] = {
	CASE(pipe_read),   CASE(pipe_write),  CASE(descriptors),       CASE(event_read),
	CASE(timer_read),  CASE(signal_read), CASE(polling),	       CASE(selecting),
	CASE(accepting),   CASE(connected),   CASE(passing),	       CASE(futexes),
	CASE(sleeping),	   CASE(pausing),     CASE(awaiting_signals),  CASE(stopped),
	CASE(vforking),	   CASE(threads),     CASE(awaiting_children), CASE(short_threads),
	CASE(memory),	   CASE(all_memory),  CASE(forking),	       CASE(executing),
	CASE(files),	   CASE(filters),     CASE(proc_files),	       CASE(console),
	CASE(guest_spins), CASE(guest_halts), CASE(guest_exits),       CASE(machines),
};

/* One child. With @delay_us it is killed so soon after its start, else when it is ready. */
static bool run(void (*fn)(void), long delay_us)
{
	int fds[2], status;
	char c;
	pid_t pid;
	bool ok = pipe(fds) == 0;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		close(fds[0]);
		ready_fd = fds[1];
		fn();
		_exit(4); /* it should have waited */
	}
	close(fds[1]);
	if (delay_us < 0) {
		ok = read(fds[0], &c, 1) == 1;
		delay_us = 500;
	}
	nanosleep(&(struct timespec){.tv_nsec = delay_us * 1000}, NULL);
	kill(pid, SIGKILL);
	ok = waitpid(pid, &status, 0) == pid && ok;
	close(fds[0]);
	/* Orphans of a case, whom nobody else waits for. */
	while (waitpid(-1, NULL, 0) > 0) {
	}
	unlink("/tmp/leaks");
	unlink("/tmp/leaks-file");
	unlink("/tmp/leaks-dir/file");
	unlink("/tmp/leaks-dir/link");
	rmdir("/tmp/leaks-dir");
	/* Without memory it may have ended by itself. */
	return ok && WIFSIGNALED(status);
}

static bool check(void (*fn)(void))
{
	struct counts before;
	unsigned seed = 12345;
	bool ok = true;

	for (int i = 0; i < WARM_UP; i++) {
		ok &= run(fn, -1);
		count(&before);
	}
	nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	count(&before);
	for (int i = 0; i < ROUNDS; i++) {
		ok &= run(fn, i % 4 == 0 ? -1 : rand_r(&seed) % (DEADLY_MS * 1000));
	}
	return settles(&before) && ok;
}

static void *wait_long(void *arg)
{
	pause();
	return arg;
}

/* As many threads at once as no case has: the kernel keeps their stacks, and tables for them. */
static void many_threads(void)
{
	for (int i = 0; i < 200; i++) {
		pthread_t t;

		must(pthread_create(&t, NULL, wait_long, NULL) == 0);
	}
	is_ready();
	pause();
}

/* Which pages of the program's code a child needs first is chance, and they stay: all of them now.
 */
static int touch_segments(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size;
	(void)arg;
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];

		if (p->p_type != PT_LOAD) {
			continue;
		}
		uintptr_t start = info->dlpi_addr + p->p_vaddr;

		for (uintptr_t at = start & ~4095ul; at < start + p->p_memsz; at += 4096) {
			(void)*(const volatile char *)at;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	dl_iterate_phdr(touch_segments, NULL);

	int failed = !run(many_threads, -1);

	self = argv[0];
	if (argc == 1 && strcmp(argv[0], "again") == 0) {
		char *const again[] = {"again", NULL};

		execv("/proc/self/exe", again);
	}
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		bool wanted = argc == 1;

		for (int k = 1; k < argc; k++) {
			wanted |= strcmp(argv[k], cases[i].name) == 0;
		}
		if (wanted) {
			bool ok = check(cases[i].fn);

			printf("%s %s\n", ok ? "pass" : "FAIL", cases[i].name);
			failed += !ok;
		}
	}
	printf("leaks: %d failed\n", failed);
	fflush(stdout);
	return failed != 0;
}
