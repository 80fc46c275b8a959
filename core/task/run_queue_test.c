#include "core/task/run_queue.h"

#include <errno.h>

#include "tests/unit.h"

static const struct run_entity idle; /* of no weight */

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

static void test_who_gives_way_to_a_higher_one_keeps_its_place(void **state)
{
	struct run_entity a, b, c;
	struct run_queue q;

	(void)state;
	run_queue_init(&q);
	set(&a, RUN_FIFO, 5, 0);
	set(&b, RUN_FIFO, 5, 0);
	set(&c, RUN_FIFO, 5, 0);
	run_queue_enter(&q, &a, 1);
	run_queue_put(&q, &a);
	run_queue_enter(&q, &b, 1);
	run_queue_put(&q, &b);
	assert_ptr_equal(run_queue_first(&q), &a);
	run_queue_remove(&q, &a);
	run_queue_account(&q, &a, 100 * RUN_SLICE_FAIR_NS);
	run_queue_put(&q, &a);
	assert_ptr_equal(run_queue_first(&q), &a);
	/* Who comes anew goes behind them, even if it had a turn before. */
	run_queue_account(&q, &c, RUN_GRANULARITY_NS);
	run_queue_enter(&q, &c, 2);
	run_queue_put(&q, &c);
	run_queue_remove(&q, &a);
	assert_ptr_equal(run_queue_first(&q), &b);
	run_queue_remove(&q, &b);
	assert_ptr_equal(run_queue_first(&q), &c);
}

static void test_real_time_goes_where_something_lower_runs(void **state)
{
	struct run_entity high, first, second, other;
	struct run_queue from, to;

	(void)state;
	run_queue_init(&from);
	run_queue_init(&to);
	set(&high, RUN_FIFO, 20, 0);
	set(&first, RUN_FIFO, 10, 0);
	set(&second, RUN_RR, 9, 0);
	set(&other, RUN_OTHER, 0, -20);
	run_queue_run(&from, &high);
	run_queue_put(&from, &first);
	run_queue_put(&from, &second);
	run_queue_run(&to, &other);
	assert_int_equal(run_queue_priority(&to), 0);
	assert_ptr_equal(run_queue_spare(&from, &to, 1, false), &first);
	first.cpus = BIT(0);
	assert_ptr_equal(run_queue_spare(&from, &to, 1, false), &second);
	first.cpus = BIT(1);
	set(&other, RUN_FIFO, 9, 0);
	run_queue_run(&to, &other);
	assert_int_equal(run_queue_priority(&to), 9);
	assert_ptr_equal(run_queue_spare(&from, &to, 1, true), &first);
	set(&other, RUN_RR, 10, 0);
	run_queue_run(&to, &other);
	assert_null(run_queue_spare(&from, &to, 1, true));
	run_queue_run(&to, &idle);
	assert_ptr_equal(run_queue_spare(&from, &to, 1, true), &first);
}

static void test_fair_threads_leave_real_time_ones(void **state)
{
	struct run_entity real_time, light, heavy, other;
	struct run_queue from, to;

	(void)state;
	run_queue_init(&from);
	run_queue_init(&to);
	set(&real_time, RUN_FIFO, 1, 0);
	set(&light, RUN_OTHER, 0, 19);
	set(&heavy, RUN_OTHER, 0, -20);
	set(&other, RUN_OTHER, 0, -20);
	run_queue_put(&from, &light);
	run_queue_put(&to, &heavy);
	run_queue_run(&from, &real_time);
	run_queue_run(&to, &other);
	assert_null(run_queue_spare(&from, &to, 1, false));
	assert_ptr_equal(run_queue_spare(&from, &to, 1, true), &light);
	assert_null(run_queue_spare(&to, &from, 0, true));
	light.cpus = BIT(0);
	assert_null(run_queue_spare(&from, &to, 1, true));
}

