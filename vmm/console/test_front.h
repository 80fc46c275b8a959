/*
 * For tests of consoles: a front end.
 */
#pragma once

#include <string.h>

#include "tests/test_run.h"
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

struct test_front_wait {
	struct test_front *front;
	size_t wanted;
};

static inline bool test_front_enough(void *arg)
{
	const struct test_front_wait *w = arg;

	return w->front->len >= w->wanted;
}

/** test_front_gets() - @text and no more reaches the front end, soon; then it starts anew. */
static inline void test_front_gets(struct test_front *f, struct loop *loop, const char *text)
{
	struct test_front_wait w = {f, strlen(text)};

	assert_true(test_run(loop, test_front_enough, &w, 2000));
	assert_int_equal(f->len, w.wanted);
	assert_memory_equal(f->got, text, w.wanted);
	f->len = 0;
}
