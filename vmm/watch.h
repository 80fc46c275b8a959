/*
 * Watching a file descriptor that is sometimes of no interest.
 */
#pragma once

#include "vmm/loop.h"

/**
 * A source that is on the loop only while something is wanted of it: epoll reports hang-ups even of
 * what nobody asks for, again and again.
 */
struct watch {
	struct loop_source source;
	struct loop *loop;
	uint32_t events; /* 0: not on the loop */
};

/** watch_init() - @w owns @fd from now on, which is not yet on the loop. */
void watch_init(struct watch *w, struct loop *loop, int fd, void (*fn)(void *arg, uint32_t events),
		void *arg);

/** watch_set() - wants @events from now on. Return: 0, or -EPERM for what epoll cannot watch. */
int watch_set(struct watch *w, uint32_t events);

/** watch_fini() - off the loop, and closed. */
void watch_fini(struct watch *w);