static void test_weight_moves_if_the_difference_does_not_grow(void **state)
{
	struct run_entity light, heavy, waits, other;
	struct run_queue from, to;

	(void)state;
	run_queue_init(&from);
	run_queue_init(&to);
	set(&light, RUN_OTHER, 0, 5);
	set(&heavy, RUN_OTHER, 0, -5);
	set(&waits, RUN_OTHER, 0, -5);
	set(&other, RUN_OTHER, 0, 0);
	run_queue_run(&from, &heavy);
	run_queue_run(&to, &other);
	run_queue_put(&from, &waits);
	assert_ptr_equal(run_queue_spare(&from, &to, 1, true), &waits);
	run_queue_run(&from, &light);
	assert_null(run_queue_spare(&from, &to, 1, true));
	run_queue_put(&from, &light);
	assert_ptr_equal(run_queue_spare(&from, &to, 1, true), &light);
	run_queue_remove(&from, &light);
	run_queue_remove(&from, &waits);
	assert_null(run_queue_spare(&from, &to, 1, true));
	run_queue_run(&from, &idle);
	assert_null(run_queue_spare(&to, &from, 0, true));
}

#define CPUS	    2
#define THREADS_MAX 5

struct sim {
	struct run_queue q[CPUS];
	struct run_entity *runs[CPUS];
	struct run_entity e[THREADS_MAX];
	uint64_t ran[THREADS_MAX];
	uint64_t moved_ns;
};

/* The end of a slice on each CPU; now and then somebody who waits is moved, the oldest only. */
static void slice(struct sim *s, uint64_t now)
{
	for (unsigned i = 0; i < CPUS; i++) {
		struct run_entity *next, *e = s->runs[i];

		s->ran[e - s->e] += RUN_SLICE_FAIR_NS;
		run_queue_account(&s->q[i], e, RUN_SLICE_FAIR_NS);
		next = run_queue_spare(&s->q[i], &s->q[1 - i], 1 - i,
				       now - s->moved_ns >= 25 * RUN_SLICE_FAIR_NS);
		if (next != NULL && e->left_ns >= next->left_ns) {
			s->moved_ns = now;
			run_queue_remove(&s->q[i], next);
			run_queue_leave(&s->q[i], next, now);
			run_queue_enter(&s->q[1 - i], next, now);
			run_queue_put(&s->q[1 - i], next);
		}
		run_queue_put(&s->q[i], e);
		next = run_queue_first(&s->q[i]);
		run_queue_remove(&s->q[i], next);
		run_queue_run(&s->q[i], next);
		s->runs[i] = next;
	}
}

/* All but one begin on CPU 0. Return: the least share of @count as thousandths of the greatest. */
static unsigned least_share(unsigned count)
{
	struct sim s = {0};
	uint64_t least = UINT64_MAX, most = 0;

	run_queue_init(&s.q[0]);
	run_queue_init(&s.q[1]);
	for (unsigned i = 0; i < count; i++) {
		set(&s.e[i], RUN_OTHER, 0, 0);
		if (i < CPUS) {
			s.runs[i] = &s.e[i];
			run_queue_run(&s.q[i], &s.e[i]);
		} else {
			run_queue_put(&s.q[0], &s.e[i]);
		}
	}
	for (unsigned i = 1; i < 3000; i++) {
		slice(&s, i * RUN_SLICE_FAIR_NS);
	}
	for (unsigned i = 0; i < count; i++) {
		least = MIN(least, s.ran[i]);
		most = MAX(most, s.ran[i]);
	}
	return (unsigned)(least * 1000 / most);
}

static void test_shares_are_equal_on_two_cpus(void **state)
{
	(void)state;
	assert_in_range(least_share(2), 1000, 1000);
	assert_in_range(least_share(3), 950, 1000);
	assert_in_range(least_share(4), 980, 1000);
	assert_in_range(least_share(5), 950, 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_priorities_come_first),
		cmocka_unit_test(test_round_robin_takes_turns_and_fifo_does_not),
		cmocka_unit_test(test_shares_follow_weight),
		cmocka_unit_test(test_a_long_sleep_is_no_claim),
		cmocka_unit_test(test_bad_parameters_are_refused),
		cmocka_unit_test(test_who_gives_way_to_a_higher_one_keeps_its_place),
		cmocka_unit_test(test_real_time_goes_where_something_lower_runs),
		cmocka_unit_test(test_fair_threads_leave_real_time_ones),
		cmocka_unit_test(test_weight_moves_if_the_difference_does_not_grow),
		cmocka_unit_test(test_shares_are_equal_on_two_cpus),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
