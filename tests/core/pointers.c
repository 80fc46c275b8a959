/*
 * Addresses that are not the caller's, to each argument of each system call, and to each ioctl.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tests/core/hostile.h"

#define NUMBERS 460

static _Atomic uint64_t steps;
static _Atomic bool done;
static pid_t main_tid;

static void interrupted(int number)
{
	(void)number;
}

static void *watch(void *arg)
{
	const struct timespec tick = {.tv_nsec = 2000000};
	uint64_t seen = 0;

	while (!atomic_load(&done)) {
		uint64_t now = atomic_load(&steps);

		if (now == seen) {
			tgkill(getpid(), main_tid, SIGUSR1);
		}
		seen = now;
		nanosleep(&tick, NULL);
	}
	return arg;
}

/* What would end us, stop us for good, or send others away. */
static bool is_left_out(unsigned number)
{
	switch (number) {
	case SYS_exit:
	case SYS_exit_group:
	case SYS_rt_sigreturn:
	case SYS_kill:
	case SYS_tkill:
	case SYS_tgkill:
	case SYS_munmap:
	case SYS_brk:
	case SYS_mremap:
	case SYS_rt_sigprocmask:
	case SYS_rt_sigaction:
	case SYS_sched_setscheduler:
		return true;
	default:
		return false;
	}
}

static void try_calls(const uint64_t *bad, size_t n)
{
	static const uint64_t others[] = {0, 8, UINT64_MAX, 1u << 12};

	for (unsigned number = 0; number < NUMBERS; number++) {
		for (size_t i = 0; i < n && !is_left_out(number); i++) {
			for (unsigned place = 0; place < 6; place++) {
				uint64_t a[6];

				for (unsigned k = 0; k < 6; k++) {
					a[k] = others[(i + place + k + number) % 4];
				}
				a[place] = bad[i];
				raw_call(number, a);
				atomic_fetch_add(&steps, 1);
			}
			uint64_t all[6] = {bad[i], bad[i], bad[i], bad[i], bad[i], bad[i]};

			if (number != SYS_mmap && number != SYS_mprotect) {
				raw_call(number, all);
			}
			/* As its second or third argument, with a descriptor that is open. */
			uint64_t with_fd[6] = {FUZZ_FD, bad[i], 16, bad[i], 16, 0};

			if (number != SYS_close && number != SYS_mprotect) {
				raw_call(number, with_fd);
			}
		}
	}
}

static void try_ioctls(const uint64_t *bad, size_t n, bool irqchip)
{
	struct vm vm;

	vm_create(&vm, vm_spin, sizeof(vm_spin));
	int other = ioctl(vm.kvm, KVM_CREATE_VM, 0);

	if (irqchip) {
		ioctl(other, KVM_CREATE_IRQCHIP, 0);
		close(vm.vcpu);
		vm.vcpu = ioctl(other, KVM_CREATE_VCPU, 0);
	}
	for (size_t e = 0; e < ioctl_count; e++) {
		const int fds[] = {vm.kvm, irqchip ? other : vm.vm, vm.vcpu};

		for (size_t i = 0; i < n; i++) {
			for (unsigned k = 0; k < 3; k++) {
				uint64_t a[6] = {(uint64_t)fds[k], ioctl_table[e].request, bad[i]};

				raw_call(SYS_ioctl, a);
				atomic_fetch_add(&steps, 1);
			}
		}
	}
	/* Tables whose end lies beyond what is there. */
	uint8_t *page =
		mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (size_t e = 0; e < ioctl_count; e++) {
		for (uint32_t entries = 1; entries != 0; entries <<= 1) {
			for (size_t from_end = 8; from_end < PAGE; from_end *= 3) {
				uint8_t *at = page + PAGE - from_end;
				uint64_t a[6] = {(uint64_t)(ioctl_table[e].where == 's' ? vm.kvm
							    : ioctl_table[e].where == 'v'
								    ? vm.vm
								    : vm.vcpu),
						 ioctl_table[e].request, (uintptr_t)at};

				memset(at, 0, from_end);
				memcpy(at, &entries, sizeof(entries));
				raw_call(SYS_ioctl, a);
				atomic_fetch_add(&steps, 1);
			}
		}
	}
}

int pointers(unsigned seed)
{
	struct sigaction action = {.sa_handler = interrupted};
	uint8_t *edge =
		mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *constant = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *none = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const uint64_t bad[] = {
		0,
		8,
		0xfff,
		(uintptr_t)edge + PAGE - 1,
		(uintptr_t)edge + PAGE - 12,
		(uintptr_t)constant,
		(uintptr_t)none,
		0x7ffffffff000 - 4,
		0x7ffffffff000,
		0x7fffffffffff,
		0x800000000000,
		0xffff7fffffffffff,
		0xffff800000000000,
		0xffff800000100000,
		0xffffffff80200000,
		0xfffffffffffffff8,
		0xffffffffffffffff,
	};
	const size_t n = sizeof(bad) / sizeof(bad[0]);
	pthread_t thread;

	for (int number = 1; number < 32; number++) {
		if (number != SIGSEGV && number != SIGBUS) {
			sigaction(number, &action, NULL);
		}
	}
	main_tid = gettid();
	pthread_create(&thread, NULL, watch, NULL);
	if (seed == 0) {
		try_calls(bad, n);
	} else {
		try_ioctls(bad, n, seed == 2);
	}
	atomic_store(&done, true);
	_exit(0);
}
