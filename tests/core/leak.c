/*
 * Takes all there is of a kind, until the kernel says no, and leaves it behind.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "tests/core/hostile.h"

#define MANY 100000

/* Descriptors of every kind, in an epoll and on their way through sockets. */
static int descriptors(void)
{
	const struct itimerspec soon = {{0, 1000000}, {0, 1000000}};
	struct epoll_event event = {.events = EPOLLIN | EPOLLOUT};
	int poll = epoll_create1(0), made = 0;
	sigset_t all;

	sigfillset(&all);
	for (int i = 0; i < MANY; i++) {
		int pair[2] = {-1, -1};
		int fd = -1;

		switch (i % 7) {
		case 0:
			fd = eventfd(1, 0);
			break;
		case 1:
			fd = timerfd_create(CLOCK_MONOTONIC, 0);
			timerfd_settime(fd, 0, &soon, NULL);
			break;
		case 2:
			fd = pipe(pair) == 0 ? pair[0] : -1;
			(void)!write(pair[1], "left behind", 11);
			break;
		case 3:
			fd = socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 ? pair[0] : -1;
			(void)!write(pair[1], "left behind", 11);
			break;
		case 4:
			fd = signalfd(-1, &all, 0);
			break;
		case 5:
			fd = memfd_create("left", 0);
			(void)!ftruncate(fd, 1 << 20);
			(void)!pwrite(fd, "behind", 6, 1 << 19);
			break;
		default:
			fd = open("/tmp/left", O_RDWR | O_CREAT, 0600);
			(void)!write(fd, "behind", 6);
		}
		if (fd < 0) {
			break;
		}
		event.data.fd = fd;
		epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
		made++;
	}
	unlink("/tmp/left");
	return made > 100 ? 0 : 1;
}

static int send_fd(int to, int fd)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec one = {"x", 1};
	struct msghdr message = {.msg_iov = &one,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control.room)};

	memset(&control, 0, sizeof(control));
	control.header = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	return (int)sendmsg(to, &message, MSG_DONTWAIT);
}

/* Descriptors in flight, that nobody will take. */
static int in_flight(void)
{
	int sent = 0;

	for (int i = 0; i < 200; i++) {
		int pair[2];

		if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) {
			break;
		}
		for (int k = 0; k < 100; k++) {
			int fd = k % 2 == 0 ? memfd_create("flies", 0) : eventfd(0, 0);

			(void)!pwrite(fd, "12345678", 8, 0);
			sent += send_fd(pair[0], fd) == 1;
			close(fd);
		}
		close(pair[i % 2]);
	}
	return sent > 100 ? 0 : 1;
}

static int listeners(void)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};

	for (int i = 0; i < 30; i++) {
		int l = socket(AF_UNIX, SOCK_STREAM, 0);

		snprintf(at.sun_path, sizeof(at.sun_path), "/tmp/listen%d", i);
		if (l < 0 || bind(l, (struct sockaddr *)&at, sizeof(at)) != 0 ||
		    listen(l, 5) != 0) {
			return 1;
		}
		for (int k = 0; k < 8; k++) {
			int c = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

			if (connect(c, (struct sockaddr *)&at, sizeof(at)) == 0) {
				(void)!write(c, "hello", 5);
			}
			if (k % 2 == 0) {
				close(c);
			}
		}
	}
	return 0;
}

static void *sleep_for_ever(void *arg)
{
	(void)arg;
	for (;;) {
		pause();
	}
	return NULL;
}

static int threads(void)
{
	pthread_attr_t small;
	pthread_t thread;

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 16384);
	for (int i = 0; i < MANY; i++) {
		if (pthread_create(&thread, &small, sleep_for_ever, NULL) != 0) {
			return i > 10 ? 0 : 1;
		}
	}
	return 1;
}

static int child_main(void *arg)
{
	(void)arg;
	for (;;) {
		pause();
	}
	return 0;
}

/* Children that share our memory; they end with the test's process group, by us. */
static int processes(void)
{
	static pid_t pids[MANY];
	static uint8_t stacks[8192][1024] __attribute__((aligned(16)));
	int n = 0;

	for (; n < 8192; n++) {
		pids[n] =
			clone(child_main, stacks[n] + sizeof(stacks[n]), CLONE_VM | SIGCHLD, NULL);
		if (pids[n] < 0) {
			break;
		}
	}
	for (int i = 0; i < n; i++) {
		kill(pids[i], SIGKILL);
	}
	/* Not waited for: whose they are now has to. */
	return n > 10 && n < 8192 ? 0 : 1;
}

