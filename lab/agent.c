/*
 * The lab's hand inside a lab host: starts programs there and carries their input, output and exit
 * status over one byte stream. lab/agent.py is the other end.
 *
 *   agent PORT            frames come from and go to PORT, a virtio-serial port or a tty
 *   agent fd:N            the same on an open socket (programs on this machine, no lab host)
 *   agent SCRIPT PORT     frames come from the file SCRIPT; its programs run one after the other,
 *                         and nothing enters the host after its start, so that a counted run
 *                         repeats exactly
 *
 * A frame is {u8 type, u8[3] zero, u32 id, u32 length}, little-endian, and `length` bytes. The id
 * names a program and is chosen by the other end.
 *
 *   to the agent                              from the agent
 *   X  start: u8 flags, u16 rows, u16 cols,   R  ready
 *      then strings: directory, arguments     O  output   E  error output
 *   I  input; empty: end of input             A  u32: so many bytes of input were taken
 *   K  u8 signal, to the program's group      S  u32: ended, a status as of wait()
 *   W  u16 rows, u16 cols                     H  alive, every two seconds
 *   Q  quit
 *
 * The other end sends at most INPUT_MAX bytes of input ahead of what A has acknowledged, so that a
 * program which does not read holds up nobody else.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define PROGRAMS_MAX  64
#define ARGUMENTS_MAX 1024
#define INPUT_MAX     (64 * 1024)
#define FRAME_MAX     (1024 * 1024)
#define LEFTOVER_MAX  (4 * 1024 * 1024) /* of output, read after a program's end */
#define HEARTBEAT_MS  2000

enum {
	FLAG_PTY = 1,	    /* input and output are a new terminal */
	FLAG_PTY_ERROR = 2, /* error output too */
};

struct header {
	uint8_t type;
	uint8_t zero[3];
	uint32_t id;
	uint32_t length;
};

_Static_assert(sizeof(struct header) == 12, "wire format");

struct program {
	bool used;
	bool ended;
	bool input_closing; /* close `in` once the buffer is empty */
	uint32_t id;
	pid_t pid;
	int status;
	int in, out, error; /* -1: closed; a terminal has in == out */
	size_t input_length;
	uint8_t input[INPUT_MAX];
};

static struct program programs[PROGRAMS_MAX];
static int port_out;
static bool scripted;
static uint8_t frame[FRAME_MAX + 1];

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "lab agent: %s: %s\n", what, strerror(errno));
	for (size_t i = 0; i < PROGRAMS_MAX; i++) {
		if (programs[i].used && !programs[i].ended) {
			kill(-programs[i].pid, SIGKILL);
		}
	}
	exit(1);
}

static void write_all(const void *data, size_t length)
{
	const uint8_t *p = data;

	while (length > 0) {
		ssize_t n = write(port_out, p, length);
		if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
			struct pollfd pfd = {.fd = port_out, .events = POLLOUT};
			poll(&pfd, 1, 100);
			continue;
		}
		if (n < 0) {
			die("write to the port");
		}
		p += n;
		length -= (size_t)n;
	}
}

static void send_frame(uint8_t type, uint32_t id, const void *data, size_t length)
{
	struct header h = {.type = type, .id = htole32(id), .length = htole32((uint32_t)length)};

	write_all(&h, sizeof(h));
	write_all(data, length);
}

static void send_u32(uint8_t type, uint32_t id, uint32_t value)
{
	uint32_t le = htole32(value);

	send_frame(type, id, &le, sizeof(le));
}

static void close_fd(int *fd)
{
	if (*fd >= 0) {
		close(*fd);
	}
	*fd = -1;
}

static void set_nonblocking(int fd)
{
	if (fd >= 0) {
		fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	}
}

static struct program *find_program(uint32_t id)
{
	for (size_t i = 0; i < PROGRAMS_MAX; i++) {
		if (programs[i].used && programs[i].id == id) {
			return &programs[i];
		}
	}
	return NULL;
}

static bool any_program(void)
{
	for (size_t i = 0; i < PROGRAMS_MAX; i++) {
		if (programs[i].used) {
			return true;
		}
	}
	return false;
}

