/*
 * System calls about the caller itself: numbers, names, limits, scheduling, execve().
 */
#include <asm/prctl.h>
#include <asm/signal.h>
#include <errno.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/membarrier.h>
#include <linux/prctl.h>
#include <linux/resource.h>
#include <linux/seccomp.h>
#include <string.h>

#include "core/hw/clock.h"
#include "core/hw/ipi.h"
#include "core/hw/user.h"
#include "core/mem/heap.h"
#include "core/mem/page.h"
#include "core/sys/fd.h"
#include "core/sys/random.h"
#include "core/sys/syscall.h"
#include "core/sys/tree.h"
#include "core/task/exec.h"
#include "core/task/process.h"
#include "core/task/sched.h"
#include "core/task/time.h"

#define LAST_CAPABILITY 40

SYSCALL(getpid)
{
	(void)a;
	return process_current()->pid;
}

SYSCALL(gettid)
{
	(void)a;
	return thread_current()->tid;
}

SYSCALL(getppid)
{
	struct process *p = process_current();
	int pid;

	(void)a;
	spin_take(&task_lock);
	pid = p->parent != NULL ? p->parent->pid : 0;
	spin_give(&task_lock);
	return pid;
}

/* Everybody is root. */
#define ROOT(name)        \
	SYSCALL(name)     \
	{                 \
		(void)a;  \
		return 0; \
	}
ROOT(getuid)
ROOT(geteuid)
ROOT(getgid)
ROOT(getegid)

#define STAYS_ROOT(name)                                 \
	SYSCALL(name)                                    \
	{                                                \
		return (uint32_t)a[0] == 0 ? 0 : -EPERM; \
	}
STAYS_ROOT(setuid)
STAYS_ROOT(setgid)
STAYS_ROOT(setgroups)

SYSCALL(getgroups)
{
	(void)a;
	return 0;
}

/* Groups and sessions. */

static int64_t group_of(int pid, bool session)
{
	struct process *p = process_find(pid == 0 ? process_current()->pid : pid);
	int64_t result;

	if (p == NULL) {
		return -ESRCH;
	}
	result = session ? p->session : p->group;
	process_put(p);
	return result;
}

SYSCALL(getpgid)
{
	return group_of((int)a[0], false);
}

SYSCALL(getpgrp)
{
	(void)a;
	return group_of(0, false);
}

SYSCALL(getsid)
{
	return group_of((int)a[0], true);
}

SYSCALL(setpgid)
{
	int pid = (int)a[0] != 0 ? (int)a[0] : process_current()->pid, group = (int)a[1];
	struct process *p;
	int error;

	if (group < 0) {
		return -EINVAL;
	}
	p = process_find(pid);
	if (p == NULL) {
		return -ESRCH;
	}
	error = process_set_group(p, group != 0 ? group : pid);
	process_put(p);
	return error;
}

SYSCALL(setsid)
{
	int error = process_set_session();

	(void)a;
	return error != 0 ? error : process_current()->pid;
}

/* Thread state. */

SYSCALL(arch_prctl)
{
	struct thread *t = thread_current();

	user_state_save(&t->user);
	switch (a[0]) {
	case ARCH_SET_FS:
	case ARCH_SET_GS:
		if (!user_range_ok(a[1], 0)) {
			return -EPERM;
		}
		*(a[0] == ARCH_SET_FS ? &t->user.fs_base : &t->user.gs_base) = a[1];
		user_state_load(&t->user);
		return 0;
	case ARCH_GET_FS:
		return user_put64(a[1], t->user.fs_base);
	case ARCH_GET_GS:
		return user_put64(a[1], t->user.gs_base);
	default:
		return -EINVAL;
	}
}

static int64_t set_name(uint64_t va)
{
	char name[THREAD_NAME_BYTES] = {0};
	int64_t len = user_read_string(name, va, sizeof(name));

	if (len == -EFAULT) {
		return -EFAULT;
	}
	name[sizeof(name) - 1] = '\0';
	thread_set_name(thread_current(), name);
	return 0;
}

