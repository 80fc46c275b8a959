#include "vmm/net/passt_process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "vmm/log.h"

#define ARGS_MAX     64
#define READY_MS     60000 /* a host of emulated CPUs was seen to need 30 s */
#define STEP_MS	     100   /* between two looks for signals */
#define GRACE_MS     300
#define CHILD_SOCK   3 /* the child's descriptors after stderr */
#define CHILD_PID    4
#define STRINGIFY(x) #x
#define NUMBER(x)    STRINGIFY(x)

/*
 * How passt tells that it is ready. Its --pid file is written at that moment, and given a pipe as
 * the file we hear of it at once. Versions after 2024 close what they inherit and cannot open the
 * pipe; those get a moment in which they could fail.
 */
enum ready_by {
	READY_BY_PID,
	READY_BY_TIME,
};

/* What the child needs to know, made before the fork. */
struct start {
	const char *argv[ARGS_MAX + 1];
	int sock;
	int ready; /* write end: see enum ready_by; or "!" and errno if passt cannot be run */
	int err;   /* write end */
	enum ready_by by;
	bool leave_rootfs; /* see leave_rootfs() */
};

/* Are we root of the whole host, or only of a user namespace that may lack other users? */
static bool has_full_uid_map(void)
{
	char line[64] = "";
	char *p = line;
	FILE *f = fopen("/proc/self/uid_map", "re");

	if (f == NULL) {
		return true;
	}
	if (fgets(line, sizeof(line), f) == NULL) {
		line[0] = '\0';
	}
	fclose(f);
	/* The first number inside, the first outside, and how many. */
	return line[0] != '\0' && strtoul(p, &p, 10) == 0 && strtoul(p, &p, 10) == 0 &&
	       strtoul(p, &p, 10) == UINT32_MAX;
}

/* Is the root directory still the kernel's first one, the initramfs? */
static bool on_rootfs(void)
{
	char line[512];
	bool found = false;
	FILE *f = fopen("/proc/self/mountinfo", "re");

	if (f == NULL) {
		return false;
	}
	while (!found && fgets(line, sizeof(line), f) != NULL) {
		/* 1 1 0:2 / / rw - rootfs rootfs rw */
		char where[64];
		char *type = strstr(line, " - ");

		found = type != NULL && strncmp(type, " - rootfs ", 10) == 0 &&
			sscanf(line, "%*s %*s %*s %*s %63s", where) == 1 && strcmp(where, "/") == 0;
	}
	fclose(f);
	return found;
}

/*
 * passt confines itself with pivot_root(), which the kernel refuses while the root directory is
 * the initramfs itself. So that it works there, passt gets a mount namespace in which the same
 * tree is mounted as a file system of its own.
 */
static bool leave_rootfs(void)
{
	return unshare(CLONE_NEWNS) == 0 &&
	       mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount("/", "/tmp", NULL, MS_BIND | MS_REC, NULL) == 0 && chdir("/tmp") == 0 &&
	       mount(".", "/", NULL, MS_MOVE, NULL) == 0 && chroot(".") == 0 && chdir("/") == 0;
}

/* The child, up to exec. Only plain system calls: the fork may have other threads' locks held. */
static _Noreturn void child(const struct start *s)
{
	/* Out of the way of the numbers they are to have. */
	int sock = fcntl(s->sock, F_DUPFD, CHILD_PID + 1);
	int ready = fcntl(s->ready, F_DUPFD, CHILD_PID + 1);
	int err = fcntl(s->err, F_DUPFD, CHILD_PID + 1);
	int null = open("/dev/null", O_RDWR);
	sigset_t none;
	char why[16];

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGCHLD, SIG_DFL);
	setsid(); /* the terminal's Ctrl-C is not for passt */
	if (null >= 0) {
		dup2(null, STDIN_FILENO);
	}
	dup2(err, STDOUT_FILENO);
	dup2(err, STDERR_FILENO);
	dup2(sock, CHILD_SOCK);
	dup3(ready, CHILD_PID, s->by == READY_BY_PID ? 0 : O_CLOEXEC);
	close_range(CHILD_PID + 1, ~0u, 0);

	if (s->leave_rootfs && !leave_rootfs()) {
		dprintf(STDERR_FILENO, "cannot leave the initramfs: %s\n", strerror(errno));
		_exit(1);
	}
	execvp(s->argv[0], (char *const *)(uintptr_t)s->argv);
	int len = snprintf(why, sizeof(why), "!%d", errno);
	if (write(CHILD_PID, why, (size_t)len) < 0) {
		_exit(126);
	}
	_exit(127);
}

