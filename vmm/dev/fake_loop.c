#include "vmm/dev/fake_loop.h"

#include <poll.h>

#include "tests/unit.h"
#include "vmm/clock.h"

#define FAKE_MAX 8

uint64_t fake_now_ns;
uint64_t fake_wall_ns;
unsigned fake_timer_calls;

static struct loop_source *sources[FAKE_MAX];
static struct {
	struct loop_timer *timer;
	uint64_t deadline_ns;
} timers[FAKE_MAX];

uint64_t clock_now_ns(void)
{
	return fake_now_ns;
}

uint64_t clock_wall_ns(void)
{
	return fake_wall_ns;
}

void fake_loop_reset(uint64_t now_ns, uint64_t wall_ns)
{
	for (unsigned i = 0; i < FAKE_MAX; i++) {
		sources[i] = NULL;
		timers[i].timer = NULL;
	}
	fake_now_ns = now_ns;
	fake_wall_ns = wall_ns;
	fake_timer_calls = 0;
}

int loop_add(struct loop *loop, struct loop_source *src, uint32_t events)
{
	(void)loop;
	assert_int_equal(events, EPOLLIN);
	for (unsigned i = 0; i < FAKE_MAX; i++) {
		if (sources[i] == NULL) {
			sources[i] = src;
			return 0;
		}
	}
	fail_msg("more sources than the test has room for");
	return -1;
}

void loop_del(struct loop *loop, struct loop_source *src)
{
	(void)loop;
	for (unsigned i = 0; i < FAKE_MAX; i++) {
		if (sources[i] == src) {
			sources[i] = NULL;
			return;
		}
	}
	fail_msg("a source that was not added");
}

unsigned fake_loop_run(void)
{
	unsigned ran = 0;

	for (unsigned i = 0; i < FAKE_MAX; i++) {
		struct pollfd fd = {.events = POLLIN};

		if (sources[i] == NULL) {
			continue;
		}
		fd.fd = sources[i]->fd;
		if (poll(&fd, 1, 0) == 1) {
			sources[i]->fn(sources[i]->arg, EPOLLIN);
			ran++;
		}
	}
	return ran;
}

int loop_timer_init(struct loop_timer *t, struct loop *loop, void (*fn)(void *arg), void *arg)
{
	(void)loop;
	*t = (struct loop_timer){.fn = fn, .arg = arg};
	for (unsigned i = 0; i < FAKE_MAX; i++) {
		if (timers[i].timer == NULL) {
			timers[i].timer = t;
			timers[i].deadline_ns = UINT64_MAX;
			return 0;
		}
	}
	fail_msg("more timers than the test has room for");
	return -1;
}

static unsigned slot_of(const struct loop_timer *t)
{
	unsigned i = 0;

	while (i < FAKE_MAX - 1 && timers[i].timer != t) {
		i++;
	}
	assert_ptr_equal(timers[i].timer, t);
	return i;
}

void loop_timer_fini(struct loop_timer *t, struct loop *loop)
{
	(void)loop;
	timers[slot_of(t)].timer = NULL;
}

void loop_timer_set(struct loop_timer *t, uint64_t deadline_ns)
{
	timers[slot_of(t)].deadline_ns = deadline_ns;
	fake_timer_calls++;
}

void loop_timer_clear(struct loop_timer *t)
{
	timers[slot_of(t)].deadline_ns = UINT64_MAX;
	fake_timer_calls++;
}

static unsigned next_timer(void)
{
	unsigned next = FAKE_MAX;

	for (unsigned i = 0; i < FAKE_MAX; i++) {
		if (timers[i].timer != NULL &&
		    (next == FAKE_MAX || timers[i].deadline_ns < timers[next].deadline_ns)) {
			next = i;
		}
	}
	return next;
}

uint64_t fake_timer_deadline(void)
{
	unsigned next = next_timer();

	return next == FAKE_MAX ? UINT64_MAX : timers[next].deadline_ns;
}

void fake_time_pass(uint64_t ns)
{
	uint64_t end = fake_now_ns + ns;

	for (;;) {
		unsigned next = next_timer();

		if (next == FAKE_MAX || timers[next].deadline_ns > end) {
			break;
		}
		if (timers[next].deadline_ns > fake_now_ns) {
			fake_wall_ns += timers[next].deadline_ns - fake_now_ns;
			fake_now_ns = timers[next].deadline_ns;
		}
		timers[next].deadline_ns = UINT64_MAX;
		timers[next].timer->fn(timers[next].timer->arg);
	}
	fake_wall_ns += end - fake_now_ns;
	fake_now_ns = end;
}
