/*
 * Timers and eventfds: one thread of the process waits for them all, by epoll, and calls whom they
 * belong to. It lives as long as the process.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "soft/kvm/surroundings.h"

#define NS UINT64_C(1000000000)

/* In the storage of struct kvm_timer. */
struct armed {
	struct kvm_timer *next; /* by deadline */
	uint64_t deadline_ns;
	bool armed;
};

/* In the storage of struct kvm_eventfd_watch. */
struct watched {
	struct kvm_eventfd_watch *next;
	int fd;
};

_Static_assert(sizeof(struct armed) <= sizeof(((struct kvm_timer *)NULL)->opaque), "fits");
_Static_assert(sizeof(struct watched) <= sizeof(((struct kvm_eventfd_watch *)NULL)->opaque),
	       "fits");

static struct {
	pthread_mutex_t lock;
	pthread_cond_t idle; /* a callback is over */
	pthread_t thread;
	int epoll, timerfd;
	/* lock */
	struct kvm_timer *timers;
	struct kvm_eventfd_watch *watches;
	void *running; /* the timer or watch whose callback runs */
} service = {.lock = PTHREAD_MUTEX_INITIALIZER, .idle = PTHREAD_COND_INITIALIZER};

static struct armed *armed_of(struct kvm_timer *timer)
{
	return (struct armed *)timer->opaque;
}

static struct watched *watched_of(struct kvm_eventfd_watch *watch)
{
	return (struct watched *)watch->opaque;
}

uint64_t soft_now_ns(struct kvm_env *env)
{
	struct timespec now;

	(void)env;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS + (uint64_t)now.tv_nsec;
}

/* ---- with the lock ---- */

/* Sets the clock to the first timer. */
static void set_clock(void)
{
	struct itimerspec when = {0};

	if (service.timers != NULL) {
		/* 0 would stop it. */
		uint64_t ns = MAX(armed_of(service.timers)->deadline_ns, UINT64_C(1));

		when.it_value.tv_sec = (time_t)MIN(ns / NS, (uint64_t)INT32_MAX);
		when.it_value.tv_nsec = (long)(ns % NS);
	}
	timerfd_settime(service.timerfd, TFD_TIMER_ABSTIME, &when, NULL);
}

static void take_timer(struct kvm_timer *timer)
{
	struct kvm_timer **at = &service.timers;

	while (*at != NULL && *at != timer) {
		at = &armed_of(*at)->next;
	}
	if (*at == timer) {
		*at = armed_of(timer)->next;
	}
	armed_of(timer)->armed = false;
}

/* Waits until the callback of @object is over, if it runs, unless we are in it. */
static void wait_for(const void *object)
{
	while (service.running == object && !pthread_equal(service.thread, pthread_self())) {
		pthread_cond_wait(&service.idle, &service.lock);
	}
}

/* ---- the thread ---- */

static void over(void)
{
	pthread_mutex_lock(&service.lock);
	service.running = NULL;
	pthread_cond_broadcast(&service.idle);
}

static void expire_timers(void)
{
	uint64_t count;

	if (read(service.timerfd, &count, sizeof(count)) < 0 && errno != EAGAIN) {
		return;
	}
	pthread_mutex_lock(&service.lock);
	while (service.timers != NULL &&
	       armed_of(service.timers)->deadline_ns <= soft_now_ns(NULL)) {
		struct kvm_timer *timer = service.timers;

		take_timer(timer);
		service.running = timer;
		pthread_mutex_unlock(&service.lock);
		timer->expired(timer);
		over();
	}
	set_clock();
	pthread_mutex_unlock(&service.lock);
}

/* The descriptor's owner decides whether it blocks. */
static bool is_readable(int fd)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

	return poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & POLLIN) != 0;
}

static void serve_eventfd(struct kvm_eventfd_watch *watch)
{
	struct kvm_eventfd_watch *known;
	uint64_t count;

	pthread_mutex_lock(&service.lock);
	for (known = service.watches; known != NULL && known != watch;) {
		known = watched_of(known)->next;
	}
	/* It may be gone since epoll told of it; or somebody else has read the counter. */
	if (known != NULL && is_readable(watched_of(watch)->fd) &&
	    read(watched_of(watch)->fd, &count, sizeof(count)) > 0) {
		service.running = watch;
		pthread_mutex_unlock(&service.lock);
		watch->signalled(watch);
		over();
	}
	pthread_mutex_unlock(&service.lock);
}

static char tick_mark; /* its address tells ticks from watches */

static void *serve(void *unused)
{
	struct epoll_event event;

	for (;;) {
		if (epoll_wait(service.epoll, &event, 1, -1) != 1) {
			continue;
		}
		if (event.data.ptr == NULL) {
			expire_timers();
		} else if (event.data.ptr == &tick_mark) {
			soft_tick();
		} else {
			serve_eventfd(event.data.ptr);
		}
	}
	return unused;
}

