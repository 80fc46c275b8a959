/*
 * Worker threads for a disk: tasks that may block are handed to them, first come, first served.
 *
 * A task lies in the caller's request, so that handing it over allocates nothing, and the number of
 * requests bounds the queue. Threads start when there is more to do than threads to do it.
 */
#pragma once

#include <pthread.h>
#include <semaphore.h>

#include "lib/base/types.h"
#include "vmm/lock.h"

#define BLOCK_POOL_THREADS_MAX 16

/** What to do. It is the pool's from submit until run is called; run may submit it again. */
struct block_task {
	void (*run)(struct block_task *task);
	struct block_task *next; /* the pool's */
};

struct block_pool {
	struct lock lock; /* guards the rest; a leaf: nothing is taken under it */
	sem_t more;	  /* idle threads wait here; has a lock of its own */
	int policy;	  /* constant: the scheduler's, which threads have whoever starts them */
	unsigned nthreads_max;
	struct block_task *head;
	struct block_task **tail;
	unsigned nthreads;
	unsigned idle;
	bool waking; /* an idle thread was woken and has not run yet */
	bool stopping;
	pthread_t thread[BLOCK_POOL_THREADS_MAX];
};

/** block_pool_init() - a pool without threads; at most @nthreads_max of them later. */
void block_pool_init(struct block_pool *p, unsigned nthreads_max);

/** block_pool_fini() - runs what is queued, then ends the threads. */
void block_pool_fini(struct block_pool *p);

/**
 * block_pool_start() - makes sure that there is a thread, so that tasks will be run.
 * Return: 0 or -errno.
 */
must_use int block_pool_start(struct block_pool *p);

/** block_pool_submit() - has @task run; after block_pool_start(). Context: any thread. */
void block_pool_submit(struct block_pool *p, struct block_task *task);
