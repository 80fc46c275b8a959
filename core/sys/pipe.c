#include "core/sys/pipe.h"

#include <asm/ioctls.h>
#include <asm/signal.h>
#include <errno.h>

#include "core/hw/user.h"
#include "core/mem/heap.h"
#include "core/sys/fd.h"
#include "core/sys/node.h"
#include "core/task/process.h"
#include "core/task/sched.h"

#define ATOMIC_BYTES 4096 /* PIPE_BUF: writes up to here are not torn apart */

/* A side that has been shut waits for nothing any more, nor does the other one. */
static bool is_shut(const struct pipe *p)
{
	return p->readers == 0 || p->writers == 0;
}

static bool is_readable(struct pipe *p)
{
	return p->end != p->start || is_shut(p);
}

static bool has_room(struct pipe *p, uint64_t bytes)
{
	return PIPE_BYTES - (p->end - p->start) >= MIN(bytes, ATOMIC_BYTES) || is_shut(p);
}

struct pipe *pipe_create(void)
{
	struct pipe *p = mem_alloc(sizeof(*p));

	if (p == NULL) {
		return NULL;
	}
	p->bytes = mem_alloc(PIPE_BYTES);
	if (p->bytes == NULL) {
		mem_free(p, sizeof(*p));
		return NULL;
	}
	p->inode = node_number();
	mutex_init(&p->lock);
	wait_queue_init(&p->changed);
	list_init(&p->passengers);
	p->refs = 2;
	p->readers = 1;
	p->writers = 1;
	return p;
}

void pipe_get(struct pipe *p)
{
	atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
}

void pipe_put(struct pipe *p)
{
	if (atomic_fetch_sub(&p->refs, 1) != 1) {
		return;
	}
	mem_free(p->bytes, PIPE_BYTES);
	mem_free(p, sizeof(*p));
}

static struct pipe_passenger *first_passenger(struct pipe *p)
{
	return list_is_empty(&p->passengers)
		       ? NULL
		       : container_of(p->passengers.next, struct pipe_passenger, node);
}

/* Who comes with the next byte gets off, or with @all whoever is first. Caller holds the lock. */
static struct pipe_passenger *let_off(struct pipe *p, bool all)
{
	struct pipe_passenger *who = first_passenger(p);

	if (who == NULL || (!all && (who->position != p->start || p->start == p->end))) {
		return NULL;
	}
	list_remove(&who->node);
	return who;
}

void pipe_close(struct pipe *p, bool writer)
{
	struct pipe_passenger *who;

	mutex_take(&p->lock);
	p->writers -= writer;
	p->readers -= !writer;
	/* Nobody gets on any more. */
	while (!writer && (who = let_off(p, true)) != NULL) {
		mutex_give(&p->lock);
		who->drop(who);
		mutex_take(&p->lock);
	}
	mutex_give(&p->lock);
	wait_wake(&p->changed, READY_IN | READY_OUT | READY_HUP | READY_ERR);
	pipe_put(p);
}

/* How far a read may go. */
static uint64_t readable(struct pipe *p)
{
	struct pipe_passenger *next = first_passenger(p);

	return (next != NULL ? next->position : p->end) - p->start;
}

/* Caller holds the lock. Return: bytes or -errno. */
static int64_t move(struct pipe *p, struct uio *u, bool out)
{
	int64_t total = 0;

	while (u->left > 0) {
		uint32_t at = (out ? p->start : p->end) % PIPE_BYTES;
		uint64_t len = out ? readable(p) : PIPE_BYTES - (p->end - p->start);
		int64_t done;

		len = MIN(len, PIPE_BYTES - at);
		if (len == 0) {
			break;
		}
		done = out ? uio_put(u, p->bytes + at, len) : uio_get(u, p->bytes + at, len);
		if (done < 0) {
			return total > 0 ? total : done;
		}
		*(out ? &p->start : &p->end) += (uint32_t)done;
		total += done;
		if ((uint64_t)done < MIN(len, u->left)) {
			break;
		}
	}
	return total;
}

int64_t pipe_read(struct pipe *p, struct uio *u, bool nonblocking, struct pipe_passenger **who)
{
	struct pipe_passenger *off = NULL;
	int64_t done = 0;
	int error;

	if (u->left == 0) {
		return 0;
	}
	for (;;) {
		mutex_take(&p->lock);
		if (is_readable(p)) {
			off = let_off(p, false);
			done = move(p, u, true);
			mutex_give(&p->lock);
			break;
		}
		mutex_give(&p->lock);
		if (nonblocking) {
			return -EAGAIN;
		}
		wait_until(&p->changed, is_readable(p), CLOCK_NEVER, true, error);
		if (error != 0) {
			return -ERESTARTSYS;
		}
	}
	if (done > 0) {
		wait_wake(&p->changed, READY_OUT);
	}
	if (who != NULL) {
		*who = off;
	} else if (off != NULL) {
		off->drop(off);
	}
	return done;
}

