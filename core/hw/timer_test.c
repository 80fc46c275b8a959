#include "core/hw/timer.h"

#include <pthread.h>

#include "core/hw/clock.h"
#include "core/hw/fake_hw.h"
#include "core/hw/timer_device.h"
#include "tests/unit.h"

#define ROUNDS 2000

/* Time passes by being looked at. */
static _Atomic uint64_t now_ns;

uint64_t clock_now_ns(void)
{
	return ++now_ns;
}

void timer_device_set(uint64_t deadline_ns)
{
	(void)deadline_ns;
}

unsigned cpu_count(void)
{
	return 2;
}

/* A timer whose function starts it again, as that of a PIT does. */
static struct {
	struct timer timer;
	_Atomic bool stopped;
	_Atomic unsigned begun, calls, late;
	_Atomic unsigned round; /* 0: no more */
} test;

static void again(struct timer *t)
{
	test.calls++;
	if (test.stopped) {
		test.late++; /* and no more, so that the test ends */
	} else {
		timer_start(t, 0);
	}
}

static void *other_cpu(void *arg)
{
	unsigned seen = 1;

	fake_cpu_join(1);
	timer_init_cpu();
	for (unsigned round; (round = test.round) != 0;) {
		if (round != seen) {
			seen = round;
			timer_start(&test.timer, 0);
			test.begun = seen;
		}
		(void)asm_irq_save();
		timer_run();
		asm_irq_on();
	}
	return arg;
}

static void a_stopped_timer_stays_stopped(void **state)
{
	pthread_t thread;

	(void)state;
	fake_cpu_join(0);
	timer_init_cpu();
	timer_init(&test.timer, again);
	test.round = 1;
	assert_int_equal(pthread_create(&thread, NULL, other_cpu, NULL), 0);
	for (unsigned i = 2; i < 2 + ROUNDS; i++) {
		unsigned calls = test.calls;

		test.stopped = false;
		test.round = i;
		while (test.begun != i || test.calls == calls) {
		}
		(void)timer_stop_wait(&test.timer);
		test.stopped = true;
		calls = test.calls;
		for (unsigned k = 0; k < 200; k++) {
			test.late += test.calls != calls;
		}
	}
	test.round = 0;
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(test.late, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_stopped_timer_stays_stopped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
