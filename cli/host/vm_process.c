#include "cli/host/vm_process.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/clock.h"

#define PROGRAM	    "/proc/self/exe"
#define SLICE_NS    UINT64_C(100000000)
#define SLICE_BYTES (64 * KIB) /* fifty times what a serial line carries */
#define STACK_BYTES 16384

/* Reading */

/* Return: may more be read in this slice? If not, the timer goes on. */
static bool slice_has_room(struct vm_process *p)
{
	uint64_t now_ns = clock_now_ns();

	if (now_ns >= p->slice_end_ns) {
		p->slice_end_ns = now_ns + SLICE_NS;
		p->slice_bytes = 0;
	}
	if (p->slice_bytes < SLICE_BYTES) {
		return true;
	}
	p->is_over = true;
	loop_timer_set(&p->slice, p->slice_end_ns);
	vm_process_update(p);
	return false;
}

static void on_slice(void *arg)
{
	struct vm_process *p = arg;

	p->is_over = false;
	vm_process_update(p);
}

/* Return: bytes, 0 if there are none now; at the end @ended is set. */
static size_t read_some(struct vm_process *p, int fd, uint8_t *buf, size_t size, bool *ended)
{
	ssize_t n = read(fd, buf, size);

	if (n > 0) {
		p->slice_bytes += (size_t)n;
		return (size_t)n;
	}
	*ended = n == 0 || (errno != EAGAIN && errno != EINTR);
	return 0;
}

static size_t read_console(struct vm_process *p)
{
	uint8_t buf[4096];
	size_t n = read_some(p, p->console.source.fd, buf, sizeof(buf), &p->console_ended);

	if (n > 0) {
		p->ops->output(p->ctx, buf, n);
	}
	return n;
}

static void end_line(struct vm_process *p)
{
	if (p->line_len > 0) {
		p->line[p->line_len] = '\0';
		p->line_len = 0;
		p->ops->message(p->ctx, p->line);
	}
}

static size_t read_messages(struct vm_process *p)
{
	uint8_t buf[1024];
	size_t n = read_some(p, p->messages.source.fd, buf, sizeof(buf), &p->messages_ended);

	for (size_t i = 0; i < n; i++) {
		if (buf[i] == '\n' || p->line_len == sizeof(p->line) - 1) {
			end_line(p);
		}
		if (buf[i] >= ' ' && buf[i] != 0x7f) {
			p->line[p->line_len++] = (char)buf[i];
		}
	}
	return n;
}

static void write_input(struct vm_process *p)
{
	ssize_t n;

	if (p->input_len == 0) {
		return;
	}
	n = write(p->console.source.fd, p->input, p->input_len);
	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		p->input_len = 0; /* nobody will read it */
	} else if (n > 0) {
		p->input_len -= (size_t)n;
		memmove(p->input, p->input + n, p->input_len);
	}
}

static void on_console(void *arg, uint32_t events)
{
	struct vm_process *p = arg;

	if ((events & EPOLLOUT) != 0) {
		write_input(p);
	}
	if ((events & ~(uint32_t)EPOLLOUT) != 0 && slice_has_room(p)) {
		(void)read_console(p);
	}
	vm_process_update(p);
}

static void on_messages(void *arg, uint32_t events)
{
	struct vm_process *p = arg;

	(void)events;
	if (slice_has_room(p)) {
		(void)read_messages(p);
	}
	vm_process_update(p);
}

void vm_process_update(struct vm_process *p)
{
	uint32_t console = 0;

	if (p->pid == 0) {
		return;
	}
	if (!p->console_ended) {
		if (!p->is_over && p->ops->wants_output(p->ctx)) {
			console |= EPOLLIN;
		}
		if (p->input_len > 0) {
			console |= EPOLLOUT;
		}
	}
	(void)watch_set(&p->console, console);
	(void)watch_set(&p->messages, !p->messages_ended && !p->is_over ? EPOLLIN : 0);
}

/* The start */

struct child {
	char *const *argv;
	int console, messages;
};

