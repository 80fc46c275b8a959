#include "core/task/time.h"

#include <errno.h>
#include <linux/time.h>

#include "core/hw/clock.h"
#include "core/hw/user.h"
#include "core/sys/syscall.h"
#include "core/task/process.h"
#include "core/task/sched.h"

#define RESOLUTION_NS 1

int time_read(uint64_t va, uint64_t *ns)
{
	uint64_t t[2];

	if (user_read(t, va, sizeof(t)) != 0) {
		return -EFAULT;
	}
	if ((int64_t)t[0] < 0 || t[1] >= NS_PER_S) {
		return -EINVAL;
	}
	*ns = t[0] >= INT64_MAX / NS_PER_S ? CLOCK_NEVER : t[0] * NS_PER_S + t[1];
	return 0;
}

int time_write(uint64_t va, uint64_t ns)
{
	const uint64_t t[2] = {ns / NS_PER_S, ns % NS_PER_S};

	return user_write(va, t, sizeof(t));
}

uint64_t time_after(uint64_t ns)
{
	uint64_t now = clock_now_ns();

	return ns >= CLOCK_NEVER - now ? CLOCK_NEVER : now + ns;
}

int time_read_timeout(uint64_t va, uint64_t *deadline_ns)
{
	uint64_t ns;
	int error = 0;

	*deadline_ns = CLOCK_NEVER;
	if (va != 0) {
		error = time_read(va, &ns);
		if (error == 0) {
			*deadline_ns = time_after(ns);
		}
	}
	return error;
}

static uint64_t process_time(void)
{
	struct process *p = process_current();
	uint64_t ns;

	spin_take(&task_lock);
	ns = p->dead_ns;
	list_each(&p->threads, node)
	{
		ns += sched_run_ns(container_of(node, struct thread, in_process));
	}
	spin_give(&task_lock);
	return ns;
}

int time_of_clock(int id, uint64_t *ns)
{
	switch (id) {
	case CLOCK_REALTIME:
	case CLOCK_REALTIME_COARSE:
	case CLOCK_TAI:
		*ns = clock_wall_ns();
		return 0;
	case CLOCK_MONOTONIC:
	case CLOCK_MONOTONIC_RAW:
	case CLOCK_MONOTONIC_COARSE:
	case CLOCK_BOOTTIME:
		*ns = clock_now_ns();
		return 0;
	case CLOCK_PROCESS_CPUTIME_ID:
		*ns = process_time();
		return 0;
	case CLOCK_THREAD_CPUTIME_ID:
		*ns = sched_run_ns(thread_current());
		return 0;
	default:
		/* The caller's own by pthread_getcpuclockid(): ~tid << 3 | 6. */
		if (id < 0 && (id & 7) == 6) {
			struct thread *t = thread_find((int)(~(uint32_t)id >> 3));

			if (t == NULL) {
				return -EINVAL;
			}
			*ns = sched_run_ns(t);
			thread_put(t);
			return 0;
		}
		return -EINVAL;
	}
}

int time_to_deadline(int id, uint64_t ns, uint64_t *deadline_ns)
{
	uint64_t wall = clock_wall_ns();

	switch (id) {
	case CLOCK_MONOTONIC:
	case CLOCK_BOOTTIME:
		*deadline_ns = ns;
		return 0;
	case CLOCK_REALTIME:
	case CLOCK_TAI:
		*deadline_ns = ns == CLOCK_NEVER ? ns : (ns > wall ? time_after(ns - wall) : 0);
		return 0;
	default:
		return -EINVAL;
	}
}

/* Sleeping. */

/* Return: 0 or -EINTR. */
static int sleep_until(uint64_t deadline_ns)
{
	for (;;) {
		sched_prepare();
		if (signal_is_pending()) {
			sched_unprepare();
			return -EINTR;
		}
		if (!sched_sleep(deadline_ns)) {
			return 0;
		}
	}
}

