#include "vmm/console/terminal.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "vmm/log.h"

/* What ends a process unless it is handled. SIGSYS is the sandbox's. */
static const int fatal_signals[] = {
	SIGHUP, SIGINT,	 SIGQUIT, SIGILL,  SIGTRAP, SIGABRT, SIGBUS,
	SIGFPE, SIGSEGV, SIGTERM, SIGXCPU, SIGXFSZ, SIGALRM, SIGVTALRM,
};

static const int notified_signals[] = {SIGWINCH, SIGCONT};

static struct {
	/* constant from terminal_init() to terminal_fini() */
	bool used;
	int fd;
	int notify_fd;
	struct termios saved;
	struct termios raw;
	bool atexit_done;
	/* atomic: also signal handlers' */
	atomic_bool is_raw;
} terminal;

bool terminal_is_ours(int fd)
{
	pid_t foreground = tcgetpgrp(fd);

	/* A terminal that does not control this session has no foreground to be outside of. */
	return foreground < 0 || foreground == getpgrp();
}

/* From the background this would stop the process, unless the signal for it is blocked. */
static void set_attributes(const struct termios *attributes)
{
	sigset_t ttou, before;

	sigemptyset(&ttou);
	sigaddset(&ttou, SIGTTOU);
	pthread_sigmask(SIG_BLOCK, &ttou, &before);
	while (tcsetattr(terminal.fd, TCSANOW, attributes) != 0 && errno == EINTR) {
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void terminal_restore(void)
{
	int saved_errno = errno;

	/* Pairs with the release in terminal_resume(); of several at once, one restores. */
	if (atomic_exchange_explicit(&terminal.is_raw, false, memory_order_acq_rel)) {
		set_attributes(&terminal.saved);
		log_raw_terminal(false);
	}
	errno = saved_errno;
}

void terminal_resume(void)
{
	if (terminal.used && terminal_is_ours(terminal.fd)) {
		log_raw_terminal(isatty(STDERR_FILENO) == 1);
		/*
		 * Set first: a signal between the two lines must restore. Pairs with the exchange
		 * in terminal_restore().
		 */
		atomic_store_explicit(&terminal.is_raw, true, memory_order_release);
		set_attributes(&terminal.raw);
	}
}

static void notify(int number)
{
	int saved_errno = errno;
	uint64_t one = 1;

	(void)number;
	if (write(terminal.notify_fd, &one, sizeof(one)) < 0) {
		/* The counter is full: the owner is being woken already. */
	}
	errno = saved_errno;
}

/* The handler is gone by now (SA_RESETHAND): the signal does what it would have done. */
static void fatal(int number)
{
	terminal_restore();
	raise(number);
}

/* Stops as the default would. SIGCONT may be blocked, so what it does is done here too. */
static void stop(int number)
{
	int saved_errno = errno;

	terminal_restore();
	raise(SIGSTOP);
	notify(number);
	errno = saved_errno;
}

/* Takes over @number if nobody else has. */
static void catch (int number, void (*handler)(int), int flags)
{
	struct sigaction now, action = {.sa_handler = handler, .sa_flags = flags};

	if (sigaction(number, NULL, &now) == 0 && (now.sa_flags & SA_SIGINFO) == 0 &&
	    now.sa_handler == SIG_DFL) {
		sigfillset(&action.sa_mask);
		sigaction(number, &action, NULL);
	}
}

/* Gives it back, if it is ours still. */
static void release(int number, void (*handler)(int))
{
	struct sigaction now, action = {.sa_handler = SIG_DFL};

	if (sigaction(number, NULL, &now) == 0 && now.sa_handler == handler) {
		sigaction(number, &action, NULL);
	}
}

static void catch_signals(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(fatal_signals); i++) {
		catch (fatal_signals[i], fatal, SA_RESETHAND | SA_NODEFER | SA_ONSTACK);
	}
	for (size_t i = 0; i < ARRAY_SIZE(notified_signals); i++) {
		catch (notified_signals[i], notify, SA_RESTART | SA_ONSTACK);
	}
	catch (SIGTSTP, stop, SA_RESTART | SA_ONSTACK);
}

int terminal_init(int fd, int notify_fd)
{
	if (terminal.used) {
		return -EBUSY;
	}
	if (tcgetattr(fd, &terminal.saved) != 0) {
		return -errno;
	}
	terminal.fd = fd;
	terminal.notify_fd = notify_fd;
	terminal.raw = terminal.saved;
	cfmakeraw(&terminal.raw);
	terminal.raw.c_cc[VMIN] = 1;
	terminal.raw.c_cc[VTIME] = 0;
	terminal.used = true;
	if (!terminal.atexit_done) {
		terminal.atexit_done = atexit(terminal_restore) == 0;
	}
	catch_signals();
	terminal_resume();
	return 0;
}

void terminal_fini(void)
{
	if (!terminal.used) {
		return;
	}
	terminal_restore();
	for (size_t i = 0; i < ARRAY_SIZE(fatal_signals); i++) {
		release(fatal_signals[i], fatal);
	}
	for (size_t i = 0; i < ARRAY_SIZE(notified_signals); i++) {
		release(notified_signals[i], notify);
	}
	release(SIGTSTP, stop);
	terminal.used = false;
}
