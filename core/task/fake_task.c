#include "core/task/fake_task.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "core/hw/clock.h"
#include "core/hw/fake_hw.h"
#include "core/hw/user.h"
#include "core/mem/heap.h"
#include "core/sys/epoll.h"
#include "core/sys/fd.h"
#include "core/sys/socket.h"
#include "core/sys/tree.h"
#include "core/task/futex.h"
#include "core/task/sched.h"
#include "lib/base/check.h"

#define BAD_BELOW  4096 /* addresses below are not the process's */
#define TIMERS_MAX 16

struct spinlock task_lock = SPINLOCK_INIT(LOCK_TASK);
struct fake_effects fake_effects;

static struct process process;
static struct thread threads[2];
static pthread_t other;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static _Atomic uint64_t now_ns;
static struct timer *timers[TIMERS_MAX];
static _Atomic bool pending;

static void (*other_fn)(void *arg);

void fake_task_start(void)
{
	fake_machine_start(64);
	now_ns = 1000;
	pending = false;
	memset(&process, 0, sizeof(process));
	memset(threads, 0, sizeof(threads));
	memset(&fake_effects, 0, sizeof(fake_effects));
	process.pid = 1;
	process.refs = 1;
	process.limits.files = FD_MAX;
	list_init(&process.threads);
	for (unsigned i = 0; i < ARRAY_SIZE(threads); i++) {
		threads[i].process = &process;
		threads[i].tid = (int)i + 1;
	}
	hosted_cpu->thread = &threads[0];
	file_init();
	epoll_init();
	socket_init();
	futex_init();
	signal_queue_init_heap();
	check(tree_init() == 0);
	process.files = fd_table_create();
	tree_set_cwd(&process, tree_root());
}

static void look_at_heap(void *ctx, const char *name, size_t bytes, uint64_t used)
{
	(void)ctx;
	(void)bytes;
	/* The tree and its names stay. */
	check(strcmp(name, "node") == 0 || strcmp(name, "any-32") == 0 || used == 0);
}

void fake_task_stop(void)
{
	fd_table_put(process.files);
	tree_forget(&process);
	heap_each(look_at_heap, NULL);
	fake_machine_stop();
}

static void *other_main(void *arg)
{
	fake_cpu_join(1);
	hosted_cpu->thread = &threads[1];
	other_fn(arg);
	return NULL;
}

void fake_thread_run(void (*fn)(void *arg), void *arg)
{
	other_fn = fn;
	check(pthread_create(&other, NULL, other_main, arg) == 0);
}

void fake_thread_join(void)
{
	check(pthread_join(other, NULL) == 0);
}

void fake_signal_set(bool value)
{
	pending = value;
}

bool signal_is_pending(void)
{
	return pending;
}

/* Sleeping. */

static _Atomic bool other_sleeps;

void sched_prepare(void)
{
	atomic_store(&thread_current()->state, THREAD_SLEEPING);
}

void sched_unprepare(void)
{
	atomic_store(&thread_current()->state, THREAD_RUNNABLE);
}

bool sched_sleep(uint64_t deadline_ns)
{
	struct thread *t = thread_current();

	pthread_mutex_lock(&mutex);
	while (atomic_load(&t->state) == THREAD_SLEEPING && now_ns < deadline_ns) {
		other_sleeps = t == &threads[1];
		pthread_cond_broadcast(&changed);
		pthread_cond_wait(&changed, &mutex);
	}
	if (t == &threads[1]) {
		other_sleeps = false;
	}
	atomic_store(&t->state, THREAD_RUNNABLE);
	pthread_mutex_unlock(&mutex);
	return now_ns < deadline_ns;
}

void sched_wake(struct thread *t)
{
	pthread_mutex_lock(&mutex);
	atomic_store(&t->state, THREAD_RUNNABLE);
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&mutex);
}

void fake_thread_await_sleep(void)
{
	pthread_mutex_lock(&mutex);
	while (!other_sleeps) {
		pthread_cond_wait(&changed, &mutex);
	}
	pthread_mutex_unlock(&mutex);
}

/* Time. */

uint64_t clock_now_ns(void)
{
	return now_ns;
}