/* Sleeps on to the same deadline after a signal without a handler. */
static int64_t sleep_again(struct thread *t)
{
	uint64_t deadline_ns = t->restart_argument[0], rest_va = t->restart_argument[1];
	uint64_t now;

	if (sleep_until(deadline_ns) == 0) {
		return 0;
	}
	now = clock_now_ns();
	if (rest_va != 0 && time_write(rest_va, deadline_ns > now ? deadline_ns - now : 0) != 0) {
		return -EFAULT;
	}
	t->restart = sleep_again;
	return -ERESTART_RESTARTBLOCK;
}

static int64_t sleep_for(uint64_t deadline_ns, uint64_t rest_va)
{
	struct thread *t = thread_current();

	t->restart_argument[0] = deadline_ns;
	t->restart_argument[1] = rest_va;
	return sleep_again(t);
}

SYSCALL(restart_syscall)
{
	struct thread *t = thread_current();
	int64_t (*restart)(struct thread *) = t->restart;

	(void)a;
	t->restart = NULL;
	return restart != NULL ? restart(t) : -EINTR;
}

SYSCALL(nanosleep)
{
	uint64_t ns;
	int error = time_read(a[0], &ns);

	return error != 0 ? error : sleep_for(time_after(ns), a[1]);
}

SYSCALL(clock_nanosleep)
{
	uint64_t ns, deadline_ns;
	int error = time_read(a[2], &ns);

	if (error == 0) {
		error = time_to_deadline((int)a[0], ns, &deadline_ns);
	}
	if (error != 0 || (a[1] & ~(uint64_t)TIMER_ABSTIME) != 0) {
		return error != 0 ? error : -EINVAL;
	}
	if ((a[1] & TIMER_ABSTIME) != 0) {
		return sleep_until(deadline_ns) == 0 ? 0 : -ERESTARTNOHAND;
	}
	return sleep_for(time_after(ns), a[3]);
}

SYSCALL(clock_gettime)
{
	uint64_t ns;
	int error = time_of_clock((int)a[0], &ns);

	return error != 0 ? error : time_write(a[1], ns);
}

SYSCALL(clock_getres)
{
	uint64_t ignored;
	int error = time_of_clock((int)a[0], &ignored);

	return error != 0 || a[1] == 0 ? error : time_write(a[1], RESOLUTION_NS);
}

SYSCALL(gettimeofday)
{
	uint64_t ns = clock_wall_ns();
	const uint64_t t[2] = {ns / NS_PER_S, ns % NS_PER_S / 1000};

	if (a[1] != 0 && user_clear(a[1], 8) != 0) {
		return -EFAULT;
	}
	return a[0] == 0 ? 0 : user_write(a[0], t, sizeof(t));
}

SYSCALL(time)
{
	uint64_t s = clock_wall_ns() / NS_PER_S;

	return a[0] != 0 && user_put64(a[0], s) != 0 ? -EFAULT : (int64_t)s;
}

SYSCALL(times)
{
	const uint64_t tick = NS_PER_S / 100;
	const uint64_t t[4] = {process_time() / tick, 0, process_current()->children_ns / tick, 0};

	if (a[0] != 0 && user_write(a[0], t, sizeof(t)) != 0) {
		return -EFAULT;
	}
	return (int64_t)(clock_now_ns() / tick);
}

SYSCALL(alarm)
{
	struct process *p = process_current();
	uint64_t now = clock_now_ns(), before = 0;

	mutex_take(&p->memory);
	if (timer_stop_wait(&p->alarm) && p->alarm.deadline_ns > now) {
		before = (p->alarm.deadline_ns - now + NS_PER_S - 1) / NS_PER_S;
	}
	if ((uint32_t)a[0] != 0) {
		timer_start(&p->alarm, now + (uint32_t)a[0] * NS_PER_S);
	}
	mutex_give(&p->memory);
	return (int64_t)before;
}
