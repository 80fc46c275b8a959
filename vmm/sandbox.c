#include "vmm/sandbox.h"

#include <asm/prctl.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/console/console.h"
#include "vmm/log.h"

struct rule {
	enum accel accel; /* with whom it is in force; ACCEL_AUTO: with all */
	int call;
	uint32_t action;
	unsigned ncmp;
	struct scmp_arg_cmp cmp;
};

#define PROCESS (uint64_t)(unsigned) getpid()

/* Not constant data: PROCESS is known only now. Return: 0 or -errno. */
static int add_rules(scmp_filter_ctx filter, enum accel accel)
{
	const struct rule rules[] = {
#define ALLOW(accel, name) {accel, SCMP_SYS(name), SCMP_ACT_ALLOW, 0, {0}},
#define ALLOW_IF(accel, name, arg, mask, value) \
	{accel, SCMP_SYS(name), SCMP_ACT_ALLOW, 1, {(arg), SCMP_CMP_MASKED_EQ, (mask), (value)}},
#define SYSCALL_RUN(name, why)			    ALLOW(ACCEL_AUTO, name)
#define SYSCALL_RUN_IF(name, why, arg, mask, value) ALLOW_IF(ACCEL_AUTO, name, arg, mask, value)
#define SYSCALL_RUN_UNLESS(name, why, arg, value) \
	{ACCEL_AUTO, SCMP_SYS(name), SCMP_ACT_ALLOW, 1, {(arg), SCMP_CMP_NE, (value), 0}},
#define SYSCALL_RUN_FAILS(name, why, error) \
	{ACCEL_AUTO, SCMP_SYS(name), SCMP_ACT_ERRNO(error), 0, {0}},
#define SYSCALL_KVM_IF(name, why, arg, mask, value)  ALLOW_IF(ACCEL_KVM, name, arg, mask, value)
#define SYSCALL_SOFT(name, why)			     ALLOW(ACCEL_SOFT, name)
#define SYSCALL_SOFT_IF(name, why, arg, mask, value) ALLOW_IF(ACCEL_SOFT, name, arg, mask, value)
#include "abi/linux/syscalls.def"
	};
	int error = 0;

	for (size_t i = 0; error == 0 && i < ARRAY_SIZE(rules); i++) {
		if (rules[i].accel != ACCEL_AUTO && rules[i].accel != accel) {
			continue;
		}
		error = seccomp_rule_add_array(filter, rules[i].action, rules[i].call,
					       rules[i].ncmp, &rules[i].cmp);
	}
	return error;
}

/*
 * A call that is not allowed. By a trap and not by killing at once, so that the user learns which
 * one it was and has the terminal back. The handler is gone by now (SA_RESETHAND) and the call was
 * not done; where the signal is blocked the kernel kills.
 */
static void refused(int number, siginfo_t *info, void *context)
{
	(void)context;
	console_restore_terminal();
	log_error("bug in yado: the sandbox does not allow system call %d; please report it. "
		  "--sandbox off goes on without",
		  info->si_syscall);
	raise(number);
}

static int install_handler(void)
{
	struct sigaction action = {
		.sa_sigaction = refused,
		.sa_flags = (int)(SA_SIGINFO | SA_RESETHAND | SA_NODEFER | SA_ONSTACK),
	};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGSYS);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	return sigaction(SIGSYS, &action, NULL) == 0 ? 0 : -errno;
}

static int filter_calls(enum accel accel)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_TRAP);
	int error = -ENOMEM;

	if (filter == NULL) {
		return error;
	}
	error = install_handler();
	if (error == 0) {
		error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
	}
	if (error == 0) {
		/* 32-bit calls have other numbers; there is no reason to make any. */
		error = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	}
	if (error == 0) {
		error = add_rules(filter, accel);
	}
	/* What vCPUs and the loop do all the time is looked for first. */
	if (error == 0) {
		error = seccomp_syscall_priority(
			filter, accel == ACCEL_SOFT ? SCMP_SYS(rt_sigpending) : SCMP_SYS(ioctl),
			255);
	}
	if (error == 0) {
		error = seccomp_load(filter); /* and no new privileges */
	}
	seccomp_release(filter);
	return error;
}

int sandbox_enter(enum accel accel)
{
	const struct rlimit no_core = {0, 0};
	int error = sandbox_drop_capabilities();

	if (error != 0) {
		return error;
	}
	if (setrlimit(RLIMIT_CORE, &no_core) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) {
		error = -errno;
	}
	if (error == 0) {
		error = filter_calls(accel);
	}
	if (error != 0) {
		log_error("cannot enter the sandbox: %s; --sandbox off goes on without",
			  strerror(-error));
	}
	return error;
}
