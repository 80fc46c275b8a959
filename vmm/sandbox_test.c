#include "vmm/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "tests/unit.h"

static int null_fd;
static pid_t parent;

/* A child that enters the sandbox and then does @act. Return: its status. */
static int in_sandbox(int (*act)(void))
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		alarm(30);
		_exit(sandbox_enter(ACCEL_KVM) == 0 ? act() : 99);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void *add_one(void *number)
{
	++*(int *)number;
	return NULL;
}

/* What a running VM does; 0 if all of it works. */
static int ordinary_work(void)
{
	int fd;
	int number = 41;
	pthread_t thread;
	char byte = 'x';
	char *memory = malloc(8 << 20);
	struct sigaction action = {.sa_handler = SIG_IGN};

	if (memory == NULL) {
		return 1;
	}
	memset(memory, 1, 8 << 20);
	free(memory);
	if (pthread_create(&thread, NULL, add_one, &number) != 0 ||
	    pthread_join(thread, NULL) != 0 || number != 42) {
		return 2;
	}
	if (write(null_fd, &byte, 1) != 1) {
		return 3;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || close(fd) != 0) {
		return 4;
	}
	if (sigaction(SIGWINCH, &action, NULL) != 0 || raise(SIGWINCH) != 0) {
		return 5;
	}
	if (unlink("/nonexistent/yado") == 0 || errno != ENOENT) {
		return 6;
	}
	if (prctl(PR_SET_NAME, "name") != 0) {
		return 7;
	}
	return 0;
}

static void a_running_vm_can_work(void **unused)
{
	int status = in_sandbox(ordinary_work);

	(void)unused;
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static int try_open(void)
{
	return open("/etc/passwd", O_RDONLY) < 0;
}

static int try_dup(void)
{
	return fcntl(null_fd, F_DUPFD_CLOEXEC, 3) < 0;
}

static int try_eventfd(void)
{
	return eventfd(0, EFD_CLOEXEC) < 0;
}

static int try_exec(void)
{
	char *const argv[] = {"true", NULL};

	return execve("/bin/true", argv, NULL);
}

static int try_fork(void)
{
	return (int)syscall(SYS_fork);
}

static int try_clone_process(void)
{
	return (int)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static int try_clone_user_namespace(void)
{
	return (int)syscall(SYS_clone, CLONE_VM | CLONE_THREAD | CLONE_SIGHAND | CLONE_NEWUSER, 0,
			    0, 0, 0);
}

static int try_internet(void)
{
	return socket(AF_INET, SOCK_STREAM, 0) < 0;
}

static int try_packets(void)
{
	return socket(AF_PACKET, SOCK_RAW, 0) < 0;
}

static int try_executable_mapping(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
	       MAP_FAILED;
}

static int try_making_executable(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return mprotect(p, 4096, PROT_READ | PROT_EXEC);
}

static int try_ptrace(void)
{
	return (int)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}

static int try_typing_into_the_shell(void)
{
	return ioctl(0, TIOCSTI, "x");
}

static int try_stopping_another(void)
{
	return kill(parent, SIGSTOP);
}

static int try_signal_to_another(void)
{
	return (int)syscall(SYS_tgkill, 1, 1, SIGTERM);
}

static int try_taking_over_the_signal(void)
{
	return signal(SIGSYS, SIG_IGN) == SIG_ERR;
}

static int try_being_dumpable(void)
{
	return prctl(PR_SET_DUMPABLE, 1);
}

static int try_limits(void)
{
	return (int)syscall(SYS_setrlimit, 4, NULL);
}

static void what_a_vm_does_not_need_ends_it(void **unused)
{
	static int (*const tries[])(void) = {
		try_open,
		try_dup,
		try_eventfd,
		try_exec,
		try_fork,
		try_clone_process,
		try_clone_user_namespace,
		try_internet,
		try_packets,
		try_executable_mapping,
		try_making_executable,
		try_ptrace,
		try_typing_into_the_shell,
		try_stopping_another,
		try_signal_to_another,
		try_taking_over_the_signal,
		try_being_dumpable,
		try_limits,
	};

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(tries); i++) {
		int status = in_sandbox(tries[i]);

		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS) {
			fail_msg("try %zu: status 0x%x", i, (unsigned)status);
		}
		assert_false(WCOREDUMP(status));
	}
}

