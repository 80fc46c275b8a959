/*
 * Locks whose owner may sleep and touch user memory: for what is not on a hot path. Taken before
 * any spinlock. In which order: docs/locking.md.
 */
#pragma once

#include "core/task/wait.h"
#include "lib/base/types.h"

struct mutex {
	struct wait_queue waiters;
	_Atomic bool taken;
};

void mutex_init(struct mutex *m);

/** mutex_take() - Context: thread, no spinlock held. Signals do not end the wait. */
void mutex_take(struct mutex *m);
void mutex_give(struct mutex *m);
