#include "core/task/futex.h"

#include <errno.h>

#include "core/hw/asm.h"
#include "core/hw/user.h"
#include "core/lock.h"
#include "core/mem/page.h"
#include "core/mem/space.h"
#include "core/task/process.h"
#include "core/task/sched.h"
#include "core/task/signal.h"

#define BUCKETS 256

struct key {
	uint64_t where;	    /* private: the space; shared: PAGE_NONE */
	uint64_t address;   /* virtual or physical */
	bool holds_page;    /* shared */
};

struct bucket {
	struct spinlock lock;
	struct list waiters; /* guarded by lock */
};

struct sleeper {
	struct list node; /* guarded by the bucket's lock */
	struct key key;
	uint32_t bits;
	struct thread *thread;
	struct bucket *_Atomic bucket; /* NULL: on its way to another */
	_Atomic bool woken;
};

static struct bucket buckets[BUCKETS];

void futex_init(void)
{
	for (unsigned i = 0; i < BUCKETS; i++) {
		spin_init(&buckets[i].lock, LOCK_WAIT);
		list_init(&buckets[i].waiters);
	}
}

static struct bucket *bucket_of(const struct key *k)
{
	uint64_t h = (k->where ^ (k->address >> 2)) * UINT64_C(0x9e3779b97f4a7c15);

	return &buckets[h >> 56];
}

static bool same(const struct key *a, const struct key *b)
{
	return a->where == b->where && a->address == b->address;
}

static int find_key(uint64_t va, bool shared, struct key *key)
{
	struct space *space = process_current()->space;
	uint64_t bytes;
	bool writable;
	hpa_t page;
	int error;

	if (va % 4 != 0) {
		return -EINVAL;
	}
	if (!user_range_ok(va, 4)) {
		return -EFAULT;
	}
	*key = (struct key){.where = (uint64_t)space, .address = va};
	if (!shared) {
		return 0;
	}
	error = space_page(space, va, SPACE_WRITE, &page, &bytes, &writable);
	if (error == -EFAULT) {
		error = space_page(space, va, SPACE_READ, &page, &bytes, &writable);
	}
	if (error != 0) {
		return -EFAULT;
	}
	*key = (struct key){PAGE_NONE, page.v + va % bytes, true};
	return 0;
}

static void drop_key(const struct key *key)
{
	if (key->holds_page) {
		page_put(hpa(key->address));
	}
}

/* Locks the bucket with the word known to be @expected. Return: 0 with the lock held, or -errno. */
static int take_if(struct bucket *b, uint64_t va, uint32_t expected, uint64_t *flags)
{
	for (;;) {
		uint32_t value;
		int error;

		*flags = spin_take_irq(&b->lock);
		error = user_get32_nofault(va, &value);
		if (error == 0 && value == expected) {
			return 0;
		}
		spin_give_irq(&b->lock, *flags);
		if (error == 0) {
			return -EAGAIN;
		}
		if (user_get32(va, &value) != 0) {
			return -EFAULT;
		}
		/* Somebody may take the page away again and again. */
		if (signal_is_pending()) {
			return -EINTR;
		}
	}
}

static struct bucket *take_bucket_of(struct sleeper *s, uint64_t *flags)
{
	for (;;) {
		struct bucket *b = atomic_load(&s->bucket);

		if (b != NULL) {
			*flags = spin_take_irq(&b->lock);
			if (atomic_load(&s->bucket) == b) {
				return b;
			}
			spin_give_irq(&b->lock, *flags);
		}
		asm_pause(); /* whoever moves it has interrupts off */
	}
}

int futex_wait(uint64_t va, bool shared, uint32_t expected, uint32_t bits, uint64_t deadline_ns)
{
	struct sleeper s = {.bits = bits, .thread = thread_current()};
	struct bucket *b;
	uint64_t flags;
	int result;

	if (bits == 0) {
		return -EINVAL;
	}
	result = find_key(va, shared, &s.key);
	if (result != 0) {
		return result;
	}
	b = bucket_of(&s.key);
	result = take_if(b, va, expected, &flags);
	if (result != 0) {
		drop_key(&s.key);
		return result;
	}
	atomic_store(&s.bucket, b);
	list_add_last(&b->waiters, &s.node);
	spin_give_irq(&b->lock, flags);
	for (;;) {
		sched_prepare();
		if (atomic_load(&s.woken)) {
			break;
		}
		if (signal_is_pending()) {
			result = -EINTR;
			break;
		}
		if (!sched_sleep(deadline_ns)) {
			result = -ETIMEDOUT;
			break;
		}
	}
	sched_unprepare();
	b = take_bucket_of(&s, &flags);
	if (atomic_load(&s.woken)) {
		result = 0; /* the wake-up counted this one */
	} else {
		list_remove(&s.node);
	}
	spin_give_irq(&b->lock, flags);
	drop_key(&s.key);
	return result;
}