/* Fills in the command line; @args is cut into words in place. */
static int make_argv(struct start *s, char *args)
{
	unsigned n = 0;
	char *rest = NULL;

	s->argv[n++] = "passt";
	s->argv[n++] = "--foreground";
	s->argv[n++] = "--quiet";
	s->argv[n++] = "--fd";
	s->argv[n++] = NUMBER(CHILD_SOCK);
	if (s->by == READY_BY_PID) {
		s->argv[n++] = "--pid";
		s->argv[n++] = "/proc/self/fd/" NUMBER(CHILD_PID);
	}
	if (geteuid() == 0 && has_full_uid_map() && (args == NULL || !strstr(args, "--runas"))) {
		/* nobody, without asking a password file that may not be there. */
		s->argv[n++] = "--runas";
		s->argv[n++] = "65534:65534";
	}
	for (char *w = args != NULL ? strtok_r(args, " ", &rest) : NULL; w != NULL;
	     w = strtok_r(NULL, " ", &rest)) {
		if (n == ARGS_MAX) {
			log_error("too many arguments for passt: at most %d", ARGS_MAX);
			return -E2BIG;
		}
		s->argv[n++] = w;
	}
	s->argv[n] = NULL;
	return 0;
}

/* Lines that say nothing about why it ended. */
static bool is_noise(const char *line)
{
	return line[0] == '\0' || strncmp(line, "Failed to send ", 15) == 0 ||
	       strncmp(line, "Don't run as root", 17) == 0;
}

static void take_line(struct passt_process *p)
{
	p->line[p->line_len] = '\0';
	p->line_len = 0;
	/* An error in the arguments comes first, and then the list of all options. */
	if (!is_noise(p->line) && strncmp(p->words, "passt: ", 7) != 0) {
		memcpy(p->words, p->line, sizeof(p->words));
	}
}

void passt_process_drain(struct passt_process *p)
{
	char buf[1024];
	ssize_t len;

	/* Bounded, as it runs on the event loop: passt could write without end. */
	for (unsigned turn = 0; turn < 16 && p->err_fd >= 0; turn++) {
		len = read(p->err_fd, buf, sizeof(buf));
		if (len < 0 && errno == EINTR) {
			continue;
		}
		if (len <= 0) {
			return;
		}
		for (ssize_t i = 0; i < len; i++) {
			unsigned char c = (unsigned char)buf[i];

			if (c == '\n') {
				take_line(p);
			} else if (p->line_len < sizeof(p->line) - 1) {
				p->line[p->line_len++] = (char)(c < ' ' || c > '~' ? ' ' : c);
			}
		}
	}
}

static void reap(struct passt_process *p, int status, char *text, size_t size)
{
	p->pid = 0;
	if (WIFSIGNALED(status)) {
		snprintf(text, size, ": killed by signal %d", WTERMSIG(status));
	} else if (p->words[0] != '\0') {
		snprintf(text, size, ": %s", p->words);
	} else {
		snprintf(text, size, ": exit status %d", WEXITSTATUS(status));
	}
}

void passt_process_end(struct passt_process *p, char *text, size_t size)
{
	int status;

	text[0] = '\0';
	passt_process_drain(p);
	if (p->pid > 0 && waitpid(p->pid, &status, WNOHANG) == p->pid) {
		reap(p, status, text, size);
	} else if (p->words[0] != '\0') {
		snprintf(text, size, ": %s", p->words);
	}
}

