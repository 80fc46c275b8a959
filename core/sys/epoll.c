#include "core/sys/epoll.h"

#include <errno.h>
#include <linux/eventpoll.h>

#include "core/hw/user.h"
#include "core/mem/heap.h"
#include "core/sys/fd.h"
#include "core/sys/file.h"
#include "core/sys/syscall.h"
#include "core/task/process.h"
#include "core/task/sched.h"
#include "core/task/time.h"

#define QUEUES_MAX 3 /* of one file: sockets have one, and two when they are connected */
#define EVENTS_MAX 4096
#define ITEMS_MAX  4096 /* of one epoll */
#define ALWAYS	   (READY_ERR | READY_HUP)
#define OPTIONS	   (EPOLLET | EPOLLONESHOT | EPOLLWAKEUP | EPOLLEXCLUSIVE)

struct epoll {
	struct mutex lock; /* of items: added, removed, reported */
	struct list items; /* guarded by lock */
	unsigned count;	   /* guarded by lock */
	struct spinlock ready_lock;
	struct list ready; /* guarded by ready_lock */
	struct wait_queue waiters;
};

/* One watched file. */
struct item {
	struct list node;    /* in the epoll */
	struct list of_file; /* in the file; guarded by files_lock */
	struct list ready;   /* guarded by ready_lock */
	struct epoll *epoll;
	struct file *file; /* not held: epoll_forget() comes first */
	int fd;
	uint32_t events; /* what is asked for */
	uint64_t data;
	struct waiter waiter[QUEUES_MAX];
	unsigned queues;
};

/* While queues are being added. */
struct adder {
	struct poll_table table;
	struct item *item;
};

static struct heap heap;
static struct mutex files_lock; /* over all files' lists; taken before an epoll's */

void epoll_init(void)
{
	heap_init(&heap, "epoll item", sizeof(struct item));
	mutex_init(&files_lock);
}

static void make_ready(struct item *item)
{
	struct epoll *ep = item->epoll;
	uint64_t flags = spin_take_irq(&ep->ready_lock);

	if (list_is_empty(&item->ready)) {
		list_add_last(&ep->ready, &item->ready);
	}
	spin_give_irq(&ep->ready_lock, flags);
	wait_wake(&ep->waiters, READY_IN);
}

/* Under the queue's lock, interrupts off, perhaps in an interrupt. */
static void on_event(struct waiter *w, uint32_t events)
{
	(void)events; /* what really holds is asked when it is reported */
	make_ready(w->context);
}

static void add_queue(struct poll_table *t, struct wait_queue *q)
{
	struct item *item = container_of(t, struct adder, table)->item;

	for (unsigned i = 0; i < item->queues; i++) {
		if (item->waiter[i].queue == q) {
			return;
		}
	}
	if (item->queues < QUEUES_MAX) {
		struct waiter *w = &item->waiter[item->queues++];

		w->context = item;
		wait_add(q, w, on_event);
	}
}

/* Callers hold the epoll's lock. */
static uint32_t happened(struct item *item)
{
	struct adder adder = {{add_queue}, item};

	return file_poll(item->file, &adder.table) & ((item->events & ~(uint32_t)OPTIONS) | ALWAYS);
}

/* Callers hold both locks. */
static void remove_item(struct item *item)
{
	struct epoll *ep = item->epoll;
	uint64_t flags;

	for (unsigned i = 0; i < item->queues; i++) {
		wait_remove(&item->waiter[i]);
	}
	flags = spin_take_irq(&ep->ready_lock);
	list_remove(&item->ready);
	spin_give_irq(&ep->ready_lock, flags);
	list_remove(&item->node);
	list_remove(&item->of_file);
	ep->count--;
	heap_free(&heap, item);
}

void epoll_forget(struct file *f)
{
	if (f->ops->poll == NULL) {
		return;
	}
	mutex_take(&files_lock);
	while (!list_is_empty(&f->epoll_items)) {
		struct item *item = container_of(f->epoll_items.next, struct item, of_file);
		struct epoll *ep = item->epoll;

		mutex_take(&ep->lock);
		remove_item(item);
		mutex_give(&ep->lock);
	}
	mutex_give(&files_lock);
}

