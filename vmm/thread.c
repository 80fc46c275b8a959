#include "vmm/thread.h"

#include <signal.h>

/* Enough for the deepest call chain and the libc's own needs; only touched pages cost memory. */
#define STACK_BYTES (256 * KIB)

int thread_start(pthread_t *thread, int signal, void *(*fn)(void *arg), void *arg)
{
	static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT, SIGSYS};
	pthread_attr_t attr;
	sigset_t blocked, before;

	sigfillset(&blocked);
	for (unsigned i = 0; i < ARRAY_SIZE(faults); i++) {
		sigdelset(&blocked, faults[i]);
	}
	if (signal != 0) {
		sigdelset(&blocked, signal);
	}
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	pthread_sigmask(SIG_SETMASK, &blocked, &before);
	int r = pthread_create(thread, &attr, fn, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	return -r;
}
