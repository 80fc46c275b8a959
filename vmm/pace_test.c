#include "vmm/pace.h"

#include "tests/unit.h"

#define US UINT64_C(1000)
#define MS (1000 * US)

/* A guest that keeps @depth requests under way, all it does, and how long they take. */
struct guest {
	unsigned depth;
	uint64_t eager_us;     /* a request, each of which is found by itself */
	uint64_t patient_us;   /* a request where all @depth are found at once */
	uint64_t patient_wait; /* us for each call: the guest does not give up the CPU */
};

struct run {
	struct pace pace;
	uint64_t now_ns;
	bool patient;
	unsigned patient_calls;
	unsigned switches;
};

static void begin(struct run *r)
{
	*r = (struct run){.now_ns = 1000 * MS};
	pace_init(&r->pace);
}

static void served(struct run *r, unsigned requests)
{
	bool patient = pace_served(&r->pace, requests, r->now_ns);

	r->switches += patient != r->patient;
	r->patient = patient;
	r->patient_calls += patient;
}

/* Return: how long @count requests took, ns. */
static uint64_t serve(struct run *r, const struct guest *g, unsigned count)
{
	uint64_t start = r->now_ns;
	unsigned n;

	for (unsigned done = 0; done < count; done += n) {
		n = r->patient ? g->depth : 1;
		r->now_ns +=
			r->patient ? (n * g->patient_us + g->patient_wait) * US : g->eager_us * US;
		served(r, n);
	}
	return r->now_ns - start;
}

static uint64_t percent(uint64_t of, unsigned percent)
{
	return of * percent / 100;
}

/* Measured: what a round trip of one packet takes, with both ways. */
static const struct guest one_at_a_time = {.depth = 1, .eager_us = 68, .patient_us = 84};
static const struct guest bursts = {.depth = 32, .eager_us = 70, .patient_us = 35};
static const struct guest computing = {
	.depth = 1, .eager_us = 70, .patient_us = 70, .patient_wait = 3000};

static void eager_for_who_waits(void **unused)
{
	struct run r;

	(void)unused;
	begin(&r);
	uint64_t ns = serve(&r, &one_at_a_time, 100000);

	assert_true(r.switches > 0); /* it was tried */
	assert_true(ns < percent(100000 * 68 * US, 101));
}

static void patient_for_bursts(void **unused)
{
	struct run r;

	(void)unused;
	begin(&r);
	uint64_t ns = serve(&r, &bursts, 1000);

	assert_true(r.patient);
	assert_true(ns < percent(1000 * 35 * US, 115));
	ns = serve(&r, &bursts, 100000);
	assert_true(ns < percent(100000 * 35 * US, 102));
	assert_true(r.switches > 2); /* eagerness was tried again */
}

static void eager_beside_computing(void **unused)
{
	struct run r;

	(void)unused;
	begin(&r);
	uint64_t ns = serve(&r, &computing, 100000);

	assert_true(r.switches > 0);
	assert_true(ns < percent(100000 * 70 * US, 103));
}

/* Time slices of a host whose scheduler has long ones. */
static void eager_beside_computing_for_long(void **unused)
{
	struct guest g = computing;
	struct run r;

	(void)unused;
	g.patient_wait = 12000;
	begin(&r);
	uint64_t ns = serve(&r, &g, 100000);

	assert_true(r.switches > 0);
	assert_true(ns < percent(100000 * 70 * US, 105));
}

/* As with a CPU for each thread: nothing is lost, and little is changed. */
static void eager_without_difference(void **unused)
{
	static const struct guest g = {.depth = 8, .eager_us = 10, .patient_us = 10};
	struct run r;

	(void)unused;
	begin(&r);
	serve(&r, &g, 100000);
	assert_true(r.patient_calls < 100000 / 8 / 10);
	assert_true(r.switches < 200);
}

static void small_gain_is_none(void **unused)
{
	static const struct guest g = {.depth = 4, .eager_us = 50, .patient_us = 46};
	struct run r;

	(void)unused;
	begin(&r);
	for (unsigned i = 0; i < 100; i++) {
		serve(&r, &g, 1000);
		assert_int_not_equal(r.pace.step, PACE_PATIENT);
	}
}

static void changes_with_the_guest(void **unused)
{
	struct run r;

	(void)unused;
	begin(&r);
	serve(&r, &bursts, 1000);
	assert_true(r.patient);
	/* Two waits of a patient loop are enough to end it. */
	r.now_ns += 3 * MS;
	served(&r, 1);
	r.now_ns += 3 * MS;
	served(&r, 1);
	assert_false(r.patient);
	uint64_t ns = serve(&r, &computing, 10000);
	assert_true(ns < percent(10000 * 70 * US, 104));
	serve(&r, &one_at_a_time, 20000);
	ns = serve(&r, &bursts, 100000);
	assert_true(ns < percent(100000 * 35 * US, 120));
}

static void eager_after_idling(void **unused)
{
	struct run r;

	(void)unused;
	begin(&r);
	serve(&r, &bursts, 1000);
	assert_true(r.patient);
	r.now_ns += 1000 * MS;
	served(&r, 1);
	assert_false(r.patient);
	/* The next bursts find out soon. */
	serve(&r, &bursts, 4 * PACE_WINDOW);
	assert_true(r.patient);
}

/* A guest that falls silent in the middle of a trial says nothing about patience. */
static void silence_is_no_loss(void **unused)
{
	struct run r;

	(void)unused;
	begin(&r);
	serve(&r, &bursts, PACE_WINDOW + 1);
	assert_int_equal(r.pace.step, PACE_TRIAL);
	r.now_ns += 100 * MS;
	served(&r, 1);
	assert_false(r.patient);
	serve(&r, &bursts, PACE_WINDOW);
	assert_int_equal(r.pace.step, PACE_TRIAL);
}

/* Bursts too far apart to fill the CPU: nothing is tried. */
static void eager_with_little_to_do(void **unused)
{
	struct run r;

	(void)unused;
	begin(&r);
	for (unsigned i = 0; i < 1000; i++) {
		serve(&r, &bursts, 32);
		r.now_ns += 10 * MS;
	}
	assert_int_equal(r.switches, 0);
}

/* Doorbells for nothing, and a clock that stands still. */
static void odd_doorbells(void **unused)
{
	struct run r;

	(void)unused;
	begin(&r);
	for (unsigned i = 0; i < 100000; i++) {
		r.now_ns += US;
		served(&r, 0);
	}
	assert_int_equal(r.switches, 0);
	for (unsigned i = 0; i < 100000; i++) {
		served(&r, i % 3);
	}
	r.now_ns += 100 * MS;
	served(&r, UINT16_MAX);
	assert_false(r.patient);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(eager_for_who_waits),
		cmocka_unit_test(patient_for_bursts),
		cmocka_unit_test(eager_beside_computing),
		cmocka_unit_test(eager_beside_computing_for_long),
		cmocka_unit_test(eager_without_difference),
		cmocka_unit_test(small_gain_is_none),
		cmocka_unit_test(changes_with_the_guest),
		cmocka_unit_test(eager_after_idling),
		cmocka_unit_test(silence_is_no_loss),
		cmocka_unit_test(eager_with_little_to_do),
		cmocka_unit_test(odd_doorbells),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