/* Caller holds the bucket's lock, which the sleeper takes before it goes. */
static void wake(struct sleeper *s)
{
	list_remove(&s->node);
	atomic_store(&s->woken, true);
	sched_wake(s->thread);
}

int futex_wake(uint64_t va, bool shared, unsigned count, uint32_t bits)
{
	unsigned woken = 0;
	struct key key;
	struct bucket *b;
	uint64_t flags;
	int error = bits == 0 ? -EINVAL : find_key(va, shared, &key);

	if (error != 0) {
		return error;
	}
	b = bucket_of(&key);
	flags = spin_take_irq(&b->lock);
	list_each_safe(&b->waiters, node) {
		struct sleeper *s = container_of(node, struct sleeper, node);

		if (woken >= count) {
			break;
		}
		if (same(&s->key, &key) && (s->bits & bits) != 0) {
			wake(s);
			woken++;
		}
	}
	spin_give_irq(&b->lock, flags);
	drop_key(&key);
	return (int)woken;
}

/* Two buckets are never locked at once: what moves is in neither for a moment, interrupts off. */
static void move_all(struct list *moving, const struct key *to)
{
	struct bucket *b = bucket_of(to);
	uint64_t flags = spin_take_irq(&b->lock);

	list_each_safe(moving, node) {
		struct sleeper *s = container_of(node, struct sleeper, node);

		list_remove(&s->node);
		s->key = *to;
		if (to->holds_page) {
			page_get(hpa(to->address));
		}
		list_add_last(&b->waiters, &s->node);
		atomic_store(&s->bucket, b);
	}
	spin_give_irq(&b->lock, flags);
}

static unsigned take_matching(struct bucket *b, const struct key *key, unsigned to_wake,
			      unsigned to_move, struct list *moving, unsigned *moved)
{
	unsigned woken = 0;

	list_each_safe(&b->waiters, node) {
		struct sleeper *s = container_of(node, struct sleeper, node);

		if (!same(&s->key, key)) {
			continue;
		}
		if (woken < to_wake) {
			wake(s);
			woken++;
		} else if (*moved < to_move) {
			list_remove(&s->node);
			atomic_store(&s->bucket, NULL);
			list_add_last(moving, &s->node);
			++*moved;
		} else {
			break;
		}
	}
	return woken;
}

int futex_requeue(uint64_t va, bool shared, unsigned to_wake, unsigned to_move, uint64_t to,
		  const uint32_t *expected)
{
	struct key from_key, to_key;
	unsigned moved = 0, woken;
	struct list moving;
	struct bucket *b;
	uint64_t flags;
	int error = find_key(va, shared, &from_key);

	if (error != 0) {
		return error;
	}
	error = find_key(to, shared, &to_key);
	if (error != 0) {
		drop_key(&from_key);
		return error;
	}
	list_init(&moving);
	b = bucket_of(&from_key);
	if (expected != NULL) {
		error = take_if(b, va, *expected, &flags);
		if (error != 0) {
			drop_key(&from_key);
			drop_key(&to_key);
			return error;
		}
	} else {
		flags = spin_take_irq(&b->lock);
	}
	woken = take_matching(b, &from_key, to_wake, to_move, &moving, &moved);
	spin_give_irq(&b->lock, 0); /* interrupts stay off until all have arrived */
	if (moved != 0) {
		move_all(&moving, &to_key);
	}
	asm_irq_restore(flags);
	/* Each that moved gave up its hold on the first page. */
	for (unsigned i = 0; i < moved && from_key.holds_page; i++) {
		drop_key(&from_key);
	}
	drop_key(&from_key);
	drop_key(&to_key);
	return (int)(woken + moved);
}
