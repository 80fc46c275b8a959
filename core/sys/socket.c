#include "core/sys/socket.h"

#include <asm/signal.h>
#include <errno.h>
#include <string.h>

#include "core/mem/heap.h"
#include "core/sys/fd.h"
#include "core/sys/tree.h"
#include "core/task/process.h"
#include "core/task/sched.h"

static struct heap heap;
static struct mutex lock; /* over making and taking connections; the tree's comes after it */

void socket_init(void)
{
	heap_init(&heap, "socket", sizeof(struct socket));
	mutex_init(&lock);
}

static struct socket *create(void)
{
	struct socket *s = heap_alloc(&heap);

	if (s != NULL) {
		s->inode = node_number();
		list_init(&s->pending);
		list_init(&s->in_pending);
		wait_queue_init(&s->changed);
	}
	return s;
}

static void shut_reader(struct socket *s)
{
	if (!atomic_exchange(&s->rx_shut, true)) {
		pipe_close(s->rx, false);
	}
}

static void shut_writer(struct socket *s)
{
	if (!atomic_exchange(&s->tx_shut, true)) {
		pipe_close(s->tx, true);
	}
}

static void destroy(struct socket *s)
{
	if (s->state == SOCKET_CONNECTED) {
		/* What was shut has been given up already; the pipes themselves are still there. */
		shut_reader(s);
		shut_writer(s);
		pipe_put(s->rx);
		pipe_put(s->tx);
	}
	if (s->node != NULL) {
		node_put(s->node);
	}
	heap_free(&heap, s);
}

static void connect_both(struct socket *a, struct socket *b, struct pipe *ab, struct pipe *ba)
{
	/* Each end holds both pipes as long as it is there. */
	pipe_get(ab);
	pipe_get(ba);
	pipe_get(ab);
	pipe_get(ba);
	a->tx = ab;
	a->rx = ba;
	b->tx = ba;
	b->rx = ab;
	a->peer_pid = process_current()->pid;
	b->peer_pid = a->peer_pid;
	a->state = SOCKET_CONNECTED;
	b->state = SOCKET_CONNECTED;
}

static int make_pipes(struct pipe *p[2])
{
	p[0] = pipe_create();
	p[1] = pipe_create();
	if (p[0] != NULL && p[1] != NULL) {
		return 0;
	}
	for (unsigned i = 0; i < 2; i++) {
		if (p[i] != NULL) {
			pipe_close(p[i], false);
			pipe_close(p[i], true);
		}
	}
	return -ENOMEM;
}

/* The file. */

static int64_t socket_read(struct file *f, struct uio *u, uint64_t *offset)
{
	struct socket *s = f->data;

	(void)offset;
	if (s->state != SOCKET_CONNECTED) {
		return -EINVAL;
	}
	return pipe_read(s->rx, u, file_is_nonblocking(f), NULL);
}

static int64_t socket_write(struct file *f, struct uio *u, uint64_t *offset)
{
	struct socket *s = f->data;
	int64_t done;

	(void)offset;
	if (s->state != SOCKET_CONNECTED) {
		return -ENOTCONN;
	}
	done = pipe_write(s->tx, u, file_is_nonblocking(f), NULL);
	if (done == -EPIPE) {
		signal_send_thread(thread_current(), &(struct signal_info){.signo = SIGPIPE});
	}
	return done;
}

static uint32_t socket_poll(struct file *f, struct poll_table *t)
{
	struct socket *s = f->data;
	uint32_t in, out, events;

	if (s->state != SOCKET_CONNECTED) {
		poll_wait(t, &s->changed);
		return s->state == SOCKET_LISTENING ? (list_is_empty(&s->pending) ? 0 : READY_IN)
						    : READY_OUT | READY_HUP;
	}
	in = pipe_poll_read(s->rx, t);
	out = pipe_poll_write(s->tx, t);
	events = (in & READY_IN) | (out & READY_OUT);
	if ((in & READY_HUP) != 0 || s->rx_shut) {
		events |= READY_IN | READY_RDHUP;
		if ((out & READY_ERR) != 0 || s->tx_shut) {
			events |= READY_HUP;
		}
	}
	if ((out & READY_ERR) != 0) {
		events |= READY_OUT; /* a write fails at once */
	}
	return events;
}

static int socket_stat(struct file *f, struct file_stat *st)
{
	const struct socket *s = f->data;

	*st = (struct file_stat){
		.inode = s->inode, .mode = NODE_SOCKET | 0777, .links = 1, .file_system = 3};
	return 0;
}

static void socket_release(struct file *f)
{
	struct socket *s = f->data;

	mutex_take(&lock);
	if (s->node != NULL && s->node->socket == s) {
		s->node->socket = NULL;
	}
	mutex_give(&lock);
	/* Nobody finds it any more: those who wait see the end. */
	while (!list_is_empty(&s->pending)) {
		struct socket *waiting = container_of(s->pending.next, struct socket, in_pending);

		list_remove(&waiting->in_pending);
		destroy(waiting);
	}
	destroy(s);
}

static const struct file_ops socket_ops = {.read = socket_read,
					   .write = socket_write,
					   .poll = socket_poll,
					   .stat = socket_stat,
					   .release = socket_release,
					   .name = "socket:"};

bool socket_is(const struct file *f)
{
	return f->ops == &socket_ops;
}

static int open_fd(struct socket *s, uint32_t flags, bool close_on_exec)
{
	return anon_fd(&socket_ops, s, FILE_READWRITE | flags, close_on_exec);
}

