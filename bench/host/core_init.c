/*
 * The first program of core when it hosts the guest that is measured: starts what /etc/command
 * says, one argument a line, and waits for it.
 */
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARGUMENTS_MAX 40

int main(void)
{
	static char lines[ARGUMENTS_MAX][512];
	char *argv[ARGUMENTS_MAX + 1] = {NULL};
	FILE *f = fopen("/etc/command", "re");
	int status = 0;
	pid_t pid;

	for (int i = 0;
	     f != NULL && i < ARGUMENTS_MAX && fgets(lines[i], sizeof(lines[i]), f) != NULL; i++) {
		lines[i][strcspn(lines[i], "\n")] = '\0';
		argv[i] = lines[i];
	}
	if (argv[0] == NULL || posix_spawn(&pid, argv[0], NULL, NULL, argv, environ) != 0 ||
	    waitpid(pid, &status, 0) != pid) {
		return 9;
	}
	return WEXITSTATUS(status);
}
