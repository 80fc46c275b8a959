#include "vmm/lock.h"

#include "lib/base/check.h"

#define HELD_MAX (LOCK_LEAF + 1)

/* What this thread holds, by rising rank. Only kept where it is checked. */
static _Thread_local struct {
	unsigned n;
	const struct lock *lock[HELD_MAX];
} held;

static void note_taken(const struct lock *l)
{
	check(held.n == 0 || held.lock[held.n - 1]->rank < l->rank);
	held.lock[held.n++] = l;
}

/* In any order. */
static void note_given(const struct lock *l)
{
	unsigned i = held.n;

	do {
		check(i > 0); /* it is held at all */
		i--;
	} while (held.lock[i] != l);
	for (held.n--; i < held.n; i++) {
		held.lock[i] = held.lock[i + 1];
	}
}

void lock_init(struct lock *l, enum lock_rank rank)
{
	l->rank = rank;
	check(pthread_mutex_init(&l->mutex, NULL) == 0);
}

void lock_fini(struct lock *l)
{
	check(pthread_mutex_destroy(&l->mutex) == 0);
}

void lock_take(struct lock *l)
{
	if (DEBUG_LOCKS) {
		note_taken(l); /* before: a wrong order is told even if it does not block */
	}
	pthread_mutex_lock(&l->mutex);
}

void lock_give(struct lock *l)
{
	if (DEBUG_LOCKS) {
		note_given(l);
	}
	pthread_mutex_unlock(&l->mutex);
}

void lock_wait(struct lock *l, pthread_cond_t *cond)
{
	if (DEBUG_LOCKS) {
		/* The last one taken: whoever waits with more of them held keeps others waiting. */
		check(held.n > 0 && held.lock[held.n - 1] == l);
	}
	pthread_cond_wait(cond, &l->mutex);
}
