/*
 * Runs programs one after the other, each with a limit of time: as a command on Linux, as /init on
 * core. Line by line, its input file says
 *
 *	SECONDS NAME PATH ARGUMENT...
 *
 * What becomes of each is a line "== NAME: exit N", "== NAME: signal N", "== NAME: late" or
 * "== NAME: cannot start: N"; the program's own output stands before it, behind "== NAME".
 */
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LIST	  "selftests.list"
#define WORDS_MAX 16

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Return: did it end in time? If not, it is killed. */
static int wait_for(pid_t pid, double seconds, int *status)
{
	double end = now_s() + seconds;
	const struct timespec tick = {.tv_nsec = 200000000};
	sigset_t child;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	for (;;) {
		if (waitpid(pid, status, WNOHANG) == pid) {
			return 1;
		}
		if (now_s() > end) {
			kill(pid, SIGKILL);
			waitpid(pid, status, 0);
			return 0;
		}
		/* A child that ends meanwhile is seen at once. */
		sigtimedwait(&child, NULL, &tick);
	}
}

static void run(char **words)
{
	const char *name = words[1];
	posix_spawnattr_t attributes;
	sigset_t none;
	pid_t pid;
	int status = 0;

	printf("== %s\n", name);
	fflush(stdout);
	posix_spawnattr_init(&attributes);
	sigemptyset(&none);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
	int error = posix_spawn(&pid, words[2], NULL, &attributes, words + 2, environ);
	posix_spawnattr_destroy(&attributes);
	if (error != 0) {
		printf("== %s: cannot start: %d\n", name, error);
	} else if (!wait_for(pid, atof(words[0]), &status)) {
		printf("== %s: late\n", name);
	} else if (WIFEXITED(status)) {
		printf("== %s: exit %d\n", name, WEXITSTATUS(status));
	} else {
		printf("== %s: signal %d\n", name, WTERMSIG(status));
	}
	fflush(stdout);
}

int main(void)
{
	static char line[1024];
	FILE *list = fopen(LIST, "re");
	sigset_t child;

	if (list == NULL) {
		printf("cannot open %s: %s\n", LIST, strerror(errno));
		return 1;
	}
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	while (fgets(line, sizeof(line), list) != NULL) {
		char *words[WORDS_MAX + 1] = {NULL};
		size_t n = 0;

		for (char *w = strtok(line, " \n"); w != NULL && n < WORDS_MAX;
		     w = strtok(NULL, " \n")) {
			words[n++] = w;
		}
		if (n >= 3) {
			run(words);
		}
	}
	printf("== done\n");
	return 0;
}