/* fork() of fork() of fork(), each with some memory of its own. */
static int forks(void)
{
	pid_t first = fork();

	if (first < 0) {
		return errno == ENOSYS ? 0 : 1;
	}
	if (first == 0) {
		/* All children of one parent live at once. */
		for (int i = 0; i < MANY; i++) {
			pid_t pid = fork();

			if (pid < 0) {
				kill(-getpgrp(), 0);
				_exit(i > 10 ? 0 : 1);
			}
			if (pid == 0) {
				volatile char *page = malloc(64 * PAGE);

				for (size_t k = 0; page != NULL && k < 64; k++) {
					page[k * PAGE] = 1;
				}
				pause();
			}
		}
	}
	usleep(3000000);
	kill(-1, SIGKILL); /* all but init and us */
	return 0;
}

static int memory(void)
{
	const size_t piece = 16 << 20;

	/* Reserved and touched, until the kernel ends us or says no. */
	for (int i = 0; i < MANY; i++) {
		char *p = mmap(NULL, piece, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			       0);

		if (p == MAP_FAILED) {
			return 0;
		}
		for (size_t at = 0; at < piece; at += PAGE) {
			p[at] = 1;
		}
	}
	return 1;
}

static int memory_files(void)
{
	static char block[65536];

	memset(block, 'x', sizeof(block));
	for (int i = 0; i < MANY; i++) {
		int fd = memfd_create("all", 0);

		if (fd < 0) {
			return 0;
		}
		for (int k = 0; k < 1024; k++) {
			if (write(fd, block, sizeof(block)) != (ssize_t)sizeof(block)) {
				return 0;
			}
		}
	}
	return 1;
}

/* Files in the tree: init removes them. */
static int files(void)
{
	char name[64];

	for (int i = 0; i < 20000; i++) {
		snprintf(name, sizeof(name), "/tmp/file%d", i);
		int fd = open(name, O_RDWR | O_CREAT, 0600);

		if (fd < 0 || write(fd, name, sizeof(name)) != (ssize_t)sizeof(name)) {
			return 0;
		}
		close(fd);
	}
	return 0;
}

