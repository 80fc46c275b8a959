#include "vmm/loop.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "vmm/clock.h"
#include "vmm/log.h"

/* loop_run() looks at @stop after every batch; the event only ends the wait. */
static void woken(void *arg, uint32_t events)
{
	struct loop *loop = arg;
	uint64_t count;

	(void)events;
	if (read(loop->wake_fd, &count, sizeof(count)) < 0) {
		return; /* somebody else's event was first */
	}
}

int loop_init(struct loop *loop)
{
	int error;

	*loop = (struct loop){.epoll_fd = -1, .wake_fd = -1};
	atomic_init(&loop->stop, false);
	/* Who was started with another policy keeps it. */
	loop->paced = sched_getscheduler(0) == SCHED_OTHER;
	pace_init(&loop->pace);
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0) {
		error = -errno;
		goto fail;
	}
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->wake_fd < 0) {
		error = -errno;
		goto fail;
	}
	loop->wake = (struct loop_source){.fd = loop->wake_fd, .fn = woken, .arg = loop};
	error = loop_add(loop, &loop->wake, EPOLLIN);
	if (error != 0) {
		goto fail;
	}
	return 0;
fail:
	log_error("cannot make the event loop: %s", strerror(-error));
	loop_fini(loop);
	return error;
}

void loop_fini(struct loop *loop)
{
	if (loop->wake_fd >= 0) {
		close(loop->wake_fd);
		loop->wake_fd = -1;
	}
	if (loop->epoll_fd >= 0) {
		close(loop->epoll_fd);
		loop->epoll_fd = -1;
	}
}

int loop_add(struct loop *loop, struct loop_source *src, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = src};

	return epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, src->fd, &ev) < 0 ? -errno : 0;
}

void loop_mod(struct loop *loop, struct loop_source *src, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = src};

	check(epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, src->fd, &ev) == 0);
}

void loop_del(struct loop *loop, struct loop_source *src)
{
	check(epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, src->fd, NULL) == 0);
	/* What epoll_wait() has already reported for it must not reach it either. */
	for (int i = 0; i < loop->nbatch; i++) {
		if (loop->batch[i].data.ptr == src) {
			loop->batch[i].data.ptr = NULL;
		}
	}
}

int loop_run(struct loop *loop)
{
	/* Pairs with the release in loop_stop(): what the stopper did before is seen after. */
	while (!atomic_exchange_explicit(&loop->stop, false, memory_order_acquire)) {
		loop->nbatch = epoll_wait(loop->epoll_fd, loop->batch, LOOP_BATCH, -1);
		if (loop->nbatch < 0) {
			int error = -errno;

			loop->nbatch = 0;
			if (error == -EINTR) {
				continue;
			}
			log_error("cannot wait for events: %s", strerror(-error));
			return error;
		}
		for (int i = 0; i < loop->nbatch; i++) {
			struct loop_source *src = loop->batch[i].data.ptr;

			if (src != NULL) {
				src->fn(src->arg, loop->batch[i].events);
			}
		}
		loop->nbatch = 0;
	}
	return 0;
}

void loop_stop(struct loop *loop)
{
	int saved = errno; /* may run in a signal handler */
	uint64_t one = 1;

	/* Pairs with the acquire in loop_run(). */
	atomic_store_explicit(&loop->stop, true, memory_order_release);
	if (write(loop->wake_fd, &one, sizeof(one)) < 0) {
		/* The counter is full: the loop is being woken already. */
	}
	errno = saved;
}

void loop_served(struct loop *loop, unsigned requests)
{
	if (!loop->paced) {
		return;
	}
	bool patient = pace_served(&loop->pace, requests, clock_now_ns());
	if (patient == loop->patient) {
		return;
	}
	/* Linux lets no thread of SCHED_BATCH preempt another one when it wakes up. */
	if (sched_setscheduler(0, patient ? SCHED_BATCH : SCHED_OTHER,
			       &(struct sched_param){.sched_priority = 0}) == 0) {
		loop->patient = patient;
	} else {
		loop->paced = false;
	}
}

static void timer_fired(void *arg, uint32_t events)
{
	struct loop_timer *t = arg;
	uint64_t count;

	(void)events;
	/* Nothing to read: it was set anew or cleared after epoll saw it expire. */
	if (read(t->source.fd, &count, sizeof(count)) == (ssize_t)sizeof(count)) {
		t->fn(t->arg);
	}
}

int loop_timer_init(struct loop_timer *t, struct loop *loop, void (*fn)(void *arg), void *arg)
{
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);

	*t = (struct loop_timer){
		.source = {.fd = fd, .fn = timer_fired, .arg = t}, .fn = fn, .arg = arg};
	if (fd < 0) {
		int error = -errno;

		log_error("cannot make a timer: %s", strerror(-error));
		return error;
	}
	int error = loop_add(loop, &t->source, EPOLLIN);
	if (error != 0) {
		log_error("cannot watch a timer: %s", strerror(-error));
		close(fd);
		t->source.fd = -1;
	}
	return error;
}

void loop_timer_fini(struct loop_timer *t, struct loop *loop)
{
	if (t->source.fd >= 0) {
		loop_del(loop, &t->source);
		close(t->source.fd);
		t->source.fd = -1;
	}
}

static void arm(struct loop_timer *t, uint64_t deadline_ns)
{
	struct itimerspec when = {
		.it_value = {.tv_sec = (time_t)(deadline_ns / 1000000000),
			     .tv_nsec = (long)(deadline_ns % 1000000000)},
	};

	check(timerfd_settime(t->source.fd, TFD_TIMER_ABSTIME, &when, NULL) == 0);
}

void loop_timer_set(struct loop_timer *t, uint64_t deadline_ns)
{
	arm(t, MAX(deadline_ns, 1)); /* 0 would disarm it */
}

void loop_timer_clear(struct loop_timer *t)
{
	arm(t, 0);
}
