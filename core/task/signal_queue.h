/*
 * Signals that wait: a set of numbers with what is known about each. Signals below 32 wait once,
 * those above as often as they were sent, within bounds. Data only.
 */
#pragma once

#include "core/list.h"
#include "lib/base/types.h"

#define SIGNAL_COUNT 64
#define SIGNAL_RT    32 /* from here on they queue */

/** SIGNAL_BIT() - of signal @n (1 to 64) in a set. */
#define SIGNAL_BIT(n) BIT((n)-1)

/* What of Linux's siginfo_t is used. */
struct signal_info {
	int signo;
	int code; /* SI_* */
	int error;
	int pid, uid;	  /* kill(), SIGCHLD */
	int status;	  /* SIGCHLD; SIGSYS: the call's number */
	uint64_t address; /* faults; SIGSYS: where the call was */
	uint64_t value;	  /* sigqueue() */
};

struct signal_queue {
	struct list entries; /* in order of arrival */
	uint64_t set;
	unsigned count;
};

/** signal_queue_init_heap() - start-up: before the first signal. */
void signal_queue_init_heap(void);

void signal_queue_init(struct signal_queue *q);
/** signal_queue_flush() - forgets those of @set. */
void signal_queue_flush(struct signal_queue *q, uint64_t set);

/**
 * signal_queue_put() - Return: 0; -EAGAIN if too many of a real-time signal wait. Without memory
 * the signal is kept, and what is known about it is lost.
 */
must_use int signal_queue_put(struct signal_queue *q, const struct signal_info *info);

/** signal_queue_take() - the most urgent of @set: faults first, then the lowest number.
 * Return: its number, 0 if there is none. */
int signal_queue_take(struct signal_queue *q, uint64_t set, struct signal_info *info);
