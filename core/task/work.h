/*
 * Things that interrupt handlers want to have done by a thread. One thread of the kernel does them,
 * in order.
 */
#pragma once

#include "lib/base/types.h"

struct work {
	void (*fn)(struct work *w); /* constant after init */
	struct work *next;	    /* the rest is work.c's */
	bool queued;
};

/** work_start() - starts the thread. Once. Return: 0 or -ENOMEM. */
must_use int work_start(void);

/** work_add() - w->fn(w) will be called once; again only if it is added again after it began.
 * Context: any. */
void work_add(struct work *w);

/** work_drain() - waits until all that has been added so far is done. Context: thread. */
void work_drain(void);