static uint32_t epoll_poll(struct file *f, struct poll_table *t)
{
	struct epoll *ep = f->data;

	poll_wait(t, &ep->waiters);
	return !list_is_empty(&ep->ready) ? READY_IN : 0;
}

static void epoll_release(struct file *f)
{
	struct epoll *ep = f->data;

	mutex_take(&files_lock);
	mutex_take(&ep->lock);
	list_each_safe(&ep->items, node)
	{
		remove_item(container_of(node, struct item, node));
	}
	mutex_give(&ep->lock);
	mutex_give(&files_lock);
	mem_free(ep, sizeof(*ep));
}

static const struct file_ops epoll_ops = {
	.poll = epoll_poll, .release = epoll_release, .name = "anon_inode:[eventpoll]"};

static int64_t create(uint64_t flags)
{
	struct epoll *ep;
	int fd;

	if ((flags & ~(uint64_t)EPOLL_CLOEXEC) != 0) {
		return -EINVAL;
	}
	ep = mem_alloc(sizeof(*ep));
	if (ep == NULL) {
		return -ENOMEM;
	}
	mutex_init(&ep->lock);
	list_init(&ep->items);
	spin_init(&ep->ready_lock, LOCK_EPOLL);
	list_init(&ep->ready);
	wait_queue_init_rank(&ep->waiters, LOCK_EPOLL_WAIT);
	fd = anon_fd(&epoll_ops, ep, FILE_READWRITE, (flags & EPOLL_CLOEXEC) != 0);
	if (fd < 0) {
		mem_free(ep, sizeof(*ep));
	}
	return fd;
}

SYSCALL(epoll_create1)
{
	return create(a[0]);
}

SYSCALL(epoll_create)
{
	return (int)a[0] <= 0 ? -EINVAL : create(0);
}

/* Callers of these hold both locks. */

static struct item *find_item(struct epoll *ep, const struct file *f, int fd)
{
	list_each(&ep->items, node)
	{
		struct item *item = container_of(node, struct item, node);

		if (item->file == f && item->fd == fd) {
			return item;
		}
	}
	return NULL;
}

static int add_item(struct epoll *ep, struct file *f, int fd, const struct epoll_event *event)
{
	struct item *item;

	if (find_item(ep, f, fd) != NULL) {
		return -EEXIST;
	}
	item = ep->count < ITEMS_MAX ? heap_alloc(&heap) : NULL;
	if (item == NULL) {
		return ep->count < ITEMS_MAX ? -ENOMEM : -ENOSPC;
	}
	item->epoll = ep;
	item->file = f;
	item->fd = fd;
	item->events = event->events;
	item->data = event->data;
	list_init(&item->ready);
	list_add_last(&ep->items, &item->node);
	list_add_last(&f->epoll_items, &item->of_file);
	ep->count++;
	if (happened(item) != 0) {
		make_ready(item);
	}
	return 0;
}

static int control(struct epoll *ep, int op, struct file *f, int fd,
		   const struct epoll_event *event)
{
	struct item *item = find_item(ep, f, fd);

	if (op == EPOLL_CTL_ADD) {
		return add_item(ep, f, fd, event);
	}
	if (op != EPOLL_CTL_DEL && op != EPOLL_CTL_MOD) {
		return -EINVAL;
	}
	if (item == NULL) {
		return -ENOENT;
	}
	if (op == EPOLL_CTL_DEL) {
		remove_item(item);
		return 0;
	}
	item->events = event->events;
	item->data = event->data;
	if (happened(item) != 0) {
		make_ready(item);
	}
	return 0;
}

