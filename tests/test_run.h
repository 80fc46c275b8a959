/*
 * For tests: an event loop that is run until something has come true.
 */
#pragma once

#include "tests/unit.h"
#include "vmm/clock.h"
#include "vmm/loop.h"

struct test_stopper {
	struct loop *loop;
	struct loop_timer timer;
	bool (*done)(void *arg);
	void *arg;
	uint64_t deadline_ns;
	bool came_true;
};

static inline void test_stopper_tick(void *arg)
{
	struct test_stopper *s = arg;

	s->came_true = s->done != NULL && s->done(s->arg);
	if (s->came_true || clock_now_ns() > s->deadline_ns) {
		loop_stop(s->loop);
	} else {
		loop_timer_set(&s->timer, clock_now_ns() + 1000000);
	}
}

/** test_run() - until @done says so, at most for @ms; without @done for all of it. */
static inline bool test_run(struct loop *loop, bool (*done)(void *arg), void *arg, unsigned ms)
{
	struct test_stopper s = {.loop = loop, .done = done, .arg = arg};

	s.deadline_ns = clock_now_ns() + (uint64_t)ms * 1000000;
	assert_int_equal(loop_timer_init(&s.timer, loop, test_stopper_tick, &s), 0);
	loop_timer_set(&s.timer, 0);
	assert_int_equal(loop_run(loop), 0);
	loop_timer_fini(&s.timer, loop);
	return s.came_true;
}
