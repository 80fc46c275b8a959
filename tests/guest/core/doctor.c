/*
 * /init on core: starts `yado doctor` and waits for it.
 */
#include <spawn.h>
#include <stddef.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
	char *const argv[] = {"yado", "doctor", NULL};
	int status = 0;
	pid_t pid;

	if (posix_spawn(&pid, "/bin/yado", NULL, NULL, argv, environ) != 0 ||
	    waitpid(pid, &status, 0) != pid) {
		return 9;
	}
	return WEXITSTATUS(status);
}