static _Noreturn void run_child(const char *directory, char **argv, int in, int out, int error,
				bool terminal)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	setsid();
	if (terminal) {
		ioctl(in, TIOCSCTTY, 0);
	}
	dup2(in, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(error, STDERR_FILENO);
	if (directory[0] != '\0' && chdir(directory) != 0) {
		fprintf(stderr, "lab: %s: %s\n", directory, strerror(errno));
		_exit(126);
	}
	execvp(argv[0], argv);
	fprintf(stderr, "lab: %s: %s\n", argv[0], strerror(errno));
	_exit(errno == ENOENT ? 127 : 126);
}

/* Opens what the program's three streams are; [0] is the child's end, [1] ours. */
static int open_streams(uint8_t flags, const struct winsize *size, int in[2], int out[2],
			int error[2])
{
	bool terminal = flags & FLAG_PTY;
	int pipe_fds[2];

	if (terminal) {
		if (openpty(&in[1], &in[0], NULL, NULL, size) != 0) {
			return -errno;
		}
		fcntl(in[1], F_SETFD, FD_CLOEXEC);
		fcntl(in[0], F_SETFD, FD_CLOEXEC);
		out[0] = in[0];
		out[1] = in[1];
	} else {
		if (pipe2(pipe_fds, O_CLOEXEC) != 0) {
			return -errno;
		}
		in[0] = pipe_fds[0];
		in[1] = pipe_fds[1];
		if (pipe2(pipe_fds, O_CLOEXEC) != 0) {
			return -errno;
		}
		out[0] = pipe_fds[1];
		out[1] = pipe_fds[0];
	}
	if (terminal && (flags & FLAG_PTY_ERROR)) {
		error[0] = in[0];
	} else {
		if (pipe2(pipe_fds, O_CLOEXEC) != 0) {
			return -errno;
		}
		error[0] = pipe_fds[1];
		error[1] = pipe_fds[0];
	}
	return 0;
}

static void refuse_start(uint32_t id, const char *why)
{
	send_frame('E', id, why, strlen(why));
	send_u32('S', id, 126 << 8);
}

static void start_program(uint32_t id, uint8_t flags, const struct winsize *size,
			  const char *directory, char **argv)
{
	struct program *p = NULL;
	int in[2] = {-1, -1}, out[2] = {-1, -1}, error[2] = {-1, -1};

	for (size_t i = 0; i < PROGRAMS_MAX && p == NULL; i++) {
		p = programs[i].used ? NULL : &programs[i];
	}
	if (p == NULL) {
		refuse_start(id, "lab: too many programs at once\n");
		return;
	}
	pid_t pid = -1;
	if (open_streams(flags, size, in, out, error) == 0) {
		pid = fork();
	}
	if (pid == 0) {
		run_child(directory, argv, in[0], out[0], error[0], flags & FLAG_PTY);
	}
	close_fd(&in[0]);
	if (!(flags & FLAG_PTY)) {
		close_fd(&out[0]);
	}
	if (error[1] >= 0) {
		close_fd(&error[0]);
	}
	if (pid < 0) {
		close_fd(&in[1]);
		if (!(flags & FLAG_PTY)) {
			close_fd(&out[1]);
		}
		close_fd(&error[1]);
		refuse_start(id, "lab: cannot start a program\n");
		return;
	}
	set_nonblocking(in[1]);
	set_nonblocking(out[1]);
	set_nonblocking(error[1]);
	*p = (struct program){
		.used = true,
		.id = id,
		.pid = pid,
		.in = in[1],
		.out = out[1],
		.error = error[1],
	};
}

/* An X frame, NUL-terminated behind its end by the caller. */
static void frame_start(uint32_t id, uint8_t *data, size_t length)
{
	static char *argv[ARGUMENTS_MAX + 2];
	size_t argc = 0;

	if (length < 6 || data[length - 1] != '\0') {
		refuse_start(id, "lab: malformed start\n");
		return;
	}
	struct winsize size = {
		.ws_row = (uint16_t)(data[1] | data[2] << 8),
		.ws_col = (uint16_t)(data[3] | data[4] << 8),
	};
	for (size_t at = 5; at < length && argc <= ARGUMENTS_MAX;
	     at += strlen((char *)data + at) + 1) {
		argv[argc++] = (char *)data + at;
	}
	argv[argc] = NULL;
	if (argc < 2) {
		refuse_start(id, "lab: no program given\n");
		return;
	}
	start_program(id, data[0], &size, argv[0], argv + 1);
}

static void close_input(struct program *p)
{
	if (p->in >= 0 && p->in == p->out) {
		/* A terminal has no end of input but the character for it. */
		ssize_t n = write(p->in, "\x04", 1);
		(void)n;
	} else {
		close_fd(&p->in);
	}
	p->input_closing = false;
}