int64_t pipe_peek(struct pipe *p, struct uio *u)
{
	int64_t done = -EAGAIN;
	uint32_t start;

	mutex_take(&p->lock);
	if (is_readable(p)) {
		start = p->start;
		done = move(p, u, true);
		p->start = start;
	}
	mutex_give(&p->lock);
	return done;
}

int64_t pipe_write(struct pipe *p, struct uio *u, bool nonblocking, struct pipe_passenger **who)
{
	int64_t total = 0, done = 0;
	int error;

	while (u->left > 0) {
		mutex_take(&p->lock);
		if (is_shut(p)) {
			mutex_give(&p->lock);
			return total > 0 ? total : -EPIPE;
		}
		if (has_room(p, u->left)) {
			uint32_t first = p->end;

			done = move(p, u, false);
			if (done > 0 && who != NULL && *who != NULL) {
				(*who)->position = first;
				list_add_last(&p->passengers, &(*who)->node);
				*who = NULL;
			}
			mutex_give(&p->lock);
			if (done <= 0) {
				return total > 0 ? total : done;
			}
			total += done;
			wait_wake(&p->changed, READY_IN);
			continue;
		}
		mutex_give(&p->lock);
		if (nonblocking) {
			return total > 0 ? total : -EAGAIN;
		}
		wait_until(&p->changed, has_room(p, u->left), CLOCK_NEVER, true, error);
		if (error != 0) {
			return total > 0 ? total : -ERESTARTSYS;
		}
	}
	return total;
}

uint32_t pipe_poll_read(struct pipe *p, struct poll_table *t)
{
	poll_wait(t, &p->changed);
	return (p->end != p->start ? READY_IN : 0) | (p->writers == 0 ? READY_HUP : 0);
}

uint32_t pipe_poll_write(struct pipe *p, struct poll_table *t)
{
	poll_wait(t, &p->changed);
	return (has_room(p, ATOMIC_BYTES) ? READY_OUT : 0) | (p->readers == 0 ? READY_ERR : 0);
}

/* The files. */

static int64_t reader_read(struct file *f, struct uio *u, uint64_t *offset)
{
	(void)offset;
	return pipe_read(f->data, u, file_is_nonblocking(f), NULL);
}

static int64_t writer_write(struct file *f, struct uio *u, uint64_t *offset)
{
	int64_t done = pipe_write(f->data, u, file_is_nonblocking(f), NULL);

	(void)offset;
	if (done == -EPIPE) {
		signal_send_thread(thread_current(), &(struct signal_info){.signo = SIGPIPE});
	}
	return done;
}

static uint32_t reader_poll(struct file *f, struct poll_table *t)
{
	return pipe_poll_read(f->data, t);
}

static uint32_t writer_poll(struct file *f, struct poll_table *t)
{
	return pipe_poll_write(f->data, t);
}

static int64_t reader_ioctl(struct file *f, uint32_t command, uint64_t argument)
{
	struct pipe *p = f->data;

	return command == FIONREAD ? user_put32(argument, p->end - p->start) : -ENOTTY;
}

static void reader_release(struct file *f)
{
	pipe_close(f->data, false);
}

static void writer_release(struct file *f)
{
	pipe_close(f->data, true);
}

static int pipe_stat(struct file *f, struct file_stat *st)
{
	const struct pipe *p = f->data;

	*st = (struct file_stat){
		.inode = p->inode, .mode = NODE_PIPE | 0600, .links = 1, .file_system = 3};
	return 0;
}

static const struct file_ops reader_ops = {.read = reader_read,
					   .poll = reader_poll,
					   .ioctl = reader_ioctl,
					   .stat = pipe_stat,
					   .release = reader_release,
					   .name = "pipe:"};
static const struct file_ops writer_ops = {.write = writer_write,
					   .poll = writer_poll,
					   .stat = pipe_stat,
					   .release = writer_release,
					   .name = "pipe:"};

int pipe_open(uint32_t flags, bool close_on_exec, int fds[2])
{
	struct pipe *p = pipe_create();

	if (p == NULL) {
		return -ENOMEM;
	}
	fds[0] = anon_fd(&reader_ops, p, FILE_READONLY | flags, close_on_exec);
	if (fds[0] < 0) {
		pipe_close(p, false);
		pipe_close(p, true);
		return fds[0];
	}
	fds[1] = anon_fd(&writer_ops, p, FILE_WRITEONLY | flags, close_on_exec);
	if (fds[1] < 0) {
		fd_close(process_current()->files, fds[0]);
		pipe_close(p, true);
		return fds[1];
	}
	return 0;
}
