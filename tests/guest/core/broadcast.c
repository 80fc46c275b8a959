/*
 * /init on core: a signal to all reaches those who are just being made, too, also if they have
 * lower numbers than who makes them, who has his signal after them. Says how many rounds found all
 * gone.
 */
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NUMBERS	     4096 /* of processes and threads: below that; then from the lowest free one on */
#define ROUNDS	     40
#define SECONDS	     30 /* for all; a busy machine has fewer rounds */
#define GONE_SECONDS 10

#define THREAD_FLAGS \
	(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM)

static volatile pid_t *newest; /* shared with children */

/* A thread that ends at once, without a look at the stack, which is its maker's. */
static long use_up_one(void)
{
	long result;

	__asm__ volatile("syscall\n\t"
			 "test %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "mov %3, %%eax\n\t"
			 "xor %%edi, %%edi\n\t"
			 "syscall\n"
			 "1:"
			 : "=a"(result)
			 : "a"((long)SYS_clone), "D"((long)THREAD_FLAGS), "i"(SYS_exit), "S"(0L)
			 : "rcx", "r11", "cc", "memory");
	return result;
}

/* The next number is close to the last one. */
static bool use_up_numbers(void)
{
	pid_t pid = vfork();

	if (pid == 0) {
		_exit(0);
	}
	for (pid_t n = pid; n != NUMBERS - 20; n = n % (NUMBERS - 1) + 1) {
		/* Time for them to end: there cannot be that many at once. */
		if (n % 64 == 0) {
			usleep(1000);
		}
		while (use_up_one() < 0) {
			usleep(1000);
		}
	}
	return pid > 0 && waitpid(pid, NULL, 0) == pid;
}

/* A child makes children until a signal ends it. Returns when they have low numbers. */
static void make_many(void)
{
	*newest = NUMBERS;
	if (fork() == 0) {
		for (;;) {
			pid_t pid = fork();

			if (pid == 0) {
				pause();
			}
			*newest = pid;
		}
	}
	while (*newest > NUMBERS / 2) {
		usleep(100);
	}
}

/* Return: are all children gone? */
static bool all_gone(void)
{
	time_t end = time(NULL) + GONE_SECONDS;
	pid_t pid;

	while ((pid = waitpid(-1, NULL, WNOHANG)) >= 0) {
		if (pid == 0) {
			usleep(1000);
		}
		if (time(NULL) > end) {
			return false;
		}
	}
	return true;
}

int main(void)
{
	time_t end = time(NULL) + SECONDS;
	int rounds = 0;
	bool ok = true;

	if (getpid() != 1) {
		printf("only as /init of a machine of its own: it ends all other processes\n");
		return 2;
	}
	newest = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (newest == MAP_FAILED) {
		return 1;
	}
	while (ok && rounds < ROUNDS && time(NULL) < end) {
		ok = use_up_numbers();
		make_many();
		kill(-1, rounds % 2 == 0 ? SIGKILL : SIGTERM);
		ok = ok && all_gone();
		rounds += ok;
	}
	printf("broadcast: %d rounds, %s\n", rounds, ok ? "none was left behind" : "then one was");
	fflush(stdout);
	return 0;
}