static void push_input(struct program *p)
{
	ssize_t n = 0;

	if (p->in < 0) {
		n = (ssize_t)p->input_length; /* nobody reads it any more: taken and dropped */
	} else if (p->input_length > 0) {
		n = write(p->in, p->input, p->input_length);
		if (n < 0 && errno != EAGAIN && errno != EINTR) {
			if (p->in != p->out) {
				close_fd(&p->in);
			}
			n = (ssize_t)p->input_length;
		}
	}
	if (n > 0) {
		p->input_length -= (size_t)n;
		memmove(p->input, p->input + n, p->input_length);
		if (!scripted) {
			send_u32('A', p->id, (uint32_t)n);
		}
	}
	if (p->input_closing && p->input_length == 0) {
		close_input(p);
	}
}

static void frame_input(struct program *p, const uint8_t *data, size_t length)
{
	if (length == 0) {
		p->input_closing = true;
	} else if (length <= INPUT_MAX - p->input_length) {
		memcpy(p->input + p->input_length, data, length);
		p->input_length += length;
	}
	push_input(p);
}

static void handle_frame(const struct header *h, uint8_t *data)
{
	uint32_t id = le32toh(h->id);
	uint32_t length = le32toh(h->length);
	struct program *p = find_program(id);

	switch (h->type) {
	case 'X':
		frame_start(id, data, length);
		break;
	case 'I':
		if (p != NULL) {
			frame_input(p, data, length);
		}
		break;
	case 'K':
		if (p != NULL && length == 1 && !p->ended) {
			kill(-p->pid, data[0]);
		}
		break;
	case 'W':
		if (p != NULL && length == 4 && p->in >= 0) {
			struct winsize size = {
				.ws_row = (uint16_t)(data[0] | data[1] << 8),
				.ws_col = (uint16_t)(data[2] | data[3] << 8),
			};
			ioctl(p->in, TIOCSWINSZ, &size);
		}
		break;
	default:
		break;
	}
}

/* Reads exactly @length bytes. Return: false at the end of input. */
static bool read_all(int fd, void *data, size_t length)
{
	uint8_t *p = data;

	while (length > 0) {
		ssize_t n = read(fd, p, length);
		if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
			struct pollfd pfd = {.fd = fd, .events = POLLIN};
			poll(&pfd, 1, 100);
			continue;
		}
		if (n <= 0) {
			return false;
		}
		p += n;
		length -= (size_t)n;
	}
	return true;
}

/* One frame from the port. Return: false when there is none any more. */
static bool take_frame(int port_in)
{
	struct header h;

	if (!read_all(port_in, &h, sizeof(h)) || h.type == 'Q') {
		return false;
	}
	if (le32toh(h.length) > FRAME_MAX) {
		errno = EMSGSIZE;
		die("frame");
	}
	if (!read_all(port_in, frame, le32toh(h.length))) {
		return false;
	}
	frame[le32toh(h.length)] = '\0';
	handle_frame(&h, frame);
	return true;
}

/* Sends on what is there to read. Return: how much it was; 0 for nothing now or no more. */
static size_t pull_output(struct program *p, int *fd, uint8_t type)
{
	static uint8_t buffer[64 * 1024];

	if (*fd < 0) {
		return 0;
	}
	ssize_t n = read(*fd, buffer, sizeof(buffer));
	if (n > 0) {
		send_frame(type, p->id, buffer, (size_t)n);
		return (size_t)n;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		return 0;
	}
	if (fd == &p->out && p->in == p->out) {
		p->in = -1; /* the terminal's other side is closed */
	}
	close_fd(fd);
	return 0;
}

/* A program's end is told after its output; what it left in the background loses its streams. */
static void finish_program(struct program *p)
{
	size_t budget = LEFTOVER_MAX;

	for (size_t n = 1; n > 0 && budget >= n; budget -= n) {
		n = pull_output(p, &p->out, 'O') + pull_output(p, &p->error, 'E');
	}
	if (p->in != p->out) {
		close_fd(&p->in);
	}
	close_fd(&p->out);
	close_fd(&p->error);
	send_u32('S', p->id, (uint32_t)p->status);
	p->used = false;
}

static void reap(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (size_t i = 0; i < PROGRAMS_MAX; i++) {
			struct program *p = &programs[i];
			if (p->used && !p->ended && p->pid == pid) {
				p->ended = true;
				p->status = status;
				finish_program(p);
			}
		}
	}
}