SYSCALL(prctl)
{
	struct process *p = process_current();

	switch ((int)a[0]) {
	case PR_SET_NAME:
		return set_name(a[1]);
	case PR_GET_NAME:
		return user_write(a[1], thread_current()->name, THREAD_NAME_BYTES);
	case PR_SET_PDEATHSIG:
		if (a[1] > SIGNAL_COUNT) {
			return -EINVAL;
		}
		p->parent_death_signal = (int)a[1];
		return 0;
	case PR_SET_NO_NEW_PRIVS:
		p->seccomp.no_new_privileges = true;
		return a[1] == 1 ? 0 : -EINVAL;
	case PR_GET_NO_NEW_PRIVS:
		return p->seccomp.no_new_privileges;
	case PR_SET_DUMPABLE:
		return a[1] <= 1 ? 0 : -EINVAL;
	case PR_GET_DUMPABLE:
	case PR_CAP_AMBIENT:
		return 0;
	case PR_CAPBSET_DROP:
	case PR_CAPBSET_READ:
		return a[1] <= LAST_CAPABILITY ? 0 : -EINVAL;
	case PR_GET_SECCOMP:
		return p->seccomp.last != NULL ? 2 : 0;
	case PR_SET_TIMERSLACK:
		return 0;
	default:
		return -EINVAL;
	}
}

SYSCALL(capset)
{
	(void)a;
	return 0; /* nothing is decided by capabilities */
}

SYSCALL(capget)
{
	uint32_t version;

	if (user_get32(a[0], &version) != 0) {
		return -EFAULT;
	}
	if (version != _LINUX_CAPABILITY_VERSION_3) {
		return user_put32(a[0], _LINUX_CAPABILITY_VERSION_3) != 0 ? -EFAULT : -EINVAL;
	}
	return a[1] != 0 ? user_clear(a[1], 24) : 0;
}

static int64_t set_filter(uint64_t flags, uint64_t va)
{
	struct sock_fprog program;
	struct seccomp_instruction *copy;
	size_t bytes;
	int error;

	if ((flags & ~(uint64_t)(SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_LOG |
				 SECCOMP_FILTER_FLAG_SPEC_ALLOW)) != 0) {
		return -EINVAL;
	}
	if (user_read(&program, va, sizeof(program)) != 0) {
		return -EFAULT;
	}
	if (program.len == 0 || program.len > SECCOMP_INSTRUCTIONS_MAX) {
		return -EINVAL;
	}
	bytes = program.len * sizeof(*copy);
	copy = mem_alloc(bytes);
	if (copy == NULL) {
		return -ENOMEM;
	}
	error = user_read(copy, (uint64_t)program.filter, bytes);
	if (error == 0) {
		error = seccomp_add(&process_current()->seccomp, copy, program.len);
	}
	mem_free(copy, bytes);
	return error;
}

/* All threads of a process have the same filters, so TSYNC asks for what is so anyway. */
SYSCALL(seccomp)
{
	uint32_t action;

	switch ((unsigned)a[0]) {
	case SECCOMP_SET_MODE_FILTER:
		return set_filter(a[1], a[2]);
	case SECCOMP_GET_ACTION_AVAIL:
		if (user_get32(a[2], &action) != 0) {
			return -EFAULT;
		}
		return action == SECCOMP_RET_TRACE || action == SECCOMP_RET_USER_NOTIF ? -EOPNOTSUPP
										       : 0;
	default:
		return -EINVAL;
	}
}

/* Limits. */

static int limit_of(struct process *p, unsigned which, uint64_t **now, uint64_t **max)
{
	switch (which) {
	case RLIMIT_NOFILE:
		*now = &p->limits.files;
		*max = &p->limits.files_max;
		return 0;
	case RLIMIT_STACK:
		*now = &p->limits.stack;
		*max = &p->limits.stack_max;
		return 0;
	case RLIMIT_CORE:
		*now = &p->limits.core;
		*max = &p->limits.core_max;
		return 0;
	default:
		*now = NULL;
		return which < RLIM_NLIMITS ? 0 : -EINVAL;
	}
}

static int64_t do_limit(unsigned which, uint64_t new_va, uint64_t old_va)
{
	uint64_t *now, *max, value[2] = {UINT64_MAX, UINT64_MAX};
	int error = limit_of(process_current(), which, &now, &max);

	if (error != 0) {
		return error;
	}
	if (now != NULL) {
		value[0] = *now;
		value[1] = *max;
	}
	if (old_va != 0 && user_write(old_va, value, sizeof(value)) != 0) {
		return -EFAULT;
	}
	if (new_va == 0) {
		return 0;
	}
	if (user_read(value, new_va, sizeof(value)) != 0) {
		return -EFAULT;
	}
	if (value[0] > value[1]) {
		return -EINVAL;
	}
	if (now != NULL) {
		if (which == RLIMIT_NOFILE && value[1] > FD_MAX) {
			return -EPERM;
		}
		*now = value[0];
		*max = value[1];
	}
	return 0;
}

