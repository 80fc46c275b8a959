/*
 * poll() and select().
 */
#include <asm/poll.h>
#include <errno.h>

#include "core/hw/user.h"
#include "core/mem/heap.h"
#include "core/sys/fd.h"
#include "core/sys/file.h"
#include "core/sys/syscall.h"
#include "core/task/process.h"
#include "core/task/sched.h"
#include "core/task/time.h"

#define ENTRIES_MAX 4096
#define QUEUES_EACH 2
#define SELECT_MAX  1024

/* As struct pollfd. */
struct entry {
	int32_t fd;
	int16_t events, revents;
};

struct poller {
	struct poll_table table;
	struct entry *entries;
	struct file **files; /* held while it lasts */
	struct waiter *waiters;
	unsigned count, waiter_count;
};

static void add_queue(struct poll_table *t, struct wait_queue *q)
{
	struct poller *p = container_of(t, struct poller, table);

	if (p->waiter_count < p->count * QUEUES_EACH) {
		wait_add(q, &p->waiters[p->waiter_count++], NULL);
	}
}

static int init(struct poller *p, unsigned count)
{
	*p = (struct poller){.table = {.add = add_queue}, .count = count};
	if (count == 0) {
		return 0;
	}
	p->entries = mem_alloc(count * sizeof(*p->entries));
	p->files = mem_alloc(count * sizeof(*p->files)); /* NOLINT(bugprone-sizeof-expression) */
	p->waiters = mem_alloc(count * QUEUES_EACH * sizeof(*p->waiters));
	return p->entries != NULL && p->files != NULL && p->waiters != NULL ? 0 : -ENOMEM;
}

static void fini(struct poller *p)
{
	for (unsigned i = 0; i < p->waiter_count; i++) {
		wait_remove(&p->waiters[i]);
	}
	for (unsigned i = 0; i < p->count && p->files != NULL; i++) {
		if (p->files[i] != NULL) {
			file_put(p->files[i]);
		}
	}
	mem_free(p->entries, p->count * sizeof(*p->entries));
	/* Pointers are what it holds. */
	mem_free(p->files, p->count * sizeof(*p->files)); /* NOLINT(bugprone-sizeof-expression) */
	mem_free(p->waiters, p->count * QUEUES_EACH * sizeof(*p->waiters));
}

/* Return: how many entries have something. */
static unsigned look(struct poller *p, bool first)
{
	unsigned ready = 0;

	for (unsigned i = 0; i < p->count; i++) {
		struct entry *e = &p->entries[i];
		uint32_t events = 0;

		if (first && e->fd >= 0) {
			p->files[i] = fd_get(e->fd);
		}
		if (p->files[i] != NULL) {
			events = file_poll(p->files[i], first ? &p->table : NULL);
			events |= (events & READY_IN) != 0 ? POLLRDNORM : 0u;
			events |= (events & READY_OUT) != 0 ? POLLWRNORM : 0u;
			events &= (uint16_t)e->events | READY_ERR | READY_HUP;
		} else if (e->fd >= 0) {
			events = POLLNVAL;
		}
		e->revents = (int16_t)events;
		ready += events != 0;
	}
	return ready;
}

/* Return: as poll(). */
static int64_t run(struct poller *p, uint64_t deadline_ns)
{
	unsigned ready = look(p, true);

	while (ready == 0) {
		sched_prepare();
		ready = look(p, false);
		if (ready != 0) {
			break;
		}
		if (signal_is_pending()) {
			sched_unprepare();
			return -EINTR;
		}
		if (!sched_sleep(deadline_ns)) {
			ready = look(p, false);
			break;
		}
	}
	sched_unprepare();
	return ready;
}

static int64_t do_poll(uint64_t va, uint64_t count, uint64_t deadline_ns)
{
	struct poller p;
	int64_t result;

	if (count > ENTRIES_MAX) {
		return -EINVAL;
	}
	result = init(&p, (unsigned)count);
	if (result == 0 && user_read(p.entries, va, count * sizeof(*p.entries)) != 0) {
		result = -EFAULT;
	}
	if (result == 0) {
		result = run(&p, deadline_ns);
	}
	for (unsigned i = 0; i < count && result >= 0; i++) {
		if (user_write(va + i * sizeof(struct entry), &p.entries[i],
			       sizeof(struct entry)) != 0) {
			result = -EFAULT;
		}
	}
	fini(&p);
	return result;
}

static int64_t poll_again(struct thread *t)
{
	int64_t result =
		do_poll(t->restart_argument[0], t->restart_argument[1], t->restart_argument[2]);

	if (result == -EINTR) {
		t->restart = poll_again;
		return -ERESTART_RESTARTBLOCK;
	}
	return result;
}

SYSCALL(poll)
{
	struct thread *t = thread_current();

	t->restart_argument[0] = a[0];
	t->restart_argument[1] = a[1];
	t->restart_argument[2] =
		(int)a[2] < 0 ? CLOCK_NEVER : time_after((uint64_t)(int)a[2] * 1000000);
	return poll_again(t);
}

/* Return: 0 or -errno; a mask has been borrowed if there is one. */
static int borrow(uint64_t set_va, uint64_t size)
{
	uint64_t set;

	if (set_va == 0) {
		return 0;
	}
	if (size != sizeof(set)) {
		return -EINVAL;
	}
	if (user_get64(set_va, &set) != 0) {
		return -EFAULT;
	}
	signal_borrow_mask(set);
	return 0;
}

