#include "vmm/dev/pit_timer.h"

#include "tests/state_rig.h"
#include "tests/unit.h"

struct fixture {
	struct bus pio;
	struct loop loop;
	struct pit_timer pit;
	unsigned edges;
};

static void count_edge(void *ctx, unsigned pin, bool level)
{
	struct fixture *f = ctx;

	(void)pin;
	f->edges += level;
	if (f->edges == 3) {
		loop_stop(&f->loop);
	}
}

static void fixture_init(struct fixture *f)
{
	f->edges = 0;
	bus_init(&f->pio);
	assert_int_equal(loop_init(&f->loop), 0);
	assert_int_equal(pit_timer_init(&f->pit, &f->pio, &f->loop,
					(struct irq_line){.set = count_edge, .ctx = f}),
			 0);
}

static void fixture_fini(struct fixture *f)
{
	pit_timer_fini(&f->pit);
	loop_fini(&f->loop);
	bus_fini(&f->pio);
}

/* Counter 0 in mode 2, every @count pulses. */
static void program(struct fixture *f, uint16_t count)
{
	bus_write(&f->pio, PIT_CONTROL, 1, 0x34);
	bus_write(&f->pio, PIT_COUNTER0, 1, count & 0xff);
	bus_write(&f->pio, PIT_COUNTER0, 1, count >> 8);
}

static void periodic_on_the_loop(void **unused)
{
	struct fixture f;

	(void)unused;
	fixture_init(&f);
	program(&f, 1193); /* 1 ms */
	assert_int_equal(loop_run(&f.loop), 0);
	assert_int_equal(f.edges, 3);
	fixture_fini(&f);
}

/* After loading, the timer goes on by itself. */
static void state_rearms(void **unused)
{
	struct fixture a, b;
	uint8_t buf[512];

	(void)unused;
	fixture_init(&a);
	program(&a, 1193);
	size_t len = state_saved(pit_timer_state, &a.pit, buf, sizeof(buf));
	fixture_init(&b);
	assert_int_equal(b.pit.deadline_ns, UINT64_MAX);
	assert_int_equal(state_loaded(pit_timer_state, &b.pit, buf, len), 0);
	assert_int_equal(loop_run(&b.loop), 0);
	assert_int_equal(b.edges, 3);
	fixture_fini(&a);
	fixture_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(periodic_on_the_loop),
		cmocka_unit_test(state_rearms),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
