/*
 * For tests of consoles: a front end, and a loop that is run until something has come true.
 */
#pragma once

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/unit.h"
#include "vmm/clock.h"
#include "vmm/console/console.h"

struct test_front {
	struct char_backend *be;
	uint8_t got[65536];
	size_t len;
	size_t room; /* how many more bytes it takes */
	unsigned writable;
};

static inline size_t test_front_input(void *user, const uint8_t *buf, size_t n)
{
	struct test_front *f = user;

	n = MIN(n, f->room);
	assert_true(f->len + n < sizeof(f->got));
	memcpy(f->got + f->len, buf, n);
	f->len += n;
	f->room -= n;
	return n;
}

static inline void test_front_writable(void *user)
{
	((struct test_front *)user)->writable++;
}

static inline void test_front_attach(struct test_front *f, struct console *con)
{
	memset(f, 0, sizeof(*f));
	f->room = SIZE_MAX / 2;
	f->be = console_backend(con);
	f->be->input = test_front_input;
	f->be->writable = test_front_writable;
	f->be->user = f;
}

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