static int mappings(void)
{
	char *base = mmap(NULL, 1ul << 32, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (base == MAP_FAILED) {
		return 1;
	}
	for (size_t i = 0; i < MANY; i++) {
		char *p = mmap(base + i * 2 * PAGE, PAGE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

		if (p == MAP_FAILED) {
			return 0;
		}
		*p = 1;
	}
	return 0;
}

static int vms(void)
{
	static struct vm vm;
	int kvm = open("/dev/kvm", O_RDWR), made = 0;

	vm_create(&vm, vm_storm, sizeof(vm_storm));
	vm_start(&vm);
	for (int i = 0; i < 1000; i++) {
		int fd = ioctl(kvm, KVM_CREATE_VM, 0);

		if (fd < 0) {
			break;
		}
		made++;
		if (i % 2 == 0) {
			ioctl(fd, KVM_CREATE_IRQCHIP, 0);
			struct kvm_pit_config pit = {0};
			ioctl(fd, KVM_CREATE_PIT2, &pit);
		}
		for (int k = 0; k < 1 + i % 5; k++) {
			if (ioctl(fd, KVM_CREATE_VCPU, k) < 0) {
				break;
			}
		}
		struct kvm_userspace_memory_region slot = {
			.memory_size = VM_MEMORY,
			.userspace_addr = (uintptr_t)vm.memory,
			.flags = i % 3 == 0 ? KVM_MEM_LOG_DIRTY_PAGES : 0};
		ioctl(fd, KVM_SET_USER_MEMORY_REGION, &slot);
		struct kvm_irqfd irqfd = {.fd = (uint32_t)eventfd(0, 0), .gsi = 5};
		ioctl(fd, KVM_IRQFD, &irqfd);
		struct kvm_ioeventfd doorbell = {.addr = 0x80,
						 .len = 1,
						 .fd = irqfd.fd + 0,
						 .flags = KVM_IOEVENTFD_FLAG_PIO};
		ioctl(fd, KVM_IOEVENTFD, &doorbell);
	}
	return made > 3 ? 0 : 1;
}

static int vcpus(void)
{
	static struct vm vm;
	int made = 1;

	vm_create(&vm, vm_spin, sizeof(vm_spin));
	ioctl(vm.vm, KVM_CREATE_IRQCHIP, 0);
	for (int i = 1; i < 5000; i++) {
		int fd = ioctl(vm.vm, KVM_CREATE_VCPU, i);

		if (fd < 0) {
			break;
		}
		mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		made++;
	}
	return made > 3 && made < 5000 ? 0 : 1;
}

static int signals(void)
{
	union sigval value = {.sival_int = 1};
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	for (int i = 0; i < MANY; i++) {
		if (sigqueue(getpid(), SIGRTMIN + i % 10, value) != 0) {
			return 0;
		}
	}
	return 1;
}

static void *wait_on_futex(void *arg)
{
	syscall(SYS_futex, arg, 0, 0, NULL, NULL, 0);
	return NULL;
}

static void *sleep_long(void *arg)
{
	const struct timespec day = {86400, 0};

	nanosleep(&day, NULL);
	return arg;
}

static int waiters(void)
{
	static int words[200];
	pthread_attr_t small;
	pthread_t thread;

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 16384);
	for (int i = 0; i < 200; i++) {
		pthread_create(&thread, &small, i % 2 == 0 ? wait_on_futex : sleep_long, &words[i]);
	}
	usleep(50000);
	return 0;
}

#define LARGE (2ul << 30) /* more than the machine has */

/* A guest that writes a word each @step bytes of more memory than there is, from 1 MiB on. */
static int guest_writes(uint32_t step)
{
	/* again: add eax, step; mov [eax], eax; jmp again */
	uint8_t code[] = {0x05, 0, 0, 0, 0, 0x89, 0x00, 0xeb, 0xf7};
	struct kvm_regs regs = {.rip = 0x1000, .rflags = 2, .rax = 1 << 20};
	struct kvm_segment flat = {.limit = 0xffffffff,
				   .type = 3,
				   .present = 1,
				   .s = 1,
				   .g = 1,
				   .db = 1,
				   .selector = 16};
	struct kvm_sregs s;
	struct vm vm;

	memcpy(code + 1, &step, sizeof(step));
	vm_create(&vm, code, sizeof(code));
	uint8_t *ram = mmap(NULL, LARGE, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (ram == MAP_FAILED) {
		return 0;
	}
	struct kvm_userspace_memory_region slot = {.slot = 1,
						   .guest_phys_addr = 1 << 20,
						   .memory_size = LARGE,
						   .userspace_addr = (uintptr_t)ram};

	if (ioctl(vm.vm, KVM_SET_USER_MEMORY_REGION, &slot) != 0 ||
	    ioctl(vm.vcpu, KVM_GET_SREGS, &s) != 0) {
		return 2;
	}
	s.ds = s.es = s.ss = s.cs = flat;
	s.cs.type = 11;
	s.cs.selector = 8;
	s.cr0 = 0x11;
	if (ioctl(vm.vcpu, KVM_SET_SREGS, &s) != 0 || ioctl(vm.vcpu, KVM_SET_REGS, &regs) != 0) {
		return 3;
	}
	while (ioctl(vm.vcpu, KVM_RUN, 0) != 0) {
		if (errno != EINTR) {
			return step == PAGE ? 0 : 4;
		}
	}
	/* It is beyond its memory. */
	return step != PAGE && vm.run->exit_reason == KVM_EXIT_MMIO ? 0 : 5;
}

/* All of it: the kernel refuses, or ends us. */
static int guest_fills(void)
{
	return guest_writes(PAGE);
}

/* A page of each 2 MiB, and a nested page table for it: that fits. */
static int guest_sparse(void)
{
	return guest_writes(2 << 20);
}

/* The same in our own address space, until there is no more. */
static int page_tables(void)
{
	const size_t all = 1ul << 40;
	volatile char *p = mmap(NULL, all, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	for (size_t at = 0; p != MAP_FAILED && at < all; at += 2 << 20) {
		p[at] = 1;
	}
	return p == MAP_FAILED ? 0 : 1;
}

static const struct {
	const char *name;
	int (*run)(void);
} kinds[] = {
	{"descriptors", descriptors},
	{"in_flight", in_flight},
	{"listeners", listeners},
	{"threads", threads},
	{"processes", processes},
	{"forks", forks},
	{"memory", memory},
	{"memory_files", memory_files},
	{"files", files},
	{"mappings", mappings},
	{"vms", vms},
	{"vcpus", vcpus},
	{"signals", signals},
	{"waiters", waiters},
	{"guest_fills", guest_fills},
	{"guest_sparse", guest_sparse},
	{"page_tables", page_tables},
};

const char *leak_name(unsigned number)
{
	return number < sizeof(kinds) / sizeof(kinds[0]) ? kinds[number].name : NULL;
}

int leak(unsigned number)
{
	return kinds[number].run();
}