/*
 * The child, up to exec. It shares all memory with the parent, which waits for it; all signals are
 * blocked, and the parent's handlers are taken off before they are not. It never returns from its
 * frame, which a sanitizer would keep marked on the parent's stack.
 */
static __attribute__((no_sanitize("address"))) int child_main(void *arg)
{
	const struct child *c = arg;
	struct sigaction action = {.sa_handler = SIG_DFL};
	sigset_t none;

	for (int number = 1; number < NSIG; number++) {
		if (number != SIGPIPE) {
			sigaction(number, &action, NULL);
		}
	}
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	setsid();
	if (dup2(c->console, STDIN_FILENO) < 0 || dup2(c->console, STDOUT_FILENO) < 0 ||
	    dup2(c->messages, STDERR_FILENO) < 0) {
		_exit(127);
	}
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execve(PROGRAM, c->argv, environ);
	_exit(127);
}

/* As vfork(), which is all that core has, on a stack of its own. Return: the pid or -errno. */
static pid_t start_child(struct child *c)
{
	_Alignas(16) char stack[STACK_BYTES];
	sigset_t all, before;
	pid_t pid;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pid = clone(child_main, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, c);
	pid = pid < 0 ? -errno : pid;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return pid;
}

static void close_if_open(int fd)
{
	if (fd >= 0) {
		close(fd);
	}
}

int vm_process_start(struct vm_process *p, char *const argv[])
{
	int console[2] = {-1, -1}, messages[2] = {-1, -1};
	pid_t pid;

	/* The child's end does not block either: its console waits without holding its loop. */
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, console) < 0 ||
	    pipe2(messages, O_CLOEXEC) < 0 || fcntl(messages[0], F_SETFL, O_NONBLOCK) < 0) {
		pid = -errno;
	} else {
		pid = start_child(&(struct child){argv, console[1], messages[1]});
	}
	close_if_open(console[1]);
	close_if_open(messages[1]);
	if (pid < 0) {
		close_if_open(console[0]);
		close_if_open(messages[0]);
		return pid;
	}
	watch_init(&p->console, p->loop, console[0], on_console, p);
	watch_init(&p->messages, p->loop, messages[0], on_messages, p);
	p->console_ended = p->messages_ended = false;
	p->input_len = p->line_len = 0;
	p->pid = pid;
	vm_process_update(p);
	return 0;
}

size_t vm_process_input(struct vm_process *p, const uint8_t *buf, size_t n)
{
	n = MIN(n, sizeof(p->input) - p->input_len);
	if (p->pid == 0 || p->console_ended) {
		return 0;
	}
	memcpy(p->input + p->input_len, buf, n);
	p->input_len += n;
	write_input(p);
	vm_process_update(p);
	return n;
}

void vm_process_signal(const struct vm_process *p, int number)
{
	if (p->pid != 0) {
		kill(p->pid, number);
	}
}

void vm_process_reaped(struct vm_process *p)
{
	size_t limit = SLICE_BYTES;

	/* A program that it has started may still write: there is a limit to what counts. */
	for (size_t n = 1; n > 0 && limit > 0 && !p->console_ended; limit -= MIN(limit, n)) {
		n = read_console(p);
	}
	limit = SLICE_BYTES;
	for (size_t n = 1; n > 0 && limit > 0 && !p->messages_ended; limit -= MIN(limit, n)) {
		n = read_messages(p);
	}
	end_line(p);
	loop_timer_clear(&p->slice);
	p->is_over = false;
	watch_fini(&p->console);
	watch_fini(&p->messages);
	p->pid = 0;
}

int vm_process_init(struct vm_process *p, struct loop *loop, const struct vm_process_ops *ops,
		    void *ctx)
{
	*p = (struct vm_process){.loop = loop, .ops = ops, .ctx = ctx};
	p->console.source.fd = -1;
	p->messages.source.fd = -1;
	return loop_timer_init(&p->slice, loop, on_slice, p);
}

void vm_process_fini(struct vm_process *p)
{
	watch_fini(&p->console);
	watch_fini(&p->messages);
	if (p->loop != NULL) {
		loop_timer_fini(&p->slice, p->loop);
	}
}