/* Threads from before the sandbox, which block all signals, are in it too. */

static atomic_int started;
static int go[2];

static void *wait_and_open(void *unused)
{
	char byte;

	(void)unused;
	atomic_fetch_add(&started, 1);
	if (read(go[0], &byte, 1) == 1) {
		(void)try_open();
	}
	return NULL;
}

static void start_threads(int n)
{
	sigset_t all, before;
	pthread_t thread;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	for (int i = 0; i < n; i++) {
		if (pthread_create(&thread, NULL, wait_and_open, NULL) != 0) {
			_exit(98);
		}
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	while (atomic_load(&started) < n) {
		sched_yield();
	}
}

/* Does every thread of @pid have the line @line in its status? Return: threads. */
static int all_have(pid_t pid, const char *line)
{
	char command[256];
	char answer[64] = "";
	FILE *pipe;
	int have = 0, tasks = 0;

	snprintf(command, sizeof(command),
		 "cat /proc/%d/task/*/status | tr '\\t' ' ' | grep -c '^%s$'; ls /proc/%d/task | "
		 "wc -l",
		 pid, line, pid);
	pipe = popen(command, "r");
	assert_non_null(pipe);
	assert_true(fread(answer, 1, sizeof(answer) - 1, pipe) > 0);
	pclose(pipe);
	assert_int_equal(sscanf(answer, "%d %d", &have, &tasks), 2);
	if (have != tasks) {
		fail_msg("%d of %d threads have %s", have, tasks, line);
	}
	return tasks;
}

static void all_threads_are_in(void **unused)
{
	int ready[2];
	char byte = 0;
	int status;
	pid_t pid;

	(void)unused;
	assert_int_equal(pipe(go), 0);
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		alarm(30);
		start_threads(3);
		if (sandbox_enter(ACCEL_KVM) != 0 || write(ready[1], &byte, 1) != 1) {
			_exit(99);
		}
		_exit((int)read(go[0], &byte, 1)); /* for ever */
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	kill(pid, SIGSTOP);
	if (getuid() == 0) { /* others may not look at a process that cannot be dumped */
		assert_true(all_have(pid, "CapEff: 0000000000000000") >= 4);
		all_have(pid, "CapPrm: 0000000000000000");
		all_have(pid, "CapBnd: 0000000000000000");
		all_have(pid, "NoNewPrivs: 1");
		all_have(pid, "Seccomp: 2");
	}
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	close(ready[0]);
	close(go[0]);
	close(go[1]);
}

static int let_threads_open(void)
{
	struct timespec second = {.tv_sec = 5};

	if (write(go[1], "x", 1) != 1) {
		return 97;
	}
	nanosleep(&second, NULL);
	return 0;
}

static void an_older_thread_is_held_too(void **unused)
{
	int status;
	pid_t pid;

	(void)unused;
	assert_int_equal(pipe(go), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		alarm(30);
		start_threads(1);
		_exit(sandbox_enter(ACCEL_KVM) == 0 ? let_threads_open() : 99);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSYS);
	close(go[0]);
	close(go[1]);
}

static int set_up(void **unused)
{
	(void)unused;
	parent = getpid();
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	return null_fd < 0;
}

static int tear_down(void **unused)
{
	(void)unused;
	return close(null_fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_running_vm_can_work),
		cmocka_unit_test(what_a_vm_does_not_need_ends_it),
		cmocka_unit_test(all_threads_are_in),
		cmocka_unit_test(an_older_thread_is_held_too),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
