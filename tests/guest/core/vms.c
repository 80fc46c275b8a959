/*
 * /init on core for tests with several VMs: starts programs, each with its standard streams on a
 * socket, and carries all of them over the one console. A line from the console is a command, and N
 * is a digit:
 *
 *   N+WORD WORD...   start: the words are separated by blanks, "~" in a word stands for a blank
 *   N>TEXT           input for N, with a line end
 *   N-               kill N
 *   quit             end
 *
 * What comes back, a line each:
 *
 *   N|TEXT           output; \n, \\ and \xHH are escapes
 *   N.STATUS         N has ended: 256 times the exit status, or the signal
 *
 * A plain static program of libc, so it runs on Linux, too.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define PROGRAMS   10
#define WORDS_MAX  64
#define LINE_BYTES 4096

static struct program {
	pid_t pid; /* 0: none */
	int fd;
} programs[PROGRAMS];

/* Sends a line as a whole, or is silent about it: the console does not end. */
static void say(const char *text, size_t len)
{
	while (len > 0) {
		ssize_t n = write(STDOUT_FILENO, text, len);

		if (n < 0 && errno != EINTR) {
			exit(1);
		}
		text += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
	}
}

static void start(unsigned i, char *words)
{
	char *argv[WORDS_MAX + 1];
	int pair[2], n = 0;

	for (char *w = strtok(words, " "); w != NULL && n < WORDS_MAX; w = strtok(NULL, " ")) {
		argv[n++] = w;
		for (char *c = w; *c != '\0'; c++) {
			*c = *c == '~' ? ' ' : *c;
		}
	}
	argv[n] = NULL;
	if (n == 0 || programs[i].pid != 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
		printf("%u: cannot be started\n", i);
		return;
	}
	programs[i].pid = fork();
	if (programs[i].pid == 0) {
		for (int fd = 0; fd < 3; fd++) {
			dup2(pair[1], fd);
		}
		execv(argv[0], argv);
		_exit(127);
	}
	programs[i].fd = pair[0];
	close(pair[1]);
}

static void take_output(unsigned i)
{
	char in[512], out[4 * sizeof(in) + 4];
	ssize_t n = read(programs[i].fd, in, sizeof(in));
	size_t len;

	if (n <= 0) {
		close(programs[i].fd);
		programs[i].fd = -1;
		return;
	}
	len = (size_t)sprintf(out, "%u|", i);
	for (ssize_t k = 0; k < n; k++) {
		unsigned char c = (unsigned char)in[k];

		if (c == '\n') {
			len += (size_t)sprintf(out + len, "\\n");
		} else if (c == '\\') {
			len += (size_t)sprintf(out + len, "\\\\");
		} else if (c < ' ' || c > '~') {
			len += (size_t)sprintf(out + len, "\\x%02x", c);
		} else {
			out[len++] = (char)c;
		}
	}
	out[len++] = '\n';
	say(out, len);
}

static bool take_command(char *line)
{
	unsigned i = (unsigned)line[0] - '0';

	if (strcmp(line, "quit") == 0) {
		return false;
	}
	if (i >= PROGRAMS) {
		return true;
	}
	if (line[1] == '+') {
		start(i, line + 2);
	} else if (line[1] == '-' && programs[i].pid != 0) {
		kill(programs[i].pid, SIGKILL);
	} else if (line[1] == '>' && programs[i].pid != 0 && programs[i].fd >= 0) {
		size_t len = strlen(line);

		line[len] = '\n';
		if (send(programs[i].fd, line + 2, len - 1, MSG_NOSIGNAL) < 0) {
			printf("%u: takes no input\n", i);
		}
		line[len] = '\0';
	}
	return true;
}

/* Return: false: the end. */
static bool take_input(void)
{
	static char buffer[LINE_BYTES];
	static size_t len;
	ssize_t n = read(STDIN_FILENO, buffer + len, sizeof(buffer) - 1 - len);
	char *end;

	if (n <= 0) {
		return false;
	}
	len += (size_t)n;
	buffer[len] = '\0';
	while ((end = strchr(buffer, '\n')) != NULL) {
		char line[LINE_BYTES + 1];

		*end = '\0';
		strcpy(line, buffer);
		len -= (size_t)(end + 1 - buffer);
		memmove(buffer, end + 1, len + 1);
		if (!take_command(line)) {
			return false;
		}
	}
	return true;
}

static void reap(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (unsigned i = 0; i < PROGRAMS; i++) {
			char line[32];

			if (programs[i].pid != pid) {
				continue;
			}
			while (programs[i].fd >= 0) {
				take_output(i); /* what is left, up to the end */
			}
			programs[i].pid = 0;
			say(line, (size_t)sprintf(line, "%u.%d\n", i, status));
		}
	}
}

static void raw_console(void)
{
	struct termios t;

	if (tcgetattr(STDIN_FILENO, &t) == 0) {
		cfmakeraw(&t);
		t.c_oflag |= OPOST | ONLCR;
		tcsetattr(STDIN_FILENO, TCSANOW, &t);
	}
}

int main(void)
{
	setvbuf(stdout, NULL, _IONBF, 0);
	raw_console();
	printf("vms: ready\n");
	for (;;) {
		struct pollfd fds[PROGRAMS + 1] = {{.fd = STDIN_FILENO, .events = POLLIN}};

		for (unsigned i = 0; i < PROGRAMS; i++) {
			bool is_open = programs[i].pid != 0;

			fds[i + 1] = (struct pollfd){.fd = is_open ? programs[i].fd : -1,
						     .events = POLLIN};
		}
		if (poll(fds, PROGRAMS + 1, 100) < 0 && errno != EINTR) {
			return 1;
		}
		for (unsigned i = 0; i < PROGRAMS; i++) {
			if (fds[i + 1].revents != 0) {
				take_output(i);
			}
		}
		if (fds[0].revents != 0 && !take_input()) {
			break;
		}
		reap();
	}
	reboot(RB_POWER_OFF);
	return 0;
}
