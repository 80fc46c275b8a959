#include "soft/translate/tick.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#define PERIOD_NS 2000000
#define RECHECK	  8  /* periods between two looks at all code */
#define IDLE	  16 /* periods in which no vCPU ran: the clock stops */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static struct st_tick *all; /* by lock */
static bool started;	    /* by lock */
static _Atomic bool stopped;

/* Return: does one run? */
static bool tick_all(void)
{
	bool any = false;

	for (struct st_tick *tick = all; tick != NULL; tick = tick->next) {
		if (atomic_load(&tick->running)) {
			any = true;
			if (++tick->count % RECHECK == 0) {
				atomic_store(tick->recheck, true);
			}
			atomic_store(tick->kick, 1);
		}
	}
	return any;
}

static void *clock_main(void *unused)
{
	static const struct timespec period = {.tv_nsec = PERIOD_NS};
	unsigned idle = 0;

	pthread_mutex_lock(&lock);
	for (;;) {
		pthread_mutex_unlock(&lock);
		nanosleep(&period, NULL);
		pthread_mutex_lock(&lock);
		idle = tick_all() ? 0 : idle + 1;
		if (idle < IDLE) {
			continue;
		}
		/* Either who begins to run sees that the clock has stopped, or this sees it run. */
		atomic_store(&stopped, true);
		if (!tick_all()) {
			pthread_cond_wait(&wake, &lock);
		}
		atomic_store(&stopped, false);
		idle = 0;
	}
	return unused;
}

static int start(void)
{
	pthread_t thread;
	sigset_t every, before;
	int r;

	/* Signals are for the threads of the program. */
	sigfillset(&every);
	pthread_sigmask(SIG_SETMASK, &every, &before);
	r = pthread_create(&thread, NULL, clock_main, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r == 0) {
		pthread_detach(thread);
		started = true;
	}
	return -r;
}

int st_tick_add(struct st_tick *tick)
{
	int r = 0;

	pthread_mutex_lock(&lock);
	if (!started) {
		r = start();
	}
	if (r == 0) {
		tick->next = all;
		all = tick;
	}
	pthread_mutex_unlock(&lock);
	return r;
}

void st_tick_remove(struct st_tick *tick)
{
	struct st_tick **place = &all;

	pthread_mutex_lock(&lock);
	while (*place != NULL && *place != tick) {
		place = &(*place)->next;
	}
	if (*place != NULL) {
		*place = tick->next;
	}
	pthread_mutex_unlock(&lock);
}

void st_tick_run(struct st_tick *tick, bool running)
{
	atomic_store(&tick->running, running);
	if (running && atomic_load(&stopped)) {
		pthread_mutex_lock(&lock);
		pthread_cond_signal(&wake);
		pthread_mutex_unlock(&lock);
	}
}