static int64_t give_back(int64_t result)
{
	if (result == -EINTR) {
		return -ERESTARTNOHAND;
	}
	signal_return_mask();
	return result;
}

/* Linux says how much time is left. */
static int64_t write_left(uint64_t va, uint64_t deadline_ns, int64_t result)
{
	uint64_t now = clock_now_ns();

	if (va != 0 && deadline_ns != CLOCK_NEVER &&
	    time_write(va, deadline_ns > now ? deadline_ns - now : 0) != 0) {
		return -EFAULT;
	}
	return result;
}

SYSCALL(ppoll)
{
	uint64_t deadline_ns;
	int error = time_read_timeout(a[2], &deadline_ns);

	if (error == 0) {
		error = borrow(a[3], a[4]);
	}
	if (error != 0) {
		return error;
	}
	return write_left(a[2], deadline_ns, give_back(do_poll(a[0], a[1], deadline_ns)));
}

/* select(): sets of bits become entries. */

#define SELECT_IN  (READY_IN | POLLRDNORM | READY_HUP | READY_ERR)
#define SELECT_OUT (READY_OUT | POLLWRNORM | READY_ERR)
#define SELECT_PRI READY_PRI

static const uint16_t select_events[3] = {SELECT_IN, SELECT_OUT, SELECT_PRI};

struct sets {
	uint64_t va[3];
	uint64_t bits[3][SELECT_MAX / 64];
	unsigned n;
};

static bool is_set(const struct sets *s, unsigned set, unsigned fd)
{
	return (s->bits[set][fd / 64] & BIT(fd % 64)) != 0;
}

static int64_t select_entries(struct sets *s, uint64_t deadline_ns)
{
	unsigned count = 0;
	struct poller p;
	int64_t result = init(&p, s->n);

	for (unsigned fd = 0; fd < s->n && result == 0; fd++) {
		uint16_t events = 0;

		for (unsigned set = 0; set < 3; set++) {
			events |= is_set(s, set, fd) ? select_events[set] : 0;
		}
		if (events != 0) {
			p.entries[count++] = (struct entry){(int)fd, (int16_t)events, 0};
		}
	}
	for (unsigned i = count; i < s->n && result == 0; i++) {
		p.entries[i].fd = -1;
	}
	if (result == 0) {
		result = run(&p, deadline_ns);
	}
	if (result >= 0) {
		struct sets before = *s;

		result = 0;
		for (unsigned set = 0; set < 3; set++) {
			for (unsigned i = 0; i < SELECT_MAX / 64; i++) {
				s->bits[set][i] = 0;
			}
		}
		for (unsigned i = 0; i < count; i++) {
			unsigned fd = (unsigned)p.entries[i].fd;

			if ((p.entries[i].revents & POLLNVAL) != 0) {
				result = -EBADF;
				break;
			}
			for (unsigned set = 0; set < 3; set++) {
				if (is_set(&before, set, fd) &&
				    ((uint16_t)p.entries[i].revents & select_events[set]) != 0) {
					s->bits[set][fd / 64] |= BIT(fd % 64);
					result++;
				}
			}
		}
	}
	fini(&p);
	return result;
}

static int64_t do_select(const uint64_t *a, uint64_t deadline_ns)
{
	struct sets s = {.va = {a[1], a[2], a[3]}, .n = (unsigned)a[0]};
	size_t bytes;
	int64_t result;

	if ((int)a[0] < 0) {
		return -EINVAL;
	}
	s.n = MIN(s.n, SELECT_MAX);
	bytes = (s.n + 63) / 64 * 8;
	for (unsigned i = 0; i < 3; i++) {
		if (s.va[i] != 0 && user_read(s.bits[i], s.va[i], bytes) != 0) {
			return -EFAULT;
		}
	}
	result = select_entries(&s, deadline_ns);
	for (unsigned i = 0; i < 3 && result >= 0; i++) {
		if (s.va[i] != 0 && user_write(s.va[i], s.bits[i], bytes) != 0) {
			result = -EFAULT;
		}
	}
	return result;
}

SYSCALL(select)
{
	uint64_t deadline_ns = CLOCK_NEVER, t[2];
	int64_t result;

	if (a[4] != 0) {
		if (user_read(t, a[4], sizeof(t)) != 0) {
			return -EFAULT;
		}
		if ((int64_t)t[0] < 0 || t[1] >= 1000000) {
			return -EINVAL;
		}
		deadline_ns = t[0] >= INT64_MAX / NS_PER_S
				      ? CLOCK_NEVER
				      : time_after(t[0] * NS_PER_S + t[1] * 1000);
	}
	result = do_select(a, deadline_ns);
	return result == -EINTR ? -ERESTARTNOHAND : result;
}

SYSCALL(pselect6)
{
	uint64_t deadline_ns, mask[2] = {0};
	int error = time_read_timeout(a[4], &deadline_ns);

	if (error == 0 && a[5] != 0 && user_read(mask, a[5], sizeof(mask)) != 0) {
		error = -EFAULT;
	}
	if (error == 0) {
		error = borrow(mask[0], mask[1]);
	}
	if (error != 0) {
		return error;
	}
	return write_left(a[4], deadline_ns, give_back(do_select(a, deadline_ns)));
}