SYSCALL(epoll_ctl)
{
	struct file *f = fd_get((int)a[0]), *target = fd_get((int)a[2]);
	struct epoll_event event = {0};
	int error = 0;

	if (f == NULL || target == NULL) {
		error = -EBADF;
	} else if (a[1] != EPOLL_CTL_DEL && user_read(&event, a[3], sizeof(event)) != 0) {
		error = -EFAULT;
	} else if (f->ops != &epoll_ops || target->ops == &epoll_ops) {
		error = -EINVAL; /* an epoll in another is not offered */
	} else if (target->ops->poll == NULL) {
		error = -EPERM;
	} else {
		struct epoll *ep = f->data;

		mutex_take(&files_lock);
		mutex_take(&ep->lock);
		error = control(ep, (int)a[1], target, (int)a[2], &event);
		mutex_give(&ep->lock);
		mutex_give(&files_lock);
	}
	if (target != NULL) {
		file_put(target);
	}
	if (f != NULL) {
		file_put(f);
	}
	return error;
}

/* Takes the next of @from. Return: it or NULL. */
static struct item *next_ready(struct epoll *ep, struct list *from)
{
	uint64_t flags = spin_take_irq(&ep->ready_lock);
	struct item *item = NULL;

	if (!list_is_empty(from)) {
		item = container_of(from->next, struct item, ready);
		list_remove(&item->ready);
	}
	spin_give_irq(&ep->ready_lock, flags);
	return item;
}

/* Each file is looked at once a call: those that stay ready go behind the others. */
static int report(struct epoll *ep, uint64_t va, int max)
{
	struct item *item, *first_again = NULL;
	int count = 0;

	mutex_take(&ep->lock);
	while (count < max && (item = next_ready(ep, &ep->ready)) != NULL) {
		struct epoll_event out = {.data = item->data};

		if (item == first_again) {
			make_ready(item);
			break;
		}
		out.events = happened(item);
		if (out.events == 0) {
			continue;
		}
		if (user_write(va + (uint64_t)count * sizeof(out), &out, sizeof(out)) != 0) {
			make_ready(item);
			count = count > 0 ? count : -EFAULT;
			break;
		}
		count++;
		if ((item->events & EPOLLONESHOT) != 0) {
			item->events &= OPTIONS;
		} else if ((item->events & EPOLLET) == 0) {
			make_ready(item); /* others may have looked meanwhile */
			first_again = first_again != NULL ? first_again : item;
		}
	}
	mutex_give(&ep->lock);
	return count;
}

static int64_t wait_for(struct epoll *ep, uint64_t va, int max, uint64_t deadline_ns)
{
	int count = 0, error;

	if (max <= 0 || max > EVENTS_MAX) {
		return -EINVAL;
	}
	for (;;) {
		count = report(ep, va, max);
		if (count != 0) {
			return count;
		}
		wait_until(&ep->waiters, !list_is_empty(&ep->ready), deadline_ns, true, error);
		if (error == -ETIMEDOUT) {
			return report(ep, va, max);
		}
		if (error != 0) {
			return -EINTR;
		}
	}
}

static int64_t do_wait(const uint64_t *a, uint64_t deadline_ns)
{
	struct file *f = fd_get((int)a[0]);
	int64_t result = -EINVAL;

	if (f == NULL) {
		return -EBADF;
	}
	if (f->ops == &epoll_ops) {
		result = wait_for(f->data, a[1], (int)a[2], deadline_ns);
	}
	file_put(f);
	return result;
}

static uint64_t milliseconds(uint64_t ms)
{
	return (int)ms < 0 ? CLOCK_NEVER : time_after((uint64_t)(int)ms * 1000000);
}

SYSCALL(epoll_wait)
{
	return do_wait(a, milliseconds(a[3]));
}

static int64_t wait_masked(const uint64_t *a, uint64_t deadline_ns)
{
	uint64_t set;
	int64_t result;

	if (a[4] != 0) {
		if (a[5] != sizeof(set)) {
			return -EINVAL;
		}
		if (user_get64(a[4], &set) != 0) {
			return -EFAULT;
		}
		signal_borrow_mask(set);
	}
	result = do_wait(a, deadline_ns);
	if (result != -EINTR) {
		signal_return_mask();
	}
	return result;
}

SYSCALL(epoll_pwait)
{
	return wait_masked(a, milliseconds(a[3]));
}

SYSCALL(epoll_pwait2)
{
	uint64_t deadline_ns;
	int error = time_read_timeout(a[3], &deadline_ns);

	return error != 0 ? error : wait_masked(a, deadline_ns);
}