int soft_service_start(void)
{
	struct epoll_event event = {.events = EPOLLIN};
	sigset_t all, before;
	int r, tick = soft_tick_init();

	if (tick < 0) {
		return tick;
	}
	service.epoll = epoll_create1(EPOLL_CLOEXEC);
	service.timerfd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (service.epoll < 0 || service.timerfd < 0 ||
	    epoll_ctl(service.epoll, EPOLL_CTL_ADD, service.timerfd, &event) != 0) {
		return -errno;
	}
	event.data.ptr = &tick_mark;
	if (epoll_ctl(service.epoll, EPOLL_CTL_ADD, tick, &event) != 0) {
		return -errno;
	}
	/* Signals are for the program's own threads. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&service.thread, NULL, serve, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -r;
}

/* ---- timers ---- */

void soft_timer_arm(struct kvm_env *env, struct kvm_timer *timer, uint64_t deadline_ns)
{
	struct kvm_timer **at = &service.timers;

	(void)env;
	pthread_mutex_lock(&service.lock);
	take_timer(timer);
	while (*at != NULL && armed_of(*at)->deadline_ns <= deadline_ns) {
		at = &armed_of(*at)->next;
	}
	*armed_of(timer) = (struct armed){.next = *at, .deadline_ns = deadline_ns, .armed = true};
	*at = timer;
	if (service.timers == timer) {
		set_clock();
	}
	pthread_mutex_unlock(&service.lock);
}

void soft_timer_cancel(struct kvm_env *env, struct kvm_timer *timer)
{
	(void)env;
	pthread_mutex_lock(&service.lock);
	wait_for(timer);
	if (armed_of(timer)->armed) {
		take_timer(timer);
	}
	pthread_mutex_unlock(&service.lock);
}

/* ---- eventfds ---- */

/* One that is held. */
struct eventfd {
	struct eventfd *next;
	unsigned refs; /* the lock */
	int fd;	       /* one of our own */
};

static struct eventfd *eventfds; /* the lock */

static int fd_of(const void *eventfd)
{
	return ((const struct eventfd *)eventfd)->fd;
}

/*
 * Return: 0; -EBADF; -EINVAL if it is no eventfd. It is found out without /proc, which a sandbox
 * may have closed: of the files without a type, only an eventfd can be written to in eights, and a
 * zero changes nothing in it.
 */
static int check_eventfd(int fd)
{
	const uint64_t zero = 0;
	struct stat st;

	if (fstat(fd, &st) != 0) {
		return -EBADF;
	}
	return (st.st_mode & S_IFMT) == 0 && write(fd, &zero, sizeof(zero)) == sizeof(zero)
		       ? 0
		       : -EINVAL;
}

/* With the lock. NULL: none that is held is the same as @fd. */
static struct eventfd *held(int fd)
{
	struct eventfd *e = eventfds;
	pid_t pid = getpid();

	/* Two descriptors of an eventfd share the file. Without KCMP in the kernel none match. */
	while (e != NULL && syscall(SYS_kcmp, pid, pid, KCMP_FILE, e->fd, fd) != 0) {
		e = e->next;
	}
	return e;
}

int soft_eventfd_get(struct kvm_env *env, int fd, void **eventfd)
{
	struct eventfd *e;
	int r = check_eventfd(fd);

	(void)env;
	if (r != 0) {
		return r;
	}
	pthread_mutex_lock(&service.lock);
	e = held(fd);
	if (e == NULL) {
		e = calloc(1, sizeof(*e));
		if (e == NULL) {
			r = -ENOMEM;
		} else if ((e->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3)) < 0) {
			r = -errno;
			free(e);
			e = NULL;
		} else {
			e->next = eventfds;
			eventfds = e;
		}
	}
	if (r == 0 && e != NULL) {
		e->refs++;
		*eventfd = e;
	}
	pthread_mutex_unlock(&service.lock);
	return r;
}

void soft_eventfd_put(struct kvm_env *env, void *eventfd)
{
	struct eventfd *e = eventfd, **at = &eventfds;

	(void)env;
	pthread_mutex_lock(&service.lock);
	if (--e->refs == 0) {
		while (*at != e) {
			at = &(*at)->next;
		}
		*at = e->next;
		close(e->fd);
		free(e);
	}
	pthread_mutex_unlock(&service.lock);
}

void soft_eventfd_signal(struct kvm_env *env, void *eventfd)
{
	(void)env;
	eventfd_write(fd_of(eventfd), 1);
}

int soft_eventfd_watch(struct kvm_env *env, void *eventfd, struct kvm_eventfd_watch *watch)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = watch};
	/* epoll knows one watch of a descriptor: each gets its own. */
	int fd = fcntl(fd_of(eventfd), F_DUPFD_CLOEXEC, 3);

	(void)env;
	if (fd < 0) {
		return -errno;
	}
	pthread_mutex_lock(&service.lock);
	*watched_of(watch) = (struct watched){.next = service.watches, .fd = fd};
	service.watches = watch;
	pthread_mutex_unlock(&service.lock);
	if (epoll_ctl(service.epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
		int error = -errno;

		soft_eventfd_unwatch(env, eventfd, watch);
		return error;
	}
	return 0;
}

void soft_eventfd_unwatch(struct kvm_env *env, void *eventfd, struct kvm_eventfd_watch *watch)
{
	struct kvm_eventfd_watch **at = &service.watches;

	(void)env;
	(void)eventfd;
	pthread_mutex_lock(&service.lock);
	wait_for(watch);
	while (*at != NULL && *at != watch) {
		at = &watched_of(*at)->next;
	}
	if (*at == watch) {
		*at = watched_of(watch)->next;
		epoll_ctl(service.epoll, EPOLL_CTL_DEL, watched_of(watch)->fd, NULL);
		close(watched_of(watch)->fd);
	}
	pthread_mutex_unlock(&service.lock);
}