SYSCALL(prlimit64)
{
	if ((int)a[0] != 0 && (int)a[0] != process_current()->pid) {
		return -EPERM;
	}
	return do_limit((unsigned)a[1], a[2], a[3]);
}

SYSCALL(getrlimit)
{
	return do_limit((unsigned)a[0], 0, a[1]);
}

SYSCALL(setrlimit)
{
	return do_limit((unsigned)a[0], a[1], 0);
}

SYSCALL(getrusage)
{
	uint64_t usage[18] = {0}, ns = 0;
	int error = 0;

	if ((int)a[0] == RUSAGE_CHILDREN) {
		ns = process_current()->children_ns;
	} else {
		error = time_of_clock((int)a[0] == RUSAGE_SELF ? 2 : 3, &ns);
	}
	usage[0] = ns / NS_PER_S;
	usage[1] = ns % NS_PER_S / 1000;
	return error != 0 ? error : user_write(a[1], usage, sizeof(usage));
}

/* The machine. */

SYSCALL(uname)
{
	static const char fields[][65] = {
		"Linux", "core", "6.1.0-core", ("#1 Yado core " YADO_VERSION), "x86_64", "(none)"};

	return user_write(a[0], fields, sizeof(fields));
}

SYSCALL(sysinfo)
{
	struct {
		uint64_t uptime, loads[3], total, free, shared, buffer, swap, free_swap;
		uint16_t processes, pad[3];
		uint64_t total_high, free_high;
		uint32_t unit, end;
	} info = {
		.uptime = clock_now_ns() / NS_PER_S,
		.total = page_total() * PAGE_SIZE,
		.free = page_used(PAGE_USE_FREE) * PAGE_SIZE,
		.processes = 1,
		.unit = 1,
	};

	_Static_assert(sizeof(info) == 112, "struct sysinfo");
	return user_write(a[0], &info, sizeof(info));
}

SYSCALL(getcpu)
{
	unsigned cpu = cpu_index();

	if ((a[0] != 0 && user_put32(a[0], cpu) != 0) || (a[1] != 0 && user_put32(a[1], 0) != 0)) {
		return -EFAULT;
	}
	return 0;
}

SYSCALL(getrandom)
{
	uint8_t chunk[256];
	uint64_t len = MIN(a[1], UINT64_C(0x7fffffff)), done = 0;

	if ((a[2] & ~UINT64_C(7)) != 0) {
		return -EINVAL;
	}
	while (done < len) {
		size_t part = MIN(len - done, sizeof(chunk));

		random_bytes(chunk, part);
		if (user_write(a[0] + done, chunk, part) != 0) {
			return done > 0 ? (int64_t)done : -EFAULT;
		}
		done += part;
		if (done >= sizeof(chunk) && signal_is_pending()) {
			break;
		}
	}
	return (int64_t)done;
}

SYSCALL(umask)
{
	(void)a;
	return 022;
}

static void barrier(void *arg)
{
	(void)arg;
	atomic_thread_fence(memory_order_seq_cst);
}

SYSCALL(membarrier)
{
	switch ((int)a[0]) {
	case MEMBARRIER_CMD_QUERY:
		return MEMBARRIER_CMD_GLOBAL | MEMBARRIER_CMD_PRIVATE_EXPEDITED |
		       MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED;
	case MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED:
		return 0;
	case MEMBARRIER_CMD_GLOBAL:
	case MEMBARRIER_CMD_PRIVATE_EXPEDITED:
		ipi_call(cpu_all(), barrier, NULL);
		return 0;
	default:
		return -EINVAL;
	}
}

/* execve(). */

/* Return: 0 or -errno. @env says which of both arrays it is. */
static int read_strings(struct exec_strings *s, uint64_t array, bool env)
{
	for (uint64_t i = 0; array != 0; i++) {
		size_t room = EXEC_ARGUMENT_BYTES - s->len;
		uint64_t va;
		int64_t len;

		if (user_get64(array + i * 8, &va) != 0) {
			return -EFAULT;
		}
		if (va == 0) {
			break;
		}
		len = room == 0 ? -ENAMETOOLONG : user_read_string(s->bytes + s->len, va, room);
		if (len < 0) {
			return len == -ENAMETOOLONG ? -E2BIG : (int)len;
		}
		s->len += (size_t)len + 1;
		*(env ? &s->environment : &s->arguments) += 1;
	}
	return 0;
}