static void nap_ms(long ms)
{
	nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

/* Waits up to @ms for its end. */
static bool wait_end(struct passt_process *p, int ms)
{
	for (; ms > 0; ms -= 10) {
		pid_t got = waitpid(p->pid, NULL, WNOHANG);

		if (got == p->pid || (got < 0 && errno == ECHILD)) {
			p->pid = 0;
			return true;
		}
		nap_ms(10);
	}
	return false;
}

void passt_process_stop(struct passt_process *p)
{
	/* The closed connection ends it; the signals are for one that hangs. */
	if (p->pid > 0 && !wait_end(p, 500)) {
		kill(p->pid, SIGTERM);
		if (!wait_end(p, 300)) {
			kill(p->pid, SIGKILL);
			if (!wait_end(p, 200)) {
				log_warn("passt (process %d) does not end", (int)p->pid);
			}
		}
	}
	if (p->err_fd >= 0) {
		close(p->err_fd);
		p->err_fd = -1;
	}
}

/* It is about to end, or has to be ended: says why it does not start. */
static int say_failed(struct passt_process *p)
{
	char text[PASST_WORDS_MAX + 32] = "";

	for (int ms = 0; ms < 1000 && p->pid > 0; ms += 10) {
		int status;

		passt_process_drain(p);
		if (waitpid(p->pid, &status, WNOHANG) == p->pid) {
			passt_process_drain(p);
			reap(p, status, text, sizeof(text));
			break;
		}
		nap_ms(10);
	}
	if (strstr(p->words, "PID file") != NULL) {
		return -EAGAIN;
	}
	log_error("passt does not start%s", text);
	return -ECHILD;
}

static int say_no_exec(int error)
{
	if (error == ENOENT) {
		log_error("there is no passt on this host: install the package passt "
			  "('apt install passt'), or use --net tap=NAME");
	} else {
		log_error("cannot run passt: %s", strerror(error));
	}
	return error > 0 ? -error : -EIO;
}

/* Signals that end us are held back for the event loop, which does not run yet. */
static bool asked_to_end(void)
{
	sigset_t pending;

	return sigpending(&pending) == 0 &&
	       (sigismember(&pending, SIGINT) == 1 || sigismember(&pending, SIGTERM) == 1 ||
		sigismember(&pending, SIGHUP) == 1);
}

/* Return: 0; -EAGAIN if it has to be tried the other way; or -errno and said why. */
static int await_ready(struct passt_process *p, int ready, enum ready_by by)
{
	struct pollfd pfd = {.fd = ready, .events = POLLIN};
	char buf[16] = {0};
	ssize_t len;
	int n = 0;

	for (int ms = 0; ms < READY_MS && n <= 0; ms += STEP_MS) {
		if (asked_to_end()) {
			log_error("passt was not ready yet when a signal came to end it all");
			return -EINTR;
		}
		n = poll(&pfd, 1, STEP_MS);
	}
	if (n <= 0) {
		log_error("passt does not get ready: no word from it for %d seconds",
			  READY_MS / 1000);
		return -ETIMEDOUT;
	}
	len = read(ready, buf, sizeof(buf) - 1);
	if (len > 0 && buf[0] == '!') {
		return say_no_exec((int)strtol(buf + 1, NULL, 10));
	}
	if (by == READY_BY_PID) {
		return len > 0 ? 0 : say_failed(p);
	}
	/* It runs; what it cannot work with it says soon, and ends. */
	for (int ms = 0; ms < GRACE_MS; ms += 10) {
		siginfo_t info = {0};

		if (waitid(P_PID, (id_t)p->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
		    info.si_pid != 0) {
			return say_failed(p);
		}
		nap_ms(10);
	}
	return 0;
}

static void close_pair(int fds[2])
{
	for (unsigned i = 0; i < 2; i++) {
		if (fds[i] >= 0) {
			close(fds[i]);
		}
	}
}

/* One attempt. Return: as await_ready(). */
static int start(struct passt_process *p, struct start *s)
{
	int ready[2] = {-1, -1};
	int err[2] = {-1, -1};
	int ret;

	*p = (struct passt_process){.err_fd = -1};
	/* passt opens the pipe anew after it became another user: that one must be allowed to. */
	if (pipe2(ready, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0 ||
	    fchmod(ready[1], 0622) != 0 || fcntl(err[0], F_SETFL, O_NONBLOCK) != 0 ||
	    (p->pid = fork()) < 0) {
		ret = -errno;
		p->pid = 0;
		log_error("cannot start passt: %s", strerror(-ret));
		goto out;
	}
	if (p->pid == 0) {
		s->ready = ready[1];
		s->err = err[1];
		child(s);
	}
	p->err_fd = err[0];
	err[0] = -1;
	close(ready[1]);
	ready[1] = -1;
	ret = await_ready(p, ready[0], s->by);
	if (ret != 0) {
		if (p->pid > 0) {
			kill(p->pid, SIGKILL);
		}
		passt_process_stop(p);
	}
out:
	close_pair(ready);
	close_pair(err);
	return ret;
}

int passt_process_start(struct passt_process *p, int sock, const char *args)
{
	struct start s = {.sock = sock, .leave_rootfs = geteuid() == 0 && on_rootfs()};
	int ret = -EAGAIN;

	*p = (struct passt_process){.err_fd = -1};
	for (s.by = READY_BY_PID; ret == -EAGAIN && s.by <= READY_BY_TIME; s.by++) {
		char *words = args != NULL ? strdup(args) : NULL;

		if (args != NULL && words == NULL) {
			log_error("no memory to start passt");
			return -ENOMEM;
		}
		ret = make_argv(&s, words);
		if (ret == 0) {
			ret = start(p, &s);
		}
		free(words);
	}
	return ret;
}