uint64_t clock_wall_ns(void)
{
	return now_ns + UINT64_C(1000000000000000000);
}

void timer_init(struct timer *t, timer_fn *fn)
{
	*t = (struct timer){.fn = fn};
}

bool timer_stop(struct timer *t)
{
	for (unsigned i = 0; i < TIMERS_MAX; i++) {
		if (timers[i] == t) {
			timers[i] = NULL;
			return true;
		}
	}
	return false;
}

bool timer_stop_wait(struct timer *t)
{
	return timer_stop(t);
}

void timer_start(struct timer *t, uint64_t deadline_ns)
{
	timer_stop(t);
	t->deadline_ns = deadline_ns;
	for (unsigned i = 0; i < TIMERS_MAX; i++) {
		if (timers[i] == NULL) {
			timers[i] = t;
			return;
		}
	}
	check(false);
}

void fake_clock_advance(uint64_t ns)
{
	pthread_mutex_lock(&mutex);
	now_ns += ns;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&mutex);
	for (unsigned i = 0; i < TIMERS_MAX; i++) {
		struct timer *t = timers[i];

		if (t != NULL && t->deadline_ns <= now_ns) {
			timers[i] = NULL;
			t->fn(t);
		}
	}
}

/* Memory of ring 3. */

size_t user_read_some(void *to, uint64_t va, size_t len)
{
	if (va < BAD_BELOW || !user_range_ok(va, len)) {
		return 0;
	}
	memcpy(to, (const void *)va, len);
	return len;
}

size_t user_write_some(uint64_t va, const void *from, size_t len)
{
	if (va < BAD_BELOW || !user_range_ok(va, len)) {
		return 0;
	}
	memcpy((void *)va, from, len);
	return len;
}

int user_read(void *to, uint64_t va, size_t len)
{
	return user_read_some(to, va, len) == len ? 0 : -EFAULT;
}

int user_write(uint64_t va, const void *from, size_t len)
{
	return user_write_some(va, from, len) == len ? 0 : -EFAULT;
}

int64_t user_read_string(char *to, uint64_t va, size_t size)
{
	if (va < BAD_BELOW) {
		return -EFAULT;
	}
	for (size_t i = 0; i < size; i++) {
		to[i] = ((const char *)va)[i];
		if (to[i] == '\0') {
			return (int64_t)i;
		}
	}
	return -ENAMETOOLONG;
}

int user_get32(uint64_t va, uint32_t *value)
{
	return user_read(value, va, sizeof(*value));
}

int user_get64(uint64_t va, uint64_t *value)
{
	return user_read(value, va, sizeof(*value));
}

struct user_word user_get_word(uint64_t va)
{
	struct user_word w = {0};

	w.error = user_get64(va, &w.value);
	return w;
}

int user_put32(uint64_t va, uint32_t value)
{
	return user_write(va, &value, sizeof(value));
}

int user_put64(uint64_t va, uint64_t value)
{
	return user_write(va, &value, sizeof(value));
}

int user_get32_nofault(uint64_t va, uint32_t *value)
{
	*value = __atomic_load_n((const uint32_t *)va, __ATOMIC_SEQ_CST);
	return 0;
}

int user_clear(uint64_t va, size_t len)
{
	memset((void *)va, 0, len);
	return 0;
}

/* What a real process would feel. */

int signal_send_thread(struct thread *t, const struct signal_info *info)
{
	(void)t;
	fake_effects.signal = info->signo;
	return 0;
}

void signal_force(const struct signal_info *info)
{
	fake_effects.signal = info->signo;
}

void signal_borrow_mask(uint64_t set)
{
	(void)set;
}

void signal_return_mask(void)
{
}

void process_exit(struct process *p, int status)
{
	(void)p;
	fake_effects.exit_status = status;
}

_Noreturn void thread_end(int status)
{
	(void)status;
	pthread_exit(NULL);
}

struct thread *thread_find(int tid)
{
	(void)tid;
	return NULL;
}

void thread_put(struct thread *t)
{
	(void)t;
}

uint64_t sched_run_ns(struct thread *t)
{
	(void)t;
	return now_ns;
}
