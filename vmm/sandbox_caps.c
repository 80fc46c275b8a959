/*
 * Capabilities are a thread's own, and the kernel has no call that drops those of all threads. So a
 * signal goes to each thread, whose handler does it. Threads of ours block all signals they can;
 * the one that libc uses for the very same purpose, for setuid(), cannot be blocked through libc,
 * and nothing in this program changes user IDs, so it can be borrowed.
 */
#include <dirent.h>
#include <errno.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "vmm/log.h"
#include "vmm/sandbox.h"

#define SIGNAL	33 /* SIGSETXID of glibc and musl */
#define WAIT_MS 2000

/* As the kernel has it: libc's sigaction() refuses SIGNAL. */
struct kernel_sigaction {
	void (*handler)(int);
	unsigned long flags;
	void (*restorer)(void);
	uint64_t mask;
};

/* Set by the handler in other threads; one sandbox a process. */
static struct {
	atomic_uint done;
	atomic_int error;
} others;

/* Plain system calls only, as it runs in signal handlers. Return: 0 or -errno. */
static int drop_own(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};

	/* Without CAP_SETPCAP the bounding set stays; no new privileges then keeps it idle. */
	for (unsigned long cap = 0; cap <= 63; cap++) {
		if (syscall(SYS_prctl, PR_CAPBSET_DROP, cap, 0, 0, 0) != 0) {
			break;
		}
	}
	(void)syscall(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	return syscall(SYS_capset, &header, none) == 0 ? 0 : -errno;
}

static void on_signal(int number)
{
	int saved_errno = errno;
	int error = drop_own();

	(void)number;
	if (error != 0) {
		atomic_store_explicit(&others.error, error, memory_order_relaxed);
	}
	/* Pairs with the acquire in wait_for(). */
	atomic_fetch_add_explicit(&others.done, 1, memory_order_release);
	errno = saved_errno;
}

/* A handler for SIGNAL: libc is asked to install it for another one, and that is copied. */
static int install_handler(void)
{
	struct sigaction before, action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
	struct kernel_sigaction copy;
	int error = 0;

	sigfillset(&action.sa_mask);
	if (sigaction(SIGUSR2, &action, &before) != 0) {
		return -errno;
	}
	if (syscall(SYS_rt_sigaction, SIGUSR2, NULL, &copy, sizeof(copy.mask)) != 0 ||
	    syscall(SYS_rt_sigaction, SIGNAL, &copy, NULL, sizeof(copy.mask)) != 0) {
		error = -errno;
	}
	sigaction(SIGUSR2, &before, NULL);
	return error;
}

/* Return: how many threads were told, or -errno. */
static int tell_others(void)
{
	DIR *tasks = opendir("/proc/self/task");
	pid_t self = gettid();
	struct dirent *entry;
	int count = 0;

	if (tasks == NULL) {
		return -errno;
	}
	while ((entry = readdir(tasks)) != NULL) {
		pid_t tid = (pid_t)strtol(entry->d_name, NULL, 10);

		/* One that has just ended needs nothing. */
		if (tid > 0 && tid != self && syscall(SYS_tgkill, getpid(), tid, SIGNAL) == 0) {
			count++;
		}
	}
	closedir(tasks);
	return count;
}

static int wait_for(unsigned count)
{
	const struct timespec ms = {.tv_nsec = 1000000};

	for (int i = 0; i < WAIT_MS; i++) {
		if (atomic_load_explicit(&others.done, memory_order_acquire) >= count) {
			return atomic_load_explicit(&others.error, memory_order_relaxed);
		}
		nanosleep(&ms, NULL);
	}
	return -ETIMEDOUT;
}

int sandbox_drop_capabilities(void)
{
	int error = install_handler();
	int count;

	atomic_store_explicit(&others.done, 0, memory_order_relaxed);
	atomic_store_explicit(&others.error, 0, memory_order_relaxed);
	if (error == 0) {
		count = tell_others();
		if (count >= 0) {
			error = wait_for((unsigned)count);
		} else {
			log_warn("there is no /proc, so threads that run already keep their "
				 "capabilities");
		}
	}
	if (error == 0) {
		error = drop_own();
	}
	if (error != 0) {
		log_error("cannot drop capabilities: %s; --sandbox off goes on without",
			  strerror(-error));
	}
	return error;
}
