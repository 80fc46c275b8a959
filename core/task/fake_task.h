/*
 * Ring 3 for unit tests of core/task and core/sys: a process whose threads are threads of the test,
 * whose memory is the test's, and a clock that the test moves.
 */
#pragma once

#include "core/task/process.h"
#include "lib/base/types.h"

/** fake_task_start() - a machine (fake_hw.h) and a process; the calling thread is its first. */
void fake_task_start(void);

/** fake_task_stop() - closes all its files. Objects that are left are a leak: the test fails. */
void fake_task_stop(void);

/** fake_thread_run() - fn(arg) as another thread of the process. fake_thread_join() waits for it.
 */
void fake_thread_run(void (*fn)(void *arg), void *arg);
void fake_thread_join(void);

/** fake_thread_await_sleep() - waits until the other thread sleeps. */
void fake_thread_await_sleep(void);

/** fake_clock_advance() - timers fire. */
void fake_clock_advance(uint64_t ns);

/** fake_signal_set() - is a signal pending, for whoever asks? */
void fake_signal_set(bool pending);

extern struct fake_effects {
	int signal;	 /* the last one sent or forced */
	int exit_status; /* of process_exit() */
} fake_effects;
