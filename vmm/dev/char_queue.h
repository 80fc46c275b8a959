/*
 * Characters on their way from a guest to a back end: vCPU threads put them in and never wait, the
 * loop's thread takes them out. It is woken at most once for all that is put in before it runs.
 */
#pragma once

#include "lib/base/state.h"
#include "lib/base/types.h"
#include "vmm/dev/char_backend.h"
#include "vmm/lock.h"
#include "vmm/loop.h"

#define CHAR_QUEUE_SIZE 16384 /* bytes; a power of two */

struct char_queue {
	/* constant after init */
	struct loop *loop;
	struct char_backend *be;   /* NULL: everything is discarded */
	struct loop_source source; /* an eventfd */
	void (*drained)(void *user);
	void *user;

	struct lock lock;    /* guards the rest; innermost */
	bool kicked;	     /* the eventfd was written and not yet read */
	bool blocked;	     /* the back end takes nothing until it says so */
	uint32_t head, tail; /* bytes ever put in and taken out, modulo 2^32 */
	uint8_t buf[CHAR_QUEUE_SIZE];
};

/**
 * char_queue_init() - an empty queue towards @be.
 * @be: NULL for nobody.
 * @drained: called on the loop thread, without a lock, after bytes have left and after
 * char_queue_kick(); or NULL.
 * Return: 0 or -errno, logged.
 */
must_use int char_queue_init(struct char_queue *q, struct loop *loop, struct char_backend *be,
			     void (*drained)(void *user), void *user);

/**
 * char_queue_fini() - gives the back end what it still takes without blocking, and ends.
 * Context: loop thread, or after the loop has ended; no vCPU runs.
 */
void char_queue_fini(struct char_queue *q);

/** char_queue_put() - one byte. Return: false, and it is lost, if the queue is full.
 * Context: any thread. */
bool char_queue_put(struct char_queue *q, uint8_t byte);

/** char_queue_room() - how many bytes fit now. Context: any thread. */
size_t char_queue_room(struct char_queue *q);

/** char_queue_kick() - lets the loop thread call @drained. Context: any thread. */
void char_queue_kick(struct char_queue *q);

/** char_queue_writable() - the back end takes bytes again. Context: loop thread. */
void char_queue_writable(struct char_queue *q);

/** char_queue_state() - saves or loads the bytes inside. Context: no vCPU runs, loop thread. */
void char_queue_state(struct char_queue *q, struct state *s);