SYSCALL(execve)
{
	char *path = mem_alloc(NODE_PATH_MAX);
	struct exec_strings s = {0};
	struct node *program = NULL;
	int64_t error = path != NULL ? user_read_string(path, a[0], NODE_PATH_MAX) : -ENOMEM;

	if (error >= 0) {
		error = exec_strings_init(&s);
	}
	if (error == 0) {
		error = read_strings(&s, a[1], false);
		if (error == 0) {
			error = read_strings(&s, a[2], true);
		}
		if (error == 0) {
			error = tree_find(NULL, path, 0, &program);
		}
		if (error == 0) {
			error = exec_program(program, path, &s);
			node_put(program);
		}
		exec_strings_fini(&s);
	}
	mem_free(path, NODE_PATH_MAX);
	return error;
}

/* Scheduling. */

SYSCALL(sched_yield)
{
	(void)a;
	sched_pass();
	return 0;
}

/* The thread that @tid means, counted. */
static struct thread *target(uint64_t tid)
{
	struct thread *t = thread_current();

	if ((int)tid == 0) {
		thread_get(t);
		return t;
	}
	return thread_find((int)tid);
}

SYSCALL(sched_setaffinity)
{
	uint64_t cpus = 0;
	struct thread *t;
	int error;

	if (user_read(&cpus, a[2], MIN(a[1], sizeof(cpus))) != 0) {
		return -EFAULT;
	}
	t = target(a[0]);
	if (t == NULL) {
		return -ESRCH;
	}
	error = sched_set_affinity(t, cpus);
	thread_put(t);
	return error;
}

SYSCALL(sched_getaffinity)
{
	struct thread *t;
	uint64_t cpus;

	if (a[1] < sizeof(cpus) || a[1] % sizeof(cpus) != 0) {
		return -EINVAL;
	}
	t = target(a[0]);
	if (t == NULL) {
		return -ESRCH;
	}
	cpus = t->entity.cpus & cpu_all();
	thread_put(t);
	return user_put64(a[2], cpus) != 0 ? -EFAULT : (int64_t)sizeof(cpus);
}

static int64_t set_policy(uint64_t tid, int policy, uint64_t param_va)
{
	struct thread *t;
	uint32_t priority;
	int error;

	if (user_get32(param_va, &priority) != 0) {
		return -EFAULT;
	}
	t = target(tid);
	if (t == NULL) {
		return -ESRCH;
	}
	policy = policy < 0 ? (int)t->entity.policy : policy & ~0x40000000; /* RESET_ON_FORK */
	error = sched_set_policy(t, policy, (int)priority, t->entity.nice);
	thread_put(t);
	return error;
}

SYSCALL(sched_setscheduler)
{
	return (int)a[1] < 0 ? -EINVAL : set_policy(a[0], (int)a[1], a[2]);
}

SYSCALL(sched_setparam)
{
	return set_policy(a[0], -1, a[1]);
}

SYSCALL(sched_getscheduler)
{
	struct thread *t = target(a[0]);
	int64_t policy;

	if (t == NULL) {
		return -ESRCH;
	}
	policy = (int64_t)t->entity.policy;
	thread_put(t);
	return policy;
}

SYSCALL(sched_getparam)
{
	struct thread *t = target(a[0]);
	unsigned priority;

	if (t == NULL) {
		return -ESRCH;
	}
	priority = t->entity.priority;
	thread_put(t);
	return user_put32(a[1], priority);
}

static int64_t priority_bound(int policy, int bound)
{
	switch (policy) {
	case RUN_FIFO:
	case RUN_RR:
		return bound;
	case RUN_OTHER:
	case RUN_BATCH:
	case RUN_IDLE:
		return 0;
	default:
		return -EINVAL;
	}
}

SYSCALL(sched_get_priority_max)
{
	return priority_bound((int)a[0], RUN_PRIORITIES - 1);
}

SYSCALL(sched_get_priority_min)
{
	return priority_bound((int)a[0], 1);
}

SYSCALL(setpriority)
{
	int nice = MAX(MIN((int)a[2], 19), -20);
	struct thread *t;
	int error;

	if ((int)a[0] != PRIO_PROCESS) {
		return -EINVAL;
	}
	t = target(a[1]);
	if (t == NULL) {
		return -ESRCH;
	}
	error = sched_set_policy(t, (int)t->entity.policy, (int)t->entity.priority, nice);
	thread_put(t);
	return error;
}

SYSCALL(getpriority)
{
	struct thread *t;
	int64_t value;

	if ((int)a[0] != PRIO_PROCESS) {
		return -EINVAL;
	}
	t = target(a[1]);
	if (t == NULL) {
		return -ESRCH;
	}
	value = 20 - t->entity.nice;
	thread_put(t);
	return value;
}
