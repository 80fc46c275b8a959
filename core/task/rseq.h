/*
 * rseq(): ring 3 knows without a system call on which CPU it is, and a few instructions of it are
 * done without another thread or a handler in between, or begin again.
 */
#pragma once

#include "core/task/thread.h"

struct user_frame;

/**
 * rseq_resume() - the current thread is about to be in ring 3 again, perhaps on another CPU, and
 * others may have run meanwhile. Its struct rseq is told the CPU; if what goes on is within a
 * critical section, it goes on where that is aborted. A process whose structures are not in order
 * is ended.
 * @frame: what goes on; NULL: only the CPU is told.
 * Return: are they in order?
 * Context: thread; interrupts on, no lock.
 * Spec: Linux <linux/rseq.h>
 */
bool rseq_resume(struct user_frame *frame);