static void add_poll(struct pollfd *set, size_t *count, int fd, short events)
{
	set[(*count)++] = (struct pollfd){.fd = fd, .events = events};
}

static int serve(int port_in, int signals)
{
	bool more = true;

	for (;;) {
		static struct pollfd set[2 + 3 * PROGRAMS_MAX];
		size_t count = 0;

		if (scripted && more && !any_program()) {
			more = take_frame(port_in);
			continue;
		}
		if (!more && !any_program()) {
			return 0;
		}
		add_poll(set, &count, signals, POLLIN);
		add_poll(set, &count, scripted ? -1 : port_in, POLLIN);
		for (size_t i = 0; i < PROGRAMS_MAX; i++) {
			struct program *p = &programs[i];
			if (p->used) {
				add_poll(set, &count, p->out, POLLIN);
				add_poll(set, &count, p->error, POLLIN);
				add_poll(set, &count, p->input_length > 0 ? p->in : -1, POLLOUT);
			}
		}
		int n = poll(set, count, scripted ? -1 : HEARTBEAT_MS);
		if (n == 0) {
			send_frame('H', 0, NULL, 0);
			continue;
		}
		for (size_t i = 0; i < PROGRAMS_MAX; i++) {
			struct program *p = &programs[i];
			if (p->used) {
				pull_output(p, &p->out, 'O');
				pull_output(p, &p->error, 'E');
				push_input(p);
			}
		}
		if (set[0].revents != 0) {
			struct signalfd_siginfo info;
			ssize_t got = read(signals, &info, sizeof(info));
			(void)got;
			reap();
		}
		if (set[1].revents != 0 && !take_frame(port_in)) {
			return 0;
		}
	}
}

/*
 * Keeps two VMs that never run: with a local APIC, which is as after a reset, and without one. With
 * its first and its last such VM, KVM changes code that all CPUs execute (static keys; one is in
 * the scheduler), and QEMU, which emulates this host, at times goes on executing what it has
 * translated while the breakpoint stood there: then every CPU takes #BP for ever.
 */
static void keep_vms(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (kvm < 0) {
		return;
	}
	for (int local_apic = 0; local_apic < 2; local_apic++) {
		int vm = ioctl(kvm, KVM_CREATE_VM, 0);

		if (vm < 0 || (local_apic && ioctl(vm, KVM_CREATE_IRQCHIP) != 0) ||
		    ioctl(vm, KVM_CREATE_VCPU, 0) < 0) {
			die("make a VM");
		}
	}
}

static int open_port(const char *name)
{
	struct termios settings;
	int fd = strncmp(name, "fd:", 3) == 0 ? (int)strtol(name + 3, NULL, 10)
					      : open(name, O_RDWR | O_NOCTTY);

	if (fd < 0) {
		return -1;
	}
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	if (tcgetattr(fd, &settings) == 0) {
		cfmakeraw(&settings);
		tcsetattr(fd, TCSANOW, &settings);
	}
	/* A virtio-serial port hangs up until the machine outside has said that it is there. */
	for (int i = 0; i < 1000; i++) {
		struct pollfd pfd = {.fd = fd, .events = POLLOUT};
		poll(&pfd, 1, 0);
		if (!(pfd.revents & POLLHUP)) {
			break;
		}
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	}
	return fd;
}

int main(int argc, char **argv)
{
	sigset_t child;
	int port_in;

	if (argc < 2 || argc > 3) {
		fprintf(stderr, "usage: agent PORT | agent fd:N | agent SCRIPT PORT\n");
		return 2;
	}
	scripted = argc == 3;
	port_out = open_port(argv[argc - 1]);
	port_in = scripted ? open(argv[1], O_RDONLY | O_CLOEXEC) : port_out;
	if (port_in < 0 || port_out < 0) {
		die("open the port");
	}
	if (!scripted && strncmp(argv[1], "fd:", 3) != 0) {
		keep_vms();
	}
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	int signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signals < 0) {
		die("signalfd");
	}
	send_frame('R', 0, NULL, 0);
	int result = serve(port_in, signals);
	for (size_t i = 0; i < PROGRAMS_MAX; i++) {
		if (programs[i].used) {
			kill(-programs[i].pid, SIGKILL);
		}
	}
	if (scripted) {
		tcdrain(port_out);
	}
	return result;
}
