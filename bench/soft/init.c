/*
 * Does the work of /rows, one piece after the other, and tells before and after each. The first
 * program of a guest, which it powers off at the end; or, as `init native`, a program like others.
 *
 * A line of /rows is a name, a tab and a command of the shell. Lines that come out:
 *
 *	bench: init
 *	bench: begin NAME
 *	bench: end STATUS NANOSECONDS		processor time of the command, as seen from here
 */
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t processor_ns(void)
{
	struct rusage used;

	getrusage(RUSAGE_CHILDREN, &used);
	return (uint64_t)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000000 +
	       (uint64_t)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1000;
}

static int run(const char *command)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);

		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		execl("/bin/busybox", "sh", "-c", command, NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) {
		return 255;
	}
	return WEXITSTATUS(status);
}

static void work(FILE *rows)
{
	char line[1024];

	while (fgets(line, sizeof(line), rows) != NULL) {
		char *command = strchr(line, '\t');
		uint64_t before;
		int status;

		if (command == NULL) {
			continue;
		}
		*command++ = '\0';
		command[strcspn(command, "\n")] = '\0';
		printf("bench: begin %s\n", line);
		before = processor_ns();
		status = run(command);
		printf("bench: end %d %llu\n", status,
		       (unsigned long long)(processor_ns() - before));
	}
}

int main(int argc, char **argv)
{
	int guest = argc < 2 || strcmp(argv[1], "native") != 0;
	FILE *rows;

	setvbuf(stdout, NULL, _IOLBF, 0);
	setenv("PATH", "/bin:/usr/bin", 1);
	if (guest) {
		printf("bench: init\n");
		if (mount("dev", "/dev", "devtmpfs", 0, NULL) != 0 ||
		    mount("proc", "/proc", "proc", 0, NULL) != 0 ||
		    mount("tmp", "/tmp", "tmpfs", 0, NULL) != 0) {
			warn("mount");
		}
	}
	rows = fopen("/rows", "re");
	if (rows != NULL) {
		work(rows);
		fclose(rows);
	}
	return guest ? reboot(RB_POWER_OFF) : 0;
}