int socket_open(uint32_t flags, bool close_on_exec)
{
	struct socket *s = create();
	int fd;

	if (s == NULL) {
		return -ENOMEM;
	}
	fd = open_fd(s, flags, close_on_exec);
	if (fd < 0) {
		destroy(s);
	}
	return fd;
}

int socket_pair(uint32_t flags, bool close_on_exec, int fds[2])
{
	struct socket *a = create(), *b = create();
	struct pipe *p[2];
	int error = a != NULL && b != NULL ? make_pipes(p) : -ENOMEM;

	if (error == 0) {
		connect_both(a, b, p[0], p[1]);
		fds[0] = open_fd(a, flags, close_on_exec);
		if (fds[0] >= 0) {
			fds[1] = open_fd(b, flags, close_on_exec);
			if (fds[1] >= 0) {
				return 0;
			}
			fd_close(process_current()->files, fds[0]);
			destroy(b);
			return fds[1];
		}
		error = fds[0];
	}
	if (a != NULL) {
		destroy(a);
	}
	if (b != NULL) {
		destroy(b);
	}
	return error;
}

/* Connections. */

int socket_bind(struct socket *s, const char *path)
{
	char last[NODE_NAME_MAX + 1];
	struct node *dir, *n;
	bool slash;
	int error;

	if (path[0] == '\0' || strlen(path) >= sizeof(s->path)) {
		return -EINVAL;
	}
	error = tree_find_parent(NULL, path, &dir, last, &slash);
	if (error != 0) {
		return error == -EEXIST ? -EADDRINUSE : error;
	}
	n = node_create(NODE_SOCKET | 0755);
	error = n != NULL ? 0 : -ENOMEM;
	mutex_take(&lock);
	if (error == 0 && s->state != SOCKET_NEW) {
		error = -EINVAL;
	}
	if (error == 0) {
		n->may_change = true;
		n->socket = s;
		error = tree_add(dir, last, n);
		error = error == -EEXIST ? -EADDRINUSE : error;
	}
	if (error == 0) {
		s->node = n;
		s->state = SOCKET_BOUND;
		memcpy(s->path, path, strlen(path) + 1);
	}
	mutex_give(&lock);
	if (error != 0 && n != NULL) {
		node_put(n);
	}
	node_put(dir);
	return error;
}

int socket_listen(struct socket *s, int backlog)
{
	int error = 0;

	mutex_take(&lock);
	if (s->state != SOCKET_BOUND && s->state != SOCKET_LISTENING) {
		error = -EINVAL;
	} else {
		s->state = SOCKET_LISTENING;
		s->backlog = backlog < 0 ? SOCKET_BACKLOG : (unsigned)MIN(backlog, SOCKET_BACKLOG);
	}
	mutex_give(&lock);
	return error;
}

/* Caller holds the lock. */
static int queue_up(struct socket *s, struct socket *listener)
{
	struct socket *server;
	struct pipe *p[2];

	if (listener == NULL || listener->state != SOCKET_LISTENING) {
		return -ECONNREFUSED;
	}
	if (s->state != SOCKET_NEW && s->state != SOCKET_BOUND) {
		return s->state == SOCKET_CONNECTED ? -EISCONN : -EINVAL;
	}
	if (listener->pending_count > listener->backlog) {
		return -EAGAIN;
	}
	server = create();
	if (server == NULL || make_pipes(p) != 0) {
		if (server != NULL) {
			destroy(server);
		}
		return -ENOMEM;
	}
	connect_both(s, server, p[0], p[1]);
	memcpy(server->path, listener->path, sizeof(server->path));
	memcpy(server->peer_path, s->path, sizeof(s->path));
	memcpy(s->peer_path, listener->path, sizeof(s->peer_path));
	list_add_last(&listener->pending, &server->in_pending);
	listener->pending_count++;
	wait_wake(&listener->changed, READY_IN);
	wait_wake(&s->changed, READY_OUT);
	return 0;
}

int socket_connect(struct socket *s, const char *path)
{
	struct node *n;
	int error = tree_find(NULL, path, 0, &n);

	if (error != 0) {
		return error;
	}
	mutex_take(&lock);
	error = queue_up(s, n->mode == NODE_SOCKET ? n->socket : NULL);
	mutex_give(&lock);
	node_put(n);
	return error;
}

static struct socket *take_pending(struct socket *s)
{
	struct socket *first = NULL;

	mutex_take(&lock);
	if (!list_is_empty(&s->pending)) {
		first = container_of(s->pending.next, struct socket, in_pending);
		list_remove(&first->in_pending);
		s->pending_count--;
	}
	mutex_give(&lock);
	return first;
}

int socket_accept(struct socket *s, bool nonblocking, uint32_t flags, bool close_on_exec,
		  char peer_path[SOCKET_PATH_MAX])
{
	struct socket *server;
	int error, fd;

	if (s->state != SOCKET_LISTENING) {
		return -EINVAL;
	}
	while ((server = take_pending(s)) == NULL) {
		if (nonblocking) {
			return -EAGAIN;
		}
		wait_until(&s->changed, !list_is_empty(&s->pending), CLOCK_NEVER, true, error);
		if (error != 0) {
			return -ERESTARTSYS;
		}
	}
	memcpy(peer_path, server->peer_path, SOCKET_PATH_MAX);
	fd = open_fd(server, flags, close_on_exec);
	if (fd < 0) {
		destroy(server);
	}
	return fd;
}

int socket_shutdown(struct socket *s, unsigned how)
{
	if (s->state != SOCKET_CONNECTED) {
		return -ENOTCONN;
	}
	if ((how & 1) != 0) {
		shut_reader(s);
	}
	if ((how & 2) != 0) {
		shut_writer(s);
	}
	return 0;
}
