/*
 * The event loop and the clocks for unit tests: time stands still until the test moves it, and
 * what is due runs when the test says so. It takes the place of vmm/loop.c and vmm/clock.c at link
 * time.
 */
#pragma once

#include "lib/base/types.h"
#include "vmm/loop.h"

extern uint64_t fake_now_ns;  /* what clock_now_ns() gives */
extern uint64_t fake_wall_ns; /* what clock_wall_ns() gives */

extern unsigned fake_timer_calls; /* of loop_timer_set() and loop_timer_clear(), since the reset */

/** fake_loop_reset() - forgets all sources and timers, and sets both clocks. */
void fake_loop_reset(uint64_t now_ns, uint64_t wall_ns);

/** fake_loop_run() - calls the sources that have something to read. Return: how many did. */
unsigned fake_loop_run(void);

/** fake_timer_deadline() - the next expiry of any timer, UINT64_MAX for none. */
uint64_t fake_timer_deadline(void);

/** fake_time_pass() - moves both clocks by @ns, and runs timers on the way, each in its time. */
void fake_time_pass(uint64_t ns);
