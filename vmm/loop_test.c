#include "vmm/loop.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/unit.h"
#include "vmm/clock.h"

static struct loop loop;

static int set_up(void **unused)
{
	(void)unused;
	return loop_init(&loop);
}

static int tear_down(void **unused)
{
	(void)unused;
	loop_fini(&loop);
	return 0;
}

struct counter {
	struct loop_source src;
	struct counter *victim; /* to be removed when this one is called */
	unsigned calls;
	bool stop;
};

static void count(void *arg, uint32_t events)
{
	struct counter *c = arg;
	uint64_t v;

	assert_true((events & EPOLLIN) != 0);
	assert_int_equal(read(c->src.fd, &v, sizeof(v)), sizeof(v));
	c->calls++;
	if (c->victim != NULL) {
		loop_del(&loop, &c->victim->src);
		c->victim = NULL;
	}
	if (c->stop) {
		loop_stop(&loop);
	}
}

static void counter_init(struct counter *c, unsigned initial)
{
	*c = (struct counter){.src = {.fn = count, .arg = c}};
	c->src.fd = eventfd(initial, EFD_NONBLOCK | EFD_CLOEXEC);
	assert_true(c->src.fd >= 0);
	assert_int_equal(loop_add(&loop, &c->src, EPOLLIN), 0);
}

static void stop_soon(void *arg)
{
	(void)arg;
	loop_stop(&loop);
}

static void stop_before_run(void **unused)
{
	(void)unused;
	loop_stop(&loop);
	assert_int_equal(loop_run(&loop), 0);
}

static void dispatches(void **unused)
{
	struct counter c;

	(void)unused;
	counter_init(&c, 1);
	c.stop = true;
	assert_int_equal(loop_run(&loop), 0);
	assert_int_equal(c.calls, 1);

	/* Adding the same descriptor twice is refused. */
	assert_int_equal(loop_add(&loop, &c.src, EPOLLIN), -EEXIST);
	loop_del(&loop, &c.src);
	close(c.src.fd);
}

/* Of two sources that are ready in one batch, the first that runs removes the other. */
static void del_in_batch(void **unused)
{
	struct counter a, b;
	struct loop_timer timer;

	(void)unused;
	counter_init(&a, 1);
	counter_init(&b, 1);
	a.victim = &b;
	b.victim = &a;
	assert_int_equal(loop_timer_init(&timer, &loop, stop_soon, NULL), 0);
	loop_timer_set(&timer, clock_now_ns() + 20000000);
	assert_int_equal(loop_run(&loop), 0);
	assert_int_equal(a.calls + b.calls, 1);
	loop_timer_fini(&timer, &loop);
	loop_del(&loop, a.calls == 1 ? &a.src : &b.src);
	close(a.src.fd);
	close(b.src.fd);
}

static void mod(void **unused)
{
	struct counter c;
	struct loop_timer timer;

	(void)unused;
	counter_init(&c, 1);
	loop_mod(&loop, &c.src, 0);
	assert_int_equal(loop_timer_init(&timer, &loop, stop_soon, NULL), 0);
	loop_timer_set(&timer, clock_now_ns() + 20000000);
	assert_int_equal(loop_run(&loop), 0);
	assert_int_equal(c.calls, 0);

	loop_mod(&loop, &c.src, EPOLLIN);
	c.stop = true;
	assert_int_equal(loop_run(&loop), 0);
	assert_int_equal(c.calls, 1);
	loop_timer_fini(&timer, &loop);
	loop_del(&loop, &c.src);
	close(c.src.fd);
}

static void count_call(void *arg)
{
	++*(unsigned *)arg;
}

static void timers(void **unused)
{
	struct loop_timer once, never, moved, stop;
	unsigned n_once = 0, n_never = 0, n_moved = 0;
	uint64_t start = clock_now_ns();

	(void)unused;
	assert_int_equal(loop_timer_init(&once, &loop, count_call, &n_once), 0);
	assert_int_equal(loop_timer_init(&never, &loop, count_call, &n_never), 0);
	assert_int_equal(loop_timer_init(&moved, &loop, count_call, &n_moved), 0);
	assert_int_equal(loop_timer_init(&stop, &loop, stop_soon, NULL), 0);
	loop_timer_set(&once, 0); /* long past */
	loop_timer_set(&never, start);
	usleep(1000);
	loop_timer_clear(&never); /* expired, but not yet dispatched */
	loop_timer_set(&moved, start);
	loop_timer_set(&moved, start + 3600 * UINT64_C(1000000000));
	loop_timer_set(&stop, start + 30000000);
	assert_int_equal(loop_run(&loop), 0);
	assert_true(clock_now_ns() >= start + 30000000);
	assert_int_equal(n_once, 1);
	assert_int_equal(n_never, 0);
	assert_int_equal(n_moved, 0);
	loop_timer_fini(&once, &loop);
	loop_timer_fini(&never, &loop);
	loop_timer_fini(&moved, &loop);
	loop_timer_fini(&stop, &loop);
}

static void *stopper(void *arg)
{
	(void)arg;
	usleep(10000);
	loop_stop(&loop);
	return NULL;
}

static void stop_from_thread(void **unused)
{
	pthread_t thread;

	(void)unused;
	assert_int_equal(pthread_create(&thread, NULL, stopper, NULL), 0);
	assert_int_equal(loop_run(&loop), 0);
	pthread_join(thread, NULL);
}

static void on_alarm(int sig)
{
	(void)sig;
	loop_stop(&loop);
}

/* A signal interrupts the wait; the loop goes on until the handler asked it to stop. */
static void stop_from_signal(void **unused)
{
	struct sigaction act = {.sa_handler = on_alarm};

	(void)unused;
	assert_int_equal(sigaction(SIGALRM, &act, NULL), 0);
	ualarm(10000, 0);
	assert_int_equal(loop_run(&loop), 0);
	signal(SIGALRM, SIG_DFL);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(stop_before_run), T(dispatches),	 T(del_in_batch),     T(mod),
		T(timers),	    T(stop_from_thread), T(stop_from_signal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
