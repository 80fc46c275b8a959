#include "core/task/run_queue.h"

#include <errno.h>

#include "tests/unit.h"

static void set(struct run_entity *e, int policy, int priority, int nice)
{
	run_entity_init(e);
	assert_int_equal(run_entity_set(e, policy, priority, nice), 0);
}

static void test_priorities_come_first(void **state)
{
	struct run_entity fair, low, high;
	struct run_queue q;

	(void)state;
	run_queue_init(&q);
	assert_null(run_queue_first(&q));
	set(&fair, RUN_OTHER, 0, -20);
	set(&low, RUN_FIFO, 1, 0);
	set(&high, RUN_RR, 99, 0);
	run_queue_put(&q, &fair);
	run_queue_put(&q, &high);
	run_queue_put(&q, &low);
	assert_ptr_equal(run_queue_first(&q), &high);
	run_queue_remove(&q, &high);
	assert_ptr_equal(run_queue_first(&q), &low);
	run_queue_remove(&q, &low);
	assert_ptr_equal(run_queue_first(&q), &fair);
	assert_true(run_entity_beats(&high, &low));
	assert_true(run_entity_beats(&low, &fair));
	assert_false(run_entity_beats(&fair, &low));
}

static void test_round_robin_takes_turns_and_fifo_does_not(void **state)
{
	struct run_entity a, b;
	struct run_queue q;

	(void)state;
	run_queue_init(&q);
	set(&a, RUN_RR, 5, 0);
	set(&b, RUN_RR, 5, 0);
	run_queue_put(&q, &b);
	run_queue_account(&q, &a, RUN_SLICE_RR_NS / 2);
	run_queue_put(&q, &a);
	assert_ptr_equal(run_queue_first(&q), &a); /* its turn is not over */
	run_queue_remove(&q, &a);
	run_queue_account(&q, &a, RUN_SLICE_RR_NS);
	run_queue_put(&q, &a);
	assert_ptr_equal(run_queue_first(&q), &b);
	assert_false(run_entity_beats(&a, &b));
}

/* Runs two for a while; returns the first one's share in thousandths. */
static unsigned share(int nice_a, int nice_b)
{
	struct run_entity a, b;
	struct run_queue q;
	unsigned first = 0;

	run_queue_init(&q);
	set(&a, RUN_OTHER, 0, nice_a);
	set(&b, RUN_OTHER, 0, nice_b);
	run_queue_put(&q, &a);
	run_queue_put(&q, &b);
	for (unsigned i = 0; i < 1000; i++) {
		struct run_entity *e = run_queue_first(&q);

		run_queue_remove(&q, e);
		run_queue_account(&q, e, RUN_GRANULARITY_NS);
		run_queue_put(&q, e);
		first += e == &a;
	}
	return first;
}

static void test_shares_follow_weight(void **state)
{
	(void)state;
	assert_in_range(share(0, 0), 495, 505);
	assert_in_range(share(0, 5), 740, 765); /* 1024 to 335 */
	assert_in_range(share(19, 0), 5, 25);	/* 15 to 1024, and it does run */
}

static void test_a_long_sleep_is_no_claim(void **state)
{
	struct run_entity sleeper, worker;
	struct run_queue q;

	(void)state;
	run_queue_init(&q);
	set(&sleeper, RUN_OTHER, 0, 0);
	set(&worker, RUN_OTHER, 0, 0);
	run_queue_enter(&q, &sleeper, 0);
	run_queue_leave(&q, &sleeper, 1);
	for (unsigned i = 0; i < 100; i++) {
		run_queue_account(&q, &worker, RUN_SLICE_FAIR_NS);
	}
	run_queue_enter(&q, &sleeper, UINT64_C(1) << 40);
	assert_true(run_entity_beats(&sleeper, &worker));
	run_queue_account(&q, &sleeper, 2 * RUN_SLICE_FAIR_NS);
	assert_false(run_entity_beats(&sleeper, &worker));
}

static void test_bad_parameters_are_refused(void **state)
{
	struct run_entity e;

	(void)state;
	run_entity_init(&e);
	assert_int_equal(run_entity_set(&e, RUN_FIFO, 0, 0), -EINVAL);
	assert_int_equal(run_entity_set(&e, RUN_RR, 100, 0), -EINVAL);
	assert_int_equal(run_entity_set(&e, RUN_OTHER, 1, 0), -EINVAL);
	assert_int_equal(run_entity_set(&e, 6, 0, 0), -EINVAL);
	assert_int_equal(run_entity_set(&e, RUN_OTHER, 0, 20), -EINVAL);
	assert_int_equal(e.weight, 1024);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_priorities_come_first),
		cmocka_unit_test(test_round_robin_takes_turns_and_fifo_does_not),
		cmocka_unit_test(test_shares_follow_weight),
		cmocka_unit_test(test_a_long_sleep_is_no_claim),
		cmocka_unit_test(test_bad_parameters_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
