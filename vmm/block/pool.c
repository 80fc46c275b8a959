#include "vmm/block/pool.h"

#include <sched.h>
#include <stddef.h>

#include "lib/base/check.h"
#include "vmm/thread.h"

void block_pool_init(struct block_pool *p, unsigned nthreads_max)
{
	check(nthreads_max > 0 && nthreads_max <= BLOCK_POOL_THREADS_MAX);
	*p = (struct block_pool){.nthreads_max = nthreads_max, .policy = sched_getscheduler(0)};
	p->tail = &p->head;
	lock_init(&p->lock, LOCK_LEAF);
	check(sem_init(&p->more, 0, 0) == 0);
}

static void *worker(void *arg);

/* Context: lock held. */
static int add_thread(struct block_pool *p)
{
	int ret = thread_start(&p->thread[p->nthreads], 0, worker, p);

	if (ret == 0) {
		p->nthreads++;
	}
	return ret;
}

/*
 * There is something to do. One idle thread at a time is woken, and calls this again if there is
 * still more when it runs: short tasks are done by one warm thread instead of waking all. They wait
 * at a semaphore, since a mutex that was taken again after a wait for a condition makes a system
 * call when it is given, whether somebody waits for it or not. Who ends the pool waits for the
 * threads that there are then: no more come. Context: lock held.
 */
static void find_hands(struct block_pool *p)
{
	if (p->idle > 0 && !p->waking) {
		p->waking = true;
		sem_post(&p->more);
	} else if (p->idle == 0 && p->nthreads < p->nthreads_max && !p->stopping &&
		   add_thread(p) != 0) {
		/* The host has no more threads to give: those we have do it. */
		p->nthreads_max = p->nthreads;
	}
}

/* The next task, or NULL if the pool ends. */
static struct block_task *next_task(struct block_pool *p)
{
	while (p->head == NULL && !p->stopping) {
		p->idle++;
		lock_give(&p->lock);
		while (sem_wait(&p->more) != 0) {
			/* a signal came; waiting goes on */
		}
		lock_take(&p->lock);
		p->idle--;
		p->waking = false;
	}
	struct block_task *task = p->head;
	if (task == NULL) {
		return NULL;
	}
	p->head = task->next;
	if (p->head == NULL) {
		p->tail = &p->head;
	} else {
		find_hands(p);
	}
	return task;
}

static void *worker(void *arg)
{
	struct block_pool *p = arg;
	struct block_task *task;

	pthread_setname_np(pthread_self(), "disk"); /* else it has that of its creator, a vCPU */
	if (p->policy == SCHED_OTHER &&
	    sched_setscheduler(0, p->policy, &(struct sched_param){.sched_priority = 0}) != 0) {
		/* It works with the policy of its creator, too, only not as soon. */
	}
	lock_take(&p->lock);
	while ((task = next_task(p)) != NULL) {
		lock_give(&p->lock);
		task->run(task);
		lock_take(&p->lock);
	}
	lock_give(&p->lock);
	return NULL;
}

int block_pool_start(struct block_pool *p)
{
	lock_take(&p->lock);
	int ret = p->nthreads > 0 ? 0 : add_thread(p);
	lock_give(&p->lock);
	return ret;
}

void block_pool_submit(struct block_pool *p, struct block_task *task)
{
	task->next = NULL;
	lock_take(&p->lock);
	check(p->nthreads > 0);
	*p->tail = task;
	p->tail = &task->next;
	find_hands(p);
	lock_give(&p->lock);
}

void block_pool_fini(struct block_pool *p)
{
	lock_take(&p->lock);
	p->stopping = true;
	for (unsigned i = 0; i < p->nthreads; i++) {
		sem_post(&p->more);
	}
	lock_give(&p->lock);
	for (unsigned i = 0; i < p->nthreads; i++) {
		pthread_join(p->thread[i], NULL);
	}
	sem_destroy(&p->more);
	lock_fini(&p->lock);
}
