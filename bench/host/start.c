/*
 * Runs a VMM and says, in ticks of the TSC, how long it took until its guest's first program ran:
 * guest/init.c says so on the console, which the VMM writes to its standard output. In the lab's
 * counting mode a tick is an instruction.
 *
 *	start VMM [ARGUMENT]...		prints: init TICKS
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <x86intrin.h>

#define MARK "bench: init"

static _Noreturn void run_vmm(char **argv, int out)
{
	int null = open("/dev/null", O_RDWR);

	dup2(null, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	execvp(argv[0], argv);
	perror(argv[0]);
	_exit(127);
}

/* Return: the ticks at which the mark came, or 0 if it did not. Reads to the end. */
static uint64_t await_mark(int in)
{
	char text[4096];
	size_t len = 0;
	uint64_t when = 0;
	ssize_t n;

	while ((n = read(in, text + len, sizeof(text) - 1 - len)) > 0) {
		len += (size_t)n;
		text[len] = '\0';
		if (when == 0 && strstr(text, MARK) != NULL) {
			when = __rdtsc();
		}
		/* Keep what may be the beginning of the mark. */
		if (len > sizeof(text) / 2) {
			memmove(text, text + len - sizeof(MARK), sizeof(MARK));
			len = sizeof(MARK);
		}
	}
	return when;
}

int main(int argc, char **argv)
{
	uint64_t start, init;
	int fds[2];
	int status;

	if (argc < 2 || pipe2(fds, O_CLOEXEC) != 0) {
		fputs("usage: start VMM [ARGUMENT]...\n", stderr);
		return 2;
	}
	start = __rdtsc();
	pid_t pid = fork();
	if (pid == 0) {
		run_vmm(argv + 1, fds[1]);
	}
	close(fds[1]);
	init = await_mark(fds[0]);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || init == 0) {
		fputs("start: the guest's first program did not run\n", stderr);
		return 1;
	}
	printf("init %llu\n", (unsigned long long)(init - start));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
