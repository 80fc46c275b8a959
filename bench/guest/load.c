/*
 * The first program of the guest whose work is compared on hosts: a loop that computes, processes
 * that come and go, memory that is touched for the first time. Says how many ticks of the TSC each
 * took, which in the lab's counting mode are instructions of host and guest together. The same as
 * the first program of a host, or of core, it says when it started.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>
#include <x86intrin.h>

#define COMPUTED  20000000
#define PROCESSES 300
#define MIB	  (1024ul * 1024)
#define TOUCHED	  (48 * MIB)

static void compute(void)
{
	uint64_t x = 1;

	for (unsigned i = 0; i < COMPUTED; i++) {
		x = x * 6364136223846793005 + i;
		__asm__ volatile("" : "+r"(x));
	}
}

static void fork_and_exec(void)
{
	for (unsigned i = 0; i < PROCESSES; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			char *const argv[] = {"child", NULL};

			execv("/init", argv);
			_exit(1);
		}
		if (pid < 0 || waitpid(pid, NULL, 0) != pid) {
			abort();
		}
	}
}

static void touch(void)
{
	char *p = mmap(NULL, TOUCHED, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		abort();
	}
	madvise(p, TOUCHED, MADV_NOHUGEPAGE);
	for (size_t at = 0; at < TOUCHED; at += 4096) {
		p[at] = 1;
	}
	munmap(p, TOUCHED);
}

static void measure(const char *name, void (*load)(void))
{
	uint64_t start = __rdtsc();

	load();
	printf("bench: %s|%lu\n", name, (unsigned long)(__rdtsc() - start));
	fflush(stdout);
}

int main(int argc, char **argv)
{
	unsigned long start = __rdtsc();

	if (strcmp(argv[0], "child") == 0) {
		return 0;
	}
	printf("bench: start|%lu\n", start);
	fflush(stdout);
	/* Before it stands what the kernel did not know. */
	if (strcmp(argv[argc - 1], "work") == 0) {
		measure("compute", compute);
		measure("fork and exec", fork_and_exec);
		measure("touch", touch);
		measure("touch again", touch);
	}
	reboot(RB_POWER_OFF);
	return 0;
}
