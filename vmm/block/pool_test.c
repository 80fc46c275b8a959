#include "vmm/block/pool.h"

#include <stdatomic.h>
#include <time.h>

#include "lib/base/types.h"
#include "tests/unit.h"

struct job {
	struct block_task task;
	atomic_uint *count;
	pthread_barrier_t *barrier;
	struct block_pool *again; /* submit once more from within */
	unsigned ran;
};

static void job_run(struct block_task *task)
{
	struct job *j = container_of(task, struct job, task);
	struct block_pool *again = j->again;

	if (j->barrier != NULL) {
		pthread_barrier_wait(j->barrier);
	}
	j->ran++;
	atomic_fetch_add(j->count, 1);
	if (again != NULL) {
		j->again = NULL;
		block_pool_submit(again, task);
	}
}

static void all_run_once(void **unused)
{
	static struct job job[500];
	struct block_pool p;
	atomic_uint count = 0;

	(void)unused;
	block_pool_init(&p, 3);
	assert_int_equal(block_pool_start(&p), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(job); i++) {
		job[i] = (struct job){.task.run = job_run, .count = &count};
		block_pool_submit(&p, &job[i].task);
	}
	block_pool_fini(&p); /* runs what is queued */
	assert_int_equal(count, ARRAY_SIZE(job));
	for (unsigned i = 0; i < ARRAY_SIZE(job); i++) {
		assert_int_equal(job[i].ran, 1);
	}
}

/* Tasks that wait for each other end only if there are as many threads as tasks. */
static void grows_to_the_limit(void **unused)
{
	struct job job[4];
	struct block_pool p;
	atomic_uint count = 0;
	pthread_barrier_t barrier;

	(void)unused;
	pthread_barrier_init(&barrier, NULL, ARRAY_SIZE(job));
	block_pool_init(&p, ARRAY_SIZE(job));
	assert_int_equal(block_pool_start(&p), 0);
	assert_int_equal(block_pool_start(&p), 0);
	assert_int_equal(p.nthreads, 1);
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < ARRAY_SIZE(job); i++) {
			job[i] = (struct job){
				.task.run = job_run, .count = &count, .barrier = &barrier};
			block_pool_submit(&p, &job[i].task);
		}
		while (atomic_load(&count) < (round + 1) * ARRAY_SIZE(job)) {
			nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
		}
	}
	assert_int_equal(p.nthreads, ARRAY_SIZE(job));
	block_pool_fini(&p);
	pthread_barrier_destroy(&barrier);
}

static void may_submit_again(void **unused)
{
	struct job job = {.task.run = job_run};
	struct block_pool p;
	atomic_uint count = 0;

	(void)unused;
	block_pool_init(&p, 1);
	assert_int_equal(block_pool_start(&p), 0);
	job.count = &count;
	job.again = &p;
	block_pool_submit(&p, &job.task);
	block_pool_fini(&p);
	assert_int_equal(job.ran, 2);
}

static void unused_pool_ends(void **unused)
{
	struct block_pool p;

	(void)unused;
	block_pool_init(&p, BLOCK_POOL_THREADS_MAX);
	block_pool_fini(&p);
	assert_int_equal(p.nthreads, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_run_once),
		cmocka_unit_test(grows_to_the_limit),
		cmocka_unit_test(may_submit_again),
		cmocka_unit_test(unused_pool_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
