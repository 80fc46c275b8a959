/*
 * The event loop: one thread waits in epoll for file descriptors and timers and calls their owners.
 * Callbacks run on that thread, one at a time, and must not block.
 */
#pragma once

#include <stdatomic.h>
#include <sys/epoll.h>

#include "lib/base/types.h"
#include "vmm/pace.h"

#define LOOP_BATCH 16

/** A file descriptor the loop watches; the owner's storage, which must outlive loop_del(). */
struct loop_source {
	int fd;
	void (*fn)(void *arg, uint32_t events); /* EPOLLIN, EPOLLOUT, EPOLLHUP, ... */
	void *arg;
};

struct loop {
	int epoll_fd; /* constant after init */
	int wake_fd;  /* eventfd that loop_stop() writes; constant after init */
	atomic_bool stop;
	/* the loop's thread only: */
	struct loop_source wake;
	struct epoll_event batch[LOOP_BATCH];
	int nbatch;
	bool paced;   /* the scheduling policy is ours to choose */
	bool patient; /* which one it is */
	struct pace pace;
};

/** loop_init() - a loop without sources. Context: its thread. Return: 0 or -errno, logged. */
must_use int loop_init(struct loop *loop);

/** loop_fini() - all sources were taken off before. */
void loop_fini(struct loop *loop);

/**
 * loop_add() - watches @src->fd for @events (EPOLLIN ...; 0 is allowed), level-triggered unless
 * EPOLLET is among them.
 * Context: any thread. Return: 0 or -errno (the caller says what it was for).
 */
must_use int loop_add(struct loop *loop, struct loop_source *src, uint32_t events);

/** loop_mod() - changes what is waited for. Context: any thread. */
void loop_mod(struct loop *loop, struct loop_source *src, uint32_t events);

/** loop_del() - stops watching; after it the callback is not called again. Context: loop thread. */
void loop_del(struct loop *loop, struct loop_source *src);

/** loop_run() - until loop_stop(). Return: 0 or -errno. */
must_use int loop_run(struct loop *loop);

/** loop_stop() - lets loop_run() return. Context: any thread, and signal handlers. */
void loop_stop(struct loop *loop);

/**
 * loop_served() - a doorbell led to @requests requests being taken: decides whether the loop is to
 * preempt vCPUs from now on (pace.h). Context: loop thread.
 */
void loop_served(struct loop *loop, unsigned requests);

/** A one-shot timer on the loop. */
struct loop_timer {
	struct loop_source source;
	void (*fn)(void *arg);
	void *arg;
};

/** loop_timer_init() - not set yet; @fn runs on the loop thread. Return: 0 or -errno, logged. */
must_use int loop_timer_init(struct loop_timer *t, struct loop *loop, void (*fn)(void *arg),
			     void *arg);

/** loop_timer_fini() - @fn is not called again; nothing happens after a failed init. */
void loop_timer_fini(struct loop_timer *t, struct loop *loop);

/**
 * loop_timer_set() - fires once at @deadline_ns (monotonic); a past one fires at once.
 * Replaces an earlier deadline. Context: any thread.
 */
void loop_timer_set(struct loop_timer *t, uint64_t deadline_ns);

/** loop_timer_clear() - no expiry that was not yet dispatched is delivered. Context: any thread. */
void loop_timer_clear(struct loop_timer *t);
